#include "gato/checkpoint/tensor_set.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "gato/checkpoint/manifest.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

constexpr const char* kSingleName = "model.safetensors";
constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;

std::string five_digits(size_t number) {
  const std::string digits = std::to_string(number);
  return std::string(5 - std::min<size_t>(5, digits.size()), '0') + digits;
}

/// The tensors in their order cut into files.
std::vector<std::vector<TensorView>> cut_into_files(std::span<const TensorView> tensors, uint64_t max_bytes) {
  std::vector<std::vector<TensorView>> files;
  uint64_t bytes = 0;
  for (const TensorView& tensor : tensors) {
    if (files.empty() || (bytes > 0 && bytes + tensor.data.size() > max_bytes)) {
      files.emplace_back();
      bytes = 0;
    }
    files.back().push_back(tensor);
    bytes += tensor.data.size();
  }
  if (files.empty()) files.emplace_back();
  return files;
}

float half_to_float(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const auto fraction = static_cast<float>(half & 1023);
  float value = 0;
  if (exponent == 0) {
    value = std::ldexp(fraction, -24);
  } else if (exponent == 31) {
    value = fraction == 0 ? INFINITY : NAN;
  } else {
    value = std::ldexp(1024 + fraction, exponent - 25);
  }
  return (half & 0x8000) != 0 ? -value : value;
}

template <class Stored, class Convert>
std::vector<float> converted(std::span<const std::byte> bytes, const Convert& convert) {
  std::vector<float> values(bytes.size() / sizeof(Stored));
  for (size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = convert(stored);
  }
  return values;
}

}  // namespace

std::map<std::string, std::string> parse_tensor_index(std::string_view text, const std::string& origin) {
  std::map<std::string, std::string> files;
  try {
    const Json json = parse_json(text, origin, {.max_bytes = kMaxIndexBytes, .max_depth = 8});
    JsonFields fields(json, origin);
    for (const auto& entry : fields.object("weight_map").items()) {
      if (!entry.value().is_string()) fields.fail("weight_map", cat("\"", entry.key(), "\" is no file name"));
      const auto name = entry.value().get<std::string>();
      if (!is_valid_file_name(name) || name.find('/') != std::string::npos) {
        fields.fail("weight_map", cat("\"", name, "\" is not the plain name of a file beside the index"));
      }
      files[entry.key()] = name;
    }
    if (files.empty()) fields.fail("weight_map", "it names no tensor");
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
  return files;
}

TensorSet::TensorSet(const Path& path) : path_(path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    add(path);
  } else if (std::filesystem::exists(path / kSingleName, ignored)) {
    add(path / kSingleName);
  } else if (std::filesystem::exists(path / kTensorIndexName, ignored)) {
    open_index(path);
  } else {
    throw ConfigError(cat(path.string(), ": there is neither ", kSingleName, " nor ", kTensorIndexName,
                          "; give a checkpoint, an export or a safetensors file"));
  }
}

void TensorSet::add(const Path& file) {
  readers_.push_back(std::make_unique<SafetensorsReader>(file));
  for (const TensorInfo& tensor : readers_.back()->tensors()) {
    if (!places_.emplace(tensor.name, readers_.size() - 1).second) {
      throw CheckpointError(
          cat(file.string(), ": the tensor \"", tensor.name, "\" is also in ", file_of(tensor.name).string()));
    }
  }
}

void TensorSet::open_index(const Path& folder) {
  const Path index = folder / kTensorIndexName;
  const auto files = parse_tensor_index(read_file(index, kMaxIndexBytes), index.string());
  std::set<std::string> names;
  for (const auto& [tensor, file] : files) names.insert(file);
  for (const std::string& name : names) add(folder / name);
  for (const auto& [tensor, file] : files) {
    if (!has(tensor) || file_of(tensor) != folder / file) {
      throw CheckpointError(cat(index.string(), ": the tensor \"", tensor, "\" is not in ", file));
    }
  }
  if (files.size() == places_.size()) return;
  for (const auto& [tensor, place] : places_) {
    if (!files.contains(tensor)) {
      throw CheckpointError(cat(index.string(), ": lacks the tensor \"", tensor, "\" of ", file_of(tensor).string()));
    }
  }
}

std::vector<std::string> TensorSet::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  return names;
}

const SafetensorsReader& TensorSet::reader_of(const std::string& name) const {
  const auto found = places_.find(name);
  if (found != places_.end()) return *readers_[found->second];
  const std::string near = nearest(name, names());
  throw CheckpointError(cat(path_.string(), ": there is no tensor \"", name, "\"",
                            near.empty() ? "" : cat("; the nearest name is \"", near, "\"")));
}

const TensorInfo& TensorSet::info(const std::string& name) const { return reader_of(name).info(name); }

const Path& TensorSet::file_of(const std::string& name) const { return reader_of(name).path(); }

void TensorSet::read(const std::string& name, std::span<std::byte> out) const { reader_of(name).read(name, out); }

std::vector<std::byte> TensorSet::read(const std::string& name) const { return reader_of(name).read(name); }

std::vector<std::string> write_tensor_set(const Path& folder, std::span<const TensorView> tensors,
                                          uint64_t max_file_bytes, const std::map<std::string, std::string>& metadata) {
  const auto files = cut_into_files(tensors, max_file_bytes);
  if (files.size() == 1) {
    write_safetensors(folder / kSingleName, tensors, metadata);
    return {kSingleName};
  }
  std::vector<std::string> names;
  uint64_t total = 0;
  std::map<std::string, std::string> weight_map;
  for (size_t f = 0; f < files.size(); ++f) {
    names.push_back(cat("model-", five_digits(f + 1), "-of-", five_digits(files.size()), ".safetensors"));
    write_safetensors(folder / names.back(), files[f], metadata);
    for (const TensorView& tensor : files[f]) {
      total += tensor.data.size();
      weight_map[tensor.name] = names.back();
    }
  }
  Json index;
  index["metadata"]["total_size"] = total;
  index["weight_map"] = weight_map;
  write_file_atomic(folder / kTensorIndexName, index.dump(2) + "\n");
  names.emplace_back(kTensorIndexName);
  return names;
}

std::vector<float> to_floats(Dtype dtype, std::span<const std::byte> bytes, const std::string& where) {
  switch (dtype) {
    case Dtype::kF32:
      return converted<float>(bytes, [](float x) { return x; });
    case Dtype::kF64:
      return converted<double>(bytes, [](double x) { return static_cast<float>(x); });
    case Dtype::kBF16:
      return converted<uint16_t>(bytes, [](uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); });
    case Dtype::kF16:
      return converted<uint16_t>(bytes, half_to_float);
    default:
      throw CheckpointError(cat(where, ": values of type ", dtype_name(dtype),
                                " are not taken for parameters; F32, BF16, F16 and F64 are"));
  }
}

}  // namespace gato::checkpoint
