#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// `features.json`: the tree that says what the records of a TFDS data set hold, and under which keys.
namespace gato::episode {

enum class TfdsKind : uint8_t {
  kTensor,       ///< Numbers or booleans.
  kText,         ///< Strings.
  kImage,        ///< Encoded pictures.
  kUnsupported,  ///< See TfdsLeaf::problem.
};

/// How the numbers of one tensor are stored.
enum class TfdsEncoding : uint8_t {
  kNone,   ///< As values of the example's list.
  kBytes,  ///< One byte string: the little-endian values.
  kZlib,   ///< The same, compressed.
};

constexpr int64_t kUnknownSize = -1;

/// A leaf of the tree: one key of the records.
struct TfdsLeaf {
  std::string path;  ///< From the root, joined by '/': "steps/observation/image".
  TfdsKind kind = TfdsKind::kTensor;
  std::string dtype;           ///< "float32", "uint8", "bool", "string".
  std::vector<int64_t> shape;  ///< Of one value; kUnknownSize where a size is not fixed.
  TfdsEncoding encoding = TfdsEncoding::kNone;
  bool per_step = false;  ///< Below `steps`; otherwise one per episode.
  /// Lengths of the sequences around the value, not counting `steps`; kUnknownSize where they vary. Below `steps`, any
  /// makes the value ragged: its keys are PATH/ragged_flat_values and PATH/ragged_row_lengths_0 and on.
  std::vector<int64_t> sequences;
  std::string image_format;                ///< "jpeg", "png", or "" when the file does not say.
  int64_t num_classes = 0;                 ///< Class labels; 0 for other tensors.
  std::vector<std::string> classes;        ///< Their names, where a file has them.
  std::optional<double> minimum, maximum;  ///< Where the tensor declares them.
  std::string problem;                     ///< kUnsupported: why.

  [[nodiscard]] bool is_float() const;
  [[nodiscard]] bool is_integer() const;  ///< Not booleans.
  [[nodiscard]] bool is_bool() const;
  [[nodiscard]] std::string type_text() const;  ///< "float32 [7]", "jpeg image 64x64x3", for people.
};

/// Reads the tree. Throws DataError naming `origin` and the place in the tree for JSON that is malformed or no feature
/// tree, trees deeper than 16 levels or with more than 4096 leaves. Leaves of kinds that are not read become
/// kUnsupported.
[[nodiscard]] std::vector<TfdsLeaf> parse_tfds_features(std::string_view json, const std::string& origin);

/// The same from `folder`/features.json, with the names of class labels from the files beside it.
[[nodiscard]] std::vector<TfdsLeaf> load_tfds_features(const Path& folder);

}  // namespace gato::episode
