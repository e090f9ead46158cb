#pragma once
#include <string>
#include <utility>
#include <vector>

#include "gato/episode/episode.h"

/// Short ways to write task specifications and values in tests.
namespace gato::tokenizer::test {

inline episode::FieldSpec continuous_field(std::string name, std::vector<int64_t> shape) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kContinuous;
  field.shape = std::move(shape);
  return field;
}

inline episode::FieldSpec continuous_field(std::string name, std::vector<int64_t> shape, float low, float high) {
  episode::FieldSpec field = continuous_field(std::move(name), std::move(shape));
  field.low = {low};
  field.high = {high};
  return field;
}

inline episode::FieldSpec discrete_field(std::string name, std::vector<int64_t> shape, int64_t num_values) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kDiscrete;
  field.shape = std::move(shape);
  field.num_values = num_values;
  return field;
}

inline episode::FieldSpec image_field(std::string name, int64_t height, int64_t width) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kImage;
  field.shape = {height, width, 3};
  return field;
}

inline episode::FieldSpec text_field(std::string name) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kText;
  return field;
}

inline episode::TaskSpec make_task(std::vector<episode::FieldSpec> observation,
                                   std::vector<episode::FieldSpec> action) {
  episode::TaskSpec spec;
  spec.id = "test/task";
  spec.observation = std::move(observation);
  spec.action = std::move(action);
  return spec;
}

inline episode::FieldValue continuous_value(std::vector<float> values) {
  episode::FieldValue value;
  value.continuous = std::move(values);
  return value;
}

inline episode::FieldValue discrete_value(std::vector<int32_t> values) {
  episode::FieldValue value;
  value.discrete = std::move(values);
  return value;
}

inline episode::FieldValue text_value(std::string text) {
  episode::FieldValue value;
  value.text = std::move(text);
  return value;
}

inline episode::FieldValue image_value(episode::Image image) {
  episode::FieldValue value;
  value.image = std::move(image);
  return value;
}

/// An image without two equal neighbouring bytes; another one for each seed.
inline episode::Image make_image(int32_t height, int32_t width, uint32_t seed) {
  episode::Image image{height, width, {}};
  const auto bytes = static_cast<size_t>(height) * static_cast<size_t>(width) * 3;
  uint32_t state = seed * 2654435761u + 1;
  for (size_t i = 0; i < bytes; ++i) {
    state = state * 1664525u + 1013904223u;
    image.pixels.push_back(static_cast<uint8_t>(1 + (state >> 24) % 255));
  }
  return image;
}

}  // namespace gato::tokenizer::test
