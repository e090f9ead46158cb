#include "gato/data/explain.h"

#include <algorithm>
#include <map>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/inspect.h"

namespace gato::data {
namespace {

using tokenizer::TokenKind;

const Source& source_of(const RowPlan& plan, int32_t index) { return *plan.sources()[static_cast<size_t>(index)]; }

/// Ids are read from the shard, and may be damaged where the row is not.
std::string name_of(const Source& source, int64_t episode) {
  try {
    return source.episode_name(episode);
  } catch (const DataError&) {
    return cat("number ", source.place(episode).episode, " (its id cannot be read)");
  }
}

ExplainedWindow explain_window(const Source& source, int32_t index, const Window& window, bool prompt) {
  ExplainedWindow explained;
  explained.source = index;
  explained.task = source.spec().id;
  explained.source_id = source.id();
  const episode::ShardReader& shard = *source.place(window.episode).shard->reader;
  explained.shard = shard.path().filename().string();
  explained.episode = name_of(source, window.episode);
  explained.source_agent = shard.source_agents()[source.source_agent(window.episode)];
  explained.window = window;
  explained.length = source.length(window.episode);
  explained.prompt = prompt;
  explained.tokens = source.window_tokens(window);
  return explained;
}

void count_labels(const Batch& batch, ExplainedWindow& window) {
  for (int64_t t = window.offset; t < window.offset + window.tokens; ++t) {
    const float weight = batch.loss_weights[static_cast<size_t>(t)];
    if (weight == 0) continue;
    ++window.labels;
    window.loss += static_cast<double>(weight);
  }
}

/// A row of the plan and what was built from it.
struct BuiltRow {
  ExplainedRow explained;
  Batch batch;
};

BuiltRow build_row(const RowBuilder& builder, int64_t row) {
  BuiltRow built;
  built.batch = builder.build(row, 1);
  ExplainedRow& explained = built.explained;
  explained.row = row;
  explained.block = row / kBlockRows;
  explained.row_tokens = built.batch.row_tokens;
  explained.tokens = built.batch.tokens;
  const auto block = builder.plan().block(explained.block);
  int64_t offset = 0;
  for (const PlannedSequence& sequence : block->rows[static_cast<size_t>(row % kBlockRows)].sequences) {
    const Source& source = source_of(builder.plan(), sequence.source);
    ExplainedSequence& shown = explained.sequences.emplace_back();
    if (sequence.has_prompt) shown.windows.push_back(explain_window(source, sequence.source, sequence.prompt, true));
    shown.windows.push_back(explain_window(source, sequence.source, sequence.window, false));
    for (const Window& window : sequence.group)
      shown.windows.push_back(explain_window(source, sequence.source, window, false));
    for (ExplainedWindow& window : shown.windows) {
      window.offset = offset;
      offset += window.tokens;
      count_labels(built.batch, window);
      window.left_out = window.tokens > 0 && built.batch.kinds[static_cast<size_t>(window.offset)] ==
                                                 static_cast<uint8_t>(TokenKind::kPadding);
      explained.labels += window.labels;
      explained.loss += window.loss;
    }
  }
  return built;
}

std::string head_line(const ExplainedRow& row) {
  return cat("row ", row.row, " (block ", row.block, "): ", row.tokens, " of ", row.row_tokens, " tokens, ",
             row.sequences.size(), " sequences, ", row.labels, " labels, loss weight ", format_fixed(row.loss, 2),
             "\n");
}

std::string window_line(const ExplainedWindow& window, bool document) {
  const std::string unit = document ? "tokens " : window.window.count == 1 ? "step " : "steps ";
  const int64_t last = window.window.first + window.window.count - 1;
  return cat("  at ", window.offset, ": ", window.prompt ? "prompt " : "", window.task, "  ", unit, window.window.first,
             window.window.count > 1 ? cat(" to ", last) : "", " of ", window.length, "  ", window.source_id, "  ",
             window.shard, "  episode ", window.episode, "  by ",
             window.source_agent.empty() ? "unnamed" : window.source_agent, "  ", window.tokens, " tokens, ",
             window.labels, " labels, loss weight ", format_fixed(window.loss, 2),
             window.left_out ? ", left out for damage" : "", "\n");
}

bool is_document(const RowPlan& plan, const ExplainedWindow& window) {
  return source_of(plan, window.source).tokenizer().is_document();
}

char letter_of(uint8_t kind) {
  switch (static_cast<TokenKind>(kind)) {
    case TokenKind::kText:
      return 't';
    case TokenKind::kImage:
      return 'i';
    case TokenKind::kDiscrete:
      return 'd';
    case TokenKind::kContinuous:
      return 'c';
    case TokenKind::kSeparator:
      return '|';
    case TokenKind::kPadding:
      break;
  }
  return '-';
}

std::string token_letters(const Batch& batch, const ExplainedWindow& window) {
  std::string letters;
  for (int64_t t = window.offset; t < window.offset + window.tokens; ++t) {
    const auto i = static_cast<size_t>(t);
    char letter = letter_of(batch.kinds[i]);
    if (batch.loss_weights[i] != 0 && letter >= 'a') letter = static_cast<char>(letter - 'a' + 'A');
    letters += letter;
  }
  return cat("    tokens  ", letters, "\n");
}

/// Printable, at most `max_bytes` long.
std::string quoted(const std::string& text, int64_t max_bytes) {
  std::string shown;
  for (const char c : text) {
    if (static_cast<int64_t>(shown.size()) >= max_bytes) return cat("\"", shown, "\" ...");
    shown += c == '\n'                                           ? std::string("\\n")
             : static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? "?"
                                                                 : std::string(1, c);
  }
  return cat("\"", shown, "\"");
}

std::string show_document(const Batch& batch, const ExplainedWindow& window, const ShowOptions& options) {
  std::vector<int32_t> ids(batch.ids.begin() + window.offset, batch.ids.begin() + window.offset + window.tokens);
  if (options.text != nullptr)
    return cat("    text    ", quoted(options.text->decode(ids), options.max_text_bytes), "\n");
  std::vector<std::string> parts;
  for (const int32_t id : ids) parts.push_back(cat(id));
  return cat("    ids     ", join(parts, " "), "\n");
}

std::string show_steps(const Source& source, const ExplainedWindow& window, const ShowOptions& options) {
  const int64_t steps = std::min(options.max_steps, window.window.count);
  const episode::Episode shown = source.read(window.window.episode, window.window.first, steps);
  episode::InspectOptions inspect;
  inspect.thumbnail_columns = options.thumbnail_columns;
  inspect.max_text_bytes = options.max_text_bytes;
  inspect.color = options.color;
  std::string text;
  for (int64_t step = 0; step < steps; ++step) {
    text += episode::describe_step(source.spec(), shown, step, window.window.first + step, inspect);
  }
  if (steps < window.window.count) text += cat("  ... ", window.window.count - steps, " more steps\n");
  return text;
}

}  // namespace

ExplainedRow explain_row(const RowBuilder& builder, int64_t row) { return build_row(builder, row).explained; }

std::string describe_row(const RowPlan& plan, const ExplainedRow& row) {
  std::string text = head_line(row);
  for (const ExplainedSequence& sequence : row.sequences) {
    for (const ExplainedWindow& window : sequence.windows) text += window_line(window, is_document(plan, window));
  }
  return text;
}

std::string show_row(const RowBuilder& builder, int64_t row, const ShowOptions& options) {
  const BuiltRow built = build_row(builder, row);
  std::string text = head_line(built.explained);
  for (const ExplainedSequence& sequence : built.explained.sequences) {
    for (const ExplainedWindow& window : sequence.windows) {
      const bool document = is_document(builder.plan(), window);
      text += window_line(window, document);
      if (window.left_out) continue;
      text += document ? show_document(built.batch, window, options)
                       : show_steps(source_of(builder.plan(), window.source), window, options);
      text += token_letters(built.batch, window);
    }
  }
  return text;
}

}  // namespace gato::data
