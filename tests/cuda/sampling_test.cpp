#include "kernels/cuda/sampling.h"

#include <algorithm>
#include <span>

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

using kernels::Choice;
using kernels::choose_token;
using kernels::TokenChoice;

/// A batch of slots whose logits lie `padding` apart, ids of the columns counted from `first_id`.
struct Batch {
  Element element = Element::kFloat32;
  int64_t columns = 0, padding = 0, first_id = 0;
  std::vector<float> logits;
  std::vector<TokenChoice> requests;

  [[nodiscard]] std::vector<int32_t> expected() const {
    std::vector<int32_t> ids;
    for (size_t slot = 0; slot < requests.size(); ++slot) {
      const TokenChoice& r = requests[slot];
      const float* row = logits.data() + static_cast<int64_t>(slot) * (columns + padding) + r.first_id - first_id;
      ids.push_back(choose_token(r, {row, static_cast<size_t>(r.num_ids)}));
    }
    return ids;
  }
};

std::vector<int32_t> run(TestDevice& device, const Batch& b) {
  const Typed logits(device, b.element, "logits", b.logits);
  const auto requests = device.input("requests", b.requests);
  const auto slots = static_cast<int64_t>(b.requests.size());
  const auto ids = device.buffer<int32_t>("ids", b.requests.size());
  const auto workspace = device.buffer<std::byte>("workspace", sampling_workspace(slots, b.columns));
  sample_ids({.element = b.element,
              .slots = slots,
              .columns = b.columns,
              .stride = b.columns + b.padding,
              .first_id = b.first_id,
              .logits = logits.data(),
              .requests = requests.data(),
              .ids = ids.data(),
              .workspace = workspace.data()},
             nullptr);
  return ids.download();
}

Batch make_batch(Element element, int64_t slots, int64_t columns, uint64_t seed) {
  Batch b{element, columns, 3, 100, {}, {}};
  b.logits = rounded(element, normal_values(slots * (columns + 3), seed, 2));
  Rng rng(seed + 1);
  for (int64_t slot = 0; slot < slots; ++slot) {
    TokenChoice r;
    const auto first = static_cast<int32_t>(rng.below(columns));
    r.first_id = static_cast<int32_t>(b.first_id) + first;
    r.num_ids = static_cast<int32_t>(1 + rng.below(columns - first));
    r.choice = rng.below(5) == 0 ? Choice::kGreedy : Choice::kSample;
    r.temperature = std::exp(rng.uniform(-2, 2));
    r.top_p = rng.below(3) == 0 ? 1.0 : 1 - rng.uniform();
    r.uniform = rng.uniform();
    b.requests.push_back(r);
  }
  return b;
}

TEST(SamplingTest, ChoosesWhatTheCpuChooses) {
  for (const Element element : {Element::kFloat32, Element::kBFloat16, Element::kFloat16}) {
    for (const int64_t columns : {1, 2, 31, 33, 541, 1500}) {
      const Batch b = make_batch(element, columns > 541 ? 10 : 30, columns, 7);
      TestDevice device;
      EXPECT_EQ(run(device, b), b.expected()) << element_name(element) << " " << columns;
    }
  }
}

TEST(SamplingTest, WholeVocabulary) {
  Batch b = make_batch(Element::kFloat32, 6, 32000, 3);
  for (size_t i = 0; i < b.requests.size(); ++i) {
    b.requests[i] = {
        100, 32000, Choice::kSample, i < 3 ? 1.0 : 0.3, i % 3 == 0 ? 1.0 : 0.9, 0.17 * static_cast<double>(i)};
  }
  TestDevice device;
  EXPECT_EQ(run(device, b), b.expected());
}

TEST(SamplingTest, EqualLogitsAreKeptInTheOrderOfIds) {
  // bf16 logits of few values: the nucleus ends among equals.
  Batch b = make_batch(Element::kBFloat16, 200, 300, 5);
  for (float& logit : b.logits) logit = std::round(logit);
  TestDevice device;
  EXPECT_EQ(run(device, b), b.expected());
}

TEST(SamplingTest, GreedyTakesTheFirstOfEquals) {
  Batch b{Element::kFloat32, 1000, 0, 0, std::vector<float>(3000, 1.0f), {}};
  for (const size_t i : {1700, 1701, 1100}) b.logits[i] = 2;
  b.logits[2005] = 0.0f;
  for (int i = 0; i < 3; ++i) b.requests.push_back({0, 1000, Choice::kGreedy});
  b.logits[2000] = NAN;  // never the likeliest
  TestDevice device;
  EXPECT_EQ(run(device, b), (std::vector<int32_t>{0, 100, 1}));
}

TEST(SamplingTest, MinusZeroEqualsZero) {
  Batch b{Element::kFloat32, 4, 0, 0, {-1, -0.0f, 0.0f, -2}, {{0, 4, Choice::kGreedy}}};
  TestDevice device;
  EXPECT_EQ(run(device, b), (std::vector<int32_t>{1}));
}

TEST(SamplingTest, MeanOfTheBins) {
  Batch b{Element::kFloat32, 1024 + 50, 0, 31990, normal_values(40 * 1074, 3, 3), {}};
  for (int slot = 0; slot < 40; ++slot) {
    b.requests.push_back({32000, 1024, Choice::kMean, slot % 2 == 0 ? 1.0 : 0.2});
    // A bump somewhere, so that means spread over the bins.
    for (int i = 0; i < 30; ++i) b.logits[static_cast<size_t>(slot * 1074 + 10 + (slot * 53 + i) % 1024)] += 6;
  }
  TestDevice device;
  EXPECT_EQ(run(device, b), b.expected());
}

TEST(SamplingTest, ExtremesOfTheUniformNumberAndOfTopP) {
  Batch b = make_batch(Element::kFloat32, 40, 100, 9);
  for (size_t i = 0; i < b.requests.size(); ++i) {
    b.requests[i].choice = Choice::kSample;
    // Nearer to 1 than the sum of the CPU's roundings, the CPU would take the likeliest id instead of the last.
    b.requests[i].uniform = i % 2 == 0 ? 0.0 : 1 - 1e-9;
    b.requests[i].top_p = i % 4 < 2 ? 1e-12 : 1.0;
    b.requests[i].temperature = 1;
  }
  TestDevice device;
  EXPECT_EQ(run(device, b), b.expected());
}

TEST(SamplingTest, LogitsOfMinusInfinityAreNeverDrawn) {
  Batch b = make_batch(Element::kFloat32, 50, 64, 9);
  for (size_t i = 0; i < b.logits.size(); ++i) {
    if (i % 67 % 3 != 0) b.logits[i] = -INFINITY;
  }
  for (TokenChoice& r : b.requests) {
    r.first_id = 100;
    r.num_ids = 64;
    r.choice = Choice::kSample;
  }
  TestDevice device;
  EXPECT_EQ(run(device, b), b.expected());
}

TEST(SamplingTest, WithoutAnyLikelyIdTheFirstIsTaken) {
  for (const float nothing : {-INFINITY, NAN}) {
    for (const Choice choice : {Choice::kGreedy, Choice::kSample}) {
      Batch b{Element::kFloat32, 70, 0, 0, std::vector<float>(70, nothing), {{10, 60, choice}}};
      TestDevice device;
      EXPECT_EQ(run(device, b), (std::vector<int32_t>{10}));
    }
  }
}

TEST(SamplingTest, ImpossibleRequestsGiveMinusOne) {
  Batch b{Element::kFloat32, 1024, 0, 100, std::vector<float>(10 * 1024, 0.0f), {}};
  b.requests = {{99, 5},
                {1100, 100},
                {100, 0},
                {100, -3},
                {100, 1025},
                {100, 5, Choice::kSample, 0.0},
                {100, 5, Choice::kSample, std::nan("")},
                {100, 5, Choice::kMean},
                {2147483647, 2147483647},
                {100, 1024, Choice::kMean}};
  TestDevice device;
  const std::vector<int32_t> ids = run(device, b);
  for (size_t i = 0; i < 9; ++i) EXPECT_EQ(ids[i], -1) << i;
  EXPECT_EQ(ids[9], 100 + 512);
}

TEST(SamplingTest, UniformNumbersOutOfRangeTakeTheEnds) {
  Batch b{Element::kFloat32, 5, 0, 0, std::vector<float>(25, 0.5f), {}};
  for (const double uniform : {-1.0, 1.0, 1e300, static_cast<double>(INFINITY), std::nan("")}) {
    b.requests.push_back({0, 5, Choice::kSample, 1.0, 1.0, uniform});
  }
  TestDevice device;
  EXPECT_EQ(run(device, b), (std::vector<int32_t>{0, 4, 4, 4, 0}));
}

TEST(SamplingTest, FrequenciesAreTheProbabilities) {
  Batch b{Element::kFloat32, 4, 0, 0, {}, {}};
  Rng rng(3);
  constexpr int kDraws = 800;
  for (int i = 0; i < kDraws; ++i) {
    for (const double p : {0.1, 0.2, 0.3, 0.4}) b.logits.push_back(static_cast<float>(std::log(p)));
    b.requests.push_back({0, 4, Choice::kSample, 1.0, 1.0, rng.uniform()});
  }
  TestDevice device;
  std::vector<int> counts(4, 0);
  for (const int32_t id : run(device, b)) counts[static_cast<size_t>(id)] += 1;
  for (size_t i = 0; i < 4; ++i) {
    const double p = 0.1 * static_cast<double>(i + 1);
    EXPECT_NEAR(counts[i], kDraws * p, 4 * std::sqrt(kDraws * p * (1 - p)));
  }
}

TEST(SamplingTest, EverySlotGoesByTheRequestOfItsRound) {
  Batch b{Element::kFloat32, 40, 0, 0, normal_values(3 * 40, 5), {}};
  for (int i = 0; i < 3 * 3; ++i) b.requests.push_back({4 * i, 5, Choice::kGreedy});
  const std::vector<int32_t> round = {2, 0, 1};
  TestDevice device;
  const auto logits = device.input("logits", b.logits);
  const auto requests = device.input("requests", b.requests);
  const auto rounds = device.input("round", round);
  const auto ids = device.buffer<int32_t>("ids", 3);
  const auto workspace = device.buffer<std::byte>("workspace", sampling_workspace(3, 40));
  sample_ids({.slots = 3,
              .columns = 40,
              .stride = 40,
              .logits = logits.data(),
              .requests = requests.data(),
              .round = rounds.data(),
              .ids = ids.data(),
              .workspace = workspace.data()},
             nullptr);
  const std::vector<int32_t> chosen = ids.download();
  for (size_t slot = 0; slot < 3; ++slot) {
    const TokenChoice& r = b.requests[static_cast<size_t>(round[slot]) * 3 + slot];
    EXPECT_EQ(chosen[slot],
              choose_token(r, std::span(b.logits).subspan(slot * 40 + static_cast<size_t>(r.first_id), 5)));
  }
}

TEST(FeedBackTest, AdvancesThoseThatTakePart) {
  // Slots: goes on, ends, takes no part, was at its end before, has no possible choice, is beyond its rounds.
  const std::vector<SlotRun> before = {{3, 10, 1, 0}, {0, 4, 1, 1}, {5, 7, 0, 2},
                                       {1, 0, 0, 3},  {2, 9, 1, 4}, {4, 2, 1, 5}};
  const int32_t n = 6, rounds = 3;
  std::vector<TokenChoice> requests(static_cast<size_t>(n * rounds));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].local_position = static_cast<int32_t>(i);
    requests[i].end_id = 77;
  }
  TestDevice device;
  const auto on_device = device.input("requests", requests);
  const auto ids = device.input("ids", std::vector<int32_t>{5, 77, 6, 7, -1, 8});
  const auto round = device.buffer("round", std::vector<int32_t>{1, 0, 0, 2, 2, 3});
  const auto runs = device.buffer("runs", before);
  const auto positions = device.buffer("local_positions", std::vector<int32_t>(n, -5));
  const auto chosen = device.buffer("chosen", std::vector<int32_t>(n * rounds, -7));
  feed_back({.slots = n,
             .rounds = rounds,
             .requests = on_device.data(),
             .ids = ids.data(),
             .round = round.data(),
             .runs = runs.data(),
             .local_positions = positions.data(),
             .chosen = chosen.data()},
            nullptr);
  EXPECT_EQ(round.download(), (std::vector<int32_t>{2, 1, 0, 2, 3, 3}));
  EXPECT_EQ(positions.download(), (std::vector<int32_t>{6, 1, -5, -5, 16, -5}));
  std::vector<int32_t> expected(n * rounds, -7);
  expected[6] = 5;
  expected[1] = 77;
  expected[16] = -1;
  EXPECT_EQ(chosen.download(), expected);
  const std::vector<SlotRun> after = runs.download();
  const std::vector<int32_t> position = {11, 5, 7, 0, 10, 2}, count = {1, 0, 0, 0, 0, 1};
  for (size_t slot = 0; slot < before.size(); ++slot) {
    EXPECT_EQ(after[slot].position, position[slot]) << slot;
    EXPECT_EQ(after[slot].count, count[slot]) << slot;
    EXPECT_EQ(after[slot].slot, before[slot].slot) << slot;
    EXPECT_EQ(after[slot].first, before[slot].first) << slot;
  }
}

TEST(FeedBackArguments, AreChecked) {
  TestDevice device;
  const auto requests = device.input("requests", std::vector<TokenChoice>(1));
  const auto numbers = device.buffer("numbers", std::vector<int32_t>(4, 0));
  const auto runs = device.buffer("runs", std::vector<SlotRun>(1));
  const FeedBack good{.slots = 1,
                      .rounds = 1,
                      .requests = requests.data(),
                      .ids = numbers.data(),
                      .round = numbers.data(),
                      .runs = runs.data(),
                      .local_positions = numbers.data(),
                      .chosen = numbers.data()};
  const auto refused = [&](auto change) {
    FeedBack bad = good;
    change(bad);
    EXPECT_THROW(feed_back(bad, nullptr), ContractError);
  };
  refused([](auto& c) { c.slots = -1; });
  refused([](auto& c) { c.rounds = -1; });
  refused([](auto& c) { c.requests = nullptr; });
  refused([](auto& c) { c.ids = nullptr; });
  refused([](auto& c) { c.round = nullptr; });
  refused([](auto& c) { c.runs = nullptr; });
  refused([](auto& c) { c.local_positions = nullptr; });
  refused([](auto& c) { c.chosen = nullptr; });
}

TEST(SamplingOrder, BlocksAndWarpsInAnyOrderGiveTheSameIds) {
  const Batch b = make_batch(Element::kBFloat16, 9, 1100, 2);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    std::vector<float> ids;
    for (const int32_t id : run(device, b)) ids.push_back(static_cast<float>(id));
    return std::vector<std::vector<float>>{ids};
  });
}

TEST(SamplingArguments, AreChecked) {
  TestDevice device;
  const auto floats = device.buffer("floats", std::vector<float>(64, 1.0f));
  const auto requests = device.input("requests", std::vector<TokenChoice>(1));
  const auto ids = device.buffer<int32_t>("ids", 1);
  const Sampling good{.slots = 1,
                      .columns = 4,
                      .stride = 4,
                      .logits = floats.data(),
                      .requests = requests.data(),
                      .ids = ids.data(),
                      .workspace = floats.data()};
  const auto refused = [&](auto change) {
    Sampling bad = good;
    change(bad);
    EXPECT_THROW(sample_ids(bad, nullptr), ContractError);
  };
  refused([](auto& c) { c.slots = -1; });
  refused([](auto& c) { c.columns = 0; });
  refused([](auto& c) { c.stride = 3; });
  refused([](auto& c) { c.first_id = -1; });
  refused([](auto& c) { c.logits = nullptr; });
  refused([](auto& c) { c.requests = nullptr; });
  refused([](auto& c) { c.ids = nullptr; });
  refused([](auto& c) { c.workspace = nullptr; });
}

}  // namespace
}  // namespace gato::kernel_tests
