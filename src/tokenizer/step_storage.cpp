#include <utility>

#include "gato/core/error.h"
#include "gato/tokenizer/sequence.h"

namespace gato::tokenizer {
namespace {

using episode::FieldSpec;
using episode::FieldValue;
using episode::Modality;
using episode::StepValues;
using episode::TaskSpec;

struct Place {
  const TaskSpec& task;
  const char* group;
  const FieldSpec& field;

  template <class... Args>
  [[noreturn]] void fail(const Args&... problem) const {
    throw DataError(cat("task '", task.id, "', ", group, " field '", field.name, "': ", problem...));
  }
};

std::vector<uint16_t> narrow(const Place& place, const std::vector<int32_t>& values) {
  std::vector<uint16_t> narrowed(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= place.field.num_values) {
      place.fail("element ", i, " is ", values[i], ", must be in [0, ", place.field.num_values, ")");
    }
    narrowed[i] = static_cast<uint16_t>(values[i]);
  }
  return narrowed;
}

std::vector<uint32_t> encode(const Place& place, const TextTokenizer* text, const std::string& value) {
  if (text == nullptr) place.fail("is text, but no text tokenizer was given");
  try {
    const std::vector<int32_t> ids = text->encode(value);
    return {ids.begin(), ids.end()};
  } catch (const DataError& error) {
    place.fail(error.what());
  }
}

}  // namespace

StepView StepStorage::view(const TaskSpec& spec, const TextTokenizer* text, const StepValues& observation,
                           const StepValues& action, const StepValues& label) {
  texts_.clear();
  discretes_.clear();
  const auto views_of = [&](const char* group, const std::vector<FieldSpec>& fields, const StepValues& values,
                            std::vector<FieldView>& views) -> std::span<const FieldView> {
    views.clear();
    if (!values.empty() && values.size() != fields.size()) {
      throw DataError(
          cat("task '", spec.id, "': ", values.size(), " ", group, " values for ", fields.size(), " fields"));
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const Place place{spec, group, fields[i]};
      const FieldValue& value = values[i];
      FieldView view;
      switch (fields[i].modality) {
        case Modality::kContinuous:
          view.continuous = value.continuous;
          break;
        case Modality::kDiscrete:  // moving the outer vector later leaves the inner buffers where they are
          view.discrete = discretes_.emplace_back(narrow(place, value.discrete));
          break;
        case Modality::kText:
          view.text = texts_.emplace_back(encode(place, text, value.text));
          break;
        case Modality::kImage:
          view.image = &value.image;
          break;
      }
      views.push_back(view);
    }
    return views;
  };
  StepView step;
  step.observation = views_of("observation", spec.observation, observation, observation_);
  step.action = views_of("action", spec.action, action, action_);
  step.label = views_of("label", spec.action, label, label_);
  return step;
}

}  // namespace gato::tokenizer
