#pragma once
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/episode/episode.h"
#include "gato/episode/shard.h"

/// Small tasks and episodes of every modality.
namespace gato::episode::sample {

inline FieldSpec text_field(std::string name) {
  FieldSpec field;
  field.name = std::move(name);
  field.modality = Modality::kText;
  return field;
}

inline FieldSpec image_field(std::string name, int64_t height, int64_t width, ImageCodec codec = ImageCodec::kPng) {
  FieldSpec field;
  field.name = std::move(name);
  field.modality = Modality::kImage;
  field.shape = {height, width, 3};
  field.codec = codec;
  return field;
}

inline FieldSpec discrete_field(std::string name, std::vector<int64_t> shape, int64_t num_values) {
  FieldSpec field;
  field.name = std::move(name);
  field.modality = Modality::kDiscrete;
  field.shape = std::move(shape);
  field.num_values = num_values;
  return field;
}

inline FieldSpec continuous_field(std::string name, std::vector<int64_t> shape, float low, float high) {
  FieldSpec field;
  field.name = std::move(name);
  field.modality = Modality::kContinuous;
  field.shape = std::move(shape);
  field.low = {low};
  field.high = {high};
  return field;
}

/// Every modality on both sides (images can only be observed).
inline TaskSpec mixed_task(std::string id = "sample/mixed") {
  TaskSpec task;
  task.id = std::move(id);
  task.description = "Every modality at once, \xc3\xa9t\xc3\xa9.";
  task.observation = {continuous_field("velocity", {2, 3}, -2.0f, 2.0f), text_field("mission"),
                      image_field("camera", 6, 5), image_field("view", 0, 0), discrete_field("inventory", {4}, 1024)};
  task.observation[0].unit = "m/s";
  task.action = {discrete_field("button", {}, 7), continuous_field("torque", {2}, -1.0f, 1.0f), text_field("reply")};
  task.action[1].low = {-1.0f, -3.0f};
  task.action[1].high = {1.0f, 0.5f};
  task.partial_view = true;
  task.max_steps = 500;
  task.expert = {12.5, 0.25, 50};
  task.random = {-1.0, 0.125, 40};
  task.licence = "CC0-1.0";
  return task;
}

/// A document: one step, no observation, a text action.
inline TaskSpec document_task(std::string id = "text/documents") {
  TaskSpec task;
  task.id = std::move(id);
  task.description = "Documents.";
  task.action = {text_field("text")};
  task.scoring = Scoring::kLoss;
  return task;
}

inline Image random_image(Rng& rng, int32_t height, int32_t width) {
  Image image;
  image.height = height;
  image.width = width;
  image.pixels.resize(static_cast<size_t>(height) * static_cast<size_t>(width) * 3);
  for (uint8_t& pixel : image.pixels) pixel = static_cast<uint8_t>(rng.below(256));
  return image;
}

inline std::string random_text(Rng& rng, int64_t max_words) {
  static const std::vector<std::string> kWords = {"go", "to", "the", "r\xc3\xb6ter", "ball", "\xe7\x90\x83", "\n", ""};
  std::string text;
  const int64_t words = rng.below(max_words + 1);
  for (int64_t i = 0; i < words; ++i) text += kWords[static_cast<size_t>(rng.below(8))] + " ";
  return text;
}

inline FieldValue random_value(Rng& rng, const FieldSpec& field) {
  FieldValue value;
  switch (field.modality) {
    case Modality::kText:
      value.text = random_text(rng, 6);
      break;
    case Modality::kImage: {
      const auto side = [&](int64_t fixed) { return static_cast<int32_t>(fixed > 0 ? fixed : 1 + rng.below(9)); };
      const int32_t height = side(field.shape[0]);
      value.image = random_image(rng, height, side(field.shape[1]));
      break;
    }
    case Modality::kDiscrete:
      for (int64_t i = 0; i < field.num_elements(); ++i) {
        value.discrete.push_back(static_cast<int32_t>(rng.below(field.num_values)));
      }
      break;
    case Modality::kContinuous:
      for (int64_t i = 0; i < field.num_elements(); ++i) value.continuous.push_back(static_cast<float>(rng.normal()));
      break;
  }
  return value;
}

inline std::vector<Column> random_columns(Rng& rng, const std::vector<FieldSpec>& fields, int64_t steps) {
  std::vector<Column> columns(fields.size());
  for (size_t i = 0; i < fields.size(); ++i) {
    for (int64_t step = 0; step < steps; ++step) append_value(columns[i], fields[i], random_value(rng, fields[i]));
  }
  return columns;
}

/// Which of an episode's optional parts are there.
struct Parts {
  bool reward = true;
  bool label = false;
};

inline Episode random_episode(const TaskSpec& task, uint64_t seed, int64_t steps, Parts parts = {}) {
  Rng rng(mix_seed(seed, {hash_name(task.id)}));
  Episode episode;
  episode.id = cat(task.id, "/", seed);
  episode.source_agent = seed % 3 == 0 ? "random" : "expert";
  episode.seed = seed;
  episode.num_steps = steps;
  episode.observation = random_columns(rng, task.observation, steps);
  episode.action = random_columns(rng, task.action, steps);
  if (parts.label) episode.label = random_columns(rng, task.action, steps);
  for (int64_t i = 0; parts.reward && i < steps; ++i) episode.reward.push_back(static_cast<float>(rng.uniform(-1, 1)));
  episode.terminated = seed % 2 == 0;
  episode.truncated = !episode.terminated;
  if (seed % 4 != 0) episode.success = seed % 4 == 1;
  return episode;
}

inline DatasetInfo dataset_info() { return {"sample/data", "For tests.", "CC0-1.0", "a test"}; }

inline Episode document(const std::string& id, std::string text) {
  Episode episode;
  episode.id = id;
  episode.num_steps = 1;
  episode.action.resize(1);
  episode.action[0].text = {std::move(text)};
  return episode;
}

/// Steps [first, first + count) of `episode`.
inline Episode window_of(const TaskSpec& task, const Episode& episode, int64_t first, int64_t count) {
  Episode window = episode;
  window.num_steps = count;
  const auto cut = [&](const std::vector<FieldSpec>& fields, std::vector<Column>& columns) {
    for (size_t i = 0; i < columns.size(); ++i) {
      Column column;
      for (int64_t step = first; step < first + count; ++step) {
        append_value(column, fields[i], value_at(columns[i], fields[i], step));
      }
      columns[i] = column;
    }
  };
  cut(task.observation, window.observation);
  cut(task.action, window.action);
  cut(task.action, window.label);
  if (!episode.reward.empty()) {
    window.reward.assign(episode.reward.begin() + first, episode.reward.begin() + first + count);
  }
  return window;
}

inline std::string slurp(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void spill(const Path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
}

/// Changes one byte of a file where it stands; some file systems take milliseconds to replace a file.
inline void poke(const Path& path, size_t offset, char value) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(value);
}

/// The message of the E that `body` throws; "" when it throws nothing. Other exceptions pass.
template <class E, class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

}  // namespace gato::episode::sample
