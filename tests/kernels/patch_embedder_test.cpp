#include "gato/kernels/patch_embedder.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

struct PatchCase {
  int64_t patches, channels, groups, stride, width;
};

std::vector<at::Tensor> make_values(int64_t channels, int64_t width) {
  const int64_t c = channels;
  return {random_normal({c, 3, 3, 3}, 1),
          random_normal({c}, 2) * 0.1,
          random_normal({c}, 3) + 1,
          random_normal({c}, 4) * 0.1,
          random_normal({c, c, 3, 3}, 5) * 0.2,
          random_normal({c}, 6) * 0.1,
          random_normal({c}, 7) + 1,
          random_normal({c}, 8) * 0.1,
          random_normal({c, c, 3, 3}, 9) * 0.2,
          random_normal({c}, 10) * 0.1,
          random_normal({width, c * 16}, 11) * 0.2,
          random_normal({width}, 12)};
}

PatchEmbedderParameters make_parameters(const std::vector<at::Tensor>& v) {
  std::vector<Parameter> p;
  for (const at::Tensor& x : v) p.push_back(make_parameter(x));
  return {p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11]};
}

std::vector<at::Tensor> gradients_of(const PatchEmbedderParameters& p) {
  std::vector<at::Tensor> out;
  for (const Parameter* x : {&p.stem, &p.stem_bias, &p.gain_1, &p.offset_1, &p.convolution_1, &p.bias_1, &p.gain_2,
                             &p.offset_2, &p.convolution_2, &p.bias_2, &p.output, &p.output_bias}) {
    out.push_back(x->gradient);
  }
  return out;
}

class PatchEmbedderTest : public ::testing::TestWithParam<PatchCase> {};

TEST_P(PatchEmbedderTest, MatchesReferenceForwardAndBackward) {
  const PatchCase c = GetParam();
  const at::Tensor patches = random_integers({c.patches, 16, 16, 3}, 0, 256, 20, at::kByte);
  const at::Tensor dy = random_normal({c.patches, c.width}, 21);
  const std::vector<at::Tensor> values = make_values(c.channels, c.width);
  const PatchEmbedderParameters parameters = make_parameters(values);
  std::vector<at::Tensor> plain;
  for (const at::Tensor& v : values) plain.push_back(leaf(v.to(at::kDouble)));
  const at::Tensor y1 = embed_patches(patches, parameters, c.groups, c.stride);
  const at::Tensor y2 = reference::embed_patches(patches, plain, c.groups, c.stride);
  EXPECT_TRUE(all_close(y1, y2, tolerance_of(at::kFloat).times(20)));  // three convolutions deep
  backward_from(y1, dy);
  backward_from(y2, dy);
  const std::vector<at::Tensor> gradients = gradients_of(parameters);
  for (size_t i = 0; i < gradients.size(); ++i) {
    // Sums over all places of all patches, of terms that largely cancel: the error is relative to the largest gradient.
    const double largest = 1 + plain[i].grad().abs().max().item<double>();
    EXPECT_TRUE(all_close(gradients[i], plain[i].grad(), Tolerance{2e-5 * largest, 1e-4})) << "parameter " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, PatchEmbedderTest,
                         ::testing::Values(PatchCase{1, 1, 1, 1, 3}, PatchCase{3, 8, 8, 1, 31},
                                           PatchCase{5, 24, 24, 1, 16}, PatchCase{5, 24, 24, 2, 16},
                                           PatchCase{33, 6, 2, 2, 5}, PatchCase{2, 64, 32, 1, 33}),
                         [](const auto& test) {
                           const PatchCase& c = test.param;
                           return cat("patches", c.patches, "_channels", c.channels, "_groups", c.groups, "_stride",
                                      c.stride, "_width", c.width);
                         });

TEST(PatchEmbedderTest, NoPatchesGiveNoVectors) {
  const PatchEmbedderParameters parameters = make_parameters(make_values(8, 5));
  const at::Tensor y = embed_patches(at::empty({0, 16, 16, 3}, at::kByte), parameters, 8, 1);
  EXPECT_EQ(y.sizes(), at::IntArrayRef({0, 5}));
}

TEST(PatchEmbedderTest, ConstantPatchesAreFiniteAndDiffer) {
  // Normalisation of a constant channel divides by the root of epsilon, not by zero; the skip connection keeps the
  // colour.
  const PatchEmbedderParameters parameters = make_parameters(make_values(8, 5));
  at::Tensor patches = at::zeros({2, 16, 16, 3}, at::kByte);
  patches[1].fill_(255);
  const at::Tensor y = embed_patches(patches, parameters, 8, 1);
  EXPECT_TRUE(y.isfinite().all().item<bool>());
  EXPECT_GT((y[0] - y[1]).abs().max().item<float>(), 1e-2);
}

TEST(PatchEmbedderTest, SameBitsEveryTime) {
  const at::Tensor patches = random_integers({37, 16, 16, 3}, 0, 256, 20, at::kByte);
  std::vector<at::Tensor> results;
  for (int run = 0; run < 3; ++run) {
    const PatchEmbedderParameters parameters = make_parameters(make_values(24, 16));
    backward_from(embed_patches(patches, parameters, 24, 1), random_normal({37, 16}, 21));
    std::vector<at::Tensor> flat;
    for (const at::Tensor& g : gradients_of(parameters)) flat.push_back(g.view(-1));
    results.push_back(at::cat(flat));
  }
  EXPECT_TRUE(same_bits(results[0], results[1]));
  EXPECT_TRUE(same_bits(results[0], results[2]));
}

TEST(PatchEmbedderTest, RefusesWrongArguments) {
  const PatchEmbedderParameters parameters = make_parameters(make_values(8, 5));
  const at::Tensor patches = at::zeros({2, 16, 16, 3}, at::kByte);
  EXPECT_THROW((void)embed_patches(patches.to(at::kFloat), parameters, 8, 1), ContractError);
  EXPECT_THROW((void)embed_patches(at::zeros({2, 16, 3, 16}, at::kByte), parameters, 8, 1), ContractError);
  EXPECT_THROW((void)embed_patches(patches, parameters, 3, 1), ContractError);
  EXPECT_THROW((void)embed_patches(patches, parameters, 8, 3), ContractError);
}

}  // namespace
}  // namespace gato::kernels
