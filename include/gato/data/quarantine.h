#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "gato/core/file.h"

namespace gato::data {

/// An episode that cannot be read.
struct QuarantineEntry {
  std::string source;              ///< Source::id().
  std::string shard;               ///< File name of the shard.
  std::string fingerprint;         ///< Of the shard.
  int64_t episode = 0;             ///< Position in the shard's index.
  std::string id;                  ///< Of the episode; "" when even that cannot be read.
  std::optional<uint64_t> offset;  ///< Of the damage in its file, where it is known.
  int64_t row = 0;                 ///< The first row that needed it and could not have it.
  std::string message;             ///< The whole error, which names the damaged file.
  bool operator==(const QuarantineEntry&) const = default;
};

/// The list of episodes that a run leaves out (`quarantine.jsonl` of its folder, one JSON object per line). It is an
/// input of the rows: rows from QuarantineEntry::row on have padding in the episode's place, rows before it were made
/// without knowing of the damage and stay what they were. So a run that was resumed makes the same rows again. An
/// episode of which an earlier row is found wanting later is written to the list again; the smallest row holds.
/// Thread-safe.
class Quarantine {
 public:
  /// Loads the list at `path`, if there is one (a last line that a kill cut short is passed over); "" keeps the list in
  /// memory only. `budget`: episodes allowed on it. Throws DataError naming file and line for a damaged list, and when
  /// it is over the budget already.
  /// `writes`: false for those of many processes that merely read the list at `path`; what they find reaches it through
  /// take_news() and merge().
  Quarantine(Path path, int64_t budget, bool writes = true);

  /// Whether row `row` must do without the episode.
  [[nodiscard]] bool holds(const std::string& fingerprint, int64_t episode, int64_t row) const;
  [[nodiscard]] bool empty() const { return version_.load(std::memory_order_acquire) == 0; }

  /// Puts an episode on the list, durably, and logs it; false when it holds for this row already. Throws DataError
  /// naming the list when there are more episodes on it than the budget allows.
  bool add(const QuarantineEntry& entry);

  /// What add() has put on the list since the last call, for other processes of the run.
  [[nodiscard]] std::vector<QuarantineEntry> take_news();
  [[nodiscard]] size_t num_news() const;  ///< How many take_news() would give.
  /// Takes in what other processes found; the smallest row holds. Whether the list changed. Throws as add().
  bool merge(const std::vector<QuarantineEntry>& found);

  /// Rises with every change: what was built under another version may need to be built again.
  [[nodiscard]] uint64_t version() const { return version_.load(std::memory_order_acquire); }
  [[nodiscard]] std::vector<QuarantineEntry> entries() const;  ///< In the order of (fingerprint, episode).
  [[nodiscard]] int64_t budget() const { return budget_; }

 private:
  using Key = std::pair<std::string, int64_t>;
  void load();
  void cut_torn_line();
  void check_budget(const std::string& last_message) const;
  bool insert(const QuarantineEntry& entry);
  [[nodiscard]] std::string place() const;

  Path path_;
  int64_t budget_;
  bool writes_;
  std::vector<QuarantineEntry> news_;
  std::optional<uintmax_t> whole_bytes_;  // of the lines that are whole, where the last one is not
  mutable std::shared_mutex mutex_;
  std::map<Key, QuarantineEntry> entries_;
  std::atomic<uint64_t> version_{0};
};

/// Entries as lines of the list's file and back. Throws DataError naming origin and line.
[[nodiscard]] std::string to_lines(const std::vector<QuarantineEntry>& entries);
[[nodiscard]] std::vector<QuarantineEntry> parse_quarantine(const std::string& lines, const std::string& origin);

/// Episodes that `share` of `episodes` allows on the list: at least 3 unless the share is 0.
[[nodiscard]] int64_t quarantine_budget(double share, int64_t episodes);

}  // namespace gato::data
