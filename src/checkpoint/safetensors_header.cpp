#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

/// A name from a file, fit for a message: it may be long and hold anything.
std::string in_quotes(std::string_view name) {
  constexpr size_t kShownBytes = 80;
  std::string result = "\"";
  for (const char c : name.substr(0, kShownBytes)) {
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  if (name.size() > kShownBytes) {
    while (!is_valid_utf8(result)) result.pop_back();  // the cut may be inside a character
    result += "...";
  }
  return result + "\"";
}

/// Collects the tensors of a header from the events of the JSON parser, so that nothing is built of parts that no
/// header has: depth, types, counts and lengths are refused where they begin.
class HeaderCollector {
 public:
  HeaderCollector(const std::string& origin, const SafetensorsLimits& limits) : origin_(origin), limits_(limits) {}

  std::vector<TensorInfo> tensors;  // `offset` still counts from the end of the header
  std::map<std::string, std::string> metadata;

  bool null() { return refuse_value("null"); }
  bool boolean(bool) { return refuse_value("true or false"); }
  bool number_integer(Json::number_integer_t) { return refuse_value("a negative number"); }
  bool number_float(Json::number_float_t, const Json::string_t&) {
    return refuse_value("a number that is not whole or above 18446744073709551615");
  }
  bool binary(Json::binary_t&) { return refuse_value("binary data"); }

  bool number_unsigned(Json::number_unsigned_t value) {
    if (place_ == Place::kShapeList) return add_size(value);
    if (place_ == Place::kOffsetList) return add_offset(value);
    return refuse_value("a number");
  }

  bool string(Json::string_t& value) {
    if (place_ == Place::kMetadata) {
      if (!metadata.emplace(key_, std::move(value)).second) {
        refuse(cat("duplicate key ", in_quotes(key_), " in ", kMetadataKey));
      }
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return refuse_value("a text");
    if (value.size() > kMaxDtypeBytes) refuse(cat(entry(), ": dtype of ", value.size(), " bytes"));
    tensors.back().dtype = dtype_from_name(value);
    tensors.back().dtype_name = std::move(value);
    return true;
  }

  bool start_object(size_t) {
    if (place_ == Place::kOutside) {
      place_ = Place::kRoot;
      return true;
    }
    if (place_ != Place::kRoot) return refuse_value("an object");
    if (key_ == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) refuse(cat("duplicate key \"", kMetadataKey, "\""));
      place_ = Place::kMetadata;
      return true;
    }
    if (tensors.size() >= limits_.max_tensors) refuse(cat("more than ", limits_.max_tensors, " tensors"));
    tensors.emplace_back().name = key_;
    seen_ = {};
    place_ = Place::kTensor;
    return true;
  }

  bool end_object() {
    if (place_ == Place::kTensor) return end_tensor();
    place_ = place_ == Place::kMetadata ? Place::kRoot : Place::kOutside;
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShapeList;
    } else if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsetList;
    } else {
      return refuse_value("a list");
    }
    return true;
  }

  bool end_array() {
    if (place_ == Place::kOffsetList && num_offsets_ != 2) refuse(cat(entry(), ": data_offsets needs two numbers"));
    place_ = Place::kTensor;
    return true;
  }

  bool key(Json::string_t& name) {
    if (place_ == Place::kRoot && name.size() > limits_.max_name_bytes) {
      refuse(cat("tensor name ", in_quotes(name), " of ", name.size(), " bytes where at most ", limits_.max_name_bytes,
                 " are allowed"));
    }
    key_ = std::move(name);
    if (place_ == Place::kTensor) note_tensor_key();
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception&) {
    refuse(cat("the header is not valid JSON at offset ", kHeaderLengthBytes + (position > 0 ? position - 1 : 0)));
  }

 private:
  enum class Place { kOutside, kRoot, kMetadata, kTensor, kShapeList, kOffsetList };
  static constexpr size_t kMaxDtypeBytes = 64;
  static constexpr std::array<std::string_view, 3> kTensorKeys = {"dtype", "shape", "data_offsets"};

  [[noreturn]] void refuse(const std::string& problem) const {
    throw CheckpointError(cat(origin_, ": not a valid safetensors file: ", problem));
  }

  [[noreturn]] bool refuse_value(std::string_view found) const {
    switch (place_) {
      case Place::kOutside:
        refuse(cat("the header is ", found, " and not an object"));
      case Place::kRoot:
        refuse(cat(in_quotes(key_), " holds ", found, " and not an object"));
      case Place::kMetadata:
        refuse(cat(in_quotes(key_), " in ", kMetadataKey, " holds ", found, " and not a text"));
      default:
        refuse(cat(entry(), ": ", key_, " holds ", found, ", which cannot be there"));
    }
  }

  [[nodiscard]] std::string entry() const { return cat("tensor ", in_quotes(tensors.back().name)); }

  void note_tensor_key() {
    const auto known = std::find(kTensorKeys.begin(), kTensorKeys.end(), key_);
    if (known == kTensorKeys.end()) refuse(cat(entry(), ": unknown key ", in_quotes(key_)));
    bool& seen = seen_[static_cast<size_t>(known - kTensorKeys.begin())];
    if (std::exchange(seen, true)) refuse(cat(entry(), ": duplicate key ", in_quotes(key_)));
    num_offsets_ = 0;
  }

  bool add_size(uint64_t size) {
    std::vector<int64_t>& shape = tensors.back().shape;
    if (shape.size() >= limits_.max_rank) refuse(cat(entry(), ": more than ", limits_.max_rank, " dimensions"));
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      refuse(cat(entry(), ": dimension ", size, " is too large"));
    }
    shape.push_back(static_cast<int64_t>(size));
    return true;
  }

  bool add_offset(uint64_t offset) {
    if (num_offsets_ >= 2) refuse(cat(entry(), ": data_offsets needs two numbers"));
    offsets_[num_offsets_++] = offset;
    return true;
  }

  bool end_tensor() {
    for (size_t i = 0; i < kTensorKeys.size(); ++i) {
      if (!seen_[i]) refuse(cat(entry(), ": the key \"", kTensorKeys[i], "\" is missing"));
    }
    TensorInfo& tensor = tensors.back();
    if (offsets_[1] < offsets_[0]) {
      refuse(cat(entry(), ": data_offsets end at ", offsets_[1], " before they begin at ", offsets_[0]));
    }
    tensor.offset = offsets_[0];
    tensor.size = offsets_[1] - offsets_[0];
    check_size(tensor);
    place_ = Place::kRoot;
    return true;
  }

  void check_size(const TensorInfo& tensor) const {
    const std::optional<int64_t> elements = checked_product(tensor.shape);
    if (!elements) refuse(cat(entry(), ": the product of its shape overflows"));
    if (!tensor.dtype) return;  // an error only when the tensor is read
    const std::optional<uint64_t> bytes = checked_byte_size(*elements, *tensor.dtype);
    if (!bytes) refuse(cat(entry(), ": ", *elements, " elements of ", tensor.dtype_name, " do not fill whole bytes"));
    if (*bytes != tensor.size) {
      refuse(cat(entry(), ": shape and dtype need ", *bytes, " bytes, data_offsets give ", tensor.size));
    }
  }

  const std::string& origin_;
  const SafetensorsLimits& limits_;
  Place place_ = Place::kOutside;
  std::string key_;
  bool has_metadata_ = false;
  std::array<bool, 3> seen_{};  // of kTensorKeys, in the tensor being read
  std::array<uint64_t, 2> offsets_{};
  size_t num_offsets_ = 0;
};

/// Sorts by place in the file and checks that the tensors cover the data from its first to its last byte, each byte
/// once.
void order_and_check_cover(std::vector<TensorInfo>& tensors, uint64_t data_begin, uint64_t file_size,
                           const std::string& origin) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.size < b.size;
  });
  const auto refuse = [&](const TensorInfo& tensor, std::string_view problem, uint64_t expected) {
    throw CheckpointError(cat(origin, ": not a valid safetensors file: tensor ", in_quotes(tensor.name), " ", problem,
                              ": its data begin at ", tensor.offset, " and not at ", expected, " behind the header"));
  };
  uint64_t end = 0;  // cannot overflow: every offset + size was one number of the file
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset > end) refuse(tensor, "leaves a gap", end);
    if (tensor.offset < end) refuse(tensor, "overlaps another", end);
    end = tensor.offset + tensor.size;
  }
  const uint64_t data_size = file_size - data_begin;
  if (end != data_size) {
    throw CheckpointError(cat(origin, ": not a valid safetensors file: its tensors end at offset ",
                              end <= std::numeric_limits<uint64_t>::max() - data_begin ? data_begin + end : end,
                              ", the file at ", file_size, end > data_size ? ": it was cut short" : ""));
  }
  for (TensorInfo& tensor : tensors) tensor.offset += data_begin;
}

std::vector<size_t> index_by_name(const std::vector<TensorInfo>& tensors, const std::string& origin) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return tensors[a].name < tensors[b].name; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (tensors[order[i - 1]].name != tensors[order[i]].name) continue;
    throw CheckpointError(
        cat(origin, ": not a valid safetensors file: duplicate tensor ", in_quotes(tensors[order[i]].name)));
  }
  return order;
}

}  // namespace

std::optional<int64_t> checked_product(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(product, size, &product)) return std::nullopt;
  }
  return product;
}

std::optional<uint64_t> checked_byte_size(int64_t elements, Dtype dtype) {
  uint64_t bits = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(elements), static_cast<uint64_t>(dtype_bits(dtype)), &bits) ||
      bits % 8 != 0) {
    return std::nullopt;
  }
  return bits / 8;
}

uint64_t check_header_length(uint64_t header_length, uint64_t file_size, const std::string& origin,
                             const SafetensorsLimits& limits) {
  const auto refuse = [&](const std::string& problem) {
    throw CheckpointError(cat(origin, ": not a valid safetensors file: ", problem));
  };
  if (header_length > limits.max_header_bytes) {
    refuse(cat("the length at offset 0 says that the header has ", header_length, " bytes where at most ",
               limits.max_header_bytes, " are allowed"));
  }
  if (header_length > file_size - kHeaderLengthBytes) {
    refuse(cat("the header of ", header_length, " bytes does not fit into the file of ", file_size,
               " bytes: it was cut short"));
  }
  return header_length;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t file_size, const std::string& origin,
                                           const SafetensorsLimits& limits) {
  const auto refuse = [&](std::string_view problem, size_t position) {
    throw CheckpointError(
        cat(origin, ": not a valid safetensors file: ", problem, " at offset ", kHeaderLengthBytes + position));
  };
  if (json.empty() || json.front() != '{') refuse("the header does not begin with '{'", 0);
  // The JSON library takes a NUL for the end of the text and would ignore what follows.
  if (const size_t nul = json.find('\0'); nul != std::string_view::npos) refuse("NUL in the header", nul);

  HeaderCollector collector(origin, limits);
  Json::sax_parse(json.begin(), json.end(), &collector);
  SafetensorsHeader header;
  header.tensors = std::move(collector.tensors);
  header.metadata = std::move(collector.metadata);
  order_and_check_cover(header.tensors, kHeaderLengthBytes + json.size(), file_size, origin);
  header.by_name = index_by_name(header.tensors, origin);
  return header;
}

}  // namespace gato::checkpoint
