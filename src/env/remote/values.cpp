#include "env/remote/values.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "gato/core/error.h"

namespace gato::env::remote {

namespace {

using episode::FieldSpec;
using episode::Modality;

template <class Number>
void append_numbers(const FieldSpec& field, const std::vector<Number>& numbers, std::string& out) {
  GATO_CHECK(static_cast<int64_t>(numbers.size()) == field.num_elements(), "field '", field.name, "' has ",
             field.num_elements(), " elements, ", numbers.size(), " given");
  out.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number));
}

void append_value(const FieldSpec& field, const FieldValue& value, Column& column) {
  switch (field.modality) {
    case Modality::kText:
      column.text.push_back(value.text);
      return;
    case Modality::kContinuous:
      return append_numbers(field, value.continuous, column.numbers);
    case Modality::kDiscrete:
      return append_numbers(field, value.discrete, column.numbers);
    case Modality::kImage:
      GATO_CHECK(static_cast<int64_t>(value.image.pixels.size()) == field.shape[0] * field.shape[1] * 3, "field '",
                 field.name, "': a picture of another size");
      column.pixels.append(reinterpret_cast<const char*>(value.image.pixels.data()), value.image.pixels.size());
      return;
  }
}

/// Bytes of one slot in a column's `numbers` and in its `pixels`.
struct SlotBytes {
  size_t numbers = 0, pixels = 0;
};

SlotBytes slot_bytes(const FieldSpec& field) {
  if (field.modality == Modality::kText) return {};
  if (field.modality == Modality::kImage) return {0, static_cast<size_t>(field.shape[0] * field.shape[1] * 3)};
  return {static_cast<size_t>(field.num_elements()) * 4, 0};
}

void check_column(const FieldSpec& field, const Column& column, size_t count) {
  const SlotBytes bytes = slot_bytes(field);
  const size_t texts = field.modality == Modality::kText ? count : 0;
  if (column.numbers.size() != bytes.numbers * count || column.pixels.size() != bytes.pixels * count ||
      column.text.size() != texts) {
    throw DataError(cat("field '", field.name, "': ", column.numbers.size(), " bytes of numbers, ",
                        column.pixels.size(), " of pixels and ", column.text.size(), " texts for ", count, " slots"));
  }
}

template <class Number>
std::vector<Number> numbers_of(const Column& column, size_t slot, size_t bytes) {
  std::vector<Number> numbers(bytes / sizeof(Number));
  if (bytes > 0) std::memcpy(numbers.data(), column.numbers.data() + slot * bytes, bytes);
  return numbers;
}

FieldValue value_of(const FieldSpec& field, const Column& column, size_t slot) {
  const SlotBytes bytes = slot_bytes(field);
  FieldValue value;
  switch (field.modality) {
    case Modality::kText:
      value.text = column.text[slot];
      break;
    case Modality::kContinuous:
      value.continuous = numbers_of<float>(column, slot, bytes.numbers);
      break;
    case Modality::kDiscrete:
      value.discrete = numbers_of<int32_t>(column, slot, bytes.numbers);
      break;
    case Modality::kImage: {
      const char* pixels = column.pixels.data() + slot * bytes.pixels;
      value.image.height = static_cast<decltype(value.image.height)>(field.shape[0]);
      value.image.width = static_cast<decltype(value.image.width)>(field.shape[1]);
      value.image.pixels.assign(pixels, pixels + bytes.pixels);
      break;
    }
  }
  return value;
}

std::string problem_with(const FieldSpec& field, const FieldValue& value) {
  for (const float number : value.continuous) {
    if (!std::isfinite(number)) return cat("field '", field.name, "' holds a number that is not finite");
  }
  for (const int32_t number : value.discrete) {
    if (number < 0 || number >= field.num_values) {
      return cat("field '", field.name, "' holds ", number, ", outside 0 to ", field.num_values - 1);
    }
  }
  if (!is_valid_utf8(value.text)) return cat("field '", field.name, "' holds invalid UTF-8");
  return {};
}

void fail(const TaskSpec& spec, StepResult& result, const std::string& message) {
  result = StepResult{};
  result.observation = blank_values(spec.observation);
  result.truncated = true;
  result.failure = message;
}

/// What is wrong with the flags of slot `i`; "" when nothing is.
std::string problem_with_flags(const Steps& steps, size_t i) {
  if (!std::isfinite(steps.reward[i])) return "the reward is not finite";
  if (steps.terminated[i] != 0 && steps.truncated[i] != 0) return "the episode is both terminated and truncated";
  if (steps.success[i] != 0 && steps.terminated[i] == 0 && steps.truncated[i] == 0) {
    return "success is stated before the end of the episode";
  }
  return {};
}

}  // namespace

Columns pack(const std::vector<FieldSpec>& fields, std::span<const StepValues> slots) {
  Columns columns(fields.size());
  for (const StepValues& values : slots) {
    GATO_CHECK(values.size() == fields.size(), values.size(), " values for ", fields.size(), " fields");
    for (size_t i = 0; i < fields.size(); ++i) append_value(fields[i], values[i], columns[i]);
  }
  return columns;
}

std::vector<StepValues> unpack(const std::vector<FieldSpec>& fields, const Columns& columns, size_t count) {
  if (columns.size() != fields.size()) throw DataError(cat(columns.size(), " columns for ", fields.size(), " fields"));
  for (size_t i = 0; i < fields.size(); ++i) check_column(fields[i], columns[i], count);
  std::vector<StepValues> slots(count);
  for (size_t slot = 0; slot < count; ++slot) {
    for (size_t i = 0; i < fields.size(); ++i) slots[slot].push_back(value_of(fields[i], columns[i], slot));
  }
  return slots;
}

std::string problem_with(const std::vector<FieldSpec>& fields, const StepValues& values) {
  for (size_t i = 0; i < fields.size(); ++i) {
    std::string problem = problem_with(fields[i], values[i]);
    if (!problem.empty()) return problem;
  }
  return {};
}

StepValues blank_values(const std::vector<FieldSpec>& fields) {
  StepValues values(fields.size());
  for (size_t i = 0; i < fields.size(); ++i) {
    const FieldSpec& field = fields[i];
    if (field.modality == Modality::kText) continue;
    if (field.modality == Modality::kImage) {
      values[i].image.height = static_cast<decltype(values[i].image.height)>(field.shape[0]);
      values[i].image.width = static_cast<decltype(values[i].image.width)>(field.shape[1]);
      values[i].image.pixels.assign(static_cast<size_t>(field.shape[0] * field.shape[1] * 3), 0);
      continue;
    }
    const auto elements = static_cast<size_t>(field.num_elements());
    if (field.modality == Modality::kContinuous) values[i].continuous.assign(elements, 0.0F);
    if (field.modality == Modality::kDiscrete) values[i].discrete.assign(elements, 0);
  }
  return values;
}

std::vector<StepResult> read_results(const TaskSpec& spec, const Steps& steps, size_t count) {
  const auto of_flags = [&](const std::string& flags, char most) {
    return flags.size() == count &&
           std::all_of(flags.begin(), flags.end(), [most](char flag) { return flag >= 0 && flag <= most; });
  };
  if (steps.reward.size() != count || !of_flags(steps.terminated, 1) || !of_flags(steps.truncated, 1) ||
      !of_flags(steps.success, 2)) {
    throw DataError(cat("rewards or flags that do not fit ", count, " slots"));
  }
  std::vector<StepValues> observations = unpack(spec.observation, steps.columns, count);
  std::vector<StepResult> results(count);
  for (size_t i = 0; i < count; ++i) {
    std::string problem = problem_with_flags(steps, i);
    if (problem.empty()) problem = problem_with(spec.observation, observations[i]);
    if (!problem.empty()) {
      fail(spec, results[i], problem);
      continue;
    }
    results[i].observation = std::move(observations[i]);
    results[i].reward = steps.reward[i];
    results[i].terminated = steps.terminated[i] != 0;
    results[i].truncated = steps.truncated[i] != 0;
    if (steps.success[i] != 0) results[i].success = steps.success[i] == 2;
  }
  for (const Failure& failure : steps.failures) {
    if (failure.index >= count) throw DataError(cat("a failure of slot ", failure.index, " of ", count));
    fail(spec, results[failure.index], failure.message);
  }
  return results;
}

}  // namespace gato::env::remote
