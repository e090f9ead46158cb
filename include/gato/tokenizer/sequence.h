#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gato/core/config.h"
#include "gato/episode/episode.h"
#include "gato/tokenizer/text_tokenizer.h"
#include "gato/tokenizer/vocabulary.h"

namespace gato::tokenizer {

namespace detail {
struct TaskLayout;
}  // namespace detail

constexpr int64_t kPatchSide = 16;
constexpr int64_t kPatchBytes = kPatchSide * kPatchSide * 3;
constexpr int32_t kPatchIntervals = 128;  ///< Rows (and columns) of the patch position tables (paper appendix C.3).
constexpr int32_t kLocalPositions = 512;  ///< Rows of the local position table for observation tokens.
constexpr int32_t kActionPosition = 512;  ///< The one shared row of all discrete and continuous action tokens.
constexpr int32_t kNoPosition = -1;       ///< Separators, text actions and padding have no local position.
constexpr int32_t kNoId = -1;             ///< The id of image patches and padding.

/// What a token is.
enum class TokenKind : uint8_t { kPadding = 0, kText = 1, kImage = 2, kDiscrete = 3, kContinuous = 4, kSeparator = 5 };

/// Half-open intervals [low, high) of the 128 rows and columns that a patch covers in its image, by floor.
struct PatchPosition {
  uint8_t row_low = 0, row_high = 0, column_low = 0, column_high = 0;
  bool operator==(const PatchPosition&) const = default;
};
/// The position of patch (`row`, `column`) of an image of `rows` x `columns` patches (each 1..128): [row * 128 / rows,
/// (row + 1) * 128 / rows) by floor, columns likewise. high > low always; the last high is 128.
[[nodiscard]] PatchPosition patch_position(int64_t row, int64_t column, int64_t rows, int64_t columns);

/// A flat stream of tokens as parallel arrays, to which sequences are appended.
struct TokenSequence {
  std::vector<int32_t> ids;         ///< Vocabulary id; kNoId at image patches and padding.
  std::vector<int32_t> targets;     ///< What the token before should predict here; differs from `ids` where labels do.
  std::vector<float> loss_weights;  ///< 0 where there is no loss.
  std::vector<TokenKind> kinds;
  std::vector<uint8_t> is_action;              ///< 1 at tokens of action fields (the end piece included).
  std::vector<int16_t> local_positions;        ///< 0.. inside an observation, kActionPosition, or kNoPosition.
  std::vector<uint8_t> patches;                ///< kPatchBytes per image token, in order: 16 x 16 x 3, raster.
  std::vector<PatchPosition> patch_positions;  ///< One per image token.

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(ids.size()); }
  [[nodiscard]] int64_t num_patches() const { return static_cast<int64_t>(patch_positions.size()); }
  void clear();
  bool operator==(const TokenSequence&) const = default;
};

/// Weights of the loss on the tokens of one sequence; 0 switches a kind off.
struct LossWeights {
  float action = 1;           ///< Action tokens (and the `</s>` of text actions).
  float observed_text = 0;    ///< Text observed inside control episodes.
  float observed_values = 0;  ///< Observed discrete and continuous tokens: makes the model a predictor of its world.
};

/// One value of one field without copying; only the member of the field's modality is used.
struct FieldView {
  std::span<const float> continuous;
  std::span<const uint16_t> discrete;
  std::span<const uint32_t> text;  ///< Already encoded, without `</s>`.
  const episode::Image* image = nullptr;
};

/// One step without copying, aligned with the TaskSpec. An empty `label` means: the actions are the labels. The label
/// of a text action must have as many tokens as the action.
struct StepView {
  std::span<const FieldView> observation, action, label;
};

/// Values of one field over the steps of a window, without copying; only what the field's modality calls for is used.
struct FieldSpan {
  std::span<const float> continuous;    ///< steps x elements.
  std::span<const uint16_t> discrete;   ///< steps x elements.
  std::span<const uint32_t> text;       ///< Tokens of all steps, back to back, without `</s>`.
  std::span<const uint64_t> text_ends;  ///< steps + 1: those of step i are [ends[i] - ends[0], ends[i + 1] - ends[0]).
  std::span<const episode::Image> images;  ///< One per step.
};

/// Consecutive steps without copying, aligned with the TaskSpec; `label` as in StepView.
struct WindowView {
  int64_t steps = 0;
  std::span<const FieldSpan> observation, action, label;
};

/// Owns what a StepView of in-memory values needs.
class StepStorage {
 public:
  /// Views of the values (kept by reference: they must outlive the views); texts are encoded by `text`. The next call
  /// ends the views of this one. Throws DataError naming task and field for discrete values out of range and invalid
  /// UTF-8, and when a group that is not empty has another number of fields than `spec`.
  [[nodiscard]] StepView view(const episode::TaskSpec& spec, const TextTokenizer* text,
                              const episode::StepValues& observation, const episode::StepValues& action = {},
                              const episode::StepValues& label = {});

 private:
  std::vector<FieldView> observation_, action_, label_;
  std::vector<std::vector<uint32_t>> texts_;
  std::vector<std::vector<uint16_t>> discretes_;
};

/// One token of an action that is to be chosen: what the field allows there.
struct ActionToken {
  int field = 0;        ///< Index into TaskSpec::action.
  int64_t element = 0;  ///< Of the field's value; the position in the text for text fields.
  episode::Modality modality = episode::Modality::kContinuous;
  int32_t first_id = 0;  ///< Allowed ids are [first_id, first_id + num_ids).
  int32_t num_ids = 0;
};

/// Turns steps of one task into tokens, and tokens back into actions. Const and thread-safe; copies share their tables.
/// The rules are in docs/tokens.md.
///
/// Where a training sequence starts is not known here: whoever builds rows sets the loss weight of each sequence's
/// first token to 0, since nothing stands before it that could predict it.
class TaskTokenizer {
 public:
  /// `text` may be null for tasks without text; it must outlive this object and its copies. Throws ConfigError naming
  /// task and lengths when an observation without its text is longer than the local position table, when an image has
  /// more than 128 patches in a row or column, and for what check_task_spec finds.
  TaskTokenizer(episode::TaskSpec spec, Vocabulary vocabulary, const TextTokenizer* text);

  [[nodiscard]] const episode::TaskSpec& spec() const;
  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

  /// Tokens of a step besides those of its text fields, with the `</s>` that end some of them and the separator; images
  /// need their sizes fixed by the specification, else DataError.
  [[nodiscard]] int64_t fixed_tokens() const;
  /// Tokens of one step given the sum of its text tokens; fixed_tokens() says when that is a DataError.
  [[nodiscard]] int64_t step_tokens(int64_t text_tokens) const { return fixed_tokens() + text_tokens; }
  /// Tokens that append_step would append, whatever the sizes of its images.
  [[nodiscard]] int64_t count_tokens(const StepView& step) const;
  [[nodiscard]] bool has_text() const { return has_text_; }
  /// Action tokens of a step that carry loss, text tokens not counted (a text action counts its `</s>`).
  [[nodiscard]] int64_t fixed_action_tokens() const { return fixed_action_tokens_; }

  /// Appends observation, separator (where there are both), action. Throws DataError naming task and field for NaN,
  /// values out of range, images of another size, and observations longer than the local position table; `out` is then
  /// as before.
  void append_step(const StepView& step, const LossWeights& weights, TokenSequence& out) const;
  /// The tokens of append_step for every step of a window, in one go and much faster for short steps. Throws as
  /// append_step does; `out` is then as before.
  void append_steps(const WindowView& window, const LossWeights& weights, TokenSequence& out) const;
  /// Appends observation and separator only: what is fed before an action is chosen.
  void append_observation(const StepView& step, TokenSequence& out) const;
  /// Appends one chosen action token (as input, without loss).
  void append_action_token(const ActionToken& token, int32_t id, TokenSequence& out) const;
  /// Appends the tokens [first, first + count) of the text of a document (a task whose only field is a text action):
  /// `</s>` is token number text.size().
  void append_document(std::span<const uint32_t> text, int64_t first, int64_t count, const LossWeights& weights,
                       TokenSequence& out) const;
  [[nodiscard]] bool is_document() const { return is_document_; }

  /// The token that follows when `chosen` action tokens of this step are already known; nothing when the action is
  /// complete. A text field goes on until `</s>` was chosen or `max_text_tokens` were.
  [[nodiscard]] std::optional<ActionToken> next_action_token(std::span<const int32_t> chosen,
                                                             int64_t max_text_tokens) const;
  /// The number behind a continuous action token's bin, in the field's own bounds.
  [[nodiscard]] float action_number(const ActionToken& token, int32_t bin) const;
  /// The action of a complete list of chosen ids (as next_action_token led with the same `max_text_tokens`). Throws
  /// DataError for ids the fields do not allow and for a list that is too short or too long; only the last text may
  /// lack its `</s>` when nothing follows it.
  [[nodiscard]] episode::StepValues decode_action(std::span<const int32_t> chosen,
                                                  int64_t max_text_tokens = std::numeric_limits<int64_t>::max()) const;
  /// Observation and action of the whole steps in `sequence` (images excepted: they come back empty). Inverse of
  /// append_step up to quantisation; appending the result again gives the same tokens. A step that is not whole at the
  /// end, and padding, are passed over. Throws DataError naming the token for a sequence that is not one of this task.
  struct DecodedStep {
    episode::StepValues observation, action;
  };
  [[nodiscard]] std::vector<DecodedStep> decode_steps(const TokenSequence& sequence) const;

 private:
  void append_group(const StepView& step, bool with_action, const LossWeights& weights, TokenSequence& out) const;

  std::shared_ptr<const detail::TaskLayout> layout_;  // What the fields are; shared by copies.
  Vocabulary vocabulary_;
  const TextTokenizer* text_;
  int64_t fixed_action_tokens_ = 0;
  bool has_text_ = false, is_document_ = false;
};

}  // namespace gato::tokenizer
