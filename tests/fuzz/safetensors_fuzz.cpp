// Any bytes as a safetensors file: refused with CheckpointError, or accepted with tensors that cover the data exactly,
// which written again and read again are the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors_header.h"
#include "gato/core/error.h"

namespace {

using gato::checkpoint::SafetensorsHeader;
using gato::checkpoint::TensorInfo;
using gato::checkpoint::TensorView;

void require(bool holds) {
  if (!holds) std::abort();
}

uint64_t little_endian_u64(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

SafetensorsHeader parse(std::string_view file) {
  const std::string origin = "input";
  const gato::checkpoint::SafetensorsLimits limits;
  const uint64_t length = gato::checkpoint::check_header_length(little_endian_u64(file), file.size(), origin, limits);
  return parse_safetensors_header(file.substr(8, static_cast<size_t>(length)), file.size(), origin, limits);
}

void check_cover(const SafetensorsHeader& header, uint64_t file_size) {
  require(header.by_name.size() == header.tensors.size());
  for (size_t i = 1; i < header.tensors.size(); ++i) {
    require(header.tensors[i - 1].offset + header.tensors[i - 1].size == header.tensors[i].offset);
  }
  if (!header.tensors.empty()) require(header.tensors.back().offset + header.tensors.back().size == file_size);
}

void check_round_trip(const SafetensorsHeader& header, std::string_view file) {
  std::vector<TensorView> views;
  for (const TensorInfo& tensor : header.tensors) {
    if (!tensor.dtype || tensor.name.empty()) return;  // can be read past, but not written
    const auto data = file.substr(static_cast<size_t>(tensor.offset), static_cast<size_t>(tensor.size));
    views.push_back({tensor.name, *tensor.dtype, tensor.shape, std::as_bytes(std::span(data))});
  }
  std::string written;
  gato::checkpoint::write_safetensors(
      [&](std::span<const std::byte> piece) {
        written.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      },
      views, header.metadata);
  const SafetensorsHeader again = parse(written);
  require(again.metadata == header.metadata && again.tensors.size() == header.tensors.size());
  for (size_t i = 0; i < again.by_name.size(); ++i) {
    const TensorInfo& a = again.tensors[again.by_name[i]];
    const TensorInfo& b = header.tensors[header.by_name[i]];
    require(a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.size == b.size);
    require(std::string_view(written).substr(static_cast<size_t>(a.offset), static_cast<size_t>(a.size)) ==
            file.substr(static_cast<size_t>(b.offset), static_cast<size_t>(b.size)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  if (size < 8) return 0;
  try {
    const SafetensorsHeader header = parse(file);
    check_cover(header, size);
    check_round_trip(header, file);
  } catch (const gato::CheckpointError&) {
  }
  return 0;
}
