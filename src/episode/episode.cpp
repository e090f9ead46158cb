#include "gato/episode/episode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr int64_t kMaxSteps = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxIdBytes = 4096;

/// Where a value stands, for messages.
struct Place {
  const TaskSpec& task;
  const Episode& episode;
  std::string_view group;
  const FieldSpec& field;

  template <class... Args>
  [[noreturn]] void fail(const Args&... problem) const {
    throw DataError(cat("task '", task.id, "', episode '", episode.id, "', ", group, " field '", field.name,
                        "': ", cat(problem...)));
  }

  /// Of one of the field's images.
  [[nodiscard]] std::string origin(size_t step) const {
    return cat("task '", task.id, "', episode '", episode.id, "', ", group, " field '", field.name, "', step ", step);
  }
};

ImageCodec codec_of(const ImageHeader& header) {
  return header.format == ImageHeader::Format::kJpeg ? ImageCodec::kJpeg : ImageCodec::kPng;
}

template <class... Args>
[[noreturn]] void fail(const TaskSpec& task, const Episode& episode, const Args&... problem) {
  throw DataError(cat("task '", task.id, "', episode '", episode.id, "': ", cat(problem...)));
}

void check_size(const Place& place, std::string_view what, size_t actual, size_t expected) {
  if (actual != expected) {
    place.fail(actual, " ", what, " for ", place.episode.num_steps, " steps, expected ", expected);
  }
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

void check_image_shape(const Place& place, size_t step, int64_t image_height, int64_t image_width) {
  const int64_t height = place.field.shape[0], width = place.field.shape[1];
  if ((height != 0 && image_height != height) || (width != 0 && image_width != width)) {
    place.fail("image of ", image_height, " x ", image_width, " at step ", step, ", the task says ", height, " x ",
               width);
  }
}

void check_image(const Place& place, size_t step, const Image& image) {
  const ImageLimits limits;
  if (image.height < 1 || image.width < 1 || image.height > limits.max_side || image.width > limits.max_side ||
      int64_t{image.height} * image.width > limits.max_pixels) {
    place.fail("image of ", image.height, " x ", image.width, " at step ", step, " is empty or too large");
  }
  check_image_shape(place, step, image.height, image.width);
  if (image.pixels.size() != static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3) {
    place.fail("image at step ", step, " has ", image.pixels.size(), " bytes, not height x width x 3");
  }
}

void check_encoded_image(const Place& place, size_t step, const std::string& encoded) {
  const std::string origin = place.origin(step);
  const ImageHeader header = read_image_header(bytes_of(encoded), origin);
  check_image_shape(place, step, header.height, header.width);
  if (codec_of(header) != place.field.codec) {
    place.fail("the image at step ", step, " is not in the codec that the field stores");
  }
}

void check_values(const Place& place, const Column& column, size_t steps, size_t elements) {
  switch (place.field.modality) {
    case Modality::kContinuous:
      for (size_t i = 0; i < column.continuous.size(); ++i) {
        if (std::isnan(column.continuous[i])) place.fail("NaN at step ", i / elements, ", element ", i % elements);
      }
      return;
    case Modality::kDiscrete:
      for (size_t i = 0; i < column.discrete.size(); ++i) {
        if (column.discrete[i] < 0 || column.discrete[i] >= place.field.num_values) {
          place.fail("value ", column.discrete[i], " at step ", i / elements, ", element ", i % elements,
                     " is outside [0, ", place.field.num_values, ")");
        }
      }
      return;
    case Modality::kText:
      for (size_t i = 0; i < steps; ++i) {
        size_t bad = 0;
        if (!is_valid_utf8(column.text[i], &bad)) place.fail("invalid UTF-8 at step ", i, ", byte ", bad);
      }
      return;
    case Modality::kImage:
      for (size_t i = 0; i < column.images.size(); ++i) check_image(place, i, column.images[i]);
      for (size_t i = 0; i < column.encoded.size(); ++i) check_encoded_image(place, i, column.encoded[i]);
      return;
  }
}

void check_column(const Place& place, const Column& column) {
  const auto steps = static_cast<size_t>(place.episode.num_steps);
  const Modality modality = place.field.modality;
  const bool numeric = modality == Modality::kContinuous || modality == Modality::kDiscrete;
  const size_t elements = numeric ? static_cast<size_t>(place.field.num_elements()) : 1;
  check_size(place, "continuous values", column.continuous.size(),
             modality == Modality::kContinuous ? steps * elements : 0);
  check_size(place, "discrete values", column.discrete.size(), modality == Modality::kDiscrete ? steps * elements : 0);
  check_size(place, "texts", column.text.size(), modality == Modality::kText ? steps : 0);
  const bool encoded = modality == Modality::kImage && !column.encoded.empty();
  check_size(place, "images", column.images.size(), modality == Modality::kImage && !encoded ? steps : 0);
  check_size(place, "encoded images", column.encoded.size(), encoded ? steps : 0);
  check_values(place, column, steps, elements);
}

void check_columns(const TaskSpec& task, const Episode& episode, std::string_view group,
                   const std::vector<FieldSpec>& fields, const std::vector<Column>& columns) {
  if (columns.size() != fields.size()) {
    fail(task, episode, columns.size(), " ", group, " columns, the task has ", fields.size(), " fields");
  }
  for (size_t i = 0; i < fields.size(); ++i) check_column({task, episode, group, fields[i]}, columns[i]);
}

void prepare_column(const Place& place, Column& column) {
  for (size_t i = 0; i < column.encoded.size(); ++i) {
    std::string& encoded = column.encoded[i];
    const std::string origin = place.origin(i);
    const Image image = decode_image(bytes_of(encoded), origin);
    if (codec_of(read_image_header(bytes_of(encoded), origin)) != place.field.codec) {
      encoded = encode_image(image, place.field.codec);
    }
  }
  for (size_t i = 0; i < column.images.size(); ++i) {
    check_image(place, i, column.images[i]);
    column.encoded.push_back(encode_image(column.images[i], place.field.codec));
  }
  column.images.clear();
}

void prepare_columns(const TaskSpec& task, const Episode& episode, std::string_view group,
                     const std::vector<FieldSpec>& fields, std::vector<Column>& columns) {
  for (size_t i = 0; i < std::min(fields.size(), columns.size()); ++i) {
    if (fields[i].modality == Modality::kImage) prepare_column({task, episode, group, fields[i]}, columns[i]);
  }
}

void check_reward(const TaskSpec& task, const Episode& episode) {
  if (!episode.reward.empty() && episode.reward.size() != static_cast<size_t>(episode.num_steps)) {
    fail(task, episode, episode.reward.size(), " rewards for ", episode.num_steps, " steps; give one per step or none");
  }
  for (size_t i = 0; i < episode.reward.size(); ++i) {
    if (!std::isfinite(episode.reward[i])) fail(task, episode, "reward at step ", i, " is not finite");
  }
}

}  // namespace

void append_value(Column& column, const FieldSpec& spec, const FieldValue& value) {
  switch (spec.modality) {
    case Modality::kContinuous:
      GATO_CHECK(static_cast<int64_t>(value.continuous.size()) == spec.num_elements(), "field '", spec.name, "' has ",
                 spec.num_elements(), " elements, the value ", value.continuous.size());
      column.continuous.insert(column.continuous.end(), value.continuous.begin(), value.continuous.end());
      return;
    case Modality::kDiscrete:
      GATO_CHECK(static_cast<int64_t>(value.discrete.size()) == spec.num_elements(), "field '", spec.name, "' has ",
                 spec.num_elements(), " elements, the value ", value.discrete.size());
      column.discrete.insert(column.discrete.end(), value.discrete.begin(), value.discrete.end());
      return;
    case Modality::kText:
      column.text.push_back(value.text);
      return;
    case Modality::kImage:
      column.images.push_back(value.image);
      return;
  }
}

FieldValue value_at(const Column& column, const FieldSpec& spec, int64_t step) {
  FieldValue value;
  const auto index = static_cast<size_t>(step);
  const auto slice = [&](const auto& from, auto& to) {
    const auto elements = static_cast<size_t>(spec.num_elements());
    GATO_CHECK(step >= 0 && (index + 1) * elements <= from.size(), "field '", spec.name, "' has no step ", step);
    const auto first = from.begin() + static_cast<std::ptrdiff_t>(index * elements);
    to.assign(first, first + static_cast<std::ptrdiff_t>(elements));
  };
  switch (spec.modality) {
    case Modality::kContinuous:
      slice(column.continuous, value.continuous);
      break;
    case Modality::kDiscrete:
      slice(column.discrete, value.discrete);
      break;
    case Modality::kText:
      GATO_CHECK(step >= 0 && index < column.text.size(), "field '", spec.name, "' has no step ", step);
      value.text = column.text[index];
      break;
    case Modality::kImage:
      GATO_CHECK(step >= 0 && index < std::max(column.images.size(), column.encoded.size()), "field '", spec.name,
                 "' has no step ", step);
      value.image = column.encoded.empty()
                        ? column.images[index]
                        : decode_image(bytes_of(column.encoded[index]), cat("field '", spec.name, "', step ", step));
      break;
  }
  return value;
}

double Episode::total_return() const {
  double sum = 0;
  for (const float value : reward) sum += value;
  return sum;
}

void check_episode(const TaskSpec& spec, const Episode& episode) {
  if (episode.id.empty() || episode.id.size() > kMaxIdBytes || !is_valid_utf8(episode.id)) {
    fail(spec, episode, "an episode's id is 1 to ", kMaxIdBytes, " bytes of valid UTF-8");
  }
  if (episode.source_agent.size() > kMaxIdBytes || !is_valid_utf8(episode.source_agent)) {
    fail(spec, episode, "the source agent's name is at most ", kMaxIdBytes, " bytes of valid UTF-8");
  }
  if (episode.num_steps < 1 || episode.num_steps > kMaxSteps) {
    fail(spec, episode, episode.num_steps, " steps, must be in [1, ", kMaxSteps, "]");
  }
  check_columns(spec, episode, "observation", spec.observation, episode.observation);
  check_columns(spec, episode, "action", spec.action, episode.action);
  if (!episode.label.empty()) check_columns(spec, episode, "label", spec.action, episode.label);
  check_reward(spec, episode);
}

std::string encode_image(const Image& image, ImageCodec codec) {
  return codec == ImageCodec::kJpeg ? encode_jpeg(image) : encode_png(image);
}

void prepare_encoded_images(const TaskSpec& spec, Episode& episode) {
  prepare_columns(spec, episode, "observation", spec.observation, episode.observation);
  prepare_columns(spec, episode, "action", spec.action, episode.action);
  prepare_columns(spec, episode, "label", spec.action, episode.label);
}

// FNV-1a over the id's bytes, then the finalizer of MurmurHash3. Part of the shard format (docs/formats/shard.md), so
// it is spelled out here instead of sharing a hash that may change.
uint64_t split_hash(const std::string& episode_id) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : episode_id) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdu;
  hash ^= hash >> 33;
  hash *= 0xc4ceb9fe1a85ec53u;
  hash ^= hash >> 33;
  return hash;
}

bool in_validation(uint64_t hash, double validation_share) {
  if (validation_share >= 1.0) return true;
  // 53 bits of the hash are exact in a double.
  return static_cast<double>(hash >> 11) * 0x1p-53 < validation_share;
}

}  // namespace gato::episode
