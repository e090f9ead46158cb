#include "tokenizer/layout.h"

#include <utility>

#include "gato/tokenizer/sequence.h"
#include "tokenizer/patches.h"

namespace gato::tokenizer::detail {
namespace {

using episode::FieldSpec;
using episode::Modality;

FieldLayout layout_of(const FieldSpec& field, int index, bool is_action) {
  FieldLayout made;
  made.index = index;
  made.is_action = is_action;
  made.modality = field.modality;
  made.name = field.name;
  if (field.modality == Modality::kImage) {
    made.height = field.shape[0];
    made.width = field.shape[1];
    return made;
  }
  if (field.modality == Modality::kText) {
    made.ends_with_piece = is_action;
    return made;
  }
  made.elements = field.num_elements();
  made.num_values = static_cast<int32_t>(field.num_values);
  if (is_action && field.modality == Modality::kContinuous) {
    for (int64_t i = 0; i < made.elements; ++i) {
      made.low.push_back(field.low_of(i));
      made.high.push_back(field.high_of(i));
    }
  }
  return made;
}

std::vector<FieldLayout> layouts_of(const std::vector<FieldSpec>& fields, bool is_action) {
  std::vector<FieldLayout> made;
  for (const int index : episode::canonical_order(fields)) {
    made.push_back(layout_of(fields[static_cast<size_t>(index)], index, is_action));
  }
  for (size_t i = 0; i + 1 < made.size(); ++i) {
    if (made[i].modality == Modality::kText && made[i + 1].modality == Modality::kText) made[i].ends_with_piece = true;
  }
  return made;
}

void check_image(const episode::TaskSpec& task, const FieldLayout& field) {
  if (field.modality != Modality::kImage) return;
  const int64_t rows = patches_along(field.height), columns = patches_along(field.width);
  if (rows > kPatchIntervals || columns > kPatchIntervals) {
    throw ConfigError(cat("task '", task.id, "', observation field '", field.name, "': an image of ", field.height,
                          " x ", field.width, " pixels has ", rows, " x ", columns, " patches, at most ",
                          kPatchIntervals, " along a side are possible; make it smaller than ",
                          kPatchIntervals * kPatchSide + 1, " pixels"));
  }
}

std::string describe_lengths(const std::vector<FieldLayout>& fields) {
  std::vector<std::string> parts;
  for (const FieldLayout& field : fields) {
    const int64_t tokens = field.fixed_tokens();
    parts.push_back(cat(field.name, ": ", tokens < 0 ? "varies" : cat(tokens)));
  }
  return join(parts, ", ");
}

}  // namespace

int64_t FieldLayout::fixed_tokens() const {
  switch (modality) {
    case Modality::kText:
      return ends_with_piece ? 1 : 0;
    case Modality::kImage:
      return height == 0 || width == 0 ? -1 : patches_along(height) * patches_along(width);
    case Modality::kDiscrete:
    case Modality::kContinuous:
      break;
  }
  return elements;
}

TaskLayout::TaskLayout(episode::TaskSpec task) : spec(std::move(task)) {
  episode::check_task_spec(spec);
  observation = layouts_of(spec.observation, false);
  action = layouts_of(spec.action, true);
  has_separator = !observation.empty() && !action.empty();
  int64_t known = 0;
  bool varies = false;
  for (const FieldLayout& field : observation) {
    check_image(spec, field);
    const int64_t tokens = field.fixed_tokens();
    varies = varies || tokens < 0;
    known += tokens < 0 ? 1 : tokens;  // an image has at least one patch
  }
  if (known > kLocalPositions) {
    throw ConfigError(cat("task '", spec.id, "': one observation has at least ", known, " tokens besides text (",
                          describe_lengths(observation), "), at most ", kLocalPositions,
                          " fit the table of local positions; leave fields out or make them smaller"));
  }
  fixed_observation_tokens = varies ? -1 : known;
  for (const FieldLayout& field : action) fixed_action_tokens += field.fixed_tokens();
}

}  // namespace gato::tokenizer::detail
