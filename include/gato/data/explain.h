#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/data/batch.h"

/// What a training row is made of, for people: `gato-data explain`.
namespace gato::data {

/// A window of an episode as it stands in a row.
struct ExplainedWindow {
  int64_t offset = 0;           ///< Of its first token in the row.
  int64_t tokens = 0;           ///< Including the padding that replaces a quarantined episode.
  int64_t labels = 0;           ///< Tokens that carry loss.
  double loss = 0;              ///< Sum of their loss weights.
  int32_t source = 0;           ///< Index into the plan's sources.
  std::string task, source_id;  ///< "grid/go_to", "demo-grid:grid/go_to".
  std::string shard, episode;   ///< File name, and the episode's id.
  std::string source_agent;
  Window window;
  int64_t length = 0;  ///< Steps (tokens of a document) of the whole episode.
  bool prompt = false;
  bool left_out = false;  ///< Padding stands in its place: an episode of its sequence is on the quarantine list.
};

/// Windows that attend to each other: prompts first.
struct ExplainedSequence {
  std::vector<ExplainedWindow> windows;
};

struct ExplainedRow {
  int64_t row = 0, block = 0;
  int64_t row_tokens = 0, tokens = 0, labels = 0;
  double loss = 0;
  std::vector<ExplainedSequence> sequences;
};

/// Builds the row and says where every token came from. DataError as RowBuilder::append_row.
[[nodiscard]] ExplainedRow explain_row(const RowBuilder& builder, int64_t row);

/// A line for the row and one per window; lines end in '\n'.
[[nodiscard]] std::string describe_row(const RowPlan& plan, const ExplainedRow& row);

struct ShowOptions {
  int64_t max_steps = 4;           ///< Shown per window.
  int64_t thumbnail_columns = 32;  ///< Width of pictures in characters; 0: no pictures.
  int64_t max_text_bytes = 240;
  bool color = false;                              ///< Pictures in 24-bit ANSI colours.
  const tokenizer::TextTokenizer* text = nullptr;  ///< Shows documents as text; without it as token ids.
};

/// describe_row, and below each window what it holds: texts, pictures, numbers, actions and labels as recorded, and a
/// line of its tokens: t text, i image, d discrete, c continuous, | separator, - padding; in capitals where a token
/// carries loss (a separator never does).
[[nodiscard]] std::string show_row(const RowBuilder& builder, int64_t row, const ShowOptions& options = {});

}  // namespace gato::data
