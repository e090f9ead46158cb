#include <algorithm>

#include "gato/core/text.h"
#include "gato/episode/spec.h"

namespace gato::episode {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::vector<std::string> sides;
  for (const int64_t side : shape) sides.push_back(std::to_string(side));
  return cat("[", join(sides, ", "), "]");
}

void compare_bounds(const std::string& name, const FieldSpec& trained, const FieldSpec& environment,
                    std::vector<std::string>& differences) {
  for (int64_t i = 0; i < trained.num_elements(); ++i) {
    const bool same = trained.low_of(i) == environment.low_of(i) && trained.high_of(i) == environment.high_of(i);
    if (same) continue;
    differences.push_back(cat(name, ": element ", i, " was trained with bounds [", trained.low_of(i), ", ",
                              trained.high_of(i), "], the environment has [", environment.low_of(i), ", ",
                              environment.high_of(i), "]: the same token would be another number"));
    return;  // One element tells enough.
  }
}

void compare_fields(const std::string& name, const FieldSpec& trained, const FieldSpec& environment, bool is_action,
                    std::vector<std::string>& differences) {
  if (trained.modality != environment.modality) {
    differences.push_back(cat(name, ": trained as ", modality_name(trained.modality), ", the environment has ",
                              modality_name(environment.modality)));
    return;
  }
  // A side of an image that is 0 varies: any size fits it.
  const bool is_image = trained.modality == Modality::kImage;
  const auto side_fits = [&](int64_t a, int64_t b) { return a == b || (is_image && a == 0); };
  if (!std::equal(trained.shape.begin(), trained.shape.end(), environment.shape.begin(), environment.shape.end(),
                  side_fits)) {
    differences.push_back(cat(name, ": trained with shape ", shape_text(trained.shape), ", the environment has ",
                              shape_text(environment.shape)));
    return;
  }
  if (trained.modality == Modality::kDiscrete && trained.num_values != environment.num_values) {
    differences.push_back(
        cat(name, ": trained with ", trained.num_values, " values, the environment has ", environment.num_values));
  }
  if (is_action && trained.modality == Modality::kContinuous) compare_bounds(name, trained, environment, differences);
}

void compare_group(std::string_view group, const std::vector<FieldSpec>& trained,
                   const std::vector<FieldSpec>& environment, bool is_action, std::vector<std::string>& differences) {
  const auto find = [](const std::vector<FieldSpec>& fields, const std::string& name) {
    return std::find_if(fields.begin(), fields.end(), [&](const FieldSpec& field) { return field.name == name; });
  };
  for (const FieldSpec& field : trained) {
    const std::string name = cat(group, " field '", field.name, "'");
    const auto other = find(environment, field.name);
    if (other == environment.end()) {
      differences.push_back(cat(name, ": the environment does not have it"));
    } else {
      compare_fields(name, field, *other, is_action, differences);
    }
  }
  for (const FieldSpec& field : environment) {
    if (find(trained, field.name) != trained.end()) continue;
    differences.push_back(cat(group, " field '", field.name, "': only the environment has it"));
  }
}

}  // namespace

std::vector<std::string> spec_differences(const TaskSpec& trained, const TaskSpec& environment) {
  std::vector<std::string> differences;
  if (trained.id != environment.id) {
    differences.push_back(cat("trained as task '", trained.id, "', the environment is '", environment.id, "'"));
  }
  compare_group("observation", trained.observation, environment.observation, false, differences);
  compare_group("action", trained.action, environment.action, true, differences);
  return differences;
}

}  // namespace gato::episode
