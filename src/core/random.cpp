#include "gato/core/random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "gato/core/error.h"

namespace gato {
namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr uint64_t kGoldenRatio = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio, odd

/// Finalizer of SplitMix64 (Steele, Lea, Flood, 2014): a bijection whose output bits each depend on all input bits.
uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// Rounds of the permutation's Feistel network; four suffice in theory, small domains want more.
constexpr uint64_t kFeistelRounds = 6;

/// Smallest half width: tiny domains have too few round functions to reach every permutation.
constexpr int kSmallestHalfBits = 3;

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53u;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u;
  constexpr uint32_t kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

uint64_t mix_seed(uint64_t seed, std::initializer_list<uint64_t> parts) {
  uint64_t state = mix64(seed + kGoldenRatio);
  uint64_t position = 1;
  for (const uint64_t part : parts) {
    ++position;
    state = mix64(state ^ mix64(part + position * kGoldenRatio)) + kGoldenRatio;
  }
  return mix64(state ^ (position * kGoldenRatio));
}

uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return mix64(hash);
}

uint32_t Rng::next_u32() {
  const uint64_t block = position_ / 4;
  if (block != block_index_) {
    block_ = philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0},
                        {static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)});
    block_index_ = block;
  }
  return block_[position_++ % 4];
}

uint64_t Rng::next_u64() {
  const uint64_t low = next_u32();
  return low | (uint64_t{next_u32()} << 32);
}

double Rng::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }

double Rng::uniform(double low, double high) {
  GATO_CHECK(low <= high, "uniform(", low, ", ", high, "): the bounds must be ordered numbers");
  const double value = low + (high - low) * uniform();
  // Rounding may reach `high` itself.
  return value < high ? value : std::max(low, std::nextafter(high, low));
}

int64_t Rng::below(int64_t bound) {
  GATO_CHECK(bound > 0, "below(", bound, "): the bound must be positive");
  // Lemire, "Fast random integer generation in an interval", 2019.
  const auto range = static_cast<uint64_t>(bound);
  Uint128 product = Uint128{next_u64()} * range;
  if (static_cast<uint64_t>(product) < range) {
    const uint64_t threshold = (~range + 1) % range;
    while (static_cast<uint64_t>(product) < threshold) product = Uint128{next_u64()} * range;
  }
  return static_cast<int64_t>(static_cast<uint64_t>(product >> 64));
}

double Rng::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is in (0, 1]
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

KeyedPermutation::KeyedPermutation(uint64_t size, uint64_t key) : size_(size), key_(key), half_bits_(0) {
  GATO_CHECK(size >= 1, "a permutation needs at least one element");
  const auto bits = static_cast<int>(std::bit_width(size - 1));
  half_bits_ = std::max(kSmallestHalfBits, (bits + 1) / 2);
}

uint64_t KeyedPermutation::operator()(uint64_t index) const {
  GATO_CHECK(index < size_, "index ", index, " is outside a permutation of ", size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t value = index;
  do {  // The network permutes a domain of at most max(64, 4 * size) values; walk its cycle back into [0, size).
    uint64_t left = value >> half_bits_;
    uint64_t right = value & mask;
    for (uint64_t round = 1; round <= kFeistelRounds; ++round) {
      const uint64_t next = left ^ (mix64(right ^ mix64(key_ + round * kGoldenRatio)) & mask);
      left = right;
      right = next;
    }
    value = (left << half_bits_) | right;
  } while (value >= size_);
  return value;
}

}  // namespace gato
