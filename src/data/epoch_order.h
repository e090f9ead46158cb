#pragma once
#include <cstdint>
#include <vector>

namespace gato::data {

/// The order in which one epoch of a source uses its items, in closed form. The shards, shuffled, are divided into
/// `shuffle_shards` lanes of equally many items; positions take from all lanes in turn, and each lane goes through its
/// shards one after another, with the items of a shard shuffled. So about `shuffle_shards` shards are being read at any
/// time, and lanes change shards at different times. Const and thread-safe.
class EpochOrder {
 public:
  /// `shard_begin`: number of the first item of each shard, then the number of items (>= 1).
  EpochOrder(const std::vector<uint64_t>& shard_begin, int64_t shuffle_shards, uint64_t key);

  struct Place {
    uint64_t item;  ///< In the order of shards.
    int64_t shard;
  };
  [[nodiscard]] Place at(uint64_t position) const;  ///< position < number of items.

 private:
  /// The part of one shard that lies in one lane.
  struct Section {
    uint64_t begin;  // where it begins in all lanes, end to end
    uint64_t first_item;
    int64_t shard;
    uint64_t key;
  };
  [[nodiscard]] uint64_t lane_begin(uint64_t lane) const;

  uint64_t key_;
  uint64_t items_, lanes_;
  uint64_t stagger_;  // how much later each lane begins than the one before
  std::vector<Section> sections_;
};

}  // namespace gato::data
