#include "gato/tokenizer/sequence.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "gato/core/error.h"
#include "gato/tokenizer/numbers.h"
#include "tokenizer/layout.h"
#include "tokenizer/patches.h"

namespace gato::tokenizer {
namespace {

using detail::fail_value;
using detail::FieldLayout;
using detail::TaskLayout;
using episode::Modality;

int64_t image_patches(const episode::Image& image) {
  if (image.height < 1 || image.width < 1) return 0;  // refused when it is written
  return detail::patches_along(image.height) * detail::patches_along(image.width);
}

/// Tokens of one value besides the `</s>` that may follow a text.
int64_t value_tokens(const FieldLayout& field, const FieldView& value) {
  if (field.modality == Modality::kText) return static_cast<int64_t>(value.text.size());
  if (field.modality != Modality::kImage) return field.elements;
  GATO_CHECK(value.image != nullptr, "no image was given for field '", field.name, "'");
  return image_patches(*value.image);
}

/// The sum over fields; `patches` counts those that are image patches.
int64_t group_tokens(const std::vector<FieldLayout>& fields, std::span<const FieldView> values, int64_t* patches) {
  GATO_CHECK(values.size() == fields.size(), values.size(), " values for ", fields.size(), " fields");
  int64_t tokens = 0;
  for (const FieldLayout& field : fields) {
    const int64_t count = value_tokens(field, values[static_cast<size_t>(field.index)]);
    tokens += count + (field.ends_with_piece ? 1 : 0);
    if (field.modality == Modality::kImage) *patches += count;
  }
  return tokens;
}

/// Tokens of one step of a field's values, as value_tokens.
int64_t span_tokens(const FieldLayout& field, const FieldSpan& values, size_t step) {
  if (field.modality == Modality::kText) {
    return static_cast<int64_t>(values.text_ends[step + 1] - values.text_ends[step]);
  }
  return field.modality == Modality::kImage ? image_patches(values.images[step]) : field.elements;
}

void check_spans(const TaskLayout& layout, const std::vector<FieldLayout>& fields, std::span<const FieldSpan> values,
                 int64_t steps) {
  GATO_CHECK(values.size() == fields.size(), values.size(), " values for ", fields.size(), " fields");
  for (const FieldLayout& field : fields) {
    const FieldSpan& span = values[static_cast<size_t>(field.index)];
    size_t found = 0, expected = static_cast<size_t>(steps);
    switch (field.modality) {
      case Modality::kContinuous:
        found = span.continuous.size();
        expected *= static_cast<size_t>(field.elements);
        break;
      case Modality::kDiscrete:
        found = span.discrete.size();
        expected *= static_cast<size_t>(field.elements);
        break;
      case Modality::kText:
        found = span.text_ends.size();
        expected += 1;
        GATO_CHECK(found == expected && span.text.size() == span.text_ends.back() - span.text_ends.front(),
                   "the ends do not belong to the tokens of field '", field.name, "'");
        break;
      case Modality::kImage:
        found = span.images.size();
        break;
    }
    GATO_CHECK(found == expected, "task '", layout.spec.id, "', field '", field.name, "': ", found, " values for ",
               steps, " steps, expected ", expected);
  }
}

/// The values of one step out of those of a window.
void view_step(const std::vector<FieldLayout>& fields, std::span<const FieldSpan> values, size_t step,
               std::span<FieldView> views) {
  for (const FieldLayout& field : fields) {
    const auto index = static_cast<size_t>(field.index), elements = static_cast<size_t>(field.elements);
    const FieldSpan& from = values[index];
    FieldView& to = views[index];
    switch (field.modality) {
      case Modality::kContinuous:
        to.continuous = from.continuous.subspan(step * elements, elements);
        break;
      case Modality::kDiscrete:
        to.discrete = from.discrete.subspan(step * elements, elements);
        break;
      case Modality::kText:
        to.text = from.text.subspan(from.text_ends[step] - from.text_ends[0],
                                    from.text_ends[step + 1] - from.text_ends[step]);
        break;
      case Modality::kImage:
        to.image = &from.images[step];
        break;
    }
  }
}

/// Room for the tokens of steps at the end of a sequence, taken at once; given back unless commit() is called.
/// The new tokens are text without loss, position or action mark until written.
class Room {
 public:
  Room(TokenSequence& out, int64_t tokens, int64_t patches) : out_(out), begin_(out.ids.size()), at_(begin_) {
    patches_begin_ = patches_at_ = out.patch_positions.size();
    resize(begin_ + static_cast<size_t>(tokens), patches_begin_ + static_cast<size_t>(patches));
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  ~Room() {
    if (!committed_) resize(begin_, patches_begin_);
  }

  void commit() { committed_ = true; }
  /// Goes on to the next step: the pointers below then begin behind what was written.
  void advance(int64_t tokens, int64_t patches) {
    at_ += static_cast<size_t>(tokens);
    patches_at_ += static_cast<size_t>(patches);
  }
  [[nodiscard]] int32_t* ids() { return out_.ids.data() + at_; }
  [[nodiscard]] int32_t* targets() { return out_.targets.data() + at_; }
  [[nodiscard]] float* loss_weights() { return out_.loss_weights.data() + at_; }
  [[nodiscard]] TokenKind* kinds() { return out_.kinds.data() + at_; }
  [[nodiscard]] uint8_t* is_action() { return out_.is_action.data() + at_; }
  [[nodiscard]] int16_t* local_positions() { return out_.local_positions.data() + at_; }
  [[nodiscard]] uint8_t* patches() { return out_.patches.data() + patches_at_ * static_cast<size_t>(kPatchBytes); }
  [[nodiscard]] PatchPosition* patch_positions() { return out_.patch_positions.data() + patches_at_; }

 private:
  void resize(size_t tokens, size_t patches) {
    out_.ids.resize(tokens);
    out_.targets.resize(tokens);
    out_.loss_weights.resize(tokens);
    out_.kinds.resize(tokens, TokenKind::kText);
    out_.is_action.resize(tokens);
    out_.local_positions.resize(tokens, kNoPosition);
    if (patches == out_.patch_positions.size()) return;
    out_.patches.resize(patches * static_cast<size_t>(kPatchBytes));
    out_.patch_positions.resize(patches);
  }

  TokenSequence& out_;
  size_t begin_, at_, patches_begin_, patches_at_;
  bool committed_ = false;
};

/// Turns values into ids and the kinds beside them, one field after the other, into the room of one step.
class ValueWriter {
 public:
  ValueWriter(const TaskLayout& layout, const Vocabulary& vocabulary, int32_t end_id)
      : layout_(layout), vocabulary_(vocabulary), end_id_(end_id) {}

  /// Writes the ids of a discrete, continuous or text value (with the `</s>` that follows it) and returns their number.
  int64_t write_ids(const FieldLayout& field, const FieldView& value, int32_t* ids) const {
    switch (field.modality) {
      case Modality::kText:
        return write_text(field, value.text, field.ends_with_piece, ids);
      case Modality::kDiscrete:
        return write_discrete(field, value.discrete, ids);
      case Modality::kContinuous:
        return field.is_action ? write_action_numbers(field, value.continuous, ids)
                               : write_observed_numbers(field, value.continuous, ids);
      case Modality::kImage:
        break;
    }
    GATO_CHECK(false, "an image has no ids");
    return 0;
  }

  /// Writes the ids of a text and, where `with_end`, `</s>`; returns their number.
  int64_t write_text(const FieldLayout& field, std::span<const uint32_t> text, bool with_end, int32_t* ids) const {
    const auto text_size = static_cast<uint32_t>(vocabulary_.text_size()), end = static_cast<uint32_t>(end_id_);
    bool bad = false;
    for (size_t i = 0; i < text.size(); ++i) {
      bad |= text[i] >= text_size || text[i] == end;
      ids[i] = static_cast<int32_t>(text[i]);
    }
    if (bad) fail_text(field, text);
    if (with_end) ids[text.size()] = end_id_;
    return static_cast<int64_t>(text.size()) + (with_end ? 1 : 0);
  }

  /// Writes patches and positions of an image and returns the number of patches.
  int64_t write_image(const FieldLayout& field, const episode::Image& image, uint8_t* bytes,
                      PatchPosition* positions) const {
    check_image(field, image);
    detail::cut_patches(image, bytes, positions);
    return image_patches(image);
  }

 private:
  void check_count(const FieldLayout& field, size_t count) const {
    if (static_cast<int64_t>(count) == field.elements) return;
    fail_value(layout_, field, "the value has ", count, " elements, its specification ", field.elements);
  }

  void check_image(const FieldLayout& field, const episode::Image& image) const {
    const auto wrong = [](int64_t found, int64_t expected) { return expected != 0 && found != expected; };
    if (wrong(image.height, field.height) || wrong(image.width, field.width)) {
      fail_value(layout_, field, "an image of ", image.height, " x ", image.width,
                 " pixels, but the specification says ", field.height, " x ", field.width, " (0: varies)");
    }
    const int64_t limit = kPatchIntervals * kPatchSide;
    if (image.height < 1 || image.width < 1 || image.height > limit || image.width > limit) {
      fail_value(layout_, field, "an image of ", image.height, " x ", image.width, " pixels; sides must be in [1, ",
                 limit, "]");
    }
    const int64_t bytes = int64_t{3} * image.height * image.width;
    if (static_cast<int64_t>(image.pixels.size()) != bytes) {
      fail_value(layout_, field, "an image of ", image.height, " x ", image.width, " pixels has ", image.pixels.size(),
                 " bytes instead of ", bytes);
    }
  }

  [[noreturn]] void fail_text(const FieldLayout& field, std::span<const uint32_t> text) const {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == static_cast<uint32_t>(end_id_)) {
        fail_value(layout_, field, "text token ", i, " is the end piece ", end_id_,
                   ", which only the tokenizer may set");
      }
      if (text[i] >= static_cast<uint32_t>(vocabulary_.text_size())) {
        fail_value(layout_, field, "text token ", i, " has id ", text[i], ", the text vocabulary ends before ",
                   vocabulary_.text_size(), "; the text was encoded with another tokenizer");
      }
    }
    fail_value(layout_, field, "bad text tokens");
  }

  int64_t write_discrete(const FieldLayout& field, std::span<const uint16_t> values, int32_t* ids) const {
    check_count(field, values.size());
    const int32_t first = vocabulary_.first_discrete();
    bool bad = false;
    for (size_t i = 0; i < values.size(); ++i) {
      bad |= values[i] >= field.num_values;
      ids[i] = first + values[i];
    }
    if (bad) {
      const auto at =
          std::find_if(values.begin(), values.end(), [&](uint16_t value) { return value >= field.num_values; });
      fail_value(layout_, field, "element ", at - values.begin(), " is ", *at, ", must be below ", field.num_values);
    }
    return field.elements;
  }

  int64_t write_observed_numbers(const FieldLayout& field, std::span<const float> values, int32_t* ids) const {
    check_count(field, values.size());
    const int64_t nan = observation_ids(values, vocabulary_.first_bin(), {ids, values.size()});
    if (nan >= 0) fail_value(layout_, field, "element ", nan, " is NaN");
    return field.elements;
  }

  int64_t write_action_numbers(const FieldLayout& field, std::span<const float> values, int32_t* ids) const {
    check_count(field, values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const int32_t bin = action_bin(normalize_action(values[i], field.low[i], field.high[i]));
      if (bin < 0) fail_value(layout_, field, "element ", i, " is NaN");
      ids[i] = vocabulary_.bin_id(bin);
    }
    return field.elements;
  }

  const TaskLayout& layout_;
  const Vocabulary& vocabulary_;
  int32_t end_id_;
};

TokenKind kind_of(Modality modality) {
  switch (modality) {
    case Modality::kText:
      return TokenKind::kText;
    case Modality::kImage:
      return TokenKind::kImage;
    case Modality::kDiscrete:
      return TokenKind::kDiscrete;
    case Modality::kContinuous:
      return TokenKind::kContinuous;
  }
  return TokenKind::kPadding;
}

float observed_weight(const LossWeights& weights, Modality modality) {
  if (modality == Modality::kText) return weights.observed_text;
  return modality == Modality::kImage ? 0.0f : weights.observed_values;
}

/// Observation tokens: all but local positions and targets, which are set for the whole observation. Returns their
/// number; `patch` counts those that are image patches.
int64_t write_observation(const TaskLayout& layout, const ValueWriter& writer, std::span<const FieldView> values,
                          const LossWeights& weights, Room& room, int64_t& patch) {
  int64_t at = 0;
  for (const FieldLayout& field : layout.observation) {
    const FieldView& value = values[static_cast<size_t>(field.index)];
    int64_t count = 0;
    if (field.modality == Modality::kImage) {
      count =
          writer.write_image(field, *value.image, room.patches() + patch * kPatchBytes, room.patch_positions() + patch);
      patch += count;
      std::fill_n(room.ids() + at, count, kNoId);
    } else {
      count = writer.write_ids(field, value, room.ids() + at);
    }
    if (field.modality != Modality::kText) std::fill_n(room.kinds() + at, count, kind_of(field.modality));
    const float weight = observed_weight(weights, field.modality);
    if (weight != 0) std::fill_n(room.loss_weights() + at, count, weight);
    at += count;
  }
  std::iota(room.local_positions(), room.local_positions() + at, int16_t{0});
  std::copy_n(room.ids(), at, room.targets());
  return at;
}

/// Action tokens from token `at` of the room on; returns where they end.
int64_t write_action(const TaskLayout& layout, const ValueWriter& writer, const StepView& step, float weight,
                     Room& room, int64_t at) {
  const int64_t begin = at;
  for (const FieldLayout& field : layout.action) {
    const auto index = static_cast<size_t>(field.index);
    if (!step.label.empty() && field.modality == Modality::kText &&
        step.label[index].text.size() != step.action[index].text.size()) {
      fail_value(layout, field, "the label has ", step.label[index].text.size(), " text tokens, the action ",
                 step.action[index].text.size(), "; they must be as many");
    }
    const int64_t count = writer.write_ids(field, step.action[index], room.ids() + at);
    if (step.label.empty()) {
      std::copy_n(room.ids() + at, count, room.targets() + at);
    } else {
      writer.write_ids(field, step.label[index], room.targets() + at);
    }
    if (field.modality != Modality::kText) {
      std::fill_n(room.kinds() + at, count, kind_of(field.modality));
      std::fill_n(room.local_positions() + at, count, static_cast<int16_t>(kActionPosition));
    }
    at += count;
  }
  std::fill_n(room.is_action() + begin, at - begin, uint8_t{1});
  std::fill_n(room.loss_weights() + begin, at - begin, weight);
  return at;
}

void write_separator(const Vocabulary& vocabulary, Room& room, int64_t at) {
  room.ids()[at] = room.targets()[at] = vocabulary.separator();
  room.kinds()[at] = TokenKind::kSeparator;
}

/// Which field makes an observation too long, for the message.
std::string observed_lengths(const TaskLayout& layout, std::span<const FieldView> values) {
  std::vector<std::string> parts;
  for (const FieldLayout& field : layout.observation) {
    parts.push_back(cat(field.name, ": ", value_tokens(field, values[static_cast<size_t>(field.index)])));
  }
  return join(parts, ", ");
}

[[noreturn]] void fail_long_observation(const TaskLayout& layout, std::span<const FieldView> values, int64_t tokens) {
  throw DataError(cat("task '", layout.spec.id, "': an observation of ", tokens, " tokens (",
                      observed_lengths(layout, values), "), at most ", kLocalPositions,
                      " fit the table of local positions"));
}

/// The tokens of one step, for which there must be room; the room then goes on behind them.
void write_step(const TaskLayout& layout, const Vocabulary& vocabulary, const ValueWriter& writer, const StepView& step,
                bool with_action, const LossWeights& weights, Room& room) {
  int64_t patches = 0;
  int64_t at = write_observation(layout, writer, step.observation, weights, room, patches);
  if (layout.has_separator) write_separator(vocabulary, room, at++);
  if (with_action) at = write_action(layout, writer, step, weights.action, room, at);
  room.advance(at, patches);
}

bool any_text(const std::vector<FieldLayout>& fields) {
  return std::any_of(fields.begin(), fields.end(),
                     [](const FieldLayout& field) { return field.modality == Modality::kText; });
}

/// Appends one token that carries no loss.
void append_plain(TokenSequence& out, int32_t id, TokenKind kind, bool is_action, int32_t local_position) {
  out.ids.push_back(id);
  out.targets.push_back(id);
  out.loss_weights.push_back(0);
  out.kinds.push_back(kind);
  out.is_action.push_back(is_action ? 1 : 0);
  out.local_positions.push_back(static_cast<int16_t>(local_position));
}

}  // namespace

void TokenSequence::clear() {
  ids.clear();
  targets.clear();
  loss_weights.clear();
  kinds.clear();
  is_action.clear();
  local_positions.clear();
  patches.clear();
  patch_positions.clear();
}

TaskTokenizer::TaskTokenizer(episode::TaskSpec spec, Vocabulary vocabulary, const TextTokenizer* text)
    : layout_(std::make_shared<const TaskLayout>(std::move(spec))), vocabulary_(vocabulary), text_(text) {
  has_text_ = any_text(layout_->observation) || any_text(layout_->action);
  is_document_ = layout_->observation.empty() && layout_->action.size() == 1 && has_text_;
  fixed_action_tokens_ = layout_->fixed_action_tokens;
  if (has_text_ && text_ == nullptr) {
    throw ConfigError(cat("task '", layout_->spec.id, "' has text, but no text tokenizer was given"));
  }
  if (text_ != nullptr && text_->size() != vocabulary_.text_size()) {
    throw ConfigError(cat("the text tokenizer has ", text_->size(), " ids, the vocabulary ", vocabulary_.text_size(),
                          ": they do not belong together"));
  }
}

const episode::TaskSpec& TaskTokenizer::spec() const { return layout_->spec; }

int64_t TaskTokenizer::fixed_tokens() const {
  if (layout_->fixed_observation_tokens < 0) {
    throw DataError(cat("task '", layout_->spec.id,
                        "': its images vary in size, so its steps have no fixed number of tokens; ",
                        "fix height and width in the task's specification"));
  }
  return layout_->fixed_observation_tokens + (layout_->has_separator ? 1 : 0) + layout_->fixed_action_tokens;
}

int64_t TaskTokenizer::count_tokens(const StepView& step) const {
  int64_t patches = 0;
  return group_tokens(layout_->observation, step.observation, &patches) + (layout_->has_separator ? 1 : 0) +
         group_tokens(layout_->action, step.action, &patches);
}

void TaskTokenizer::append_group(const StepView& step, bool with_action, const LossWeights& weights,
                                 TokenSequence& out) const {
  const TaskLayout& layout = *layout_;
  GATO_CHECK(step.label.empty() || step.label.size() == layout.action.size(), step.label.size(), " labels for ",
             layout.action.size(), " action fields");
  int64_t patches = 0;
  const int64_t observed = group_tokens(layout.observation, step.observation, &patches);
  if (observed > kLocalPositions) fail_long_observation(layout, step.observation, observed);
  const int64_t acted = with_action ? group_tokens(layout.action, step.action, &patches) : 0;
  const int64_t separators = layout.has_separator ? 1 : 0;
  Room room(out, observed + separators + acted, patches);
  const ValueWriter writer(layout, vocabulary_, text_ == nullptr ? -1 : text_->end_id());
  write_step(layout, vocabulary_, writer, step, with_action, weights, room);
  room.commit();
}

namespace {

int64_t count_spans(const std::vector<FieldLayout>& fields, std::span<const FieldSpan> values, size_t step,
                    int64_t& patches) {
  int64_t tokens = 0;
  for (const FieldLayout& field : fields) {
    const int64_t count = span_tokens(field, values[static_cast<size_t>(field.index)], step);
    tokens += count + (field.ends_with_piece ? 1 : 0);
    if (field.modality == Modality::kImage) patches += count;
  }
  return tokens;
}

}  // namespace

void TaskTokenizer::append_steps(const WindowView& window, const LossWeights& weights, TokenSequence& out) const {
  const TaskLayout& layout = *layout_;
  GATO_CHECK(window.steps >= 0, window.steps, " steps");
  check_spans(layout, layout.observation, window.observation, window.steps);
  check_spans(layout, layout.action, window.action, window.steps);
  if (!window.label.empty()) check_spans(layout, layout.action, window.label, window.steps);
  std::vector<FieldView> views(window.observation.size() + window.action.size() + window.label.size());
  const auto observation = std::span(views).first(window.observation.size());
  const auto action = std::span(views).subspan(observation.size(), window.action.size());
  const auto label = std::span(views).subspan(observation.size() + action.size());
  int64_t tokens = 0, patches = 0;
  const int64_t separators = layout.has_separator ? 1 : 0;
  for (size_t step = 0; step < static_cast<size_t>(window.steps); ++step) {
    const int64_t observed = count_spans(layout.observation, window.observation, step, patches);
    if (observed > kLocalPositions) {
      view_step(layout.observation, window.observation, step, observation);
      fail_long_observation(layout, observation, observed);
    }
    tokens += observed + separators + count_spans(layout.action, window.action, step, patches);
  }
  Room room(out, tokens, patches);
  const ValueWriter writer(layout, vocabulary_, text_ == nullptr ? -1 : text_->end_id());
  for (size_t step = 0; step < static_cast<size_t>(window.steps); ++step) {
    view_step(layout.observation, window.observation, step, observation);
    view_step(layout.action, window.action, step, action);
    if (!label.empty()) view_step(layout.action, window.label, step, label);
    write_step(layout, vocabulary_, writer, {observation, action, label}, true, weights, room);
  }
  room.commit();
}

void TaskTokenizer::append_step(const StepView& step, const LossWeights& weights, TokenSequence& out) const {
  append_group(step, true, weights, out);
}

void TaskTokenizer::append_observation(const StepView& step, TokenSequence& out) const {
  append_group(step, false, {0, 0, 0}, out);
}

void TaskTokenizer::append_action_token(const ActionToken& token, int32_t id, TokenSequence& out) const {
  GATO_CHECK(id >= token.first_id && id < token.first_id + token.num_ids, "id ", id, " is outside [", token.first_id,
             ", ", token.first_id + token.num_ids, ")");
  const bool is_text = token.modality == Modality::kText;
  append_plain(out, id, kind_of(token.modality), true, is_text ? kNoPosition : kActionPosition);
}

void TaskTokenizer::append_document(std::span<const uint32_t> text, int64_t first, int64_t count,
                                    const LossWeights& weights, TokenSequence& out) const {
  const auto size = static_cast<int64_t>(text.size());
  GATO_CHECK(is_document_, "task '", layout_->spec.id, "' is no document");
  GATO_CHECK(first >= 0 && first <= size + 1 && count >= 0 && count <= size + 1 - first, count, " tokens from token ",
             first, " of a document of ", size + 1);
  if (count == 0) return;
  const bool with_end = first + count == size + 1;
  Room room(out, count, 0);
  const ValueWriter writer(*layout_, vocabulary_, text_->end_id());
  writer.write_text(layout_->action[0],
                    text.subspan(static_cast<size_t>(first), static_cast<size_t>(with_end ? count - 1 : count)),
                    with_end, room.ids());
  std::copy_n(room.ids(), count, room.targets());
  std::fill_n(room.is_action(), count, uint8_t{1});
  std::fill_n(room.loss_weights(), count, weights.action);
  room.commit();
}

}  // namespace gato::tokenizer
