#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gato::episode {

/// What a field holds. Everything an agent sees or does is one of these four.
enum class Modality : uint8_t { kText = 0, kImage = 1, kDiscrete = 2, kContinuous = 3 };

[[nodiscard]] std::string_view modality_name(Modality modality);  ///< "text", "image", "discrete", "continuous".

/// How encoded images are stored in shards. kPng is lossless.
enum class ImageCodec : uint8_t { kPng = 0, kJpeg = 1 };

/// One named field of an observation or an action.
struct FieldSpec {
  std::string name;  ///< Unique inside its group; canonical order sorts by it.
  Modality modality = Modality::kContinuous;
  /// Continuous and discrete: shape of one value, row-major, {} for a scalar. Image: {height, width, 3}, 0 where a size
  /// varies. Text: empty.
  std::vector<int64_t> shape;
  int64_t num_values = 0;  ///< Discrete: values are in [0, num_values), 1 <= num_values <= 1024.
  /// Continuous: bounds, one per element or one for all. Required for actions (low < high); for observations they
  /// inform only.
  std::vector<float> low, high;
  ImageCodec codec = ImageCodec::kPng;  ///< Images: how shards store them.
  std::string unit;                     ///< Continuous: unit for people, such as "N m"; "" when there is none.

  [[nodiscard]] int64_t num_elements() const;          ///< Product of `shape`; 1 for a scalar. Not for text and images.
  [[nodiscard]] float low_of(int64_t element) const;   ///< Bound of one element; -1 when none is given.
  [[nodiscard]] float high_of(int64_t element) const;  ///< Bound of one element; +1 when none is given.
  bool operator==(const FieldSpec&) const = default;
};

/// How a task is judged.
enum class Scoring : uint8_t {
  kReturn = 0,      ///< 100 x (mean return - random) / (expert - random).
  kExactMatch = 1,  ///< Share of episodes whose text action equals the expert's, in percent.
  kLoss = 2,        ///< Only a loss; enters no mean of scores.
};

/// Mean return of one agent on a task, as measured by this project's own code.
struct ReturnRecord {
  double mean = 0;
  double standard_error = 0;
  int64_t episodes = 0;  ///< 0: not measured.
  bool operator==(const ReturnRecord&) const = default;
};

/// Everything that is fixed about a task. Stored in shard footers and checkpoints.
struct TaskSpec {
  std::string id;           ///< "domain/name".
  std::string description;  ///< One sentence for people.
  std::vector<FieldSpec> observation;
  std::vector<FieldSpec> action;  ///< A document has no observation and one text action.
  Scoring scoring = Scoring::kReturn;
  bool partial_view = false;    ///< The observation hides state: discrete actions are then sampled by default.
  int64_t max_steps = 0;        ///< Episodes are truncated here; 0: unknown.
  ReturnRecord expert, random;  ///< Reference scores; `episodes` 0 while unmeasured.
  std::string licence;          ///< Of the data, SPDX identifier or a sentence; "" for generated data.

  [[nodiscard]] std::string domain() const;  ///< The part of `id` before the first '/'.
  bool operator==(const TaskSpec&) const = default;
};

/// Throws ConfigError naming task and field for: an empty or malformed id, duplicate names, bad shapes, num_values or
/// bounds.
void check_task_spec(const TaskSpec& spec);

/// Indices of `fields` in canonical order: text, image, then discrete and continuous together; sorted by name inside
/// each group (paper section 2.1; design.md section 6).
[[nodiscard]] std::vector<int> canonical_order(const std::vector<FieldSpec>& fields);

/// What an agent that was trained on `trained` would find different in `environment`, one sentence each: fields that
/// are missing, new or of another modality, shapes, numbers of values, bounds of actions. Empty: the agent's tokens
/// mean the same. What only informs (descriptions, units, bounds of observations, scoring) is not compared.
[[nodiscard]] std::vector<std::string> spec_differences(const TaskSpec& trained, const TaskSpec& environment);

}  // namespace gato::episode
