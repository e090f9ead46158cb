#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gato/data/plan.h"

/// What a run's schedule was opened with, so that data can be added and mixtures changed while old rows stay what they
/// were. Stored as schedule.json in the run folder: docs/data.md.
namespace gato::data {

struct RecordedShard {
  std::string file;         ///< Path as it was opened; found again by its file name, so folders may move.
  std::string fingerprint;  ///< ShardReader::fingerprint().
  bool operator==(const RecordedShard&) const = default;
};

struct RecordedSource {
  std::string id;  ///< Source::id().
  std::vector<RecordedShard> shards;
  bool operator==(const RecordedSource&) const = default;
};

/// One phase of the schedule with the shards that were opened for it.
struct RecordedPhase {
  int64_t first_row = 0;
  bool allow_missing = false;
  std::vector<MixtureEntry> mixture;
  std::vector<RecordedSource> sources;
  bool operator==(const RecordedPhase&) const = default;
};

struct ScheduleRecord {
  std::vector<RecordedPhase> phases;
  bool operator==(const ScheduleRecord&) const = default;
};

[[nodiscard]] std::string to_json(const ScheduleRecord& record);  ///< Ends in a line end.
/// Throws DataError naming `origin` and the place for anything that to_json does not write.
[[nodiscard]] ScheduleRecord parse_schedule_record(std::string_view text, const std::string& origin);

struct OpenedPhases {
  /// For RowPlan, one per phase; phases with equal shards share their Source objects.
  std::vector<PhaseSources> training, validation;
  ScheduleRecord record;           ///< To be stored in the run folder.
  std::vector<std::string> notes;  ///< For people: shards that are there, but not used in phases that have begun.
};

/// Opens the sources of every phase of `config.schedule` (mixture files expanded). A phase of `recorded` that has begun
/// when `consumed_rows` rows were used (the first phase always has when there are any) opens exactly the shards of the
/// record, found by file name in the phase's data sets; every other phase opens what its data sets hold now. `recorded`
/// null: a new run. Every shard is opened once.
///
/// Throws ConfigError as find_shards and open_sources do, with the differences when the schedule of a phase that has
/// begun is not the recorded one, and for another phase that would begin in rows that were used already; DataError
/// naming the shard and what to do when a recorded shard is missing or has another content.
[[nodiscard]] OpenedPhases open_phases(const DataConfig& config, const tokenizer::Vocabulary& vocabulary,
                                       const tokenizer::TextTokenizer* text, const ScheduleRecord* recorded = nullptr,
                                       int64_t consumed_rows = 0);

}  // namespace gato::data
