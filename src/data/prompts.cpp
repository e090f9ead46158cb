#include "prompts.h"

#include <algorithm>
#include <map>
#include <string>

#include "gato/core/error.h"
#include "windows.h"

namespace gato::data {

PromptIndex::PromptIndex(const Source& source) {
  std::map<std::string, uint32_t> agents;  // numbers of agents are a shard's own, names hold for all shards
  agent_.reserve(static_cast<size_t>(source.num_episodes()));
  for (int64_t s = 0; s < source.num_shards(); ++s) {
    std::vector<uint32_t> of_shard;
    for (const std::string& name : source.shard(s).reader->source_agents()) {
      of_shard.push_back(agents.emplace(name, static_cast<uint32_t>(agents.size())).first->second);
    }
    for (int64_t e = source.first_episode_of_shard(s); e < source.first_episode_of_shard(s + 1); ++e) {
      agent_.push_back(of_shard.at(source.source_agent(e)));
    }
  }
  agent_begin_.assign(agents.size() + 1, 0);
  for (const uint32_t agent : agent_) ++agent_begin_[agent + 1];
  for (size_t a = 1; a < agent_begin_.size(); ++a) agent_begin_[a] += agent_begin_[a - 1];
  by_agent_.resize(agent_.size());
  std::vector<size_t> next = agent_begin_;
  for (size_t e = 0; e < agent_.size(); ++e) by_agent_[next[agent_[e]]++] = static_cast<int64_t>(e);
}

double PromptIndex::lonely_share() const {
  double lonely = 0;
  for (size_t a = 0; a + 1 < agent_begin_.size(); ++a) lonely += agent_begin_[a + 1] - agent_begin_[a] == 1 ? 1 : 0;
  return lonely / std::max(1.0, static_cast<double>(agent_.size()));
}

std::optional<int64_t> PromptIndex::draw_episode(std::span<const Window> windows, Rng& rng) const {
  const uint32_t agent = agent_[static_cast<size_t>(windows[0].episode)];
  const auto begin = by_agent_.begin() + static_cast<std::ptrdiff_t>(agent_begin_[agent]);
  const auto end = by_agent_.begin() + static_cast<std::ptrdiff_t>(agent_begin_[agent + 1]);
  // Places of the windows' own episodes among the agent's, to be stepped over.
  std::vector<std::ptrdiff_t> own;
  for (const Window& window : windows) {
    if (agent_[static_cast<size_t>(window.episode)] != agent) continue;
    own.push_back(std::lower_bound(begin, end, window.episode) - begin);
  }
  std::sort(own.begin(), own.end());
  own.erase(std::unique(own.begin(), own.end()), own.end());
  const auto others = (end - begin) - static_cast<std::ptrdiff_t>(own.size());
  if (others <= 0) return std::nullopt;
  std::ptrdiff_t place = rng.below(others);
  for (const std::ptrdiff_t taken : own) place += place >= taken ? 1 : 0;
  return begin[place];
}

std::optional<Window> PromptIndex::draw(const Source& source, std::span<const Window> windows, const PromptRule& rule,
                                        Rng& rng) const {
  const std::optional<int64_t> episode = draw_episode(windows, rng);
  if (!episode) return std::nullopt;
  const int64_t length = source.length(*episode);
  int64_t most = length;
  if (!rule.steps.row) most = std::min(most, rule.steps.low + rng.below(rule.steps.high - rule.steps.low + 1));
  const int64_t last = steps_before(source, *episode, length, rule.max_tokens, most);
  const bool from_end = rng.uniform() < rule.from_end;
  Window prompt{*episode, length - last, last};
  if (!from_end && last > 0) {
    prompt.first = rng.below(length - last + 1);
    prompt.count = steps_from(source, *episode, prompt.first, rule.max_tokens, std::min(most, length - prompt.first));
  }
  if (prompt.count == 0) return std::nullopt;
  return prompt;
}

Window shortened_prompt(const Source& source, const Window& prompt, int64_t max_tokens) {
  const int64_t end = prompt.first + prompt.count;
  if (end == source.length(prompt.episode)) {
    const int64_t count = std::max<int64_t>(1, steps_before(source, prompt.episode, end, max_tokens, prompt.count));
    return {prompt.episode, end - count, count};
  }
  const int64_t count = steps_from(source, prompt.episode, prompt.first, max_tokens, prompt.count);
  return {prompt.episode, prompt.first, std::max<int64_t>(1, count)};
}

}  // namespace gato::data
