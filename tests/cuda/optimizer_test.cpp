#include "kernels/cuda/optimizer.h"

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEpsilon = 1e-8, kWeightDecay = 0.1, kRate = 3e-3;

struct Numbers {
  double squared_norm = 0, loss_sum = 0, weight_sum = 1;
  double updates = 0;
  double clip_norm = 1;
};

struct Decision {
  PreparedUpdate prepared;
  double loss = 0, gradient_norm = 0, weight_sum = 0, refused = 0;
};

/// Runs prepare_update; `prepared` stays on the device for an update.
Decision prepare(TestDevice& device, const Numbers& n, Buffer<PreparedUpdate>& prepared) {
  const auto squared_norm = device.input("squared_norm", std::vector<double>{n.squared_norm});
  const auto loss_sum = device.input("loss_sum", std::vector<double>{n.loss_sum});
  const auto weight_sum = device.input("weight_sum", std::vector<double>{n.weight_sum});
  const auto rate = device.input("learning_rate", std::vector<double>{kRate});
  const auto updates = device.input("updates", std::vector<double>{n.updates});
  const auto outcome = device.buffer<double>("outcome", 4);
  prepare_update({.squared_norm = squared_norm.data(),
                  .loss_sum = loss_sum.data(),
                  .weight_sum = weight_sum.data(),
                  .learning_rate = rate.data(),
                  .updates = updates.data(),
                  .prepared = prepared.data(),
                  .outcome = outcome.data(),
                  .beta_1 = kBeta1,
                  .beta_2 = kBeta2,
                  .weight_decay = kWeightDecay,
                  .clip_norm = n.clip_norm},
                 nullptr);
  const std::vector<double> told = outcome.download();
  return {prepared.download()[0], told[0], told[1], told[2], told[3]};
}
Decision prepare(TestDevice& device, const Numbers& n) {
  auto prepared = device.buffer<PreparedUpdate>("prepared", 1);
  return prepare(device, n, prepared);
}

// The factors as src/kernels/optimizer.cpp computes them.
TEST(PrepareUpdateTest, ComputesWhatTheHostWould) {
  TestDevice device;
  const Decision d = prepare(device, {.squared_norm = 36, .loss_sum = 8, .weight_sum = 4, .updates = 6});
  EXPECT_EQ(d.prepared.refused, 0);
  EXPECT_EQ(d.refused, 0);
  EXPECT_DOUBLE_EQ(d.loss, 2);
  EXPECT_DOUBLE_EQ(d.gradient_norm, 1.5);
  EXPECT_EQ(d.weight_sum, 4);
  EXPECT_EQ(d.prepared.grad_scale, static_cast<float>((1.0 / 1.5) / 4));
  EXPECT_EQ(d.prepared.keep, static_cast<float>(1 - kRate * kWeightDecay));
  EXPECT_EQ(d.prepared.step_size, static_cast<float>(kRate / (1 - std::pow(kBeta1, 7.0))));
  EXPECT_EQ(d.prepared.inverse_correction, static_cast<float>(1 / std::sqrt(1 - std::pow(kBeta2, 7.0))));
}

TEST(PrepareUpdateTest, ClipsOnlyLargerNormsAndOnlyWhenAsked) {
  TestDevice device;
  EXPECT_EQ(prepare(device, {.squared_norm = 1, .weight_sum = 2}).prepared.grad_scale, 0.5f);
  EXPECT_EQ(prepare(device, {.squared_norm = 1e6, .weight_sum = 2, .clip_norm = 0}).prepared.grad_scale, 0.5f);
  EXPECT_EQ(prepare(device, {.squared_norm = 0, .weight_sum = 2}).prepared.grad_scale, 0.5f);
  EXPECT_FLOAT_EQ(prepare(device, {.squared_norm = 16, .weight_sum = 2}).prepared.grad_scale, 0.25f);
}

TEST(PrepareUpdateTest, RefusesWhatIsNotFiniteOrHasNoWeight) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const Numbers& n : {Numbers{.squared_norm = inf, .updates = 5}, Numbers{.squared_norm = NAN, .updates = 5},
                           Numbers{.loss_sum = NAN, .updates = 5}, Numbers{.loss_sum = -inf, .updates = 5},
                           Numbers{.weight_sum = 0, .updates = 5}, Numbers{.weight_sum = NAN, .updates = 5}}) {
    TestDevice device;
    const Decision d = prepare(device, n);
    EXPECT_EQ(d.prepared.refused, 1);
    EXPECT_EQ(d.refused, 1);
  }
}

// ------------------------------------------------------------------------------------------------- AdamW

struct State {
  explicit State(int64_t size)
      : values(normal_values(size, 1)),
        gradients(normal_values(size, 2, 5)),
        first(normal_values(size, 3, 0.1)),
        second(uniform_values(size, 4)) {}
  std::vector<float> values, gradients, first, second;
};

struct After {
  std::vector<float> values, first, second, compute;
};

After run(TestDevice& device, const State& s, const std::vector<FlatSpan>& spans, const Numbers& numbers,
          size_t offset = 0) {
  auto prepared = device.buffer<PreparedUpdate>("prepared", 1);
  prepare(device, numbers, prepared);
  const std::vector<UpdateBlock> blocks = make_update_blocks(spans, static_cast<int64_t>(s.values.size()));
  const auto device_blocks = device.input("blocks", blocks);
  const Typed values(device, Element::kFloat32, "values", s.values, offset);
  const Typed gradients(device, Element::kFloat32, "gradients", s.gradients, offset);
  const Typed first(device, Element::kFloat32, "first", s.first, offset);
  const Typed second(device, Element::kFloat32, "second", s.second, offset);
  const Typed compute(device, Element::kBFloat16, "compute", s.values, offset);
  adamw_update({.blocks = device_blocks.data(),
                .num_blocks = static_cast<int64_t>(blocks.size()),
                .values = values.floats(),
                .gradients = gradients.floats(),
                .first_moment = first.floats(),
                .second_moment = second.floats(),
                .compute = compute.data(),
                .prepared = prepared.data(),
                .beta_1 = kBeta1,
                .beta_2 = kBeta2,
                .epsilon = kEpsilon},
               nullptr);
  return {values.download(), first.download(), second.download(), compute.download()};
}

struct Expected {
  std::vector<double> values, first, second;
};

Expected reference(const State& s, const std::vector<FlatSpan>& spans, const Numbers& n) {
  Expected e{widened(s.values), widened(s.first), widened(s.second)};
  const double norm = std::sqrt(n.squared_norm) / n.weight_sum;
  const double scale = (n.clip_norm > 0 && norm > n.clip_norm ? n.clip_norm / norm : 1) / n.weight_sum;
  const auto steps = static_cast<double>(n.updates + 1);
  for (const FlatSpan& span : spans) {
    for (auto i = static_cast<size_t>(span.offset); i < static_cast<size_t>(span.offset + span.size); ++i) {
      const double g = static_cast<double>(s.gradients[i]) * scale;
      e.first[i] = kBeta1 * e.first[i] + (1 - kBeta1) * g;
      e.second[i] = kBeta2 * e.second[i] + (1 - kBeta2) * g * g;
      const double denominator = std::sqrt(e.second[i] / (1 - std::pow(kBeta2, steps))) + kEpsilon;
      e.values[i] = e.values[i] * (span.decay ? 1 - kRate * kWeightDecay : 1) -
                    kRate / (1 - std::pow(kBeta1, steps)) * e.first[i] / denominator;
    }
  }
  return e;
}

void expect_updated(int64_t size, const std::vector<FlatSpan>& spans, size_t offset = 0) {
  SCOPED_TRACE(cat(size, " elements + ", offset));
  const State state(size);
  const Numbers numbers{.squared_norm = 900, .loss_sum = 1, .weight_sum = 7, .updates = 4};
  const Expected expected = reference(state, spans, numbers);
  TestDevice device;
  const After after = run(device, state, spans, numbers, offset);
  const Tolerance exact = tolerance_of(Element::kFloat32);
  EXPECT_TRUE(all_close(after.values, expected.values, exact));
  EXPECT_TRUE(all_close(after.first, expected.first, exact));
  EXPECT_TRUE(all_close(after.second, expected.second, exact));
  EXPECT_EQ(after.compute, rounded(Element::kBFloat16, after.values));
}

TEST(AdamWTest, AgreesWithReference) {
  for (const int64_t size : {0, 1, 31, 33, 541, 4096, 10000}) {
    expect_updated(size, {{0, size, true}});
    expect_updated(size, {{0, size, true}}, 1);
  }
  // Ragged spans, with and without decay, out of order, with gaps and an empty one.
  expect_updated(9000, {{6001, 2999, false}, {3, 1, true}, {5, 4101, false}, {4107, 0, true}, {4110, 10, true}});
}

TEST(AdamWTest, LeavesEverythingAsItWasWhenRefused) {
  const State state(300);
  TestDevice device;
  const After after = run(device, state, {{0, 300, true}}, {.squared_norm = NAN});
  EXPECT_EQ(after.values, state.values);
  EXPECT_EQ(after.first, state.first);
  EXPECT_EQ(after.second, state.second);
  EXPECT_EQ(after.compute, rounded(Element::kBFloat16, state.values));
}

TEST(AdamWTest, BlocksInAnyOrderGiveTheSameBits) {
  const State state(9000);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    const After after = run(device, state, {{0, 5003, true}, {5003, 3997, false}}, {.squared_norm = 4});
    return std::vector<std::vector<float>>{after.values, after.first, after.second, after.compute};
  });
}

TEST(AdamWTest, MovesThirtyBytesPerParameter) {
  const State state(16384);
  TestDevice device;
  run(device, state, {{0, 16384, true}}, {});
  const auto counters = device.counters("adamw");
  EXPECT_LE(counters.sector_factor(), 1.01);
  EXPECT_EQ(counters.global_bytes_written, 16384u * 14);
  EXPECT_LE(counters.global_bytes_read, 16384u * 16 + 4 * 256 * 64);  // the rest: factors, from the caches
}

TEST(UpdateBlocksTest, CoverTheSpansOnce) {
  const std::vector<FlatSpan> spans{{10, 9000, true}, {9010, 5, false}, {0, 3, true}};
  std::vector<int> seen(9100, 0);
  for (const UpdateBlock& block : make_update_blocks(spans, 9100)) {
    EXPECT_GT(block.size, 0);
    for (int64_t i = block.offset; i < block.offset + block.size; ++i) {
      seen[static_cast<size_t>(i)] += 1;
      EXPECT_EQ(block.decay, i < 9010 ? 1 : 0);
    }
  }
  for (int64_t i = 0; i < 9100; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], (i < 3 || (i >= 10 && i < 9015)) ? 1 : 0);
}

TEST(UpdateBlocksTest, BadSpansAreRefused) {
  const auto refused = [](std::vector<FlatSpan> spans) {
    EXPECT_THROW(static_cast<void>(make_update_blocks(spans, 100)), ContractError);
  };
  refused({{-1, 5, true}});
  refused({{0, -5, true}});
  refused({{90, 11, true}});
  refused({{101, 0, true}});
  refused({{std::numeric_limits<int64_t>::max(), 5, true}});
  refused({{5, std::numeric_limits<int64_t>::max(), true}});
  refused({{0, 10, true}, {9, 2, true}});
  refused({{0, 10, true}, {20, 5, true}, {3, 2, true}});
}

TEST(OptimizerArguments, AreChecked) {
  TestDevice device;
  const auto doubles = device.buffer("doubles", std::vector<double>(8, 1.0));
  const auto prepared = device.buffer<PreparedUpdate>("prepared", 1);
  double* d = doubles.data();
  const PrepareUpdate good{.squared_norm = d,
                           .loss_sum = d,
                           .weight_sum = d,
                           .learning_rate = d,
                           .updates = d,
                           .prepared = prepared.data(),
                           .outcome = d};
  const auto refused = [&](auto change) {
    PrepareUpdate bad = good;
    change(bad);
    EXPECT_THROW(prepare_update(bad, nullptr), ContractError);
  };
  refused([](auto& c) { c.squared_norm = nullptr; });
  refused([](auto& c) { c.loss_sum = nullptr; });
  refused([](auto& c) { c.weight_sum = nullptr; });
  refused([](auto& c) { c.learning_rate = nullptr; });
  refused([](auto& c) { c.updates = nullptr; });
  refused([](auto& c) { c.prepared = nullptr; });
  refused([](auto& c) { c.outcome = nullptr; });
  refused([](auto& c) { c.beta_1 = 1; });
  refused([](auto& c) { c.beta_2 = -1; });
  const auto floats = device.buffer("floats", std::vector<float>(8, 1.0f));
  const auto blocks = device.input("blocks", std::vector<UpdateBlock>{{0, 4, 1}});
  float* p = floats.data();
  const AdamWUpdate update{.blocks = blocks.data(),
                           .num_blocks = 1,
                           .values = p,
                           .gradients = p,
                           .first_moment = p,
                           .second_moment = p,
                           .prepared = prepared.data()};
  const auto update_refused = [&](auto change) {
    AdamWUpdate bad = update;
    change(bad);
    EXPECT_THROW(adamw_update(bad, nullptr), ContractError);
  };
  update_refused([](auto& c) { c.num_blocks = -1; });
  update_refused([](auto& c) { c.blocks = nullptr; });
  update_refused([](auto& c) { c.values = nullptr; });
  update_refused([](auto& c) { c.gradients = nullptr; });
  update_refused([](auto& c) { c.first_moment = nullptr; });
  update_refused([](auto& c) { c.second_moment = nullptr; });
  update_refused([](auto& c) { c.prepared = nullptr; });
}

}  // namespace
}  // namespace gato::kernel_tests
