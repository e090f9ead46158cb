#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "env/remote/messages.h"
#include "gato/env/environment.h"

/// Between values of fields and the columns of messages.
namespace gato::env::remote {

/// The values of several slots, each aligned with `fields`, as columns. ContractError for values that do not fit.
[[nodiscard]] Columns pack(const std::vector<episode::FieldSpec>& fields, std::span<const StepValues> slots);

/// Strict inverse for `count` slots. DataError naming the field for: another number of columns, bytes or texts than
/// the fields need. Values of single slots are checked by problem_with.
[[nodiscard]] std::vector<StepValues> unpack(const std::vector<episode::FieldSpec>& fields, const Columns& columns,
                                             size_t count);

/// What is wrong with the values of one slot; "" when nothing is: numbers that are not finite, discrete values out of
/// range, invalid UTF-8.
[[nodiscard]] std::string problem_with(const std::vector<episode::FieldSpec>& fields, const StepValues& values);

/// Zeros and empty texts, where an episode failed and there is nothing to see.
[[nodiscard]] StepValues blank_values(const std::vector<episode::FieldSpec>& fields);

/// What a Steps reply says about each of `count` slots; slots that failed, or whose values are wrong, are truncated and
/// have StepResult::failure. DataError for a reply that does not fit the request.
[[nodiscard]] std::vector<StepResult> read_results(const TaskSpec& spec, const Steps& steps, size_t count);

}  // namespace gato::env::remote
