#include "gato/data/batch.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {

using tokenizer::PatchPosition;
using tokenizer::TokenSequence;

RowBuilder::RowBuilder(std::shared_ptr<const RowPlan> plan, bool draw_patch_positions,
                       std::shared_ptr<Quarantine> quarantine)
    : plan_(std::move(plan)), draw_patch_positions_(draw_patch_positions), quarantine_(std::move(quarantine)) {}

namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

/// Seconds are measured on one row in this many: clocks cost as much as short windows.
constexpr int64_t kTimedRows = 16;

/// Calls visitor(window, is_prompt) for the windows of a sequence in the order in which they stand in it.
template <class Visitor>
void for_each_window(const PlannedSequence& sequence, const Visitor& visitor) {
  if (sequence.has_prompt) visitor(sequence.prompt, true);
  visitor(sequence.window, false);
  for (const Window& window : sequence.group) visitor(window, false);
}

/// Appends one planned sequence to the row's stream, without loss on its first token. `at` tells which window is at
/// work when it throws.
void append_sequence(const RowPlan& plan, int64_t row, const PlannedSequence& sequence, TokenSequence& stream,
                     StageSeconds* seconds, Window& at) {
  const Source& source = *plan.sources()[static_cast<size_t>(sequence.source)];
  const MixtureEntry& entry = plan.entry(row, sequence.source);
  const auto weight = static_cast<float>(plan.label_weight(row, sequence.source));
  const tokenizer::LossWeights weights{weight, weight * static_cast<float>(entry.observed_text_loss),
                                       weight * static_cast<float>(entry.observed_value_loss)};
  const auto begin = static_cast<size_t>(stream.size());
  for_each_window(sequence, [&](const Window& window, bool is_prompt) {
    const bool with_loss = !is_prompt || plan.config().prompt_loss;
    at = window;
    source.append(window, with_loss ? weights : tokenizer::LossWeights{0, 0, 0}, stream, seconds);
  });
  GATO_CHECK(stream.size() - static_cast<int64_t>(begin) == sequence.tokens, "source ", source.id(), " planned ",
             sequence.tokens, " tokens and gave ", stream.size() - static_cast<int64_t>(begin));
  if (begin < stream.loss_weights.size()) stream.loss_weights[begin] = 0;
}

void append_padding(int64_t tokens, TokenSequence& stream) {
  const auto size = static_cast<size_t>(stream.size() + tokens);
  stream.ids.resize(size, tokenizer::kNoId);
  stream.targets.resize(size, -1);
  stream.loss_weights.resize(size, 0);
  stream.kinds.resize(size, tokenizer::TokenKind::kPadding);
  stream.is_action.resize(size, 0);
  stream.local_positions.resize(size, static_cast<int16_t>(tokenizer::kNoPosition));
}

/// Takes back what was appended after `tokens` tokens and `patches` patches.
void cut_back(size_t tokens, size_t patches, TokenSequence& stream) {
  stream.ids.resize(tokens);
  stream.targets.resize(tokens);
  stream.loss_weights.resize(tokens);
  stream.kinds.resize(tokens);
  stream.is_action.resize(tokens);
  stream.local_positions.resize(tokens);
  stream.patches.resize(patches * static_cast<size_t>(tokenizer::kPatchBytes));
  stream.patch_positions.resize(patches);
}

QuarantineEntry quarantine_entry(const Source& source, int64_t episode, int64_t row, const DataError& error) {
  const Source::Place place = source.place(episode);
  QuarantineEntry entry;
  entry.source = source.id();
  entry.shard = place.shard->reader->path().filename().string();
  entry.fingerprint = place.shard->reader->fingerprint();
  entry.episode = place.episode;
  entry.row = row;
  entry.message = error.what();
  if (const auto* damage = dynamic_cast<const episode::DamageError*>(&error)) entry.offset = damage->offset();
  try {
    entry.id = source.episode_name(episode);
  } catch (const DataError&) {
    // The ids are damaged as well: the position in the index says which episode it is.
  }
  return entry;
}

template <class To, class From>
void extend(std::vector<To>& to, const std::vector<From>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

/// Puts on the list every episode of the sequence that row `row` cannot read and that is not on it yet; false when
/// there was none. Also where another episode of the sequence is left out already: what is on the list must not depend
/// on the order in which rows are built.
bool RowBuilder::nothing_else_damaged(int64_t row, const PlannedSequence& sequence) const {
  const Source& source = *plan_->sources()[static_cast<size_t>(sequence.source)];
  bool whole = true;
  TokenSequence ignored;
  for_each_window(sequence, [&](const Window& window, bool) {
    if (is_held(source, window, row)) return;
    try {
      ignored.clear();
      source.append(window, {0, 0, 0}, ignored, nullptr);
    } catch (const DataError& error) {
      quarantine_->add(quarantine_entry(source, window.episode, row, error));
      whole = false;
    }
  });
  return whole;
}

bool RowBuilder::is_held(const Source& source, const Window& window, int64_t row) const {
  const Source::Place place = source.place(window.episode);
  return quarantine_->holds(place.shard->reader->fingerprint(), place.episode, row);
}

/// False when padding took the sequence's place because of damage that was not on the list before: windows of the same
/// episode may already stand in the row.
bool RowBuilder::append_or_quarantine(int64_t row, const PlannedSequence& sequence, TokenSequence& stream,
                                      StageSeconds* seconds) const {
  const Source& source = *plan_->sources()[static_cast<size_t>(sequence.source)];
  if (!quarantine_->empty()) {
    bool held = false;
    for_each_window(sequence, [&](const Window& window, bool) { held = held || is_held(source, window, row); });
    if (held) {
      append_padding(sequence.tokens, stream);
      return nothing_else_damaged(row, sequence);
    }
  }
  const size_t tokens = stream.ids.size(), patches = stream.patch_positions.size();
  Window at = sequence.window;
  try {
    append_sequence(*plan_, row, sequence, stream, seconds, at);
    return true;
  } catch (const DataError& error) {
    quarantine_->add(quarantine_entry(source, at.episode, row, error));
  }
  cut_back(tokens, patches, stream);
  append_padding(sequence.tokens, stream);
  static_cast<void>(nothing_else_damaged(row, sequence));
  return false;
}

void RowBuilder::fill_stream(int64_t row, const PlannedRow& planned, Batch& batch, TokenSequence& stream,
                             StageSeconds* seconds) const {
  const size_t base = batch.ids.size();
  for (bool whole = false; !whole;) {
    whole = true;
    stream.clear();
    batch.sequence_starts.resize(base);
    batch.sources.resize(base);
    for (const PlannedSequence& sequence : planned.sequences) {
      const auto start = static_cast<int32_t>(stream.size());
      if (quarantine_ == nullptr) {
        Window at;
        append_sequence(*plan_, row, sequence, stream, seconds, at);
      } else {
        whole = append_or_quarantine(row, sequence, stream, seconds) && whole;
      }
      const auto end = base + static_cast<size_t>(stream.size());
      const bool padded = stream.size() > start && stream.kinds.back() == tokenizer::TokenKind::kPadding;
      batch.sequence_starts.resize(end, start);
      batch.sources.resize(end, padded ? int16_t{-1} : static_cast<int16_t>(sequence.source));
      if (padded)
        std::iota(batch.sequence_starts.begin() + static_cast<int64_t>(base) + start, batch.sequence_starts.end(),
                  start);
    }
  }
}

void RowBuilder::append_row(int64_t row, Batch& batch, StageSeconds* seconds) const {
  GATO_CHECK(row >= 0, "row ", row);
  const auto begin = Clock::now();
  const auto block = plan_->block(row / kBlockRows);
  const auto planned_at = Clock::now();
  const PlannedRow& planned = block->rows[static_cast<size_t>(row % kBlockRows)];
  const int64_t row_tokens = plan_->config().row_tokens;
  const auto base = static_cast<int64_t>(batch.ids.size());
  thread_local TokenSequence stream;  // keeps its memory from row to row
  StageSeconds work;
  fill_stream(row, planned, batch, stream, seconds == nullptr ? nullptr : &work);
  GATO_CHECK(stream.size() <= row_tokens, "row ", row, " has ", stream.size(), " tokens");

  Rng rng(mix_seed(plan_->seed(), {8, static_cast<uint64_t>(row)}));
  size_t patch = 0;
  for (int64_t t = 0; t < stream.size(); ++t) {
    const auto i = static_cast<size_t>(t);
    if (stream.loss_weights[i] == 0) stream.targets[i] = -1;
    batch.loss_weight_sum += stream.loss_weights[i];
    if (stream.kinds[i] != tokenizer::TokenKind::kImage) continue;
    const PatchPosition& position = stream.patch_positions[patch++];
    const auto place = [&](int low, int high) {
      return static_cast<int32_t>(draw_patch_positions_ ? low + rng.below(high - low) : (low + high) / 2);
    };
    batch.patch_index.push_back(base + t);
    batch.patch_rows.push_back(place(position.row_low, position.row_high));
    batch.patch_columns.push_back(place(position.column_low, position.column_high));
  }
  extend(batch.ids, stream.ids);
  extend(batch.targets, stream.targets);
  extend(batch.loss_weights, stream.loss_weights);
  const auto* kinds = reinterpret_cast<const uint8_t*>(stream.kinds.data());
  batch.kinds.insert(batch.kinds.end(), kinds, kinds + stream.kinds.size());
  batch.local_positions.insert(batch.local_positions.end(), stream.local_positions.begin(),
                               stream.local_positions.end());
  extend(batch.patches, stream.patches);
  for (int64_t t = stream.size(); t < row_tokens; ++t) batch.sequence_starts.push_back(static_cast<int32_t>(t));
  const auto end = static_cast<size_t>(base + row_tokens);
  batch.ids.resize(end, tokenizer::kNoId);
  batch.targets.resize(end, -1);
  batch.loss_weights.resize(end, 0);
  batch.kinds.resize(end, static_cast<uint8_t>(tokenizer::TokenKind::kPadding));
  batch.local_positions.resize(end, tokenizer::kNoPosition);
  batch.sources.resize(end, -1);
  batch.tokens += stream.size() - std::count(stream.kinds.begin(), stream.kinds.end(), tokenizer::TokenKind::kPadding);
  batch.rows += 1;
  if (row % kBlockRows == 0) batch.dropped_tokens += block->dropped_tokens;
  if (seconds == nullptr) return;
  seconds->plan += seconds_between(begin, planned_at);
  seconds->read += work.read;
  seconds->decode += work.decode;
  seconds->pack += std::max(0.0, seconds_between(planned_at, Clock::now()) - work.read - work.decode);
}

Batch RowBuilder::build(int64_t first_row, int64_t rows, StageSeconds* seconds) const {
  Batch batch;
  batch.first_row = first_row;
  batch.row_tokens = plan_->config().row_tokens;
  const auto tokens = static_cast<size_t>(rows * batch.row_tokens);
  for (auto* array : {&batch.ids, &batch.targets, &batch.sequence_starts, &batch.local_positions})
    array->reserve(tokens);
  batch.loss_weights.reserve(tokens);
  batch.kinds.reserve(tokens);
  batch.sources.reserve(tokens);
  StageSeconds timed;
  double planning = 0;
  const auto begin = Clock::now();
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    if (seconds != nullptr && (row == first_row || row % kBlockRows == 0)) {
      const auto before = Clock::now();
      static_cast<void>(plan_->block(row / kBlockRows));
      planning += seconds_between(before, Clock::now());
    }
    const bool is_timed = seconds != nullptr && (row - first_row) % kTimedRows == 0;
    append_row(row, batch, is_timed ? &timed : nullptr);
  }
  if (seconds != nullptr && timed.total() > 0) {
    const double scale = (seconds_between(begin, Clock::now()) - planning) / timed.total();
    seconds->add({timed.plan * scale + planning, timed.read * scale, timed.decode * scale, timed.pack * scale});
  }
  return batch;
}

RowRange rows_of_rank(int64_t first, int64_t count, int rank, int world) {
  GATO_CHECK(world >= 1 && rank >= 0 && rank < world, "rank ", rank, " of ", world);
  const int64_t begin = count * rank / world, end = count * (rank + 1) / world;
  return {first + begin, end - begin};
}

}  // namespace gato::data
