#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gato/episode/shard.h"

/// Foreign formats become data sets: docs/importing.md.
///
/// A format says what its files are (units), how they fall into records (RecordStream), and what a record means
/// (ForeignFormat::parse). import_dataset drives it: it reads records in order, parses them on several threads, writes
/// shards, remembers how far it came, and checks what it wrote.
namespace gato::episode {

/// One input file, or another part of a source that is read front to back.
struct ImportUnit {
  std::string name;    ///< For people and for resuming: unique in the source, the same on every call.
  uint64_t bytes = 0;  ///< For the progress; 0 when unknown.
};

/// What a file holds between two of its own boundaries: a line, a tar sample, a TFRecord. Not yet looked into.
struct RawRecord {
  std::string origin;  ///< For errors: "FILE, record 12 at byte 3456".
  /// Named parts: one with an empty name for most formats, one per member ("jpg", "txt") for tar samples.
  std::vector<std::pair<std::string, std::string>> parts;
};

/// The records of one unit, in order. Used by one thread.
class RecordStream {
 public:
  virtual ~RecordStream() = default;
  /// The next record; false at the end. Throws DataError naming file and offset where the framing is broken, so that
  /// nothing after it can be read. Never takes more memory than the unit's remaining bytes and the format's limits.
  virtual bool next(RawRecord& record) = 0;
  /// Bytes of the unit read so far, for the progress.
  [[nodiscard]] virtual uint64_t position() const = 0;
};

/// What a record turned out to be.
struct ParsedRecord {
  struct Part {
    int task = 0;  ///< Index into tasks().
    Episode episode;
  };
  std::vector<Part> episodes;
  /// Why (part of) the record was left out, in a few words that are the same for all records with that reason, such as
  /// "no caption". Empty: nothing was.
  std::string dropped;
};

/// A source in a foreign format. Made by one of the functions below or by the user; const members are thread-safe.
class ForeignFormat {
 public:
  virtual ~ForeignFormat() = default;
  [[nodiscard]] virtual const std::vector<TaskSpec>& tasks() const = 0;
  [[nodiscard]] virtual std::vector<ImportUnit> units() const = 0;
  [[nodiscard]] virtual std::unique_ptr<RecordStream> open(size_t unit) const = 0;
  /// Throws DataError naming the record's origin when the record is damaged or does not fit the specification.
  [[nodiscard]] virtual ParsedRecord parse(const RawRecord& record) const = 0;
  /// What was mapped to what, a line each ("steps/observation/image: uint8 128x128x3 -> image observation `image`"),
  /// and what is not used ("steps/discount: not used"). Known before the first record is read.
  [[nodiscard]] virtual std::vector<std::string> mapping() const = 0;
};

/// Records that were left out for one reason.
struct ImportDrop {
  int64_t count = 0;
  std::string first;  ///< Origin of the first one, with its message where there was an error.
};

/// Says why a text must not enter the data set; empty: it may. Called for every text of every episode, from several
/// threads.
using ContentFilter = std::function<std::string(std::string_view text)>;

struct ImportOptions {
  Path out;          ///< Folder of the data set; made when missing.
  DatasetInfo info;  ///< info.name is required.
  /// Leave damaged records out and count them, instead of stopping at the first one. Broken framing always stops.
  bool drop_damaged = false;
  int64_t limit = 0;  ///< Stop after this many records; 0: all.
  uint64_t shard_bytes = uint64_t{256} << 20;
  ContentFilter content_filter;       ///< Empty: every text may enter.
  std::string content_filter_digest;  ///< Part of what an interrupted import must agree on.
  /// Format and its arguments, such as "text --split lines": another part of that, beside tasks, mapping and units.
  std::string arguments;
};

struct ImportSummary {
  int64_t records = 0, episodes = 0, steps = 0;
  int64_t shards = 0;
  bool reused = false;  ///< The data set was complete already.
  std::vector<std::string> mapping;
  std::map<std::string, ImportDrop> dropped;  ///< By reason.
};

/// Writes the data set as shards `<name>-00000.gato` and `import.json` (the summary, for people and for resuming).
/// Records go to shards in the order of units and records, so the same source gives the same shards whatever the number
/// of threads, and also when the import was interrupted and run again: it goes on after the last shard that was
/// committed. At the end every shard is read back and checked. Throws ConfigError when the folder holds shards of
/// another import, DataError for what the format finds (with what to do), Interrupted on request.
[[nodiscard]] ImportSummary import_dataset(const ForeignFormat& format, const ImportOptions& options);

/// The first episode that would be imported, as `gato-data inspect` shows it; writes nothing that stays. Records before
/// it that are left out are named.
[[nodiscard]] std::string describe_first_episode(const ForeignFormat& format, const ImportOptions& options);

}  // namespace gato::episode
