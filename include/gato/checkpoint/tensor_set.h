#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gato/checkpoint/safetensors.h"

namespace gato::checkpoint {

inline constexpr const char* kTensorIndexName = "model.safetensors.index.json";

/// The tensors of one safetensors file or of several that an index joins, as Hugging Face names them:
/// `model-00001-of-00003.safetensors` and `model.safetensors.index.json`. Const and thread-safe.
class TensorSet {
 public:
  /// `path`: a safetensors file, or a folder with `model.safetensors` or the index (a checkpoint, an export). Contents
  /// are not verified. CheckpointError naming file and
  /// reason for everything malformed: an index that names files outside its folder, lacks tensors of its files or has
  /// too many; ConfigError when there are no tensors at `path`.
  explicit TensorSet(const Path& path);

  [[nodiscard]] const Path& path() const { return path_; }
  [[nodiscard]] std::vector<std::string> names() const;  ///< Sorted.
  [[nodiscard]] bool has(const std::string& name) const { return places_.contains(name); }
  [[nodiscard]] const TensorInfo& info(const std::string& name) const;
  [[nodiscard]] const Path& file_of(const std::string& name) const;
  /// As SafetensorsReader's.
  void read(const std::string& name, std::span<std::byte> out) const;
  [[nodiscard]] std::vector<std::byte> read(const std::string& name) const;

 private:
  void add(const Path& file);
  void open_index(const Path& folder);
  [[nodiscard]] const SafetensorsReader& reader_of(const std::string& name) const;

  Path path_;
  std::vector<std::unique_ptr<SafetensorsReader>> readers_;
  std::map<std::string, size_t> places_;  // name -> index into readers_
};

/// The file of every tensor as an index says. CheckpointError naming `origin` and the key unless it is one, names at
/// least one tensor, and every file by a plain name.
[[nodiscard]] std::map<std::string, std::string> parse_tensor_index(std::string_view text, const std::string& origin);

/// Writes `tensors` into `folder` as `model.safetensors`, or, where they have more than `max_file_bytes`, as several
/// files of at most so many bytes (a larger tensor has one for itself) with an index. Returns the names of the files,
/// the index last. Throws as write_safetensors does.
std::vector<std::string> write_tensor_set(const Path& folder, std::span<const TensorView> tensors,
                                          uint64_t max_file_bytes,
                                          const std::map<std::string, std::string>& metadata = {});

/// Elements as fp32: F32, BF16, F16 and F64 are converted. CheckpointError naming `where` for other types.
[[nodiscard]] std::vector<float> to_floats(Dtype dtype, std::span<const std::byte> bytes, const std::string& where);

}  // namespace gato::checkpoint
