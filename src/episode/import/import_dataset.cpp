#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "episode/import/batch.h"
#include "episode/import/hash_set.h"
#include "episode/import/import_state.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/progress.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/episode/inspect.h"

namespace gato::episode {
namespace {

constexpr std::string_view kDamaged = "damaged record";
constexpr std::string_view kDuplicate = "episode id that was there already";
constexpr std::string_view kFiltered = "content filter: ";
/// A format that writes numbers into its reasons must not fill the memory.
constexpr size_t kMaxReasons = 1000;

void count_drop(ImportSummary& summary, std::string reason, const std::string& first) {
  if (summary.dropped.size() >= kMaxReasons && !summary.dropped.contains(reason)) reason = "other reasons";
  ImportDrop& drop = summary.dropped[reason];
  if (drop.count++ == 0) drop.first = first;
}

/// For the end of a message.
std::string list_drops(const ImportSummary& summary) {
  std::string text;
  for (const auto& [reason, drop] : summary.dropped) {
    text += cat("; left out: ", drop.count, " x ", reason, " (first: ", drop.first, ")");
  }
  return text;
}

void check_unit_names(const std::vector<ImportUnit>& units) {
  if (units.empty()) throw ConfigError("nothing to import: the source has no files of this format");
  std::set<std::string_view> names;
  for (const ImportUnit& unit : units) {
    if (!names.insert(unit.name).second) {
      throw ConfigError(cat("source file '", unit.name, "' is given twice; episode ids are made from these names"));
    }
  }
}

/// Progress by bytes where the sizes are known, else by records.
class ImportProgress {
 public:
  explicit ImportProgress(const std::vector<ImportUnit>& units) {
    uint64_t bytes = 0;
    for (const ImportUnit& unit : units) bytes += unit.bytes;
    by_bytes_ = bytes >= uint64_t{1} << 16;  // Less is shown in records: it is over at once.
    shift_ = bytes >= uint64_t{1} << 28 ? 20 : 10;
    const char* unit = !by_bytes_ ? "records" : shift_ == 20 ? "MiB" : "KiB";
    progress_ = std::make_unique<Progress>("importing", by_bytes_ ? static_cast<int64_t>(bytes >> shift_) : 0, unit);
  }

  void show(uint64_t bytes_read, const ImportSummary& summary) {
    progress_->note(by_bytes_ ? cat(summary.records, " records, ", summary.episodes, " episodes")
                              : cat(summary.episodes, " episodes"));
    progress_->set(by_bytes_ ? static_cast<int64_t>(bytes_read >> shift_) : summary.records);
  }

 private:
  bool by_bytes_ = false;
  int shift_ = 0;
  std::unique_ptr<Progress> progress_;
};

/// One run of an import.
class Import {
 public:
  Import(const ForeignFormat& format, const ImportOptions& options)
      : format_(format),
        options_(options),
        units_(format.units()),
        state_path_(options.out / kImportStateName),
        lock_(options.out / "import.lock", "wait for it, or choose another --out") {}

  ImportSummary run() {
    open_state();
    if (state_.complete) {
      check_committed_shards();
      state_.summary.reused = true;
      return state_.summary;
    }
    warn_about_space();
    if (!state_.written) write_everything();
    verify();
    state_.complete = true;
    save_import_state(state_path_, state_);
    return state_.summary;
  }

 private:
  void open_state();
  void check_no_shards() const;
  void check_committed_shards() const;
  void warn_about_space() const;
  void write_everything();
  void run_stages(RecordReader& reader, DatasetWriter& writer);
  void write_batch(ImportBatch& batch, DatasetWriter& writer);
  void write_item(ImportItem& item, DatasetWriter& writer);
  void write_part(const ImportItem& item, size_t part, DatasetWriter& writer);
  void leave_damage_out(const std::string& reason, const std::string& message);
  void record_shards(const DatasetWriter& writer, ImportPosition position);
  void verify() const;

  const ForeignFormat& format_;
  const ImportOptions& options_;
  std::vector<ImportUnit> units_;
  Path state_path_;
  FileLock lock_;
  ImportState state_;         ///< As the file has it: up to the last committed shard.
  ImportSummary summary_;     ///< Up to now.
  size_t shards_before_ = 0;  ///< Of earlier runs.
  HashSet hashes_;            ///< split_hash of every episode written.
};

void Import::open_state() {
  check_unit_names(units_);
  const ImportIdentity identity = identity_of(format_, units_, options_);
  remove_abandoned_temporaries(options_.out);
  if (auto found = load_import_state(state_path_)) {
    check_same_import(state_path_, found->identity, identity);
    state_ = std::move(*found);
  } else {
    check_no_shards();
    state_.identity = identity;
    state_.summary.mapping = format_.mapping();
    save_import_state(state_path_, state_);
  }
  shards_before_ = state_.shards.size();
  summary_ = state_.summary;
}

void Import::check_no_shards() const {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(options_.out, ignored)) {
    if (entry.path().extension() == ".gato") {
      throw ConfigError(cat(options_.out.string(), ": the folder holds shards that no import wrote (",
                            entry.path().filename().string(), "); choose another --out"));
    }
  }
}

void Import::check_committed_shards() const {
  for (const CommittedShard& shard : state_.shards) {
    const Path path = options_.out / Path(shard.file).filename();
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored) || ShardReader(path).fingerprint() != shard.fingerprint) {
      throw DataError(cat(path.string(), ": is not the shard that ", state_path_.string(),
                          " speaks of; remove the folder and import anew"));
    }
  }
}

void Import::warn_about_space() const {
  std::error_code error;
  const auto space = std::filesystem::space(options_.out, error);
  uint64_t bytes = 0;
  for (const ImportUnit& unit : units_) bytes += unit.bytes;
  if (!error && space.available < bytes) {
    log::warning("import", options_.out.string(), " has room for ", format_bytes(static_cast<double>(space.available)),
                 ", the source has ", format_bytes(static_cast<double>(bytes)),
                 "; when the disk is full, free some space and run the same command again");
  }
}

void Import::write_everything() {
  check_committed_shards();
  for (const CommittedShard& shard : state_.shards) {
    const ShardReader reader(options_.out / Path(shard.file).filename());
    for (const EpisodeIndexEntry& entry : reader.index()) hashes_.insert(entry.split_hash);
  }
  RecordReader reader(format_, units_, state_.position, summary_.records, options_.limit);
  DatasetWriter writer(options_.out, options_.info, format_.tasks(), options_.shard_bytes, shards_before_);
  try {
    run_stages(reader, writer);
    if (summary_.episodes == 0) throw DataError("not one episode was imported" + list_drops(summary_));
    writer.finish();
  } catch (const IoError& error) {
    if (error.error_number() != ENOSPC && error.error_number() != EDQUOT) throw;
    throw IoError(
        cat(error.what(), "; ", state_.shards.size(), " shards are complete, the same command goes on after them"),
        error.error_number());
  }
  state_.written = true;
  record_shards(writer, {units_.size(), 0, 0});
}

/// Three batches are on their way at any time: one is read, one is parsed, one is written.
void Import::run_stages(RecordReader& reader, DatasetWriter& writer) {
  ImportProgress progress(units_);
  ImportBatch reading, parsing, writing;
  bool more = true;
  while (more || !parsing.items.empty() || parsing.failure || !writing.items.empty() || writing.failure) {
    throw_if_stopped("importing");
    parallel_for(static_cast<int64_t>(parsing.items.size()) + 2, [&](int64_t i) {
      if (i == 0) return write_batch(writing, writer);
      if (i == 1) return static_cast<void>(more = more && reader.read(reading));
      parse_item(format_, options_.content_filter, parsing.items[static_cast<size_t>(i - 2)]);
    });
    if (!writing.items.empty()) progress.show(writing.bytes_read, summary_);
    writing = std::exchange(parsing, std::exchange(reading, {}));
  }
}

void Import::write_batch(ImportBatch& batch, DatasetWriter& writer) {
  for (ImportItem& item : batch.items) {
    write_item(item, writer);
    item = {};
  }
  if (batch.failure) std::rethrow_exception(batch.failure);
}

void Import::write_item(ImportItem& item, DatasetWriter& writer) {
  if (item.failure) std::rethrow_exception(item.failure);
  if (!item.damage.empty()) {
    leave_damage_out(std::string(kDamaged), item.damage);
  } else {
    // An import that was interrupted inside this record has its first episodes already.
    const bool resumed = item.position.unit == state_.position.unit && item.position.record == state_.position.record;
    for (size_t i = resumed ? state_.position.part : 0; i < item.parsed.episodes.size(); ++i) {
      write_part(item, i, writer);
    }
    if (!item.parsed.dropped.empty()) count_drop(summary_, item.parsed.dropped, item.raw.origin);
  }
  ++summary_.records;
}

void Import::write_part(const ImportItem& item, size_t part, DatasetWriter& writer) {
  const auto& [task, episode] = item.parsed.episodes[part];
  if (!item.filtered[part].empty()) {
    return count_drop(summary_, cat(kFiltered, item.filtered[part]), cat(item.raw.origin, ", episode ", episode.id));
  }
  // Equal hashes of different ids are too rare to keep the ids of all shards in memory for.
  if (!hashes_.insert(split_hash(episode.id))) {
    return leave_damage_out(std::string(kDuplicate), cat(item.raw.origin, ": the episode id '", episode.id,
                                                         "' was there already, and ids are unique in a data set"));
  }
  bool committed = false;
  try {
    committed = writer.add(task, episode);
  } catch (const DataError& error) {  // Too many source agents for a shard.
    return leave_damage_out(std::string(kDamaged), cat(item.raw.origin, ": ", error.what()));
  }
  ++summary_.episodes;
  summary_.steps += episode.num_steps;
  if (committed) record_shards(writer, {item.position.unit, item.position.record, part + 1});
}

void Import::leave_damage_out(const std::string& reason, const std::string& message) {
  if (!options_.drop_damaged) throw DataError(cat(message, "; --drop-damaged leaves such records out and goes on"));
  count_drop(summary_, reason, message);
}

/// Writes down that everything before `position` is in shards.
void Import::record_shards(const DatasetWriter& writer, ImportPosition position) {
  for (size_t i = state_.shards.size() - shards_before_; i < writer.shards().size(); ++i) {
    const Path& path = writer.shards()[i];
    state_.shards.push_back({path.filename().string(), ShardReader(path).fingerprint()});
  }
  summary_.shards = static_cast<int64_t>(state_.shards.size());
  state_.summary = summary_;
  state_.position = position;
  save_import_state(state_path_, state_);
}

void Import::verify() const {
  std::vector<std::vector<std::string>> damages(state_.shards.size());
  std::vector<int64_t> episodes(state_.shards.size()), steps(state_.shards.size());
  Progress progress("checking what was written", static_cast<int64_t>(state_.shards.size()), "shards");
  parallel_for(static_cast<int64_t>(state_.shards.size()), [&](int64_t number) {
    throw_if_stopped("checking the shards that were written");
    const auto i = static_cast<size_t>(number);
    const Path path = options_.out / Path(state_.shards[i].file).filename();
    damages[i] = verify_files(path);
    if (!damages[i].empty()) return;
    const ShardReader shard(path);
    for (const EpisodeIndexEntry& entry : shard.index()) steps[i] += entry.num_steps;
    episodes[i] = static_cast<int64_t>(shard.index().size());
    progress.add();
  });
  int64_t all_episodes = 0, all_steps = 0;
  for (size_t i = 0; i < damages.size(); ++i) {
    if (!damages[i].empty()) {
      throw DataError(cat(damages[i].front(), "; the disk did not keep what was written: check it, remove the folder ",
                          "and import anew"));
    }
    all_episodes += episodes[i];
    all_steps += steps[i];
  }
  if (all_episodes != state_.summary.episodes || all_steps != state_.summary.steps) {
    throw DataError(cat(options_.out.string(), ": the shards hold ", all_episodes, " episodes with ", all_steps,
                        " steps, but ", state_.summary.episodes, " with ", state_.summary.steps,
                        " were written; remove the folder and import anew"));
  }
}

/// A folder for one dry run, removed with what it holds.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "gato-dry-run-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw IoError(cat(name, ": cannot be made"), errno);
    path_ = name;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const Path& path() const { return path_; }

 private:
  Path path_;
};

std::string describe_episode(const ForeignFormat& format, const ImportOptions& options,
                             const ParsedRecord::Part& part) {
  const ScratchFolder folder;
  const Path path = folder.path() / "first.gato";
  DatasetInfo info = options.info;
  if (info.name.empty()) info.name = "unnamed";
  ShardWriter writer(path, info, format.tasks());
  writer.add(part.task, part.episode);
  writer.finish();
  return describe_shard(ShardReader(path));
}

}  // namespace

ImportSummary import_dataset(const ForeignFormat& format, const ImportOptions& options) {
  GATO_CHECK(!options.out.empty(), "ImportOptions::out is required");
  GATO_CHECK(options.shard_bytes > 0 && options.limit >= 0, "shards of ", options.shard_bytes, " bytes, limit ",
             options.limit);
  return Import(format, options).run();
}

std::string describe_first_episode(const ForeignFormat& format, const ImportOptions& options) {
  const std::vector<ImportUnit> units = format.units();
  check_unit_names(units);
  RecordReader reader(format, units, {}, 0, options.limit);
  ImportSummary summary;
  for (ImportBatch batch; reader.read(batch);) {
    for (ImportItem& item : batch.items) {
      throw_if_stopped("looking for the first episode");
      parse_item(format, options.content_filter, item);
      if (item.failure) std::rethrow_exception(item.failure);
      if (!item.damage.empty()) {
        if (!options.drop_damaged) throw DataError(item.damage);
        count_drop(summary, std::string(kDamaged), item.damage);
      }
      for (size_t i = 0; i < item.filtered.size() && item.damage.empty(); ++i) {
        if (item.filtered[i].empty()) {
          return cat("first episode: ", item.raw.origin, list_drops(summary), "\n",
                     describe_episode(format, options, item.parsed.episodes[i]));
        }
        count_drop(summary, cat(kFiltered, item.filtered[i]), item.raw.origin);
      }
      if (!item.parsed.dropped.empty()) count_drop(summary, item.parsed.dropped, item.raw.origin);
    }
    if (batch.failure) std::rethrow_exception(batch.failure);
  }
  throw DataError("the source has no episode that would be imported" + list_drops(summary));
}

}  // namespace gato::episode
