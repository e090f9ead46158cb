#include "gato/data/schedule.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "gato/core/error.h"

namespace gato::data {
namespace {

constexpr const char* kNewRun = ", or start a new run with another run.dir";

/// Shards, each opened once however many phases use it.
class OpenShards {
 public:
  ShardReaders of(const std::vector<Path>& paths) {
    std::vector<Path> missing;
    for (const Path& path : paths) {
      if (readers_.count(path) == 0) missing.push_back(path);
    }
    for (const auto& reader : open_readers(missing)) readers_.emplace(reader->path(), reader);
    ShardReaders readers;
    for (const Path& path : paths) readers.push_back(readers_.at(path));
    return readers;
  }

 private:
  std::map<Path, std::shared_ptr<const episode::ShardReader>> readers_;
};

/// The sources of both splits that these shards hold.
std::vector<RecordedSource> record_of(const ShardReaders& readers) {
  std::map<std::string, std::vector<RecordedShard>> shards_of;
  for (const auto& reader : readers) {
    for (const episode::TaskSpec& task : reader->tasks()) {
      shards_of[reader->info().name + ":" + task.id].push_back({reader->path().string(), reader->fingerprint()});
    }
  }
  std::vector<RecordedSource> sources;
  for (auto& [id, shards] : shards_of) sources.push_back({id, std::move(shards)});
  return sources;
}

/// Every recorded shard once, in the order of the record.
std::vector<RecordedShard> shards_of(const RecordedPhase& phase) {
  std::vector<RecordedShard> shards;
  std::set<std::pair<std::string, std::string>> known;
  for (const RecordedSource& source : phase.sources) {
    for (const RecordedShard& shard : source.shards) {
      if (known.emplace(shard.file, shard.fingerprint).second) shards.push_back(shard);
    }
  }
  return shards;
}

/// The file among `candidates` that is the recorded shard.
std::shared_ptr<const episode::ShardReader> find_recorded(const RecordedShard& shard, const ShardReaders& candidates,
                                                          const RecordedPhase& phase,
                                                          const std::vector<std::string>& datasets) {
  if (candidates.empty()) {
    throw DataError(cat("shard ", shard.file, " is missing in ", join(datasets, ", "), ": rows from ", phase.first_row,
                        " on were made from it (fingerprint ", shard.fingerprint, "); restore it", kNewRun));
  }
  std::string found;
  for (const auto& reader : candidates) {
    const std::string fingerprint = reader->fingerprint();
    if (fingerprint == shard.fingerprint) return reader;
    found += cat(found.empty() ? "" : ", ", reader->path().string(), " has fingerprint ", fingerprint);
  }
  throw DataError(cat("shard ", shard.file, " changed since rows from ", phase.first_row, " on were made from it: ",
                      found, ", recorded was ", shard.fingerprint, "; restore the old file (new data belongs into new",
                      " files and a new phase of data.schedule)", kNewRun));
}

/// By file name and content: rows depend on the order of shards, which must not change when folders move. Copies are
/// left out and noted: their episodes would come twice in an epoch, and a resumed run could not tell them apart.
void put_in_fixed_order(ShardReaders& shards, std::vector<std::string>& notes) {
  std::stable_sort(shards.begin(), shards.end(), [](const auto& a, const auto& b) {
    const Path name_a = a->path().filename(), name_b = b->path().filename();
    return name_a != name_b ? name_a < name_b : a->fingerprint() < b->fingerprint();
  });
  std::map<std::string, const episode::ShardReader*> first;
  std::erase_if(shards, [&](const auto& shard) {
    const auto [found, is_new] = first.emplace(shard->fingerprint(), shard.get());
    if (!is_new) {
      notes.push_back(
          cat(shard->path().string(), " has the same content as ", found->second->path().string(), ": used once"));
    }
    return !is_new;
  });
}

/// The recorded shards of a phase that has begun; shards beside them are noted.
ShardReaders recorded_shards(const RecordedPhase& phase, const std::vector<std::string>& datasets,
                             const std::vector<Path>& present, OpenShards& open, std::vector<std::string>& notes) {
  const std::vector<RecordedShard> recorded = shards_of(phase);
  std::set<Path> names;
  for (const RecordedShard& shard : recorded) names.insert(Path(shard.file).filename());
  std::vector<Path> candidates;  // no others are opened: one that is damaged must not stop the run
  for (const Path& path : present) {
    if (names.count(path.filename()) != 0) candidates.push_back(path);
  }
  std::map<Path, ShardReaders> by_name;
  for (const auto& reader : open.of(candidates)) by_name[reader->path().filename()].push_back(reader);
  ShardReaders found;
  std::set<Path> used;
  for (const RecordedShard& shard : recorded) {
    const auto reader = find_recorded(shard, by_name[Path(shard.file).filename()], phase, datasets);
    if (used.insert(reader->path()).second) found.push_back(reader);
  }
  for (const Path& path : present) {
    if (used.count(path) != 0) continue;
    notes.push_back(cat(path.string(), " came after the phase from row ", phase.first_row,
                        " had begun: used from a later phase only"));
  }
  return found;
}

std::vector<std::string> lines_of(const RecordedPhase& phase) {
  MixturePhase shown;
  shown.first_row = phase.first_row;
  shown.mixture = phase.mixture;
  shown.allow_missing = phase.allow_missing;
  return split(dump_config(shown), '\n');
}

/// Those who want old rows again count all rows as used.
std::string rows_used(int64_t rows) {
  if (rows == std::numeric_limits<int64_t>::max()) return "the run has used its rows";
  return cat("the run has used ", rows, " rows");
}

/// Lines of `a` that `b` lacks, each behind `mark`.
std::string lines_without(const std::vector<std::string>& a, std::vector<std::string> b, const char* mark) {
  std::string lines;
  for (const std::string& line : a) {
    const auto found = std::find(b.begin(), b.end(), line);
    if (found != b.end()) {
      b.erase(found);
    } else {
      lines += cat("\n  ", mark, " ", line);
    }
  }
  return lines;
}

void check_unchanged(const RecordedPhase& before, const RecordedPhase& now, size_t index, int64_t consumed_rows) {
  if (before.first_row == now.first_row && before.allow_missing == now.allow_missing && before.mixture == now.mixture) {
    return;
  }
  const auto old_lines = lines_of(before), new_lines = lines_of(now);
  throw ConfigError(cat("data.schedule.[", index, "] is not what the run recorded, but ", rows_used(consumed_rows),
                        " and this phase has begun (- recorded, + now):", lines_without(old_lines, new_lines, "-"),
                        lines_without(new_lines, old_lines, "+"),
                        "\nrestore it and put the change into a new phase that begins behind the used rows", kNewRun));
}

bool has_begun(int64_t first_row, int64_t consumed_rows) {
  return (first_row + kBlockRows - 1) / kBlockRows * kBlockRows < consumed_rows;
}

/// A phase that the record does not bind must not change rows that were used.
void check_later(const MixturePhase& phase, size_t index, int64_t consumed_rows) {
  if (!has_begun(phase.first_row, consumed_rows)) return;
  throw ConfigError(cat("data.schedule.[", index, "] begins at row ", phase.first_row, ", but ",
                        rows_used(consumed_rows), " without it; let it begin behind them", kNewRun));
}

}  // namespace

OpenedPhases open_phases(const DataConfig& config, const tokenizer::Vocabulary& vocabulary,
                         const tokenizer::TextTokenizer* text, const ScheduleRecord* recorded, int64_t consumed_rows) {
  DataConfig expanded = config;
  if (expanded.schedule.empty()) expanded.schedule = {default_phase()};
  expand_mixture_files(expanded);
  const size_t known = recorded == nullptr ? 0 : recorded->phases.size();
  OpenedPhases opened;
  OpenShards shards;
  std::map<ShardReaders, OpenedSources> by_shards;
  for (size_t i = 0; i < std::max(expanded.schedule.size(), known); ++i) {
    const bool begun = i < known && has_begun(recorded->phases[i].first_row, consumed_rows);
    if (i >= expanded.schedule.size()) {
      if (!begun) break;
      throw ConfigError(cat("data.schedule has ", expanded.schedule.size(), " phases, but phase ", i,
                            " of the run's record has begun; restore it", kNewRun));
    }
    const MixturePhase& mixture = expanded.schedule[i];
    DataConfig of_phase = expanded;
    of_phase.datasets = datasets_of_phase(expanded, i);
    const std::vector<Path> present = find_shards(of_phase);
    RecordedPhase record{mixture.first_row, mixture.allow_missing, mixture.mixture, {}};
    ShardReaders readers;
    if (begun) {
      check_unchanged(recorded->phases[i], record, i, consumed_rows);
      readers = recorded_shards(recorded->phases[i], of_phase.datasets, present, shards, opened.notes);
      record.sources = recorded->phases[i].sources;
    } else {
      if (recorded != nullptr) check_later(mixture, i, consumed_rows);
      readers = shards.of(present);
    }
    put_in_fixed_order(readers, opened.notes);
    if (!begun) record.sources = record_of(readers);
    const auto [found, is_new] = by_shards.try_emplace(readers);
    if (is_new) found->second = open_splits(readers, expanded, vocabulary, text);
    opened.training.push_back({found->second.training});
    opened.validation.push_back({found->second.validation});
    opened.record.phases.push_back(std::move(record));
  }
  return opened;
}

}  // namespace gato::data
