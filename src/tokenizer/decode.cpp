#include <algorithm>
#include <utility>

#include "gato/core/error.h"
#include "gato/tokenizer/numbers.h"
#include "gato/tokenizer/sequence.h"
#include "tokenizer/layout.h"

namespace gato::tokenizer {
namespace {

using detail::fail_value;
using detail::FieldLayout;
using detail::TaskLayout;
using episode::FieldValue;
using episode::Modality;
using episode::StepValues;

/// The tokens of a text at the front of `ids`.
struct TextRun {
  int64_t tokens = 0;     ///< Of the text itself.
  bool has_end = false;   ///< `</s>` follows.
  bool complete = false;  ///< Nothing more of this field may come.
};

TextRun text_run(std::span<const int32_t> ids, int32_t end_id, int64_t max_text_tokens) {
  TextRun run;
  for (const int32_t id : ids) {
    if (run.tokens == max_text_tokens) break;
    if (id == end_id) {
      run.has_end = run.complete = true;
      return run;
    }
    ++run.tokens;
  }
  run.complete = run.tokens == max_text_tokens;
  return run;
}

/// Turns ids back into values; the inverse of the writing in sequence.cpp.
class ValueReader {
 public:
  ValueReader(const TaskLayout& layout, const Vocabulary& vocabulary, const TextTokenizer* text)
      : layout_(layout), vocabulary_(vocabulary), text_(text) {}

  /// The value behind the ids of a whole value (without the `</s>` of a text).
  [[nodiscard]] FieldValue read(const FieldLayout& field, std::span<const int32_t> ids) const {
    FieldValue value;
    switch (field.modality) {
      case Modality::kText:
        check_range(field, ids, 0, vocabulary_.text_size());
        value.text = text_->decode(ids);
        break;
      case Modality::kDiscrete:
        check_range(field, ids, vocabulary_.first_discrete(), field.num_values);
        for (const int32_t id : ids) value.discrete.push_back(id - vocabulary_.first_discrete());
        break;
      case Modality::kContinuous:
        check_range(field, ids, vocabulary_.first_bin(), static_cast<int32_t>(kNumBins));
        for (size_t i = 0; i < ids.size(); ++i) {
          const int32_t bin = ids[i] - vocabulary_.first_bin();
          value.continuous.push_back(field.is_action ? bin_to_action(bin, field.low[i], field.high[i])
                                                     : observation_value(bin));
        }
        break;
      case Modality::kImage:
        break;
    }
    return value;
  }

 private:
  void check_range(const FieldLayout& field, std::span<const int32_t> ids, int32_t first, int32_t count) const {
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < first || ids[i] >= first + count) {
        fail_value(layout_, field, "element ", i, " has id ", ids[i], ", which is outside [", first, ", ",
                   first + count, ")");
      }
    }
  }

  const TaskLayout& layout_;
  const Vocabulary& vocabulary_;
  const TextTokenizer* text_;
};

TokenKind kind_of(const FieldLayout& field) {
  switch (field.modality) {
    case Modality::kText:
      return TokenKind::kText;
    case Modality::kImage:
      return TokenKind::kImage;
    case Modality::kDiscrete:
      return TokenKind::kDiscrete;
    case Modality::kContinuous:
      break;
  }
  return TokenKind::kContinuous;
}

/// Reads the steps of a sequence one after the other. A read gives nothing when the sequence ends (or padding begins)
/// first.
class StepReader {
 public:
  StepReader(const TaskLayout& layout, const ValueReader& values, const TokenSequence& sequence,
             const Vocabulary& vocabulary, int32_t end_id)
      : layout_(layout), values_(values), sequence_(sequence), vocabulary_(vocabulary), end_id_(end_id) {}

  [[nodiscard]] std::optional<TaskTokenizer::DecodedStep> next() {
    TaskTokenizer::DecodedStep step;
    if (!read_group(layout_.observation, step.observation)) return std::nullopt;
    if (layout_.has_separator && !read_separator()) return std::nullopt;
    if (!read_group(layout_.action, step.action)) return std::nullopt;
    return step;
  }

 private:
  [[nodiscard]] bool at_end() const {
    return at_ >= sequence_.ids.size() || sequence_.kinds[at_] == TokenKind::kPadding;
  }

  /// Whether the next token is one of `field`.
  [[nodiscard]] bool is_of(const FieldLayout& field) const {
    return !at_end() && sequence_.kinds[at_] == kind_of(field) && (sequence_.is_action[at_] != 0) == field.is_action;
  }

  void require(const FieldLayout& field) const {
    if (is_of(field)) return;
    throw DataError(cat("token ", at_, " of the sequence has kind ", static_cast<int>(sequence_.kinds[at_]),
                        sequence_.is_action[at_] != 0 ? " (action)" : " (observation)", ", but task '", layout_.spec.id,
                        "' has ", field.is_action ? "action" : "observation", " field '", field.name, "' here"));
  }

  bool read_separator() {
    if (at_end()) return false;
    if (sequence_.kinds[at_] != TokenKind::kSeparator || sequence_.ids[at_] != vocabulary_.separator()) {
      throw DataError(cat("token ", at_, " of the sequence has kind ", static_cast<int>(sequence_.kinds[at_]),
                          " and id ", sequence_.ids[at_], ", but task '", layout_.spec.id, "' has its separator ",
                          vocabulary_.separator(), " here"));
    }
    ++at_;
    return true;
  }

  bool read_group(const std::vector<FieldLayout>& fields, StepValues& values) {
    values.resize(fields.size());
    for (size_t i = 0; i < fields.size(); ++i) {
      // Two images whose sizes vary cannot be told apart, nor need they: they come back empty.
      if (!read_field(fields[i], i > 0 && fields[i - 1].modality == Modality::kImage,
                      values[static_cast<size_t>(fields[i].index)])) {
        return false;
      }
    }
    return true;
  }

  bool read_field(const FieldLayout& field, bool after_image, FieldValue& value) {
    if (field.modality == Modality::kImage) return skip_image(field, after_image);
    if (field.modality == Modality::kText) return read_text(field, value);
    const size_t begin = at_;
    for (int64_t i = 0; i < field.elements; ++i, ++at_) {
      if (at_end()) return false;
      require(field);
    }
    value = values_.read(field, ids(begin, at_));
    return true;
  }

  bool skip_image(const FieldLayout& field, bool after_image) {
    if (at_end()) return false;
    if (!after_image) require(field);
    while (is_of(field)) ++at_;
    return true;
  }

  bool read_text(const FieldLayout& field, FieldValue& value) {
    const size_t begin = at_;
    while (is_of(field) && !(field.ends_with_piece && sequence_.ids[at_] == end_id_)) ++at_;
    if (at_end()) return false;
    value = values_.read(field, ids(begin, at_));
    if (field.ends_with_piece) {
      require(field);
      ++at_;
    }
    return true;
  }

  [[nodiscard]] std::span<const int32_t> ids(size_t begin, size_t end) const {
    return std::span(sequence_.ids).subspan(begin, end - begin);
  }

  const TaskLayout& layout_;
  const ValueReader& values_;
  const TokenSequence& sequence_;
  const Vocabulary& vocabulary_;
  int32_t end_id_;
  size_t at_ = 0;
};

ActionToken token_of(const FieldLayout& field, int64_t element, const Vocabulary& vocabulary) {
  ActionToken token{field.index, element, field.modality, 0, 0};
  switch (field.modality) {
    case Modality::kText:
      token.num_ids = vocabulary.text_size();
      break;
    case Modality::kDiscrete:
      token.first_id = vocabulary.first_discrete();
      token.num_ids = field.num_values;
      break;
    case Modality::kContinuous:
    case Modality::kImage:
      token.first_id = vocabulary.first_bin();
      token.num_ids = static_cast<int32_t>(kNumBins);
      break;
  }
  return token;
}

}  // namespace

std::optional<ActionToken> TaskTokenizer::next_action_token(std::span<const int32_t> chosen,
                                                            int64_t max_text_tokens) const {
  for (const FieldLayout& field : layout_->action) {
    const auto left = static_cast<int64_t>(chosen.size());
    int64_t used = field.elements;
    if (field.modality == Modality::kText) {
      const TextRun run = text_run(chosen, text_->end_id(), max_text_tokens);
      if (!run.complete) return token_of(field, run.tokens, vocabulary_);
      used = run.tokens + (run.has_end ? 1 : 0);
    } else if (left < field.elements) {
      return token_of(field, left, vocabulary_);
    }
    chosen = chosen.subspan(static_cast<size_t>(used));
  }
  GATO_CHECK(chosen.empty(), chosen.size(), " action tokens more than a whole action of task '", spec().id, "'");
  return std::nullopt;
}

float TaskTokenizer::action_number(const ActionToken& token, int32_t bin) const {
  GATO_CHECK(token.modality == Modality::kContinuous && token.field >= 0 &&
                 static_cast<size_t>(token.field) < spec().action.size(),
             "not a continuous action token");
  const episode::FieldSpec& field = spec().action[static_cast<size_t>(token.field)];
  return bin_to_action(bin, field.low_of(token.element), field.high_of(token.element));
}

StepValues TaskTokenizer::decode_action(std::span<const int32_t> chosen, int64_t max_text_tokens) const {
  const ValueReader reader(*layout_, vocabulary_, text_);
  StepValues values(layout_->action.size());
  for (const FieldLayout& field : layout_->action) {
    int64_t count = field.elements, used = count;
    if (field.modality == Modality::kText) {
      const TextRun run = text_run(chosen, text_->end_id(), max_text_tokens);
      if (!run.complete && &field != &layout_->action.back()) {
        fail_value(*layout_, field, "the text of ", run.tokens,
                   " chosen tokens has no end, and other fields follow it");
      }
      count = run.tokens;
      used = count + (run.has_end ? 1 : 0);
    }
    if (used > static_cast<int64_t>(chosen.size())) {
      fail_value(*layout_, field, "the list of chosen tokens ends after ", chosen.size(), " of its ", count,
                 " elements");
    }
    values[static_cast<size_t>(field.index)] = reader.read(field, chosen.first(static_cast<size_t>(count)));
    chosen = chosen.subspan(static_cast<size_t>(used));
  }
  if (!chosen.empty()) {
    throw DataError(cat("task '", spec().id, "': ", chosen.size(), " chosen tokens more than a whole action has"));
  }
  return values;
}

std::vector<TaskTokenizer::DecodedStep> TaskTokenizer::decode_steps(const TokenSequence& sequence) const {
  GATO_CHECK(sequence.kinds.size() == sequence.ids.size() && sequence.is_action.size() == sequence.ids.size(),
             "the arrays of the sequence differ in length");
  const ValueReader values(*layout_, vocabulary_, text_);
  StepReader reader(*layout_, values, sequence, vocabulary_, text_ == nullptr ? -1 : text_->end_id());
  std::vector<DecodedStep> steps;
  while (std::optional<DecodedStep> step = reader.next()) steps.push_back(std::move(*step));
  return steps;
}

}  // namespace gato::tokenizer
