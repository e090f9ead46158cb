#include "windows.h"

#include <algorithm>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {

// ---------------------------------------------------------------------------------------------- windows of one episode

int64_t num_windows(int64_t length, int64_t low, int64_t high) {
  if (high == 1) return length;
  if (low == high) {
    const int64_t needed = (length + high - 1) / high;
    // One window more where the length is a multiple, so that the cuts can move from epoch to epoch.
    return needed + (length % high == 0 && length > high ? 1 : 0);
  }
  const int64_t fewest = (length + high - 1) / high;
  const int64_t most = std::max<int64_t>(1, length / low);
  const int64_t wanted = (2 * length + (low + high) / 2) / (low + high);
  return std::max(fewest, std::min(wanted, most));
}

std::pair<int64_t, int64_t> window_at(int64_t length, int64_t low, int64_t high, uint64_t key, int64_t index) {
  const int64_t n = num_windows(length, low, high);
  GATO_DCHECK(index >= 0 && index < n, "window ", index, " of ", n);
  if (high == 1) return {index, 1};
  if (n == 1) return {0, length};
  Rng rng(key);
  if (low == high) {
    // n windows of `high` steps are `slack` too long: the first gives up r steps, the last the rest.
    const int64_t slack = n * high - length;
    const int64_t r_low = std::max<int64_t>(0, slack - high + 1), r_high = std::min(high - 1, slack);
    const int64_t first = high - (r_low + rng.below(r_high - r_low + 1));
    if (index == 0) return {0, first};
    const int64_t begin = first + (index - 1) * high;
    return {begin, std::min(high, length - begin)};
  }
  int64_t begin = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t left = length - begin, after = n - 1 - i;
    const int64_t shortest = std::max(std::min(low, left), left - after * high);
    const int64_t longest = std::max(shortest, std::min(high, left - after * low));
    const int64_t count = after == 0 ? left : shortest + rng.below(longest - shortest + 1);
    if (i == index) return {begin, count};
    begin += count;
  }
  return {begin, length - begin};
}

namespace {

/// The largest count in [0, most] with tokens(count) <= limit, tokens rising.
template <class Tokens>
int64_t most_within(int64_t limit, int64_t most, const Tokens& tokens) {
  if (most <= 0) return 0;
  if (tokens(most) <= limit) return most;
  int64_t low = 0, high = most;  // low fits, high does not
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (tokens(middle) <= limit ? low : high) = middle;
  }
  return low;
}

}  // namespace

int64_t least_piece_tokens(int64_t row_tokens) { return std::clamp<int64_t>(row_tokens / 64, 2, 16); }

int64_t tokens_of_each_step(const Source& source) {
  if (source.tokenizer().is_document()) return 1;
  return source.tokenizer().has_text() ? 0 : source.max_step_tokens();
}

int64_t steps_from(const Source& source, int64_t episode, int64_t first, int64_t limit, int64_t most) {
  if (const int64_t each = tokens_of_each_step(source)) return std::clamp<int64_t>(limit / each, 0, most);
  return most_within(limit, most, [&](int64_t count) { return source.window_tokens({episode, first, count}); });
}

int64_t steps_before(const Source& source, int64_t episode, int64_t end, int64_t limit, int64_t most) {
  if (const int64_t each = tokens_of_each_step(source)) return std::clamp<int64_t>(limit / each, 0, most);
  return most_within(limit, most, [&](int64_t count) { return source.window_tokens({episode, end - count, count}); });
}

// ----------------------------------------------------------------------------------------------- items of a whole
// source

WindowTable WindowTable::windows(const Source& source, int64_t low, int64_t high) {
  GATO_CHECK(low >= 1 && high >= low, "windows of ", low, " to ", high, " steps");
  WindowTable table;
  table.low_ = low;
  table.high_ = high;
  table.begin_.reserve(static_cast<size_t>(source.num_episodes()) + 1);
  table.begin_.push_back(0);
  for (int64_t e = 0; e < source.num_episodes(); ++e) {
    table.begin_.push_back(table.begin_.back() + static_cast<uint64_t>(num_windows(source.length(e), low, high)));
  }
  for (int64_t s = 0; s <= source.num_shards(); ++s) {
    table.shard_begin_.push_back(table.begin_[static_cast<size_t>(source.first_episode_of_shard(s))]);
  }
  return table;
}

WindowTable WindowTable::stretches(const Source& source, int64_t row_tokens, int64_t least_tokens) {
  WindowTable table;
  table.least_tokens_ = least_tokens;
  table.begin_.reserve(static_cast<size_t>(source.num_episodes()) + 1);
  table.begin_.push_back(0);
  int64_t steps = 0;
  for (int64_t e = 0; e < source.num_episodes(); ++e) {
    const int64_t length = source.length(e);
    steps += length;
    table.begin_.push_back(table.begin_.back() + static_cast<uint64_t>(source.window_tokens({e, 0, length})));
  }
  // Arcs end at steps: they must not grow longer than a row by that.
  const int64_t each = tokens_of_each_step(source);
  const int64_t mean = std::max<int64_t>(1, source.total_tokens() / std::max<int64_t>(1, steps));
  const int64_t room = each > 0 ? row_tokens % each : std::min(source.max_step_tokens(), 2 * mean);
  const auto longest = static_cast<uint64_t>(std::max(row_tokens - room, (row_tokens + 1) / 2));
  table.shard_begin_.push_back(0);
  for (int64_t s = 0; s < source.num_shards(); ++s) {
    const uint64_t tokens = table.begin_[static_cast<size_t>(source.first_episode_of_shard(s + 1))] -
                            table.begin_[static_cast<size_t>(source.first_episode_of_shard(s))];
    table.shard_begin_.push_back(table.shard_begin_.back() + (tokens + longest - 1) / longest);
  }
  return table;
}

/// The episode e of [shard_first, shard_end) with begin_[e] <= value < begin_[e + 1]. Episodes of one task are of like
/// length, so a guess by proportion is near it; a binary search alone would miss the cache at every step.
int64_t WindowTable::episode_of(uint64_t value, int64_t shard_first, int64_t shard_end) const {
  const auto at = [&](int64_t e) { return begin_[static_cast<size_t>(e)]; };
  int64_t low = shard_first, high = shard_end;
  const double part = static_cast<double>(value - at(low)) / static_cast<double>(at(high) - at(low));
  const int64_t guess = std::clamp(low + static_cast<int64_t>(part * static_cast<double>(high - low)), low, high - 1);
  if (at(guess) <= value) {
    low = guess;
    for (int64_t step = 1; guess + step < high; step *= 2) {
      if (at(guess + step) > value) {
        high = guess + step;
        break;
      }
      low = guess + step;
    }
  } else {
    high = guess;
    for (int64_t step = 1; guess - step > low; step *= 2) {
      if (at(guess - step) <= value) {
        low = guess - step;
        break;
      }
      high = guess - step;
    }
  }
  const auto first = begin_.begin() + low + 1, last = begin_.begin() + high;
  return std::upper_bound(first, last, value) - begin_.begin() - 1;
}

void WindowTable::append(const Source& source, uint64_t number, int64_t shard, uint64_t key,
                         std::vector<Window>& windows) const {
  if (are_stretches()) return append_arc(source, number, shard, key, windows);
  const int64_t episode =
      episode_of(number, source.first_episode_of_shard(shard), source.first_episode_of_shard(shard + 1));
  const auto index = static_cast<int64_t>(number - begin_[static_cast<size_t>(episode)]);
  if (high_ == 1) {
    windows.push_back({episode, index, 1});
    return;
  }
  const uint64_t cut_key = mix_seed(key, {static_cast<uint64_t>(episode)});
  const auto [first, count] = window_at(source.length(episode), low_, high_, cut_key, index);
  windows.push_back({episode, first, count});
}

/// The step boundary at or before a position of the ring, moved so that no part of an episode is shorter than
/// least_tokens_. It never leaves the episode, so the order of cuts is the order of their positions.
WindowTable::Cut WindowTable::cut_at(const Source& source, uint64_t position, int64_t shard_first,
                                     int64_t shard_end) const {
  const int64_t episode = episode_of(position, shard_first, shard_end);
  const uint64_t begin = begin_[static_cast<size_t>(episode)];
  const auto tokens = static_cast<int64_t>(begin_[static_cast<size_t>(episode) + 1] - begin);
  if (tokens < 2 * least_tokens_) return {episode, 0};
  const int64_t length = source.length(episode);
  auto before = static_cast<int64_t>(position - begin);
  if (before == 0) return {episode, 0};
  before = std::clamp(before, least_tokens_, tokens - least_tokens_);
  int64_t step = steps_from(source, episode, 0, before, length);
  if (step > 0) step = std::max(step, steps_from(source, episode, 0, least_tokens_ - 1, length) + 1);
  return {episode, step < length ? step : 0};
}

void WindowTable::append_arc(const Source& source, uint64_t number, int64_t shard, uint64_t key,
                             std::vector<Window>& windows) const {
  const int64_t shard_first = source.first_episode_of_shard(shard),
                shard_end = source.first_episode_of_shard(shard + 1);
  const uint64_t base = begin_[static_cast<size_t>(shard_first)];
  const uint64_t ring = begin_[static_cast<size_t>(shard_end)] - base;
  const auto s = static_cast<size_t>(shard);
  const uint64_t arcs = shard_begin_[s + 1] - shard_begin_[s], arc = number - shard_begin_[s];
  const auto add = [&](Cut from, Cut to) {
    for (int64_t e = from.episode; e <= to.episode && e < shard_end; ++e) {
      const int64_t first = e == from.episode ? from.step : 0;
      const int64_t end = e == to.episode ? to.step : source.length(e);
      if (end > first) windows.push_back({e, first, end - first});
    }
  };
  if (arcs == 1) return add({shard_first, 0}, {shard_end, 0});
  const auto turn = static_cast<uint64_t>(Rng(mix_seed(key, {s})).below(static_cast<int64_t>(ring)));
  // i * ring / arcs without overflow.
  const auto position = [&](uint64_t i) { return turn + i * (ring / arcs) + i * (ring % arcs) / arcs; };
  const uint64_t from = position(arc), to = position(arc + 1);
  const Cut first = cut_at(source, base + from % ring, shard_first, shard_end);
  const Cut last = cut_at(source, base + to % ring, shard_first, shard_end);
  if (from / ring == to / ring) return add(first, last);
  add(first, {shard_end, 0});
  add({shard_first, 0}, last);
}

}  // namespace gato::data
