#include "gato/data/batch.h"

#include <algorithm>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {

using tokenizer::PatchPosition;
using tokenizer::TokenSequence;

RowBuilder::RowBuilder(std::shared_ptr<const RowPlan> plan, bool draw_patch_positions)
    : plan_(std::move(plan)), draw_patch_positions_(draw_patch_positions) {}

namespace {

/// Appends one planned sequence to the row's stream, without loss on its first token.
void append_sequence(const RowPlan& plan, int64_t row, const PlannedSequence& sequence, TokenSequence& stream) {
  const Source& source = *plan.sources()[static_cast<size_t>(sequence.source)];
  const MixtureEntry& entry = plan.entry(row, sequence.source);
  const auto weight = static_cast<float>(plan.label_weight(row, sequence.source));
  const tokenizer::LossWeights weights{weight, weight * static_cast<float>(entry.observed_text_loss),
                                       weight * static_cast<float>(entry.observed_value_loss)};
  const auto begin = static_cast<size_t>(stream.size());
  if (sequence.has_prompt) {
    source.append(sequence.prompt, plan.config().prompt_loss ? weights : tokenizer::LossWeights{0, 0, 0}, stream);
  }
  source.append(sequence.window, weights, stream);
  GATO_CHECK(stream.size() - static_cast<int64_t>(begin) == sequence.tokens, "source ", source.id(), " planned ",
             sequence.tokens, " tokens and gave ", stream.size() - static_cast<int64_t>(begin));
  if (begin < stream.loss_weights.size()) stream.loss_weights[begin] = 0;
}

template <class To, class From>
void extend(std::vector<To>& to, const std::vector<From>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

void RowBuilder::append_row(int64_t row, Batch& batch) const {
  GATO_CHECK(row >= 0, "row ", row);
  const auto block = plan_->block(row / kBlockRows);
  const PlannedRow& planned = block->rows[static_cast<size_t>(row % kBlockRows)];
  const int64_t row_tokens = plan_->config().row_tokens;
  const auto base = static_cast<int64_t>(batch.ids.size());
  TokenSequence stream;
  for (const PlannedSequence& sequence : planned.sequences) {
    const auto start = static_cast<int32_t>(stream.size());
    append_sequence(*plan_, row, sequence, stream);
    batch.sequence_starts.resize(static_cast<size_t>(base + stream.size()), start);
    batch.sources.resize(static_cast<size_t>(base + stream.size()), static_cast<int16_t>(sequence.source));
  }
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
  for (const tokenizer::TokenKind kind : stream.kinds) batch.kinds.push_back(static_cast<uint8_t>(kind));
  for (const int16_t position : stream.local_positions) batch.local_positions.push_back(position);
  extend(batch.patches, stream.patches);
  for (int64_t t = stream.size(); t < row_tokens; ++t) batch.sequence_starts.push_back(static_cast<int32_t>(t));
  const auto end = static_cast<size_t>(base + row_tokens);
  batch.ids.resize(end, tokenizer::kNoId);
  batch.targets.resize(end, -1);
  batch.loss_weights.resize(end, 0);
  batch.kinds.resize(end, static_cast<uint8_t>(tokenizer::TokenKind::kPadding));
  batch.local_positions.resize(end, tokenizer::kNoPosition);
  batch.sources.resize(end, -1);
  batch.tokens += stream.size();
  batch.rows += 1;
  if (row % kBlockRows == 0) batch.dropped_tokens += block->dropped_tokens;
}

Batch RowBuilder::build(int64_t first_row, int64_t rows) const {
  Batch batch;
  batch.first_row = first_row;
  batch.row_tokens = plan_->config().row_tokens;
  const auto tokens = static_cast<size_t>(rows * batch.row_tokens);
  for (auto* array : {&batch.ids, &batch.targets, &batch.sequence_starts, &batch.local_positions})
    array->reserve(tokens);
  batch.loss_weights.reserve(tokens);
  batch.kinds.reserve(tokens);
  batch.sources.reserve(tokens);
  for (int64_t row = first_row; row < first_row + rows; ++row) append_row(row, batch);
  return batch;
}

RowRange rows_of_rank(int64_t first, int64_t count, int rank, int world) {
  GATO_CHECK(world >= 1 && rank >= 0 && rank < world, "rank ", rank, " of ", world);
  const int64_t begin = count * rank / world, end = count * (rank + 1) / world;
  return {first + begin, end - begin};
}

}  // namespace gato::data
