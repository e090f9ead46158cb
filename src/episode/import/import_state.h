#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/import.h"

/// `<out>/import.json`: how far an import came, for people and for going on.
namespace gato::episode {

constexpr const char* kImportStateName = "import.json";

/// What two runs of one import must agree on, by name: ("source files", digest) and so on.
using ImportIdentity = std::vector<std::pair<std::string, std::string>>;

[[nodiscard]] ImportIdentity identity_of(const ForeignFormat& format, const std::vector<ImportUnit>& units,
                                         const ImportOptions& options);

/// The next thing to write: everything before it is in committed shards.
struct ImportPosition {
  uint64_t unit = 0;
  uint64_t record = 0;  ///< Of the unit.
  uint64_t part = 0;    ///< Of the record's episodes.
};

struct CommittedShard {
  std::string file;  ///< Name in the folder.
  std::string fingerprint;
  bool operator==(const CommittedShard&) const = default;
};

struct ImportState {
  ImportIdentity identity;
  bool written = false;   ///< All shards are committed.
  bool complete = false;  ///< And were read back and checked.
  ImportPosition position;
  std::vector<CommittedShard> shards;
  ImportSummary summary;  ///< Up to `position`.
};

/// Nothing when there is no such file. DataError naming it when it is damaged.
[[nodiscard]] std::optional<ImportState> load_import_state(const Path& path);
void save_import_state(const Path& path, const ImportState& state);

/// Throws ConfigError naming what differs.
void check_same_import(const Path& path, const ImportIdentity& found, const ImportIdentity& wanted);

}  // namespace gato::episode
