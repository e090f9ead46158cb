#include "epoch_order.h"

#include <algorithm>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {

namespace {

/// Which lane a turn begins with. Any rough hash will do, and this is done for every item.
uint64_t turn_hash(uint64_t key, uint64_t turn) {
  const uint64_t mixed = (key ^ turn) * 0x9E3779B97F4A7C15u;
  return ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9u) >> 33;
}

}  // namespace

EpochOrder::EpochOrder(const std::vector<uint64_t>& shard_begin, int64_t shuffle_shards, uint64_t key)
    : key_(key), items_(shard_begin.back()), lanes_(1), stagger_(0) {
  GATO_CHECK(items_ >= 1, "an epoch without items");
  std::vector<int64_t> shards;
  for (size_t s = 0; s + 1 < shard_begin.size(); ++s) {
    if (shard_begin[s + 1] > shard_begin[s]) shards.push_back(static_cast<int64_t>(s));
  }
  Rng rng(mix_seed(key, {1}));
  rng.shuffle(shards);
  lanes_ = std::min<uint64_t>({static_cast<uint64_t>(shuffle_shards), shards.size(), items_});
  stagger_ = items_ / shards.size() / lanes_;
  uint64_t begin = 0, lane = 0;
  for (const int64_t shard : shards) {
    uint64_t item = shard_begin[static_cast<size_t>(shard)];
    const uint64_t end = shard_begin[static_cast<size_t>(shard) + 1];
    while (item < end) {
      const uint64_t count = std::min(end - item, lane_begin(lane + 1) - begin);
      sections_.push_back({begin, item, shard, mix_seed(key, {3, begin})});
      begin += count;
      item += count;
      if (begin == lane_begin(lane + 1)) ++lane;
    }
  }
}

/// The first items_ % lanes_ lanes have one item more.
uint64_t EpochOrder::lane_begin(uint64_t lane) const {
  return lane * (items_ / lanes_) + std::min(lane, items_ % lanes_);
}

EpochOrder::Place EpochOrder::at(uint64_t position) const {
  GATO_DCHECK(position < items_, "position ", position, " of ", items_);
  const uint64_t turn = position / lanes_;
  uint64_t lane = position % lanes_;
  // In the last turn, which is not whole, only the longer lanes have an item left.
  if (turn < items_ / lanes_) lane = (lane + turn_hash(key_, turn)) % lanes_;
  const uint64_t begin = lane_begin(lane), length = lane_begin(lane + 1) - begin;
  const uint64_t place = begin + (turn + lane * stagger_) % length;
  const auto after = std::upper_bound(sections_.begin(), sections_.end(), place,
                                      [](uint64_t value, const Section& section) { return value < section.begin; });
  const Section& section = *std::prev(after);
  const uint64_t end = after == sections_.end() ? items_ : after->begin;
  const KeyedPermutation permutation(end - section.begin, section.key);
  return {section.first_item + permutation(place - section.begin), section.shard};
}

}  // namespace gato::data
