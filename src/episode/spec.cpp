#include "gato/episode/spec.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMostFields = 256;
constexpr size_t kMaxRank = 8;
constexpr int64_t kMaxElements = int64_t{1} << 24;
constexpr int64_t kMaxImageSide = 16384;
constexpr int64_t kMaxImagePixels = int64_t{64} << 20;
constexpr int64_t kMaxDiscreteValues = 1024;

[[noreturn]] void fail(const TaskSpec& task, std::string_view problem) {
  throw ConfigError(cat("task '", task.id, "': ", problem));
}

/// Names of the field's place ("action field 'torque'") for messages.
struct FieldPlace {
  const TaskSpec& task;
  std::string_view group;
  const FieldSpec& field;

  template <class... Args>
  [[noreturn]] void fail(const Args&... problem) const {
    throw ConfigError(cat("task '", task.id, "', ", group, " field '", field.name, "': ", cat(problem...)));
  }
};

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_-.+:").find(c) != std::string_view::npos;
}

/// Whether every part of `name` between slashes is safe in file names, in configuration patterns and on a terminal.
bool is_path_like(std::string_view name) {
  if (name.size() > kMaxNameBytes) return false;
  const std::vector<std::string> parts = split(name, '/');
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    return !part.empty() && part != "." && part != ".." && std::all_of(part.begin(), part.end(), is_name_character);
  });
}

void check_id(const TaskSpec& task) {
  if (!is_path_like(task.id) || task.id.find('/') == std::string::npos) {
    fail(task,
         cat("a task id is 'domain/name' made of letters, digits and _ - . + : in at most ", kMaxNameBytes, " bytes"));
  }
}

void check_dimensions(const FieldPlace& place) {
  const std::vector<int64_t>& shape = place.field.shape;
  if (shape.size() > kMaxRank)
    place.fail("shape has ", shape.size(), " dimensions, at most ", kMaxRank, " are allowed");
  int64_t elements = 1;
  for (const int64_t dimension : shape) {
    if (dimension < 1 || dimension > kMaxElements || elements > kMaxElements / dimension) {
      place.fail("dimension ", dimension, " in its shape: each must be >= 1, their product at most ", kMaxElements);
    }
    elements *= dimension;
  }
}

void check_image_shape(const FieldPlace& place) {
  const std::vector<int64_t>& shape = place.field.shape;
  if (shape.size() != 3 || shape[2] != 3)
    place.fail("the shape of an image is {height, width, 3}, 0 where a size varies");
  for (size_t i = 0; i < 2; ++i) {
    if (shape[i] < 0 || shape[i] > kMaxImageSide)
      place.fail("image side ", shape[i], " is outside [0, ", kMaxImageSide, "]");
  }
  if (shape[0] * shape[1] > kMaxImagePixels) place.fail("more than ", kMaxImagePixels, " pixels");
}

void check_shape(const FieldPlace& place) {
  switch (place.field.modality) {
    case Modality::kText:
      if (!place.field.shape.empty()) place.fail("text has no shape");
      return;
    case Modality::kImage:
      return check_image_shape(place);
    case Modality::kDiscrete:
    case Modality::kContinuous:
      return check_dimensions(place);
  }
  place.fail("unknown modality ", static_cast<int>(place.field.modality));
}

void check_num_values(const FieldPlace& place) {
  const FieldSpec& field = place.field;
  if (field.modality != Modality::kDiscrete) {
    if (field.num_values != 0) place.fail("num_values is for discrete fields only");
  } else if (field.num_values < 1 || field.num_values > kMaxDiscreteValues) {
    place.fail("num_values is ", field.num_values, ", must be in [1, ", kMaxDiscreteValues, "]");
  }
}

void check_bounds(const FieldPlace& place, bool is_action) {
  const FieldSpec& field = place.field;
  if (field.modality != Modality::kContinuous) {
    if (!field.low.empty() || !field.high.empty()) place.fail("bounds are for continuous fields only");
    return;
  }
  if (field.low.size() != field.high.size()) {
    place.fail(field.low.size(), " lower and ", field.high.size(), " upper bounds: their numbers must be equal");
  }
  if (field.low.empty()) {
    if (is_action) place.fail("a continuous action needs bounds, low < high");
    return;
  }
  const auto elements = static_cast<size_t>(field.num_elements());
  if (field.low.size() != 1 && field.low.size() != elements) {
    place.fail(field.low.size(), " bounds for ", elements, " elements: give one for all or one for each");
  }
  for (size_t i = 0; i < field.low.size(); ++i) {
    const float low = field.low[i], high = field.high[i];
    if (std::isnan(low) || std::isnan(high)) place.fail("bound ", i, " is NaN");
    if (is_action && !(std::isfinite(low) && std::isfinite(high) && low < high)) {
      place.fail("bounds ", low, " and ", high, " of element ", i, ": an action needs finite ones, low < high");
    }
    if (low > high) place.fail("lower bound ", low, " above upper bound ", high, " at element ", i);
  }
}

void check_field(const FieldPlace& place, bool is_action) {
  if (!is_path_like(place.field.name)) {
    place.fail("a field name is made of letters, digits and _ - . + : / in at most ", kMaxNameBytes, " bytes");
  }
  check_shape(place);
  check_num_values(place);
  check_bounds(place, is_action);
  if (is_action && place.field.modality == Modality::kImage) place.fail("an action cannot be an image");
  if (place.field.codec != ImageCodec::kPng && place.field.codec != ImageCodec::kJpeg) {
    place.fail("unknown image codec ", static_cast<int>(place.field.codec));
  }
  if (!is_valid_utf8(place.field.unit)) place.fail("its unit is not valid UTF-8");
}

void check_group(const TaskSpec& task, std::string_view group, const std::vector<FieldSpec>& fields, bool is_action) {
  if (fields.size() > kMostFields) fail(task, cat(fields.size(), " ", group, " fields, at most ", kMostFields));
  std::set<std::string_view> names;
  for (const FieldSpec& field : fields) {
    const FieldPlace place{task, group, field};
    check_field(place, is_action);
    if (!names.insert(field.name).second) place.fail("the name occurs twice in this group");
  }
}

void check_record(const TaskSpec& task, std::string_view who, const ReturnRecord& record) {
  if (record.episodes < 0 || !std::isfinite(record.mean) || !(record.standard_error >= 0) ||
      !std::isfinite(record.standard_error)) {
    fail(task,
         cat("the ", who, "'s reference return is not a finite mean with a standard error >= 0 over >= 0 episodes"));
  }
}

void check_scoring(const TaskSpec& task) {
  const auto is_text = [](const FieldSpec& field) { return field.modality == Modality::kText; };
  switch (task.scoring) {
    case Scoring::kReturn:
    case Scoring::kLoss:
      return;
    case Scoring::kExactMatch:
      if (std::none_of(task.action.begin(), task.action.end(), is_text)) {
        fail(task, "scoring by exact match needs a text action");
      }
      return;
  }
  fail(task, cat("unknown scoring ", static_cast<int>(task.scoring)));
}

}  // namespace

std::string_view modality_name(Modality modality) {
  switch (modality) {
    case Modality::kText:
      return "text";
    case Modality::kImage:
      return "image";
    case Modality::kDiscrete:
      return "discrete";
    case Modality::kContinuous:
      return "continuous";
  }
  return "unknown";
}

int64_t FieldSpec::num_elements() const {
  int64_t elements = 1;
  for (const int64_t dimension : shape) elements *= dimension;
  return elements;
}

float FieldSpec::low_of(int64_t element) const {
  if (low.empty()) return -1.0f;
  return low.size() == 1 ? low[0] : low.at(static_cast<size_t>(element));
}

float FieldSpec::high_of(int64_t element) const {
  if (high.empty()) return 1.0f;
  return high.size() == 1 ? high[0] : high.at(static_cast<size_t>(element));
}

std::string TaskSpec::domain() const { return id.substr(0, id.find('/')); }

void check_task_spec(const TaskSpec& spec) {
  check_id(spec);
  if (spec.action.empty()) fail(spec, "no action fields: there would be nothing to learn");
  check_group(spec, "observation", spec.observation, false);
  check_group(spec, "action", spec.action, true);
  check_scoring(spec);
  if (spec.max_steps < 0) fail(spec, cat("max_steps is ", spec.max_steps, ", must be >= 0"));
  check_record(spec, "expert", spec.expert);
  check_record(spec, "random agent", spec.random);
  if (!is_valid_utf8(spec.description)) fail(spec, "its description is not valid UTF-8");
  if (!is_valid_utf8(spec.licence)) fail(spec, "its licence is not valid UTF-8");
}

std::vector<int> canonical_order(const std::vector<FieldSpec>& fields) {
  const auto rank = [&](int index) {
    const FieldSpec& field = fields[static_cast<size_t>(index)];
    const int group = field.modality == Modality::kText ? 0 : field.modality == Modality::kImage ? 1 : 2;
    return std::tuple<int, std::string_view>(group, field.name);
  };
  std::vector<int> order(fields.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return rank(a) < rank(b); });
  return order;
}

}  // namespace gato::episode
