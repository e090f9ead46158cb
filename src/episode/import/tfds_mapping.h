#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "episode/import/tfds_features.h"
#include "gato/core/config.h"
#include "gato/episode/formats.h"
#include "gato/episode/spec.h"

/// Which leaf of features.json becomes which field of the task, by RLDS's names and by what the user says.
namespace gato::episode {

/// What a user says about one leaf: the entry of its path in the `fields` of a map file.
struct TfdsFieldChoice {
  std::string name;
  bool ignore = false;
  std::string group;
  std::string as;
  std::vector<int64_t> shape;
  int64_t values = 0;
  std::vector<double> low, high;
  std::string unit;
};
GATO_CONFIG(TfdsFieldChoice, GATO_FIELD(name, "Name of the field; empty: the path below observation or action."),
            GATO_FIELD(ignore, "Leave the leaf out."), GATO_FIELD(group, "observation or action; empty: by the path."),
            GATO_FIELD(as,
                       "continuous, discrete, text or image; empty: by the type. Integers as text are UTF-8 bytes."),
            GATO_FIELD(shape, "Shape of one value, where features.json leaves it open; others are damaged records."),
            GATO_FIELD(values, "Integers: the values are 0 to this minus 1."),
            GATO_FIELD(low, "Lower bounds, one or one per element."),
            GATO_FIELD(high, "Upper bounds, one or one per element."), GATO_FIELD(unit, "Unit, for people."))
void validate_config(const TfdsFieldChoice& choice, ConfigProblems& problems);

struct TfdsMapFile {
  std::map<std::string, TfdsFieldChoice> fields;
  bool others = true;
};
GATO_CONFIG(TfdsMapFile, GATO_FIELD(fields, "By path in features.json, such as steps/observation/image."),
            GATO_FIELD(others, "Whether leaves that `fields` does not name are mapped by their paths."))

/// Reads a map file; in it `PATH: NAME` is short for {name: NAME}, `PATH: ignore` for {ignore: true}, and a number for
/// a list of one. Throws ConfigError listing every problem.
[[nodiscard]] TfdsMapFile read_tfds_map(const ConfigNode& document);

/// One field of the task and where its values come from.
struct TfdsColumn {
  /// How values are read.
  enum class Source : uint8_t {
    kNumbers,   ///< Floats, or integers and booleans taken as such: continuous.
    kIntegers,  ///< Discrete.
    kStrings,   ///< Text.
    kUtf8,      ///< Integers that are the bytes of a text, ended by 0.
    kEncoded,   ///< Encoded pictures.
    kPixels,    ///< Pictures as tensors of uint8.
  };
  TfdsLeaf leaf;
  Source source = Source::kNumbers;
  FieldSpec spec;
  std::string bounds_from;                 ///< Where its bounds come from, for people.
  [[nodiscard]] int64_t elements() const;  ///< Numbers per value in the record.
};

/// What becomes of a data set's records.
struct TfdsPlan {
  std::vector<TfdsColumn> observation, action;
  std::optional<TfdsLeaf> reward, is_first, is_last, is_terminal;
  std::optional<TfdsLeaf> task, success;  ///< TfdsImport::task_from, success_from.
  std::vector<std::string> unused;        ///< Lines of the mapping.
};

/// Applies names, types, map files and `values`, but not bounds. Throws ConfigError listing everything that must be
/// asked for or does not fit: integers without a range, paths that do not exist, names that occur twice, no actions.
[[nodiscard]] TfdsPlan make_tfds_plan(const std::vector<TfdsLeaf>& leaves, const TfdsImport& options);

/// Gives bounds to the continuous actions (and to observations that are named): from the bounds file, the map files,
/// what the tensor declares, --action-low and --action-high, in this order. Returns the columns of `plan` that still
/// have none.
[[nodiscard]] std::vector<TfdsColumn*> apply_tfds_bounds(TfdsPlan& plan, const TfdsImport& options);

/// Throws the ConfigError that names the fields without bounds and shows what to write.
[[noreturn]] void ask_for_bounds(const std::vector<TfdsColumn*>& columns);

/// A line per leaf, for people.
[[nodiscard]] std::vector<std::string> describe_tfds_plan(const TfdsPlan& plan, const TfdsImport& options);

}  // namespace gato::episode
