#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace gato {

/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): 128 random bits
/// as a pure function of a 128-bit counter and a 64-bit key.
[[nodiscard]] std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// A well mixed 64-bit value of (seed, parts...): the key of a random stream. Stable across versions and machines.
[[nodiscard]] uint64_t mix_seed(uint64_t seed, std::initializer_list<uint64_t> parts);

/// A stable 64-bit hash of a name (FNV-1a, then a finalizer), to key random streams by name.
[[nodiscard]] uint64_t hash_name(std::string_view name);

/// A stream of random numbers keyed by a 64-bit value: number i of a stream depends on (key, i) alone. Cheap to make,
/// so make one per purpose (`Rng(mix_seed(seed, {hash_name("noise"), episode}))`) instead of sharing one.
class Rng {
 public:
  explicit Rng(uint64_t key, uint64_t position = 0) : key_(key), position_(position) {}

  [[nodiscard]] uint32_t next_u32();
  [[nodiscard]] uint64_t next_u64();
  [[nodiscard]] double uniform();                         ///< In [0, 1), 53 bits.
  [[nodiscard]] double uniform(double low, double high);  ///< In [low, high).
  [[nodiscard]] int64_t below(int64_t bound);             ///< In [0, bound), without bias; bound > 0.
  [[nodiscard]] double normal();                          ///< Standard normal (Box-Muller, one value per two uniforms).

  // UniformRandomBitGenerator, for std::shuffle and the like where cross-platform stability does not matter.
  using result_type = uint32_t;
  static constexpr uint32_t min() { return 0; }
  static constexpr uint32_t max() { return 0xffffffffu; }
  uint32_t operator()() { return next_u32(); }

  /// Exchanges elements i < n of `items` by Fisher-Yates, the same on every platform.
  template <class Container>
  void shuffle(Container& items) {
    for (auto i = static_cast<int64_t>(items.size()) - 1; i > 0; --i) {
      std::swap(items[static_cast<size_t>(i)], items[static_cast<size_t>(below(i + 1))]);
    }
  }

 private:
  uint64_t key_;
  uint64_t position_;  // in 32-bit words
  std::array<uint32_t, 4> block_{};
  uint64_t block_index_ = ~uint64_t{0};
};

/// A pseudo-random permutation of [0, size) that needs no table (balanced Feistel network with cycle walking).
/// O(1) expected time and memory, const and thread-safe.
class KeyedPermutation {
 public:
  KeyedPermutation(uint64_t size, uint64_t key);            ///< size >= 1.
  [[nodiscard]] uint64_t operator()(uint64_t index) const;  ///< index < size; throws ContractError otherwise.
  [[nodiscard]] uint64_t size() const { return size_; }

 private:
  uint64_t size_;
  uint64_t key_;
  int half_bits_;
};

}  // namespace gato
