#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"  // Path, InputFile

/// Named tensors in a file: the public safetensors format, read strictly (docs/formats/checkpoint.md lists the rules).
namespace gato::checkpoint {

/// Element types of the format. Those below eight bits are packed, and a tensor of them must fill whole bytes.
enum class Dtype : uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64
};

[[nodiscard]] std::string_view dtype_name(Dtype dtype);                     ///< As in files: "F32", "BF16", "I64".
[[nodiscard]] std::optional<Dtype> dtype_from_name(std::string_view name);  ///< Nothing for an unknown name.
[[nodiscard]] int dtype_bits(Dtype dtype);                                  ///< Bits per element, 4 .. 64.

/// A tensor in memory: row-major, little-endian, dense. Does not own `data`.
struct TensorView {
  std::string name;  ///< Valid UTF-8, 1 .. 1024 bytes, not "__metadata__".
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;       ///< {} for a scalar; at most 16 sizes, each >= 0.
  std::span<const std::byte> data;  ///< Exactly product(shape) * dtype_bits / 8 bytes.
};

/// Writes `tensors` as one file, streaming: nothing is copied. Committed by rename after fsync, so `path` holds the old
/// file or the new one. Tensors lie in the file by falling element size, otherwise in the given order, each aligned to
/// its element. Throws ContractError naming the tensor when a view breaks its contract, IoError when the disk refuses.
void write_safetensors(const Path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// As above into any sink, which receives the file's bytes front to back in pieces of any size.
using ByteSink = std::function<void(std::span<const std::byte>)>;
void write_safetensors(const ByteSink& sink, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// What a file says of one tensor.
struct TensorInfo {
  std::string name;
  std::string dtype_name;      ///< As written in the file.
  std::optional<Dtype> dtype;  ///< Nothing when the name is unknown: an error only when the tensor is read.
  std::vector<int64_t> shape;
  uint64_t offset = 0;  ///< Of its first byte in the file.
  uint64_t size = 0;    ///< In bytes.
  [[nodiscard]] int64_t num_elements() const;
};

struct SafetensorsLimits {
  uint64_t max_header_bytes = uint64_t{32} << 20;
  size_t max_tensors = 1'000'000;
  size_t max_name_bytes = 1024;
  size_t max_rank = 16;
};

/// Reads a safetensors file, whose header is checked completely on opening: nothing is allocated that a length field
/// claims before it was compared with the file's size. Reads by pread, so a file cut meanwhile is an error and no
/// crash. Const and thread-safe after construction.
class SafetensorsReader {
 public:
  /// Throws CheckpointError naming file, tensor or offset, and the broken rule for every malformed file; IoError when
  /// it cannot be opened.
  explicit SafetensorsReader(const Path& path, SafetensorsLimits limits = {});

  [[nodiscard]] const Path& path() const { return file_.path(); }
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }  ///< In the order of their bytes.
  [[nodiscard]] std::vector<std::string> names() const;                              ///< In the order of their bytes.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  [[nodiscard]] bool has(const std::string& name) const { return find(name) != nullptr; }

  /// Throws CheckpointError naming the file, the tensor and the nearest name there is.
  [[nodiscard]] const TensorInfo& info(const std::string& name) const;

  /// Fills `out`, whose size must be the tensor's (ContractError). CheckpointError for an unknown dtype.
  void read(const std::string& name, std::span<std::byte> out) const;
  /// Fills `out` with the bytes from `byte_offset` inside the tensor.
  void read_range(const std::string& name, uint64_t byte_offset, std::span<std::byte> out) const;
  [[nodiscard]] std::vector<std::byte> read(const std::string& name) const;
  [[nodiscard]] std::map<std::string, std::vector<std::byte>> read_all() const;

 private:
  const TensorInfo* find(const std::string& name) const;

  InputFile file_;
  std::vector<TensorInfo> tensors_;
  std::vector<size_t> by_name_;  // indices into tensors_, sorted by name
  std::map<std::string, std::string> metadata_;
};

}  // namespace gato::checkpoint
