#pragma once
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/file.h"
#include "gato/core/text.h"

/// A checkpoint with every kind of content, whose bytes follow from the step: what the tests save, damage and load.
namespace gato::checkpoint::test {

inline std::vector<float> weights_of(int64_t step, size_t count = 100) {
  std::vector<float> weights(count);
  for (size_t i = 0; i < count; ++i) weights[i] = static_cast<float>(step) + static_cast<float>(i) / 1024.0f;
  return weights;
}

inline std::string state_of(int64_t step) { return cat("{\"step\": ", step, "}\n"); }

inline CheckpointInfo save(const Path& folder, int64_t step, size_t num_weights = 100) {
  CheckpointWriter writer(folder, step);
  const std::vector<float> weights = weights_of(step, num_weights);
  const std::vector<TensorView> tensors = {
      {"weights", Dtype::kF32, {static_cast<int64_t>(num_weights)}, std::as_bytes(std::span(weights))}};
  writer.add_tensors("model.safetensors", tensors, {{"step", std::to_string(step)}});
  writer.add_file("training_state.json", state_of(step));
  writer.add_file("empty.txt", "");
  write_file_atomic(writer.file_path("demos/grid.txt"), cat("demonstration of ", step));
  writer.set_fact("attempt", "1");
  return writer.commit();
}

/// A checkpoint of one file, for tests that look at folders: every file costs the disk some fsyncs.
inline CheckpointInfo save_one_file(const Path& folder, int64_t step) {
  CheckpointWriter writer(folder, step);
  writer.add_file("state.json", state_of(step));
  return writer.commit();
}

/// Whether everything in the checkpoint is what save() wrote for its step.
inline bool is_as_saved(const CheckpointInfo& info, size_t num_weights = 100) {
  const Checkpoint checkpoint(info.path);
  const std::vector<float> weights = weights_of(info.step, num_weights);
  const auto expected = std::as_bytes(std::span(weights));
  const std::vector<std::byte> found = SafetensorsReader(checkpoint.file("model.safetensors")).read("weights");
  return checkpoint.step() == info.step && checkpoint.read("training_state.json") == state_of(info.step) &&
         checkpoint.read("demos/grid.txt") == cat("demonstration of ", info.step) &&
         std::equal(found.begin(), found.end(), expected.begin(), expected.end());
}

/// Names in a folder, sorted.
inline std::vector<std::string> names_in(const Path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Flips all bits of one byte of a file, in place.
inline void flip_byte(const Path& path, uint64_t offset) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const int byte = file.seekg(static_cast<std::streamoff>(offset)).get();
  file.seekp(static_cast<std::streamoff>(offset)).put(static_cast<char>(~byte));
  if (!file) throw std::runtime_error("cannot flip a byte of " + path.string());
}

}  // namespace gato::checkpoint::test
