#include "episode/import/tfds_features.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxLeaves = 4096;
constexpr size_t kMaxRank = 8;
constexpr uint64_t kMaxFileBytes = uint64_t{16} << 20;
/// A level of the tree takes up to four levels of JSON.
constexpr JsonLimits kJsonLimits = {.max_bytes = kMaxFileBytes, .max_depth = 4 * kMaxDepth + 8};

std::string shape_text(const std::vector<int64_t>& shape, std::string_view separator) {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(size == kUnknownSize ? "?" : std::to_string(size));
  return join(sizes, separator);
}

/// Walks the tree and gathers its leaves.
class FeatureTree {
 public:
  explicit FeatureTree(const std::string& origin) : origin_(origin) {}

  std::vector<TfdsLeaf> read(const Json& root) {
    read_feature(root, "", {}, 0);
    return std::move(leaves_);
  }

 private:
  [[noreturn]] void fail(const std::string& path, std::string_view problem) const {
    throw DataError(cat(origin_, ": feature '", path.empty() ? "(root)" : path, "': ", problem));
  }

  /// `object`[`key`], or null when there is none.
  static const Json* find(const Json& object, const char* key) {
    const auto place = object.find(key);
    return place == object.end() ? nullptr : &*place;
  }

  const Json& object_at(const Json& object, const char* key, const std::string& path) const {
    const Json* value = find(object, key);
    if (value == nullptr || !value->is_object()) fail(path, cat("it has no object '", key, "'"));
    return *value;
  }

  std::string text_at(const Json& object, const char* key, const std::string& path) const {
    const Json* value = find(object, key);
    if (value == nullptr) return "";
    if (!value->is_string()) fail(path, cat("its '", key, "' is not a string"));
    return value->get<std::string>();
  }

  /// A whole number, which Protocol Buffers' JSON writes as a string.
  int64_t integer(const Json& value, const std::string& path, std::string_view what) const {
    if (value.is_number_integer()) {
      if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX})
        fail(path, cat(what, " is too large"));
      return value.get<int64_t>();
    }
    int64_t number = 0;
    if (value.is_string()) {
      const auto& text = value.get_ref<const std::string&>();
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (error == std::errc{} && end == text.data() + text.size() && !text.empty()) return number;
    }
    fail(path, cat(what, " is not a whole number"));
  }

  std::vector<int64_t> shape_at(const Json& object, const std::string& path) const {
    const Json* shape = find(object, "shape");
    if (shape == nullptr) return {};
    if (!shape->is_object()) fail(path, "its 'shape' is not an object; this features.json is of an unknown kind");
    const Json* dimensions = find(*shape, "dimensions");
    if (dimensions == nullptr) return {};
    if (!dimensions->is_array() || dimensions->size() > kMaxRank) fail(path, "its shape is not a list of <= 8 sizes");
    std::vector<int64_t> sizes;
    for (const Json& dimension : *dimensions) {
      const int64_t size = integer(dimension, path, "a size in its shape");
      if (size < -1) fail(path, cat("size ", size, " in its shape"));
      sizes.push_back(size);
    }
    return sizes;
  }

  std::optional<double> number_at(const Json& object, const char* key) const {
    const Json* value = find(object, key);
    return value != nullptr && value->is_number() ? std::optional(value->get<double>()) : std::nullopt;
  }

  void read_feature(const Json& feature, const std::string& path, const TfdsLeaf& around, int depth) {
    if (!feature.is_object()) fail(path, "it is not an object");
    if (depth > kMaxDepth) fail(path, cat("the tree is deeper than ", kMaxDepth, " levels"));
    if (find(feature, "content") != nullptr && find(feature, "type") != nullptr) {
      fail(path, "this is the layout of TFDS before 2021; read and write the data set once with a newer TFDS");
    }
    if (find(feature, "featuresDict") != nullptr) {
      read_dict(object_at(feature, "featuresDict", path), path, around, depth);
    } else if (find(feature, "sequence") != nullptr) {
      read_sequence(object_at(feature, "sequence", path), path, around, depth);
    } else {
      read_leaf(feature, path, around);
    }
  }

  void read_dict(const Json& dict, const std::string& path, const TfdsLeaf& around, int depth) {
    const Json* features = find(dict, "features");
    if (features == nullptr) return;
    if (!features->is_object()) fail(path, "its 'features' is not an object");
    for (const auto& [name, feature] : features->items()) {
      if (name.empty()) fail(path, "it has a feature without a name");
      read_feature(feature, path.empty() ? name : cat(path, "/", name), around, depth + 1);
    }
  }

  void read_sequence(const Json& sequence, const std::string& path, const TfdsLeaf& around, int depth) {
    const Json* length = find(sequence, "length");
    const int64_t fixed = length == nullptr ? kUnknownSize : integer(*length, path, "its length");
    TfdsLeaf inner = around;
    if (path == "steps") {
      inner.per_step = true;
    } else {
      inner.sequences.push_back(fixed > 0 ? fixed : kUnknownSize);
    }
    read_feature(object_at(sequence, "feature", path), path, inner, depth + 1);
  }

  void read_leaf(const Json& feature, const std::string& path, const TfdsLeaf& around) {
    if (leaves_.size() >= kMaxLeaves) fail(path, cat("more than ", kMaxLeaves, " features"));
    TfdsLeaf leaf = around;
    leaf.path = path;
    if (find(feature, "tensor") != nullptr) {
      read_tensor(object_at(feature, "tensor", path), leaf);
    } else if (find(feature, "image") != nullptr) {
      read_image(object_at(feature, "image", path), leaf);
    } else if (find(feature, "text") != nullptr) {
      leaf.kind = TfdsKind::kText;
      leaf.dtype = "string";
    } else if (find(feature, "scalar") != nullptr) {
      read_tensor(object_at(feature, "scalar", path), leaf);
    } else if (find(feature, "boundingBox") != nullptr) {
      read_tensor(object_at(feature, "boundingBox", path), leaf);
      if (leaf.shape.empty()) leaf.shape = {4};
    } else if (find(feature, "classLabel") != nullptr) {
      const Json* classes = find(object_at(feature, "classLabel", path), "numClasses");
      leaf.dtype = "int64";
      leaf.num_classes = classes == nullptr ? 0 : integer(*classes, path, "its number of classes");
      if (leaf.num_classes < 0) fail(path, "its number of classes is negative");
    } else {
      mark_unsupported(feature, leaf);
    }
    leaves_.push_back(std::move(leaf));
  }

  void mark_unsupported(const Json& feature, TfdsLeaf& leaf) const {
    leaf.kind = TfdsKind::kUnsupported;
    std::string name = text_at(feature, "pythonClassName", leaf.path);
    name = name.substr(name.rfind('.') + 1);  // npos + 1 is 0: the whole name.
    leaf.problem = name.empty() ? "its kind is not known here" : cat("features of class ", name, " are not read");
  }

  void read_tensor(const Json& tensor, TfdsLeaf& leaf) const {
    leaf.dtype = text_at(tensor, "dtype", leaf.path);
    leaf.shape = shape_at(tensor, leaf.path);
    leaf.minimum = number_at(tensor, "minimum");
    leaf.maximum = number_at(tensor, "maximum");
    const std::string encoding = text_at(tensor, "encoding", leaf.path);
    if (encoding == "bytes") {
      leaf.encoding = TfdsEncoding::kBytes;
    } else if (encoding == "zlib") {
      leaf.encoding = TfdsEncoding::kZlib;
    } else if (!encoding.empty() && encoding != "none") {
      leaf.kind = TfdsKind::kUnsupported;
      leaf.problem = cat("tensors of encoding '", encoding, "' are not read");
      return;
    }
    if (leaf.dtype == "string" || leaf.dtype == "object") {
      leaf.kind = TfdsKind::kText;
    } else if (!leaf.is_float() && !leaf.is_integer() && !leaf.is_bool()) {
      leaf.kind = TfdsKind::kUnsupported;
      leaf.problem = cat("tensors of type '", leaf.dtype, "' are not read");
    } else if (std::count(leaf.shape.begin(), leaf.shape.end(), kUnknownSize) > 1) {
      leaf.kind = TfdsKind::kUnsupported;
      leaf.problem = "tensors with several sizes that vary are not read";
    }
  }

  void read_image(const Json& image, TfdsLeaf& leaf) const {
    leaf.kind = TfdsKind::kImage;
    leaf.dtype = text_at(image, "dtype", leaf.path);
    if (leaf.dtype.empty()) leaf.dtype = "uint8";
    leaf.shape = shape_at(image, leaf.path);
    if (leaf.shape.empty()) leaf.shape = {kUnknownSize, kUnknownSize, 3};
    leaf.image_format = text_at(image, "encodingFormat", leaf.path);
    if (leaf.shape.size() != 3) fail(leaf.path, "the shape of an image is height, width, channels");
    if (leaf.dtype != "uint8") {
      leaf.kind = TfdsKind::kUnsupported;
      leaf.problem = cat("pictures of ", leaf.dtype, " (depth) are not read");
    } else if (!leaf.image_format.empty() && leaf.image_format != "jpeg" && leaf.image_format != "png") {
      leaf.kind = TfdsKind::kUnsupported;
      leaf.problem = cat("pictures in format '", leaf.image_format, "' are not read");
    }
  }

  const std::string& origin_;
  std::vector<TfdsLeaf> leaves_;
};

/// The names of a class label stand in a file named after its path, one in a line.
void load_classes(const Path& folder, TfdsLeaf& leaf) {
  std::string name = leaf.path;
  std::replace(name.begin(), name.end(), '/', '-');
  const Path path = folder / cat(name, ".labels.txt");
  if (!std::filesystem::is_regular_file(path)) return;
  for (const std::string& line : split(read_file(path, kMaxFileBytes), '\n')) {
    if (const std::string_view trimmed = trim(line); !trimmed.empty()) leaf.classes.emplace_back(trimmed);
  }
  const auto count = static_cast<int64_t>(leaf.classes.size());
  if (leaf.num_classes == 0) leaf.num_classes = count;
  if (count != leaf.num_classes) {
    throw DataError(cat(path.string(), ": ", count, " names, features.json says that '", leaf.path, "' has ",
                        leaf.num_classes, " classes"));
  }
}

}  // namespace

bool TfdsLeaf::is_float() const {
  return dtype == "float32" || dtype == "float64" || dtype == "float16" || dtype == "bfloat16";
}

bool TfdsLeaf::is_integer() const {
  constexpr std::array<std::string_view, 8> kIntegers = {"int8",  "int16",  "int32",  "int64",
                                                         "uint8", "uint16", "uint32", "uint64"};
  return std::find(kIntegers.begin(), kIntegers.end(), dtype) != kIntegers.end();
}

bool TfdsLeaf::is_bool() const { return dtype == "bool"; }

std::string TfdsLeaf::type_text() const {
  std::string text;
  for (const int64_t length : sequences) {
    text += length == kUnknownSize ? "sequence of " : cat("sequence of ", length, " x ");
  }
  switch (kind) {
    case TfdsKind::kText:
      return text + "text";
    case TfdsKind::kImage:
      return cat(text, image_format.empty() ? "" : image_format + " ", "image ", shape_text(shape, "x"));
    case TfdsKind::kTensor:
    case TfdsKind::kUnsupported:
      break;
  }
  if (num_classes > 0) return cat(text, "label of ", num_classes, " classes");
  return cat(text, dtype.empty() ? "feature" : dtype, shape.empty() ? "" : cat(" [", shape_text(shape, ", "), "]"));
}

std::vector<TfdsLeaf> parse_tfds_features(std::string_view json, const std::string& origin) {
  return FeatureTree(origin).read(parse_json(json, origin, kJsonLimits));
}

std::vector<TfdsLeaf> load_tfds_features(const Path& folder) {
  const Path path = folder / "features.json";
  std::vector<TfdsLeaf> leaves = parse_tfds_features(read_file(path, kMaxFileBytes), path.string());
  for (TfdsLeaf& leaf : leaves) {
    if (leaf.kind == TfdsKind::kTensor && leaf.dtype == "int64") load_classes(folder, leaf);
  }
  return leaves;
}

}  // namespace gato::episode
