// Attention over cached keys and values against fp64: ragged slots that grow by runs of one to many tokens.
#include <map>

#include "cuda/attention_cases.h"
#include "gato/core/error.h"
#include "kernels/cuda/decode_attention.h"

namespace gato::kernel_tests {
namespace {

using kernels::cuda::cached_attention;
using kernels::cuda::cached_attention_workspace;
using kernels::cuda::CachedAttention;
using kernels::cuda::SlotRun;

constexpr int64_t kHeads = 2;
constexpr int64_t kCapacity = 600;

/// What happens to a slot in its life, and what attention over it should give.
struct Slot {
  AttentionProblem problem;
  AttentionSolution solution;
};

/// `tokens` values [token, heads, head_dim] of queries, keys and values as one [token, 3, heads, head_dim].
void append_qkv(const AttentionProblem& problem, int64_t first, int64_t count, std::vector<float>& qkv) {
  const int64_t width = problem.heads * problem.head_dim;
  for (int64_t token = first; token < first + count; ++token) {
    for (const auto* values : {&problem.query, &problem.key, &problem.value}) {
      qkv.insert(qkv.end(), values->begin() + token * width, values->begin() + (token + 1) * width);
    }
  }
}

/// Slots of a cache on a device.
class CacheTester {
 public:
  CacheTester(TestDevice& device, int64_t head_dim, Element element, bool rotary, int64_t slots, int64_t tokens)
      : device_(device),
        head_dim_(head_dim),
        element_(element),
        keys_(device, element, "cached keys", static_cast<size_t>(slots * kHeads * kCapacity * head_dim)),
        values_(device, element, "cached values", static_cast<size_t>(slots * kHeads * kCapacity * head_dim)) {
    std::vector<float> cosine, sine;
    for (int64_t i = 0; i < slots; ++i) {
      slots_.push_back({make_problem({head_dim, element, tokens, Documents::kOne, rotary, true, 1, kHeads},
                                     100 + static_cast<uint64_t>(i)),
                        {}});
    }
    cosine_.emplace(device.input("cosine", slots_[0].problem.cosine));
    sine_.emplace(device.input("sine", slots_[0].problem.sine));
    if (rotary) rotary_ = {cosine_->data(), sine_->data(), tokens};
  }

  void solve_slots() {
    for (Slot& slot : slots_) slot.solution = solve(slot.problem, false);
  }

  /// Runs the next tokens of slots, (slot, position, count) each, and returns their results.
  std::vector<float> run(std::vector<SlotRun> runs, int64_t most_context = 0) {
    std::vector<float> qkv;
    CachedAttention call;
    for (SlotRun& one : runs) {
      one.first = static_cast<int32_t>(call.tokens);
      append_qkv(slots_[static_cast<size_t>(one.slot)].problem, one.position, one.count, qkv);
      call.tokens += one.count;
      call.most_new = std::max<int64_t>(call.most_new, one.count);
      most_context = std::max<int64_t>(most_context, one.position + one.count);
    }
    const Typed device_qkv(device_, element_, "qkv", qkv);
    const Typed out(device_, element_, "out", qkv.size() / 3);
    const auto device_runs = device_.input("runs", runs);
    call.heads = kHeads;
    call.head_dim = head_dim_;
    call.element = element_;
    call.qkv = device_qkv.data();
    call.out = out.data();
    call.runs = device_runs.data();
    call.num_runs = static_cast<int64_t>(runs.size());
    call.most_context = most_context;
    call.cache = {keys_.data(), values_.data(), static_cast<int64_t>(slots_.size()), kCapacity};
    call.rotary = rotary_;
    const auto workspace = device_.buffer<uint8_t>("workspace", cached_attention_workspace(call));
    call.workspace = workspace.data();
    cached_attention(call, nullptr);
    return out.download();
  }

  /// The same, compared with what the slots should give.
  std::vector<float> run_and_compare(const std::vector<SlotRun>& runs, int64_t most_context = 0) {
    const std::vector<float> actual = run(runs, most_context);
    std::vector<double> expected;
    const int64_t width = kHeads * head_dim_;
    for (const SlotRun& one : runs) {
      const std::vector<double>& all = slots_[static_cast<size_t>(one.slot)].solution.out;
      expected.insert(expected.end(), all.begin() + one.position * width,
                      all.begin() + (one.position + one.count) * width);
    }
    expect_close(actual, expected, element_, 1, "out");
    return actual;
  }

 private:
  TestDevice& device_;
  int64_t head_dim_;
  Element element_;
  Typed keys_, values_;
  std::vector<Slot> slots_;
  std::optional<Buffer<float>> cosine_, sine_;
  kernels::cuda::RotaryView rotary_;
};

struct CachedCase {
  int64_t head_dim;
  Element element;
  bool rotary;
};

class CachedAttentionTest : public testing::TestWithParam<CachedCase> {
 protected:
  [[nodiscard]] CacheTester tester(TestDevice& device, int64_t slots, int64_t tokens) const {
    const CachedCase& c = GetParam();
    return {device, c.head_dim, c.element, c.rotary, slots, tokens};
  }
};

std::string cached_name(const testing::TestParamInfo<CachedCase>& info) {
  return cat("d", info.param.head_dim, "_", element_name(info.param.element), info.param.rotary ? "_rotary" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CachedAttentionTest,
    testing::Values(CachedCase{32, Element::kBFloat16, true}, CachedCase{32, Element::kFloat16, false},
                    CachedCase{64, Element::kBFloat16, false}, CachedCase{64, Element::kFloat16, true},
                    CachedCase{128, Element::kBFloat16, true}, CachedCase{128, Element::kFloat16, false}),
    cached_name);

TEST_P(CachedAttentionTest, RaggedSlotsAgreeWithReference) {
  TestDevice device({.host_threads = 2});
  CacheTester tester = this->tester(device, 4, 560);
  tester.solve_slots();
  tester.run_and_compare({{2, 0, 1}});                                       // the first token of a slot
  tester.run_and_compare({{3, 0, 17}, {0, 0, 70}, {1, 0, 16}, {2, 1, 15}});  // long and short runs
  tester.run_and_compare({{0, 70, 1}, {2, 16, 1}, {3, 17, 1}, {1, 16, 1}});  // one token each
  tester.run_and_compare({{1, 17, 239}, {0, 71, 183}, {2, 17, 0}});          // up to 254 and 256 of context
  tester.run_and_compare({{0, 254, 2}, {1, 256, 1}, {3, 18, 2}});            // 256 is one part, 257 are two
  tester.run_and_compare({{0, 256, 257}, {1, 257, 12}});
  tester.run_and_compare({{0, 513, 1}, {1, 269, 1}, {3, 20, 16}});  // three parts, two, one
  tester.run_and_compare({{0, 514, 3}}, kCapacity);                 // bounds wider than needed
}

TEST_P(CachedAttentionTest, BitsOfASlotDependOnNothingElse) {
  TestDevice device;
  CacheTester alone = tester(device, 3, 320);
  CacheTester together = tester(device, 3, 320);
  alone.run({{1, 0, 300}});
  together.run({{0, 0, 11}, {1, 0, 300}, {2, 0, 300}});
  const std::vector<float> one = alone.run({{1, 300, 2}});
  const std::vector<float> all = together.run({{2, 300, 1}, {1, 300, 2}, {0, 11, 40}}, kCapacity);
  const auto begin = all.begin() + kHeads * GetParam().head_dim;
  EXPECT_EQ(bits_of({one}), bits_of({std::vector<float>(begin, begin + static_cast<int64_t>(one.size()))}));
}

TEST_P(CachedAttentionTest, GivesSameBitsInAnyOrderOfBlocks) {
  expect_same_bits_in_any_order([&](TestDevice& device) {
    CacheTester tester = this->tester(device, 2, 320);
    std::vector<std::vector<float>> results;
    results.push_back(tester.run({{0, 0, 300}, {1, 0, 90}}));
    results.push_back(tester.run({{0, 300, 3}, {1, 90, 1}}));
    return results;
  });
}

TEST_P(CachedAttentionTest, ReadsTheContextOnceWithoutBankConflicts) {
  TestDevice device;
  CacheTester tester = this->tester(device, 1, 520);
  tester.run({{0, 0, 512}});
  device.reset_counters();
  tester.run({{0, 512, 1}});
  const auto split = device.counters("cached_attention_split");
  const int64_t vector = 2 * kHeads * GetParam().head_dim;  // bytes of a token's keys
  // And in each of the three blocks of a head the query with its angles, and the run in every thread.
  const int64_t angles = GetParam().rotary ? 4 * kHeads * GetParam().head_dim : 0;
  EXPECT_EQ(split.global_bytes_read,
            static_cast<uint64_t>((2 * 513 + 3) * vector + 3 * angles + 3 * kHeads * 128 * 16));
  EXPECT_LT(split.sector_factor(), 1.02);
  EXPECT_EQ(split.conflict_factor(), 1.0) << device.describe_sites();
  // 513 keys are 33 pieces of 16, one for a warp: two products of one row tile each.
  EXPECT_EQ(split.mma, static_cast<uint64_t>(33 * kHeads * 2 * 2 * GetParam().head_dim / 16));
}

TEST_P(CachedAttentionTest, RunsThatDoNotFitAreLeftAlone) {
  TestDevice device;
  CacheTester tester = this->tester(device, 2, 64);
  tester.run({{0, 0, 20}});
  const CachedCase& c = GetParam();
  const auto elements = static_cast<size_t>(kHeads * c.head_dim);
  const Typed qkv(device, c.element, "qkv", normal_values(static_cast<int64_t>(3 * 4 * elements), 1));
  const Typed out(device, c.element, "out", 4 * elements);
  const Typed keys(device, c.element, "keys", 2 * 64 * elements);
  const Typed values(device, c.element, "values", 2 * 64 * elements);
  const auto runs = device.input<SlotRun>(
      "runs", {{2, 0, 1, 0}, {-1, 0, 1, 0}, {0, 63, 2, 0}, {0, -1, 1, 0}, {0, 0, 5, 0}, {0, 0, 2, 3}, {0, 0, 1, -1}});
  CachedAttention call;
  call.tokens = 4;
  call.heads = kHeads;
  call.head_dim = c.head_dim;
  call.element = c.element;
  call.qkv = qkv.data();
  call.out = out.data();
  call.runs = runs.data();
  call.num_runs = static_cast<int64_t>(runs.size());
  call.most_new = 4;
  call.most_context = 64;
  call.cache = {keys.data(), values.data(), 2, 64};
  cached_attention(call, nullptr);
  device.expect_no_faults();
}

TEST(CachedAttentionCallTest, WrongCallsAreRefused) {
  TestDevice device;
  const auto memory = device.buffer<uint8_t>("memory", 1 << 16);
  CachedAttention good;
  good.tokens = 2;
  good.heads = kHeads;
  good.head_dim = 32;
  good.qkv = good.out = good.cache.keys = good.cache.values = good.workspace = memory.data();
  good.runs = reinterpret_cast<const SlotRun*>(memory.data());
  good.num_runs = good.most_new = 1;
  good.most_context = 300;
  good.cache.slots = 1;
  good.cache.capacity = 300;
  const auto refused = [&](auto spoil, const char* part) {
    CachedAttention call = good;
    spoil(call);
    try {
      cached_attention(call, nullptr);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const ContractError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refused([](CachedAttention& call) { call.element = Element::kFloat32; }, "float32");
  refused([](CachedAttention& call) { call.head_dim = 16; }, "head dimension is 16");
  refused([](CachedAttention& call) { call.most_context = 301; }, "capacity of 300");
  refused([](CachedAttention& call) { call.most_new = 301; }, "301 new tokens");
  refused([](CachedAttention& call) { call.workspace = nullptr; }, "workspace is null");
  refused([](CachedAttention& call) { call.runs = nullptr; }, "runs is null");
  refused([](CachedAttention& call) { call.cache.capacity = int64_t{1} << 31; }, "less than 2^31");
  EXPECT_EQ(device.counters().blocks, 0u);
}

}  // namespace
}  // namespace gato::kernel_tests
