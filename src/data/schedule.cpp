#include "gato/data/schedule.h"

#include <algorithm>
#include <map>
#include <set>

#include "gato/core/error.h"
#include "gato/core/threads.h"

namespace gato::data {
namespace {

constexpr const char* kNewRun = ", or start a new run with another run.dir";

using Readers = std::vector<std::shared_ptr<const episode::ShardReader>>;

Readers open_readers(const std::vector<Path>& paths) {
  Readers readers(paths.size());
  parallel_for(static_cast<int64_t>(paths.size()), [&](int64_t i) {
    readers[static_cast<size_t>(i)] = std::make_shared<const episode::ShardReader>(paths[static_cast<size_t>(i)]);
  });
  return readers;
}

/// The sources of both splits that these shards hold.
std::vector<RecordedSource> record_of(const Readers& readers) {
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
Path find_recorded(const RecordedShard& shard, const std::vector<Path>& candidates, const RecordedPhase& phase,
                   const std::vector<std::string>& datasets) {
  if (candidates.empty()) {
    throw DataError(cat("shard ", shard.file, " is missing in ", join(datasets, ", "), ": rows from ", phase.first_row,
                        " on were made from it (fingerprint ", shard.fingerprint, "); restore it", kNewRun));
  }
  std::string found;
  for (const Path& path : candidates) {
    const std::string fingerprint = episode::ShardReader(path).fingerprint();
    if (fingerprint == shard.fingerprint) return path;
    found += cat(found.empty() ? "" : ", ", path.string(), " has fingerprint ", fingerprint);
  }
  throw DataError(cat("shard ", shard.file, " changed since rows from ", phase.first_row, " on were made from it: ",
                      found, ", recorded was ", shard.fingerprint, "; restore the old file (new data belongs into new",
                      " files and a new phase of data.schedule)", kNewRun));
}

struct FoundShard {
  Path path;
  std::string fingerprint;
};

/// By file name and content: rows depend on the order of shards, which must not change when folders move.
std::vector<Path> in_fixed_order(std::vector<FoundShard> shards) {
  std::sort(shards.begin(), shards.end(), [](const FoundShard& a, const FoundShard& b) {
    const Path name_a = a.path.filename(), name_b = b.path.filename();
    return name_a != name_b ? name_a < name_b : a.fingerprint < b.fingerprint;
  });
  std::vector<Path> paths;
  for (FoundShard& shard : shards) paths.push_back(std::move(shard.path));
  return paths;
}

/// The paths of the recorded shards of a phase that has begun; shards beside them are noted.
std::vector<Path> recorded_paths(const RecordedPhase& phase, const std::vector<std::string>& datasets,
                                 const std::vector<Path>& present, std::vector<std::string>& notes) {
  std::map<std::string, std::vector<Path>> by_name;
  for (const Path& path : present) by_name[path.filename().string()].push_back(path);
  std::vector<FoundShard> found;
  std::set<Path> used;
  for (const RecordedShard& shard : shards_of(phase)) {
    const std::string name = Path(shard.file).filename().string();
    const Path path = find_recorded(shard, by_name[name], phase, datasets);
    if (used.insert(path).second) found.push_back({path, shard.fingerprint});
  }
  for (const Path& path : present) {
    if (used.count(path) != 0) continue;
    notes.push_back(cat(path.string(), " came after the phase from row ", phase.first_row,
                        " had begun: used from a later phase only"));
  }
  return in_fixed_order(std::move(found));
}

std::vector<std::string> lines_of(const RecordedPhase& phase) {
  MixturePhase shown;
  shown.first_row = phase.first_row;
  shown.mixture = phase.mixture;
  shown.allow_missing = phase.allow_missing;
  return split(dump_config(shown), '\n');
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
  throw ConfigError(cat(
      "data.schedule.[", index, "] is not what the run recorded, but ", consumed_rows,
      " rows were already used and this phase has begun (- recorded, + now):", lines_without(old_lines, new_lines, "-"),
      lines_without(new_lines, old_lines, "+"),
      "\nrestore it and put the change into a new phase with a first_row of at least ", consumed_rows, kNewRun));
}

bool has_begun(const RecordedPhase& phase, int64_t consumed_rows) {
  const int64_t first = (phase.first_row + kBlockRows - 1) / kBlockRows * kBlockRows;
  return first < consumed_rows;
}

}  // namespace

OpenedPhases open_phases(const DataConfig& config, const tokenizer::Vocabulary& vocabulary,
                         const tokenizer::TextTokenizer* text, Split split, const ScheduleRecord* recorded,
                         int64_t consumed_rows) {
  DataConfig expanded = config;
  if (expanded.schedule.empty()) expanded.schedule = {default_phase()};
  expand_mixture_files(expanded);
  const size_t known = recorded == nullptr ? 0 : recorded->phases.size();
  OpenedPhases opened;
  std::map<std::vector<Path>, PhaseSources> by_shards;
  for (size_t i = 0; i < std::max(expanded.schedule.size(), known); ++i) {
    const bool begun = i < known && has_begun(recorded->phases[i], consumed_rows);
    if (i >= expanded.schedule.size()) {
      if (!begun) break;
      throw ConfigError(cat("data.schedule has ", expanded.schedule.size(), " phases, but phase ", i,
                            " of the run's record has begun; restore it", kNewRun));
    }
    const MixturePhase& mixture = expanded.schedule[i];
    DataConfig of_phase = expanded;
    of_phase.datasets = datasets_of_phase(expanded, i);
    std::vector<Path> paths = find_shards(of_phase);
    RecordedPhase record{mixture.first_row, mixture.allow_missing, mixture.mixture, {}};
    if (begun) {
      check_unchanged(recorded->phases[i], record, i, consumed_rows);
      paths = recorded_paths(recorded->phases[i], of_phase.datasets, paths, opened.notes);
      record.sources = recorded->phases[i].sources;
    } else {
      const Readers readers = open_readers(paths);
      std::vector<FoundShard> found;
      for (size_t r = 0; r < readers.size(); ++r) found.push_back({paths[r], readers[r]->fingerprint()});
      paths = in_fixed_order(std::move(found));
      record.sources = record_of(readers);
    }
    const auto [found, is_new] = by_shards.try_emplace(paths);
    if (is_new) found->second.sources = open_sources(paths, expanded, vocabulary, text, split);
    opened.phases.push_back(found->second);
    opened.record.phases.push_back(std::move(record));
  }
  return opened;
}

}  // namespace gato::data
