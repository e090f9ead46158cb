#pragma once
#include <cstdint>
#include <vector>

#include "gato/data/plan.h"

/// How the episodes of a source are cut into items.
namespace gato::data {

/// Parts of episodes that are cut to fill rows are not shorter than this (a step may be).
[[nodiscard]] int64_t least_piece_tokens(int64_t row_tokens);

/// Tokens of every step where they are the same in all steps (1 in documents, whose steps are tokens), else 0.
[[nodiscard]] int64_t tokens_of_each_step(const Source& source);

/// The most steps (tokens of a document), at most `most`, whose tokens are at most `limit`: from step `first` of the
/// episode on, or back from step `end` (not included).
[[nodiscard]] int64_t steps_from(const Source& source, int64_t episode, int64_t first, int64_t limit, int64_t most);
[[nodiscard]] int64_t steps_before(const Source& source, int64_t episode, int64_t end, int64_t limit, int64_t most);

/// The items of one source under one setting, numbered through an epoch in the order of its shards. Two kinds:
/// windows of low..high steps (window_at), never cut; and stretches: the episodes of a shard, joined end to end into a
/// ring, are cut into equal arcs of about a row, beginning elsewhere in every epoch. All arcs having the same size is
/// what fills blocks evenly. An arc holds whole episodes and parts of episodes, which may be cut further to fill rows.
/// Const and thread-safe.
class WindowTable {
 public:
  /// 1 <= low <= high.
  static WindowTable windows(const Source& source, int64_t low, int64_t high);
  /// Parts of an episode have at least `least_tokens` where its length allows it.
  static WindowTable stretches(const Source& source, int64_t row_tokens, int64_t least_tokens);

  [[nodiscard]] uint64_t size() const { return shard_begin_.back(); }  ///< Items in an epoch.
  [[nodiscard]] bool are_stretches() const { return high_ == 0; }
  /// The number of the first item of each shard, and size().
  [[nodiscard]] const std::vector<uint64_t>& shard_begin() const { return shard_begin_; }
  /// Appends the windows of item `number`, which is in `shard`; `key` is the epoch's.
  void append(const Source& source, uint64_t number, int64_t shard, uint64_t key, std::vector<Window>& windows) const;

 private:
  struct Cut {
    int64_t episode, step;
  };
  [[nodiscard]] int64_t episode_of(uint64_t value, int64_t shard_first, int64_t shard_end) const;
  [[nodiscard]] Cut cut_at(const Source& source, uint64_t position, int64_t shard_first, int64_t shard_end) const;
  void append_arc(const Source& source, uint64_t number, int64_t shard, uint64_t key,
                  std::vector<Window>& windows) const;

  int64_t low_ = 0, high_ = 0;  // 0: stretches
  int64_t least_tokens_ = 1;
  std::vector<uint64_t> begin_;  // episodes + 1: number of each episode's first window, or tokens before it
  std::vector<uint64_t> shard_begin_;
};

}  // namespace gato::data
