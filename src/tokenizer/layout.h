#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/core/error.h"
#include "gato/episode/spec.h"
#include "gato/tokenizer/vocabulary.h"

namespace gato::tokenizer::detail {

/// What the tokenizer needs to know of one field, in the order of tokens.
struct FieldLayout {
  int index = 0;  ///< In TaskSpec::observation or TaskSpec::action.
  bool is_action = false;
  episode::Modality modality = episode::Modality::kContinuous;
  std::string name;
  int64_t elements = 0;           ///< Discrete and continuous.
  int32_t num_values = 0;         ///< Discrete.
  std::vector<float> low, high;   ///< Continuous actions: one per element.
  int64_t height = 0, width = 0;  ///< Images: 0 where the size varies.
  /// Text: whether `</s>` follows. So it is after every text action, and after observed text before another text, which
  /// nothing else would keep apart.
  bool ends_with_piece = false;

  /// Tokens besides those of text; -1 for an image whose size varies.
  [[nodiscard]] int64_t fixed_tokens() const;
};

/// A task as the tokenizer sees it. `spec` is the one given.
struct TaskLayout {
  episode::TaskSpec spec;
  std::vector<FieldLayout> observation, action;
  int64_t fixed_observation_tokens = 0;  ///< -1 where an image's size varies.
  int64_t fixed_action_tokens = 0;
  bool has_separator = false;

  /// Throws ConfigError naming task, field and lengths, as TaskTokenizer's constructor says.
  explicit TaskLayout(episode::TaskSpec task);
};

/// Throws DataError for a value of `field`: task and field, then `problem`.
template <class... Args>
[[noreturn]] void fail_value(const TaskLayout& layout, const FieldLayout& field, const Args&... problem) {
  throw DataError(cat("task '", layout.spec.id, "', ", field.is_action ? "action" : "observation", " field '",
                      field.name, "': ", problem...));
}

}  // namespace gato::tokenizer::detail
