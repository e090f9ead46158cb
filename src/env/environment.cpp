#include "gato/env/environment.h"

#include <cmath>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::env {

namespace {

using episode::FieldSpec;
using episode::Modality;

void check_value(const TaskSpec& spec, const FieldSpec& field, const FieldValue& value) {
  const auto fail = [&](const auto&... parts) {
    throw DataError(cat("Task ", spec.id, ", action field '", field.name, "': ", parts...));
  };
  switch (field.modality) {
    case Modality::kContinuous:
      if (static_cast<int64_t>(value.continuous.size()) != field.num_elements()) {
        fail(value.continuous.size(), " numbers given, ", field.num_elements(), " expected.");
      }
      for (size_t i = 0; i < value.continuous.size(); ++i) {
        if (std::isnan(value.continuous[i])) fail("element ", i, " is not a number (NaN).");
      }
      return;
    case Modality::kDiscrete:
      if (static_cast<int64_t>(value.discrete.size()) != field.num_elements()) {
        fail(value.discrete.size(), " values given, ", field.num_elements(), " expected.");
      }
      for (size_t i = 0; i < value.discrete.size(); ++i) {
        if (value.discrete[i] < 0 || value.discrete[i] >= field.num_values) {
          fail("element ", i, " is ", value.discrete[i], ", expected 0 to ", field.num_values - 1, ".");
        }
      }
      return;
    case Modality::kText: {
      size_t bad_offset = 0;
      if (!is_valid_utf8(value.text, &bad_offset)) fail("invalid UTF-8 at byte ", bad_offset, ".");
      return;
    }
    case Modality::kImage:
      fail("an action cannot be an image.");
  }
}

std::string random_text(Rng& rng) {
  std::string text(static_cast<size_t>(1 + rng.below(8)), ' ');
  for (char& letter : text) letter = static_cast<char>(' ' + rng.below('~' - ' ' + 1));
  return text;
}

}  // namespace

void Environment::restore(const std::string& /*snapshot*/) {
  GATO_CHECK(false, "task ", spec().id, " does not support snapshots");
}

void check_action(const TaskSpec& spec, const StepValues& action) {
  if (action.size() != spec.action.size()) {
    throw DataError(
        cat("Task ", spec.id, ": an action has ", spec.action.size(), " fields, ", action.size(), " given."));
  }
  for (size_t i = 0; i < action.size(); ++i) check_value(spec, spec.action[i], action[i]);
}

StepValues random_action(const TaskSpec& spec, Rng& rng) {
  StepValues action(spec.action.size());
  for (size_t i = 0; i < action.size(); ++i) {
    const FieldSpec& field = spec.action[i];
    switch (field.modality) {
      case Modality::kContinuous:
        for (int64_t e = 0; e < field.num_elements(); ++e) {
          action[i].continuous.push_back(static_cast<float>(rng.uniform(field.low_of(e), field.high_of(e))));
        }
        break;
      case Modality::kDiscrete:
        for (int64_t e = 0; e < field.num_elements(); ++e) {
          action[i].discrete.push_back(static_cast<int32_t>(rng.below(field.num_values)));
        }
        break;
      case Modality::kText:
        action[i].text = random_text(rng);
        break;
      case Modality::kImage:
        GATO_CHECK(false, "random_action: task ", spec.id, " has an image among its actions");
    }
  }
  return action;
}

}  // namespace gato::env
