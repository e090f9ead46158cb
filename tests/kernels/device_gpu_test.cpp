// Every operation on a GPU beside the same operation on the CPU, at sizes of real models.
#include <torch/csrc/autograd/autograd.h>

#include "gato/kernels/attention_route.h"
#include "gato/kernels/cross_entropy.h"
#include "gato/kernels/dropout.h"
#include "gato/kernels/geglu.h"
#include "gato/kernels/layer_norm.h"
#include "gato/kernels/linear.h"
#include "gato/kernels/optimizer.h"
#include "gato/kernels/patch_embedder.h"
#include "gato/kernels/relative_attention.h"
#include "support/gpu.h"
#include "support/tensor_compare.h"

namespace gato::kernels {
namespace {

using namespace gato::testing;

class DeviceGpuTest : public GpuTest {
 protected:
  [[nodiscard]] Parameter parameter(at::IntArrayRef sizes, uint64_t seed, at::Device where) const {
    const at::Tensor value = random_normal(sizes, seed).mul_(0.1).to(where);
    return {value, at::zeros_like(value), value.to(at::kBFloat16)};
  }
};

/// Results and gradients of `run` on the CPU and on the GPU agree.
using Run = std::function<std::vector<at::Tensor>(at::Device)>;
void expect_same(const Run& run, at::Device gpu, Tolerance tolerance) {
  const std::vector<at::Tensor> expected = run(at::kCPU), actual = run(gpu);
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(all_close(actual[i].cpu(), expected[i], tolerance)) << "result " << i;
  }
}

TEST_F(DeviceGpuTest, NormsFollowTheCpu) {
  for (const int64_t width : {100, 768, 1536, 2048}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      expect_same(
          [&](at::Device where) {
            const Parameter gain = parameter({width}, 1, where), offset = parameter({width}, 2, where);
            at::Tensor x = random_normal({600, width}, 3).to(where).requires_grad_(true);
            at::Tensor delta = random_normal({600, width}, 4).to(where, type).requires_grad_(true);
            const at::Tensor factors = at::tensor({0.0f, 1.25f, 1.25f}).to(where);
            const auto [sum, y] = residual_layer_norm(x, delta, factors, gain, offset);
            torch::autograd::backward(
                {sum.sum() + (y.to(at::kFloat) * random_normal({600, width}, 5).to(where)).sum()});
            return std::vector<at::Tensor>{sum.detach(), y.detach(),    x.grad(),
                                           delta.grad(), gain.gradient, offset.gradient};
          },
          device(), tolerance_of(type).times(20));  // the parameters' gradients sum 600 rows
    }
  }
}

TEST_F(DeviceGpuTest, FeedForwardFollowsTheCpu) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    expect_same(
        [&](at::Device where) {
          const Parameter up = parameter({3072, 768}, 1, where), bias = parameter({3072}, 2, where);
          at::Tensor x = random_normal({512, 768}, 3).to(where, type).requires_grad_(true);
          const at::Tensor y = geglu(linear(x, up, bias));
          torch::autograd::backward({(y.to(at::kFloat) * random_normal({512, 1536}, 4).to(where)).sum()});
          return std::vector<at::Tensor>{y.detach(), x.grad(), up.gradient, bias.gradient};
        },
        device(), tolerance_of(type).times(100));  // sums of 512 and 3072 products of order 1
  }
}

TEST_F(DeviceGpuTest, HeadFollowsTheCpu) {
  for (const int64_t max_logits : {int64_t{1} << 24, int64_t{33025} * 40}) {
    expect_same(
        [&](at::Device where) {
          const Parameter table = parameter({33025, 256}, 1, where);
          at::Tensor hidden = random_normal({400, 256}, 2).to(where).requires_grad_(true);
          const at::Tensor places = at::arange(0, 400, 3).to(where);
          const int64_t count = places.size(0);
          const at::Tensor targets = random_integers({count}, 0, 33025, 3).to(where);
          const at::Tensor weights = random_normal({count}, 4).abs().to(where);
          const CrossEntropyResult result =
              head_cross_entropy(hidden, table, places, targets, weights, {32000, 1024, 4.0}, max_logits);
          torch::autograd::backward({result.loss});
          return std::vector<at::Tensor>{result.loss.detach(), result.nll, hidden.grad(), table.gradient};
        },
        device(), tolerance_of(at::kFloat).times(50));
  }
}

TEST_F(DeviceGpuTest, EveryRouteOfAttentionAgreesWithTheReference) {
  for (const int64_t head_dim : {32, 64, 128}) {
    for (const int64_t tokens : {1, 33, 541, 1024}) {
      const at::Tensor qkv = random_normal({2, tokens, 3, 4, head_dim}, 1).to(device(), at::kBFloat16);
      const at::Tensor starts = random_sequence_starts(2, tokens, 300, 2).to(device());
      RotaryTable rotary = make_rotary_table(tokens, head_dim, 10000);
      rotary = {rotary.cosine.to(device()), rotary.sine.to(device())};
      for (const AttentionTrial& trial : try_attention_routes(qkv, {starts}, rotary)) {
        if (trial.route == AttentionRoute::kCudnn && trial.problem.compare(0, 5, "fails") == 0)
          continue;  // may be absent; auto passes over it
        EXPECT_EQ(trial.problem, "") << route_name(trial.route) << ", " << tokens << " tokens, heads of " << head_dim;
      }
    }
  }
}

TEST_F(DeviceGpuTest, RelativePositionsFollowTheCpu) {
  expect_same(
      [&](at::Device where) {
        const auto leaf = [&](at::IntArrayRef sizes, uint64_t seed) {
          return random_normal(sizes, seed).to(where).requires_grad_(true);
        };
        const at::Tensor qkv = leaf({2, 150, 3, 3, 32}, 1), distances = leaf({150, 3, 32}, 2);
        const RelativeBiases biases{parameter({3, 32}, 3, where), parameter({3, 32}, 4, where)};
        const at::Tensor starts = random_sequence_starts(2, 150, 60, 5).to(where);
        const at::Tensor y = relative_attention(qkv, starts, distances, biases);
        torch::autograd::backward({(y * random_normal(y.sizes(), 6).to(where)).sum()});
        return std::vector<at::Tensor>{y.detach(), qkv.grad(), distances.grad(), biases.content.gradient,
                                       biases.position.gradient};
      },
      device(), tolerance_of(at::kFloat).times(50));  // gradients of distances and biases are sums
}

/// Where LibTorch's GroupNorm and cuDNN's convolutions disagree about the order of features, it shows here.
TEST_F(DeviceGpuTest, PatchesFollowTheCpuAndGiveTheSameBitsAgain) {
  for (const auto& [channels, groups] : {std::pair<int64_t, int64_t>{24, 24}, {32, 8}}) {
    for (const int64_t stride : {1, 2}) {
      const kernels::Run run = [&, channels = channels, groups = groups](at::Device where) {
        const auto of = [&](at::IntArrayRef sizes, uint64_t seed) { return parameter(sizes, seed, where); };
        const auto gain = [&](uint64_t seed) {
          const Parameter small = of({channels}, seed);
          return Parameter{small.value + 1, small.gradient};
        };
        const PatchEmbedderParameters p{of({channels, 3, 3, 3}, 1),
                                        of({channels}, 2),
                                        gain(3),
                                        of({channels}, 4),
                                        of({channels, channels, 3, 3}, 5),
                                        of({channels}, 6),
                                        gain(7),
                                        of({channels}, 8),
                                        of({channels, channels, 3, 3}, 9),
                                        of({channels}, 10),
                                        of({64, channels * 16}, 11),
                                        of({64}, 12)};
        const at::Tensor patches = random_integers({37, 16, 16, 3}, 0, 256, 13).to(at::kByte).to(where);
        const at::Tensor y = embed_patches(patches, p, groups, stride);
        torch::autograd::backward({(y * random_normal(y.sizes(), 14).to(where)).sum()});
        std::vector<at::Tensor> results{y.detach()};
        for (const Parameter* x : {&p.stem, &p.stem_bias, &p.gain_1, &p.offset_1, &p.convolution_1, &p.bias_1,
                                   &p.gain_2, &p.offset_2, &p.convolution_2, &p.bias_2, &p.output, &p.output_bias}) {
          results.push_back(x->gradient);
        }
        return results;
      };
      expect_same(run, device(), tolerance_of(at::kBFloat16).times(5));  // products round to TF32
      const std::vector<at::Tensor> once = run(device()), again = run(device());
      for (size_t i = 0; i < once.size(); ++i) EXPECT_TRUE(at::equal(once[i], again[i])) << "result " << i;
    }
  }
}

TEST_F(DeviceGpuTest, DropoutDrawsTheSameMask) {
  expect_same(
      [&](at::Device where) {
        const at::Tensor x = random_normal({96, 130}, 1).to(where);
        return std::vector<at::Tensor>{dropout(x, 0.3, {77, 5, 48})};
      },
      device(), tolerance_of(at::kFloat));
}

TEST_F(DeviceGpuTest, OptimizerFollowsTheCpu) {
  const int64_t size = 5'000'016;
  const std::vector<UpdateSpan> spans{{0, 1'000'000, true}, {1'000'000, 4'000'000, false}};
  expect_same(
      [&](at::Device where) {
        at::Tensor values = random_normal({size}, 1).to(where), gradients = random_normal({size}, 2).to(where);
        at::Tensor first = at::zeros_like(values), second = at::zeros_like(values);
        at::Tensor copy = at::zeros({size}, values.options().dtype(at::kBFloat16));
        for (int64_t step = 1; step <= 3; ++step) {
          adamw_step(values, gradients, first, second, spans,
                     {.learning_rate = 1e-2, .weight_decay = 0.1, .step = step, .grad_scale = 0.5}, copy);
        }
        return std::vector<at::Tensor>{values, first, second, copy.to(at::kFloat),
                                       at::full({1}, squared_norm(gradients) / size)};
      },
      device(), tolerance_of(at::kFloat).times(5));
}

TEST_F(DeviceGpuTest, UpdatesDecidedOnTheDeviceFollowTheCpu) {
  const std::vector<UpdateSpan> spans{{0, 60'000, true}, {60'000, 40'000, false}};
  expect_same(
      [&](at::Device where) {
        at::Tensor values = random_normal({100'000}, 1).to(where), gradients = random_normal({100'000}, 2).to(where);
        at::Tensor first = at::zeros_like(values), second = at::zeros_like(values);
        StepNumbers numbers(where);
        std::vector<double> told;
        for (int64_t step = 1; step <= 4; ++step) {
          numbers.begin(5, 1e-2, std::min<int64_t>(step - 1, 2));
          numbers.add_loss(at::full({}, step == 3 ? NAN : 2.5, values.options()));
          squared_norm(gradients, numbers.squared_norm());
          adamw_update(values, gradients, first, second, spans, {.weight_decay = 0.1, .clip_norm = 1}, numbers);
          const UpdateOutcome outcome = numbers.read();
          EXPECT_EQ(outcome.refused, step == 3);
          told.insert(told.end(), {outcome.gradient_norm, step == 3 ? 0 : outcome.loss, outcome.weight_sum});
        }
        return std::vector<at::Tensor>{values, first, second, at::tensor(told, at::kDouble).to(at::kFloat)};
      },
      device(), tolerance_of(at::kFloat).times(5));
}

}  // namespace
}  // namespace gato::kernels
