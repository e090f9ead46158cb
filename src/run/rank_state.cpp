#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/run/heartbeat.h"

namespace gato::run {
namespace {

constexpr const char* kFormat = "gato-rank";
constexpr int64_t kVersion = 1;
constexpr std::array<std::string_view, 4> kEnds = {"running", "done", "failed", "peer"};  // as RankEnd counts
constexpr size_t kMaxText = 4096;  // bytes of any text in the file

}  // namespace

std::string to_json(const RankState& state) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["rank"] = state.rank;
  json["size"] = state.size;
  json["run_attempt"] = state.run_attempt;
  json["host"] = state.host;
  json["machine"] = state.machine;
  json["process"] = state.process;
  json["process_start"] = state.process_start;
  json["address"] = state.address;
  json["port"] = state.port;
  json["beat"] = state.beat;
  json["step"] = state.step;
  json["activity"] = state.activity;
  json["is_exchange"] = state.is_exchange;
  json["activity_seconds"] = state.activity_seconds;
  json["end"] = kEnds.at(static_cast<size_t>(state.end));
  json["message"] = state.message.substr(0, kMaxText);
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

RankState parse_rank_state(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin, {size_t{64} << 10, 4});
  JsonFields fields(json, origin);
  if (fields.text("format") != kFormat || fields.integer("version") != kVersion) {
    fields.fail("format", cat("expected ", kFormat, " version ", kVersion));
  }
  RankState state;
  state.size = fields.integer("size", 1);
  state.rank = fields.integer("rank", 0, state.size - 1);
  state.run_attempt = fields.text("run_attempt");
  state.host = fields.text("host");
  state.machine = fields.text("machine");
  state.process = fields.integer("process", 0);
  state.process_start = fields.unsigned_integer("process_start");
  state.address = fields.text("address");
  state.port = fields.integer("port", 0, 65535);
  state.beat = fields.integer("beat", 0);
  state.step = fields.integer("step", 0);
  state.activity = fields.text("activity");
  state.is_exchange = fields.boolean("is_exchange");
  state.activity_seconds = fields.number("activity_seconds");
  state.end = static_cast<RankEnd>(fields.choice("end", {kEnds[0], kEnds[1], kEnds[2], kEnds[3]}));
  state.message = fields.text("message");
  fields.finish();
  return state;
}

Path rank_state_path(const Path& folder, int64_t rank) { return folder / cat("rank-", rank, ".json"); }

}  // namespace gato::run
