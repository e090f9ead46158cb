// Training on a GPU beside the CPU, and the same bits twice.
#include "gato/kernels/attention_route.h"
#include "gato/kernels/optimizer.h"
#include "model/small_model.h"
#include "support/gpu.h"

namespace gato::model {
namespace {

using namespace testing;

class ModelGpuTest : public gato::testing::GpuTest {
 protected:
  void TearDown() override { kernels::set_attention_route(kernels::AttentionRoute::kAuto); }
};

SmallBatch on_device(SmallBatch batch, at::Device device) {
  for (at::Tensor* x : {&batch.input.ids, &batch.input.sequence_starts, &batch.input.local_positions,
                        &batch.input.patch_index, &batch.input.patches, &batch.input.patch_rows,
                        &batch.input.patch_columns, &batch.where.positions, &batch.where.targets, &batch.where.weights})
    *x = x->to(device);
  return batch;
}

struct Trained {
  std::vector<double> losses, norms;
  at::Tensor values;
};

Trained train(Precision precision, at::Device device, int64_t steps) {
  ModelConfig config = small_config();
  config.width = 96;
  config.heads = 3;
  config.head_dim = 32;
  config.precision = precision;
  config.stochastic_depth = 0.1;
  Model model(config, small_shape(), 3, Model::Purpose::kTraining, device);
  const at::Tensor first = at::zeros_like(model.store().values()), second = at::zeros_like(first);
  std::vector<kernels::UpdateSpan> spans;
  for (const Segment& s : model.store().segments()) spans.push_back({s.offset, s.size, s.decay});
  const SmallBatch batch = on_device(small_batch(4, 200, 9, 70), device);
  const double weight = batch.where.weights.sum().item<double>();
  Trained result;
  for (int64_t step = 1; step <= steps; ++step) {
    model.store().zero_gradients();
    ForwardOptions options;
    options.training = true;
    options.step = step;
    const LossResult loss = model.loss(batch.input, batch.where, options, 2.0);
    model.backward(loss.loss);
    result.losses.push_back(loss.loss.item<double>() / weight);
    result.norms.push_back(std::sqrt(kernels::squared_norm(model.store().gradients())) / weight);
    model.store().update(first, second, spans, {.learning_rate = 3e-3, .step = step, .grad_scale = 1 / weight});
  }
  result.values = model.store().values().cpu();
  return result;
}

TEST_F(ModelGpuTest, FollowsTheCpu) {
  for (const auto& [precision, tolerance] : {std::pair{Precision::kFp32, 1e-4}, std::pair{Precision::kBf16, 1e-2}}) {
    const Trained cpu = train(precision, at::kCPU, 5);
    for (const auto route : {kernels::AttentionRoute::kOwn, kernels::AttentionRoute::kFlash}) {
      if (precision == Precision::kFp32 && route == kernels::AttentionRoute::kFlash) continue;  // takes bf16 only
      kernels::set_attention_route(route);
      const Trained gpu = train(precision, device(), 5);
      kernels::set_attention_route(kernels::AttentionRoute::kAuto);
      for (size_t step = 0; step < cpu.losses.size(); ++step) {
        EXPECT_NEAR(gpu.losses[step], cpu.losses[step], tolerance * cpu.losses[step])
            << kernels::route_name(route) << ", step " << step;
        EXPECT_NEAR(gpu.norms[step], cpu.norms[step], 10 * tolerance * cpu.norms[step])
            << kernels::route_name(route) << ", step " << step;
      }
      EXPECT_LT(gpu.losses.back(), gpu.losses.front());
    }
  }
}

TEST_F(ModelGpuTest, OwnKernelsGiveTheSameBitsAgain) {
  kernels::set_attention_route(kernels::AttentionRoute::kOwn);
  const Trained a = train(Precision::kBf16, device(), 4), b = train(Precision::kBf16, device(), 4);
  EXPECT_TRUE(same_bits(a.values, b.values));
}

}  // namespace
}  // namespace gato::model
