#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gato/core/random.h"
#include "gato/data/plan.h"

namespace gato::data {

/// Which part of an episode serves as a prompt.
struct PromptRule {
  WindowSteps steps;
  int64_t max_tokens = 0;
  double from_end = 0.5;  ///< Share of prompts that end where their episode ends.
};

/// The episodes of a source by who acted in them, to find prompts: demonstrations by the same agent in another episode.
/// Const and thread-safe.
class PromptIndex {
 public:
  explicit PromptIndex(const Source& source);

  /// Share of the episodes whose agent has no other episode, which therefore can have no prompt.
  [[nodiscard]] double lonely_share() const;
  /// A prompt for the sequence of `windows` (not empty): a run of steps of an episode by the agent of the first window,
  /// each such episode that is none of the windows' being as likely. Nothing when there is none, or when not even one
  /// step of it fits the rule's tokens.
  [[nodiscard]] std::optional<Window> draw(const Source& source, std::span<const Window> windows,
                                           const PromptRule& rule, Rng& rng) const;

 private:
  [[nodiscard]] std::optional<int64_t> draw_episode(std::span<const Window> windows, Rng& rng) const;

  std::vector<uint32_t> agent_;      // of each episode
  std::vector<int64_t> by_agent_;    // episodes, sorted by agent, then number
  std::vector<size_t> agent_begin_;  // agents + 1, into by_agent_
};

/// Shortens a prompt to at most `max_tokens`, at least one step, keeping its end where that is the episode's end.
[[nodiscard]] Window shortened_prompt(const Source& source, const Window& prompt, int64_t max_tokens);

}  // namespace gato::data
