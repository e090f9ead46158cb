#include "run/json_values.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::run {

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string_view scoring_name(TaskScoring scoring) {
  switch (scoring) {
    case TaskScoring::kReturn:
      return "return";
    case TaskScoring::kExactMatch:
      return "exact_match";
    case TaskScoring::kLoss:
      return "loss";
  }
  GATO_CHECK(false, "unknown scoring ", static_cast<int>(scoring));
  return "";
}

TaskScoring parse_scoring(JsonFields& fields, std::string_view key) {
  return static_cast<TaskScoring>(fields.choice(key, {"return", "exact_match", "loss"}));
}

Json loss_json(const TextLoss& loss) {
  Json json;
  json["nats_per_token"] = number_or_null(loss.nats_per_token);
  json["tokens"] = loss.tokens;
  json["unigram_nats_per_token"] = number_or_null(loss.unigram_nats_per_token);
  return json;
}

TextLoss parse_loss(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  TextLoss loss{fields.number_or_nan("nats_per_token"), fields.integer("tokens", 1),
                fields.number_or_nan("unigram_nats_per_token")};
  fields.finish();
  return loss;
}

void check_format(JsonFields& fields, std::string_view format, int64_t version) {
  if (fields.text("format") != format) fields.fail("format", cat("expected \"", format, "\""));
  const int64_t found = fields.integer("version", 1);
  if (found == version) return;
  fields.fail("version", cat("version ", found, " is not known to this program, which reads version ", version,
                             "; use a newer one"));
}

std::string dump_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace gato::run
