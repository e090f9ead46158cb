#pragma once
#include <string>
#include <string_view>

#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/run/results.h"

/// Parts that several files of a run have in common.
namespace gato::run {

[[nodiscard]] Json number_or_null(double value);  ///< null for NaN and infinities.

[[nodiscard]] std::string_view scoring_name(TaskScoring scoring);
[[nodiscard]] TaskScoring parse_scoring(JsonFields& fields, std::string_view key);

[[nodiscard]] Json loss_json(const TextLoss& loss);
[[nodiscard]] TextLoss parse_loss(const Json& json, const std::string& where);

/// Checks the entries "format" and "version". DataError.
void check_format(JsonFields& fields, std::string_view format, int64_t version);

/// Text of `json`, indented unless `indent` is -1. Bytes that are not valid UTF-8, such as a model may answer, become
/// U+FFFD.
[[nodiscard]] std::string dump_text(const Json& json, int indent = 1);

}  // namespace gato::run
