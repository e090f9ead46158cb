#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/safetensors_header.h"
#include "gato/checkpoint/safetensors.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

uint64_t little_endian_u64(std::span<const std::byte, 8> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

std::string read_header(const InputFile& file, const SafetensorsLimits& limits) {
  const std::string origin = file.path().string();
  if (file.size() < kHeaderLengthBytes) {
    throw CheckpointError(cat(origin, ": not a valid safetensors file: it ends at offset ", file.size(),
                              ", inside the 8 bytes of the header's length: it was cut short"));
  }
  std::array<std::byte, kHeaderLengthBytes> length{};
  file.read_at(0, length);
  const uint64_t size = check_header_length(little_endian_u64(length), file.size(), origin, limits);
  std::string header(static_cast<size_t>(size), '\0');
  file.read_at(kHeaderLengthBytes, std::as_writable_bytes(std::span(header)));
  return header;
}

const TensorInfo& require_known_dtype(const TensorInfo& info, const Path& path) {
  if (!info.dtype) {
    throw CheckpointError(cat(path.string(), ": tensor \"", info.name, "\" has the unknown dtype \"", info.dtype_name,
                              "\"; read this file with a newer version, or convert the tensor"));
  }
  return info;
}

}  // namespace

int64_t TensorInfo::num_elements() const {
  const std::optional<int64_t> elements = checked_product(shape);
  GATO_CHECK(elements.has_value(), "tensor \"", name, "\": its shape overflows");
  return *elements;
}

SafetensorsReader::SafetensorsReader(const Path& path, SafetensorsLimits limits) : file_(path) {
  SafetensorsHeader header = parse_safetensors_header(read_header(file_, limits), file_.size(), path.string(), limits);
  tensors_ = std::move(header.tensors);
  by_name_ = std::move(header.by_name);
  metadata_ = std::move(header.metadata);
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const TensorInfo& tensor : tensors_) names.push_back(tensor.name);
  return names;
}

const TensorInfo* SafetensorsReader::find(const std::string& name) const {
  const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                      [&](size_t i, const std::string& wanted) { return tensors_[i].name < wanted; });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

const TensorInfo& SafetensorsReader::info(const std::string& name) const {
  if (const TensorInfo* found = find(name)) return *found;
  const std::string near = nearest(name, names());
  throw CheckpointError(cat(path().string(), ": there is no tensor \"", name, "\" among its ", tensors_.size(),
                            near.empty() ? "" : cat("; the nearest name is \"", near, "\"")));
}

void SafetensorsReader::read(const std::string& name, std::span<std::byte> out) const {
  GATO_CHECK(out.size() == info(name).size, path().string(), ": tensor \"", name, "\" has ", info(name).size,
             " bytes, but ", out.size(), " are asked for");
  read_range(name, 0, out);
}

void SafetensorsReader::read_range(const std::string& name, uint64_t byte_offset, std::span<std::byte> out) const {
  const TensorInfo& tensor = require_known_dtype(info(name), path());
  GATO_CHECK(byte_offset <= tensor.size && out.size() <= tensor.size - byte_offset, path().string(), ": tensor \"",
             name, "\" has ", tensor.size, " bytes, but ", out.size(), " from byte ", byte_offset, " are asked for");
  file_.read_at(tensor.offset + byte_offset, out);
}

std::vector<std::byte> SafetensorsReader::read(const std::string& name) const {
  std::vector<std::byte> data(static_cast<size_t>(info(name).size));
  read(name, data);
  return data;
}

std::map<std::string, std::vector<std::byte>> SafetensorsReader::read_all() const {
  std::map<std::string, std::vector<std::byte>> all;
  for (const TensorInfo& tensor : tensors_) all.emplace(tensor.name, read(tensor.name));
  return all;
}

}  // namespace gato::checkpoint
