#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gato/episode/spec.h"

/// Short ways to write the fields of a TaskSpec.
namespace gato::env {

[[nodiscard]] inline episode::FieldSpec text_field(std::string name) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kText;
  return field;
}

/// RGB, `height` x `width` pixels.
[[nodiscard]] inline episode::FieldSpec image_field(std::string name, int64_t height, int64_t width) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kImage;
  field.shape = {height, width, 3};
  return field;
}

/// Values in [0, num_values); `shape` {}: one.
[[nodiscard]] inline episode::FieldSpec discrete_field(std::string name, int64_t num_values,
                                                       std::vector<int64_t> shape = {}) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kDiscrete;
  field.shape = std::move(shape);
  field.num_values = num_values;
  return field;
}

/// `size` numbers, each in [low, high].
[[nodiscard]] inline episode::FieldSpec continuous_field(std::string name, int64_t size, float low, float high,
                                                         std::string unit = "") {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kContinuous;
  field.shape = {size};
  field.low = {low};
  field.high = {high};
  field.unit = std::move(unit);
  return field;
}

}  // namespace gato::env
