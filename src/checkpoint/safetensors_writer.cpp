#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "checkpoint/safetensors_header.h"
#include "gato/checkpoint/safetensors.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

constexpr size_t kHeaderAlignment = 8;  // the data begin at a multiple of the largest element

void check_view(const TensorView& tensor, const SafetensorsLimits& limits) {
  GATO_CHECK(!tensor.name.empty() && tensor.name.size() <= limits.max_name_bytes && tensor.name != kMetadataKey &&
                 is_valid_utf8(tensor.name),
             "tensor name \"", tensor.name, "\" of ", tensor.name.size(), " bytes: names are valid UTF-8 of 1 to ",
             limits.max_name_bytes, " bytes and not ", kMetadataKey);
  GATO_CHECK(tensor.shape.size() <= limits.max_rank, "tensor \"", tensor.name, "\" has ", tensor.shape.size(),
             " dimensions where at most ", limits.max_rank, " are allowed");
  const std::optional<int64_t> elements = checked_product(tensor.shape);
  GATO_CHECK(elements.has_value(), "tensor \"", tensor.name, "\": its shape is negative or overflows");
  const std::optional<uint64_t> bytes = checked_byte_size(*elements, tensor.dtype);
  GATO_CHECK(bytes.has_value() && *bytes == tensor.data.size(), "tensor \"", tensor.name, "\" of ", *elements, " ",
             dtype_name(tensor.dtype), " comes with ", tensor.data.size(), " bytes of data");
}

void check_views(std::span<const TensorView> tensors, const SafetensorsLimits& limits) {
  GATO_CHECK(tensors.size() <= limits.max_tensors, tensors.size(), " tensors where at most ", limits.max_tensors,
             " are allowed in a file");
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorView& tensor : tensors) {
    check_view(tensor, limits);
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  GATO_CHECK(twin == names.end(), "two tensors are named \"", *twin, "\"");
}

/// Indices of `tensors` by falling element size, so that each begins at a multiple of its element.
std::vector<size_t> order_in_file(std::span<const TensorView> tensors) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return dtype_bits(tensors[a].dtype) > dtype_bits(tensors[b].dtype); });
  return order;
}

std::string quoted_json(const std::string& text) { return Json(text).dump(); }

std::string metadata_json(const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> entries;
  for (const auto& [key, value] : metadata) {
    GATO_CHECK(is_valid_utf8(key) && is_valid_utf8(value), "metadata \"", key, "\" is not valid UTF-8");
    entries.push_back(cat(quoted_json(key), ":", quoted_json(value)));
  }
  return cat("\"", kMetadataKey, "\":{", join(entries, ","), "}");
}

std::string header_json(std::span<const TensorView> tensors, const std::vector<size_t>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> entries;
  entries.reserve(order.size() + 1);
  if (!metadata.empty()) entries.push_back(metadata_json(metadata));
  uint64_t offset = 0;
  for (const size_t i : order) {
    const TensorView& tensor = tensors[i];
    std::vector<std::string> shape;
    for (const int64_t size : tensor.shape) shape.push_back(std::to_string(size));
    const uint64_t end = offset + tensor.data.size();
    entries.push_back(cat(quoted_json(tensor.name), ":{\"dtype\":\"", dtype_name(tensor.dtype), "\",\"shape\":[",
                          join(shape, ","), "],\"data_offsets\":[", offset, ",", end, "]}"));
    offset = end;
  }
  std::string json = cat("{", join(entries, ","), "}");
  json.append((kHeaderAlignment - json.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  return json;
}

}  // namespace

void write_safetensors(const ByteSink& sink, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const SafetensorsLimits limits;
  check_views(tensors, limits);
  const std::vector<size_t> order = order_in_file(tensors);
  const std::string header = header_json(tensors, order, metadata);
  GATO_CHECK(header.size() <= limits.max_header_bytes, "the header of ", tensors.size(), " tensors has ", header.size(),
             " bytes where at most ", limits.max_header_bytes, " are allowed");
  std::array<std::byte, kHeaderLengthBytes> length{};
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>(header.size() >> (8 * i) & 0xff);
  sink(length);
  sink(std::as_bytes(std::span(header)));
  for (const size_t i : order) sink(tensors[i].data);
}

void write_safetensors(const Path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
  OutputFile file(path);
  write_safetensors([&](std::span<const std::byte> bytes) { file.write(bytes); }, tensors, metadata);
  file.commit();
}

}  // namespace gato::checkpoint
