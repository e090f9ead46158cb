#include "gato/kernels/cached_attention.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/kernels/cpu_path.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

/// How tokens find out where they are.
enum class Order { kNone, kRotary, kRelative };

struct Case {
  Order order;
  at::ScalarType dtype, cache;
  int64_t piece;  // most tokens of a call
};

std::string name_of(const Case& c) {
  const char* orders[] = {"none", "rotary", "relative"};
  return cat(orders[static_cast<int>(c.order)], "_", c10::toString(c.dtype), "_", c10::toString(c.cache), "_", c.piece);
}

constexpr int64_t kSlots = 3, kLength = 150, kHeads = 2, kHeadDim = 12;

struct Problem {
  at::Tensor qkv;  // [slots, length, 3, H, D]
  at::Tensor distances;
  RelativeBiases biases;
  RotaryTable rotary;
  Order order;

  Problem(Order how, at::ScalarType dtype)
      : qkv(random_normal({kSlots, kLength, 3, kHeads, kHeadDim}, 1).to(dtype)),
        distances(random_normal({kLength, kHeads, kHeadDim}, 3)),
        biases{make_parameter(random_normal({kHeads, kHeadDim}, 4)),
               make_parameter(random_normal({kHeads, kHeadDim}, 5))},
        order(how) {
    if (order == Order::kRotary) rotary = make_rotary_table(kLength, kHeadDim, 10000);
  }

  [[nodiscard]] at::Tensor whole() const {
    const at::Tensor starts = at::zeros({kSlots, kLength}, at::kInt);
    return order == Order::kRelative ? relative_attention(qkv.to(at::kFloat), starts, distances, biases)
                                     : document_attention(qkv.to(at::kFloat), starts, rotary);
  }

  /// Feeds the tokens of all slots, from the last slot to the first, in runs of count(slot, tokens left) tokens, and
  /// returns all results [slots, length, H, D].
  at::Tensor cached(at::ScalarType cache_type, const std::function<int64_t(int64_t, int64_t)>& count) const {
    const AttentionCache cache = make_attention_cache(kSlots, kLength, kHeads, kHeadDim, cache_type);
    CachedDistances columns;
    if (order == Order::kRelative) columns = make_cached_distances(distances, biases);
    at::Tensor all = at::empty({kSlots, kLength, kHeads, kHeadDim}, qkv.options());
    std::vector<int64_t> held(kSlots, 0);
    while (std::any_of(held.begin(), held.end(), [](int64_t n) { return n < kLength; })) {
      std::vector<CacheRun> runs;
      std::vector<at::Tensor> parts;
      for (int64_t slot = kSlots - 1; slot >= 0; --slot) {
        int64_t& at = held[static_cast<size_t>(slot)];
        const int64_t n = std::min(kLength - at, count(slot, kLength - at));
        if (n == 0) continue;
        runs.push_back({slot, at, n});
        parts.push_back(qkv[slot].slice(0, at, at + n));
        at += n;
      }
      if (runs.empty()) continue;
      const at::Tensor given = at::cat(parts).contiguous();
      const at::Tensor out = order == Order::kRelative ? cached_relative_attention(given, runs, cache, columns)
                                                       : cached_attention(given, runs, cache, rotary);
      int64_t first = 0;
      for (const CacheRun& run : runs) {
        all[run.slot].slice(0, run.position, run.position + run.count).copy_(out.slice(0, first, first + run.count));
        first += run.count;
      }
    }
    return all;
  }
};

class CachedAttentionTest : public ::testing::TestWithParam<Case> {};

TEST_P(CachedAttentionTest, MatchesWholeSequences) {
  const Case c = GetParam();
  const Problem p(c.order, c.dtype);
  Rng rng(5);
  const at::Tensor out = p.cached(c.cache, [&](int64_t slot, int64_t /*left*/) {
    return slot == 1 ? 2 * c.piece : rng.below(c.piece + 1);  // slots of different lengths, some wait
  });
  EXPECT_EQ(out.scalar_type(), c.dtype);
  // Scores with relative positions have a standard deviation of 2.
  EXPECT_TRUE(all_close(out, p.whole(), tolerance_of(c.cache == at::kFloat ? c.dtype : c.cache).times(4)));
}

INSTANTIATE_TEST_SUITE_P(Cases, CachedAttentionTest,
                         ::testing::Values(Case{Order::kNone, at::kFloat, at::kFloat, 7},
                                           Case{Order::kRotary, at::kFloat, at::kFloat, 1},
                                           Case{Order::kRotary, at::kFloat, at::kFloat, 3},
                                           Case{Order::kRotary, at::kFloat, at::kFloat, 40},
                                           Case{Order::kRotary, at::kBFloat16, at::kFloat, 7},
                                           Case{Order::kRotary, at::kBFloat16, at::kBFloat16, 7},
                                           Case{Order::kRelative, at::kFloat, at::kFloat, 1},
                                           Case{Order::kRelative, at::kFloat, at::kFloat, 60},
                                           Case{Order::kRelative, at::kBFloat16, at::kBFloat16, 9}),
                         [](const auto& test) { return name_of(test.param); });

TEST(CachedAttentionBits, DoNotDependOnHowTokensAreCut) {
  const int threads = at::get_num_threads();
  const CpuPath before = cpu_path();
  for (const CpuPath path : {CpuPath::kPlain, CpuPath::kAvx2, CpuPath::kAvx512}) {
    if (!has_cpu_path(path)) continue;
    set_cpu_path(path);
    for (const Order order : {Order::kNone, Order::kRotary, Order::kRelative}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        const Problem p(order, dtype);
        at::set_num_threads(1);
        const at::Tensor one_by_one = p.cached(dtype, [](int64_t, int64_t) { return 1; });
        at::set_num_threads(3);
        Rng rng(6);
        EXPECT_TRUE(same_bits(p.cached(dtype, [&](int64_t, int64_t) { return rng.below(40); }), one_by_one));
        EXPECT_TRUE(same_bits(p.cached(dtype, [&](int64_t, int64_t left) { return left; }), one_by_one));
      }
    }
  }
  set_cpu_path(before);
  at::set_num_threads(threads);
}

TEST(CachedAttentionTest, RefusesRunsThatDoNotFit) {
  const AttentionCache cache = make_attention_cache(2, 10, 1, 4);
  const at::Tensor qkv = random_normal({3, 3, 1, 4}, 1);
  const auto call = [&](CacheRun run) { (void)cached_attention(qkv, std::vector<CacheRun>{run}, cache); };
  EXPECT_NO_THROW(call({1, 7, 3}));
  EXPECT_THROW(call({1, 8, 3}), ContractError);
  EXPECT_THROW(call({2, 0, 3}), ContractError);
  EXPECT_THROW(call({-1, 0, 3}), ContractError);
  EXPECT_THROW(call({0, -1, 3}), ContractError);
  EXPECT_THROW(call({0, 0, 2}), ContractError);
  const std::vector<CacheRun> run{{0, 0, 3}};
  EXPECT_THROW((void)cached_attention(qkv, run, cache, make_rotary_table(2, 4, 100)), ContractError);
  EXPECT_THROW((void)cached_attention(qkv, run, make_attention_cache(2, 10, 1, 4, at::kBFloat16)), ContractError);
  EXPECT_THROW((void)make_attention_cache(2, 10, 1, 4, at::kDouble), ContractError);
  EXPECT_THROW((void)make_attention_cache(int64_t{1} << 40, 1 << 20, 1 << 10, 1 << 10), ContractError);
}

TEST(CachedAttentionTest, RefusesTooFewDistances) {
  const RelativeBiases biases{make_parameter(random_normal({1, 4}, 4)), make_parameter(random_normal({1, 4}, 5))};
  const CachedDistances distances = make_cached_distances(random_normal({5, 1, 4}, 3), biases);
  const AttentionCache cache = make_attention_cache(1, 10, 1, 4);
  const at::Tensor qkv = random_normal({3, 3, 1, 4}, 1);
  const auto call = [&](int64_t position) {
    (void)cached_relative_attention(qkv, std::vector<CacheRun>{{0, position, 3}}, cache, distances);
  };
  EXPECT_NO_THROW(call(2));
  EXPECT_THROW(call(3), ContractError);
  EXPECT_THROW((void)make_cached_distances(random_normal({5, 2, 4}, 3), biases), ContractError);
}

}  // namespace
}  // namespace gato::kernels
