// Whole training steps: bf16 beside fp32, recomputation, memory in the steady state.
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/kernels/memory.h"
#include "gato/kernels/optimizer.h"
#include "gato/model/decoder.h"
#include "model/small_model.h"

namespace gato::model {
namespace {

using namespace testing;

/// A model with the optimizer's state.
struct Trained {
  explicit Trained(const ModelConfig& config, uint64_t seed = 5) : model(config, small_shape(), seed) {
    first = at::zeros_like(model.store().values());
    second = at::zeros_like(first);
    for (const Segment& s : model.store().segments()) spans.push_back({s.offset, s.size, s.decay});
  }

  /// One update; returns the mean loss.
  double step(const SmallBatch& batch, const ForwardOptions& options = {}) {
    const double weight = batch.where.weights.sum().item<double>();
    model.store().zero_gradients();
    const LossResult result = model.loss(batch.input, batch.where, options);
    model.backward(result.loss);
    model.store().update(first, second, spans, {.learning_rate = 1e-2, .step = ++steps, .grad_scale = 1 / weight});
    return result.loss.item<double>() / weight;
  }

  Model model;
  at::Tensor first, second;
  std::vector<kernels::UpdateSpan> spans;
  int64_t steps = 0;
};

ModelConfig bf16_config() {
  ModelConfig config = small_config();
  config.precision = Precision::kBf16;
  return config;
}

TEST(Bf16ModelTest, LossAndGradientsFollowTheFp32Model) {
  for (const PositionEncoding position :
       {PositionEncoding::kRotary, PositionEncoding::kNone, PositionEncoding::kRelative}) {
    ModelConfig config = small_config();
    config.position = position;
    Model exact(config, small_shape(), 7);
    config.precision = Precision::kBf16;
    Model fast(config, small_shape(), 7);
    EXPECT_TRUE(same_bits(exact.store().values(), fast.store().values()));
    const SmallBatch batch = small_batch(3, 41, 11);
    EXPECT_EQ(fast.forward(batch.input).scalar_type(), at::kBFloat16);
    const LossResult a = exact.loss(batch.input, batch.where), b = fast.loss(batch.input, batch.where);
    EXPECT_NEAR(b.loss.item<double>() / a.loss.item<double>(), 1, 5e-3);
    exact.backward(a.loss);
    fast.backward(b.loss);
    for (const Segment& segment : exact.store().segments()) {
      const at::Tensor wanted = exact.store().parameter(segment.name).gradient;
      const at::Tensor got = fast.store().parameter(segment.name).gradient;
      // A convolution's bias in front of a GroupNorm of one channel per group has no gradient but rounding errors.
      if (wanted.norm().item<double>() < 1e-4 * exact.store().gradients().norm().item<double>()) continue;
      const double cosine = (wanted * got).sum().item<double>() /
                            std::sqrt(wanted.square().sum().item<double>() * got.square().sum().item<double>());
      EXPECT_GT(cosine, 0.998) << segment.name;
      EXPECT_NEAR(got.norm().item<double>() / wanted.norm().item<double>(), 1, 0.03) << segment.name;
    }
  }
}

TEST(Bf16ModelTest, TheCopyStaysInStepWithTheMaster) {
  Trained trained(bf16_config());
  ParameterStore& store = trained.model.store();
  EXPECT_TRUE(same_bits(store.compute(), store.values().to(at::kBFloat16)));
  trained.step(small_batch(2, 24, 21));
  trained.step(small_batch(2, 24, 22));
  EXPECT_TRUE(same_bits(store.compute(), store.values().to(at::kBFloat16)));
  store.values().mul_(2);
  store.values_changed();
  EXPECT_TRUE(same_bits(store.compute(), store.values().to(at::kBFloat16)));
  EXPECT_FALSE(Model(small_config(), small_shape(), 1).store().compute().defined());
}

TEST(Bf16ModelTest, OverfitsOneTinyBatch) {
  Trained trained(bf16_config());
  SmallBatch batch = small_batch(2, 24, 21);
  batch.where.weights = at::ones_like(batch.where.weights);
  double last = 0;
  for (int step = 0; step < 150; ++step) last = trained.step(batch);
  EXPECT_LT(last, 0.03);
}

TEST(Bf16ModelTest, SameSeedSameBits) {
  const SmallBatch batch = small_batch(3, 64, 2);
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    Trained a(bf16_config()), b(bf16_config());
    for (int step = 0; step < 3; ++step) {
      a.step(batch);
      b.step(batch);
    }
    EXPECT_TRUE(same_bits(a.model.store().values(), b.model.store().values()));
  }
  at::set_num_threads(1);
}

TEST(Bf16ModelTest, DecoderGivesWhatForwardGives) {
  const Model model(bf16_config(), small_shape(), 7, Model::Purpose::kInference);
  ModelInput in;
  in.ids = random_integers({1, 20}, 0, 90, 1, at::kInt);
  in.sequence_starts = at::zeros({1, 20}, at::kInt);
  in.local_positions = at::full({1, 20}, -1, at::kInt);
  const at::Tensor expected = model.logits(model.forward(in), 40, 32);
  EXPECT_EQ(expected.scalar_type(), at::kFloat);
  Decoder decoder(model, 1, 20);
  const std::vector<int16_t> local(20, -1);
  const auto* ids = in.ids.const_data_ptr<int32_t>();
  for (size_t at = 0; at < 20;) {
    const size_t count = std::min<size_t>(20 - at, 1 + at % 3);
    const DecoderInput input{{ids + at, count}, {local.data() + at, count}, {}, {}, {}};
    const at::Tensor hidden = decoder.append(std::vector<int64_t>{0}, std::vector<DecoderInput>{input});
    at += count;
    const at::Tensor wanted = expected.slice(0, static_cast<int64_t>(at) - 1, static_cast<int64_t>(at));
    // Products of other shapes round otherwise at every layer.
    EXPECT_TRUE(all_close(decoder.logits(hidden, 40, 32), wanted, tolerance_of(at::kBFloat16).times(3)));
  }
}

TEST(RecomputeTest, GradientsHaveTheSameBitsAndThePeakIsSmaller) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    ModelConfig config = small_config();
    config.layers = 6;
    config.width = 64;
    config.hidden = 256;
    config.precision = precision;
    config.stochastic_depth = 0.3;
    config.dropout = 0.1;
    SmallBatch batch = small_batch(4, 128, 3, 40);
    batch.input.ids = batch.input.ids.clamp_min(0);  // no patches, whose part is not computed again
    batch.input.patch_index = at::Tensor();
    const kernels::CachingMemory memory;
    Model model(config, small_shape(), 7);
    std::vector<at::Tensor> gradients;
    std::vector<int64_t> peaks;
    for (const bool recompute : {false, true}) {
      const ForwardOptions options{.training = true, .seed = 3, .step = 4, .recompute = recompute};
      model.store().zero_gradients();
      model.backward(model.loss(batch.input, batch.where, options, 2).loss);  // once, for what is made once
      model.store().zero_gradients();
      const int64_t before = kernels::memory_statistics().in_use;
      kernels::reset_peak_memory();
      const LossResult result = model.loss(batch.input, batch.where, options, 2);
      model.backward(result.loss);
      peaks.push_back(kernels::memory_statistics().peak - before);
      gradients.push_back(model.store().gradients().clone());
    }
    EXPECT_TRUE(same_bits(gradients[0], gradients[1]));
    EXPECT_GT(gradients[0].abs().max().item<float>(), 0);
    EXPECT_LT(peaks[1], peaks[0] / 2) << peaks[0] << " bytes without recomputation";
  }
}

TEST(RecomputeTest, WorksWithRelativePositionsAndWithoutGradients) {
  ModelConfig config = small_config();
  config.position = PositionEncoding::kRelative;
  Model model(config, small_shape(), 7);
  const SmallBatch batch = small_batch(2, 40, 3);
  model.backward(model.loss(batch.input, batch.where).loss);
  const at::Tensor wanted = model.store().gradients().clone();
  model.store().zero_gradients();
  model.backward(model.loss(batch.input, batch.where, {.recompute = true}).loss);
  EXPECT_TRUE(same_bits(model.store().gradients(), wanted));
  const c10::AutoGradMode off(false);
  EXPECT_TRUE(same_bits(model.forward(batch.input, {.recompute = true}), model.forward(batch.input)));
}

TEST(SteadyStateTest, TrainingAsksTheSystemForNothingAfterTwoSteps) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    ModelConfig config = small_config();
    config.width = 128;
    config.hidden = 512;
    config.precision = precision;
    config.stochastic_depth = 0.1;
    const SmallBatch batch = small_batch(4, 128, 3, 40);
    const kernels::CachingMemory memory;
    Trained trained(config);
    for (int64_t step = 0; step < 2; ++step) trained.step(batch, {.training = true, .step = step});
    const kernels::MemoryStatistics before = kernels::memory_statistics();
    for (int64_t step = 2; step < 6; ++step) trained.step(batch, {.training = true, .step = step});
    const kernels::MemoryStatistics after = kernels::memory_statistics();
    EXPECT_EQ(after.system_blocks, before.system_blocks);
    EXPECT_GT(after.requests, before.requests + 40);  // it does count them
    EXPECT_EQ(after.in_use, before.in_use);
  }
}

}  // namespace
}  // namespace gato::model
