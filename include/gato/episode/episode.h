#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gato/episode/image.h"
#include "gato/episode/spec.h"

namespace gato::episode {

/// One value of one field: only the member of the field's modality is used.
struct FieldValue {
  std::vector<float> continuous;  ///< num_elements() numbers, row-major.
  std::vector<int32_t> discrete;  ///< num_elements() values in [0, num_values).
  std::string text;               ///< Valid UTF-8.
  Image image;
  bool operator==(const FieldValue&) const = default;
};

/// The values of one group of fields (an observation or an action), aligned with its FieldSpecs.
using StepValues = std::vector<FieldValue>;

/// The values of one field over consecutive steps.
struct Column {
  std::vector<float> continuous;  ///< steps x num_elements.
  std::vector<int32_t> discrete;  ///< steps x num_elements.
  std::vector<std::string> text;  ///< One per step.
  std::vector<Image> images;      ///< One per step, unless `encoded` has them.
  /// Images as the bytes of JPEG or PNG files, one per step, instead of `images`: stored as they are. Only for writing;
  /// ShardReader::read fills `images`.
  std::vector<std::string> encoded;
  bool operator==(const Column&) const = default;
};

void append_value(Column& column, const FieldSpec& spec, const FieldValue& value);
[[nodiscard]] FieldValue value_at(const Column& column, const FieldSpec& spec, int64_t step);

/// An episode, or a run of its steps: what an agent saw and did.
struct Episode {
  std::string id;            ///< Unique inside its data set; decides the split into training and validation.
  std::string source_agent;  ///< Who acted: "expert", "lqr", "bot"; prompts come from the same agent.
  uint64_t seed = 0;         ///< Seed of the environment; 0 for imported data.
  int64_t num_steps = 0;
  std::vector<Column> observation;  ///< Aligned with TaskSpec::observation.
  std::vector<Column> action;       ///< The executed actions, aligned with TaskSpec::action: the model's input.
  /// The expert's labels, aligned with TaskSpec::action: the targets. Empty when the executed actions are the labels.
  std::vector<Column> label;
  std::vector<float> reward;  ///< One per step; empty where there is none.
  bool terminated = false;    ///< Ended by the task itself.
  bool truncated = false;     ///< Cut by a time limit.
  std::optional<bool> success;
  bool operator==(const Episode&) const = default;

  [[nodiscard]] double total_return() const;  ///< Sum of `reward` (raw, undiscounted).
};

/// Throws DataError naming task, episode, field and step for: wrong column sizes, discrete values out of range, NaN,
/// invalid UTF-8, images of another size, encoded images whose header is damaged or of another size or codec than the
/// field's, more than 2^31 - 1 steps. The pixels of encoded images are not looked at: see prepare_encoded_images.
void check_episode(const TaskSpec& spec, const Episode& episode);

/// Makes every image column of `episode` an encoded one in its field's codec: encoded images of that codec are kept
/// byte for byte and decoded once to see that they are whole, others are decoded and encoded anew, and `images` are
/// encoded. Throws DataError as check_episode, and for damaged images.
void prepare_encoded_images(const TaskSpec& spec, Episode& episode);

/// `image` as a file of `codec` (JPEG with quality 95), as shards store it.
[[nodiscard]] std::string encode_image(const Image& image, ImageCodec codec);

/// Hash that splits episodes: the same id is always on the same side, whatever shard holds it.
[[nodiscard]] uint64_t split_hash(const std::string& episode_id);

/// Which side an episode is on: validation for the lowest `validation_share` of split hashes.
[[nodiscard]] bool in_validation(uint64_t hash, double validation_share);

}  // namespace gato::episode
