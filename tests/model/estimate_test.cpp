#include "gato/model/estimate.h"

#include <gtest/gtest.h>

#include <map>

#include "model/small_model.h"

namespace gato::model {
namespace {

using namespace testing;

ModelConfig paper_config(int64_t layers, int64_t heads, int64_t head_dim, int64_t width, int64_t hidden) {
  ModelConfig config;
  config.layers = layers;
  config.heads = heads;
  config.head_dim = head_dim;
  config.width = width;
  config.hidden = hidden;
  return config;
}

int64_t part(const std::vector<NamedCount>& parts, const std::string& name) {
  for (const NamedCount& p : parts) {
    if (p.name == name) return p.count;
  }
  ADD_FAILURE() << "no part " << name;
  return 0;
}

constexpr ModelShape kPaperVocabulary{33'025, 32'000, 1024};

TEST(EstimateTest, ParameterCountsOfThePaperSizesAreFrozen) {
  struct Size {
    ModelConfig config;
    int64_t total, patch_embedder;
  };
  for (const Size& size : {Size{paper_config(8, 24, 32, 768, 3072), 73'634'624, 413'504},
                           Size{paper_config(12, 12, 128, 1536, 6144), 336'073'280, 807'488},
                           Size{paper_config(24, 16, 128, 2048, 8192), 1'077'556'288, 1'070'144}}) {
    const auto parts = parameters_by_part(size.config, kPaperVocabulary);
    EXPECT_EQ(total(parts), size.total);
    EXPECT_EQ(part(parts, "patch embedder"), size.patch_embedder);
  }
}

TEST(EstimateTest, CountsWithoutPatchEmbedderAreThoseOfTheDesign) {
  // 73.2 M, 335.3 M and 1076.5 M: docs/design.md, section "Model".
  const auto millions = [](const ModelConfig& config) {
    const auto parts = parameters_by_part(config, kPaperVocabulary);
    return static_cast<double>(total(parts) - part(parts, "patch embedder")) / 1e6;
  };
  EXPECT_NEAR(millions(paper_config(8, 24, 32, 768, 3072)), 73.2, 0.05);
  EXPECT_NEAR(millions(paper_config(12, 12, 128, 1536, 6144)), 335.3, 0.05);
  EXPECT_NEAR(millions(paper_config(24, 16, 128, 2048, 8192)), 1076.5, 0.05);
}

TEST(EstimateTest, PartsAddUpToTheModel) {
  for (const bool tied : {true, false}) {
    ModelConfig config = small_config();
    config.tied = tied;
    const Model model(config, small_shape(), 1);
    EXPECT_EQ(total(parameters_by_part(config, small_shape())), model.store().num_parameters());
    EXPECT_EQ(total(state_bytes(config, small_shape())), model.store().values().numel() * 16);
  }
}

TEST(EstimateTest, PartsOfASmallModelByHand) {
  const ModelConfig config = small_config();  // 2 layers, width 24, 2 x 10 heads, hidden 44, 6 channels
  const auto parts = parameters_by_part(config, small_shape());
  EXPECT_EQ(part(parts, "token table"), 90 * 24);
  EXPECT_EQ(part(parts, "positions"), (513 + 128 + 128) * 24);
  EXPECT_EQ(part(parts, "attention"), 2 * (60 * 24 + 60 + 24 * 20 + 24));
  EXPECT_EQ(part(parts, "feed-forward"), 2 * (44 * 24 + 44 + 24 * 22 + 24));
  EXPECT_EQ(part(parts, "norms"), 5 * 2 * 24);
  EXPECT_EQ(part(parts, "patch embedder"), 6 * 27 + 6 + 2 * (6 * 54 + 6 + 12) + 96 * 24 + 24);
}

TEST(EstimateTest, FlopsGrowWithEveryPart) {
  const StepShape step{4, 256, 150, 60};
  const double base = training_flops(small_config(), small_shape(), step, 10);
  // Six operations per parameter of the blocks and token, plus head, patches and attention: never less than the first.
  const auto parts = parameters_by_part(small_config(), small_shape());
  EXPECT_GT(base, 5.9 * 1024 * static_cast<double>(part(parts, "attention") + part(parts, "feed-forward")) * 0.95);
  EXPECT_GT(training_flops(small_config(), small_shape(), {4, 256, 300, 60}, 10), base);
  EXPECT_GT(training_flops(small_config(), small_shape(), {4, 256, 150, 120}, 10), base);
  EXPECT_GT(training_flops(small_config(), small_shape(), step, 100), base);
  EXPECT_DOUBLE_EQ(training_flops(small_config(), small_shape(), {8, 256, 300, 120}, 10), 2 * base);
}

TEST(EstimateTest, ActivationsFollowTheStep) {
  const auto bytes = [](const StepShape& step) { return total(activation_bytes(small_config(), small_shape(), step)); };
  EXPECT_EQ(bytes({2, 64, 0, 0}) * 2, bytes({4, 64, 0, 0}));
  EXPECT_GT(bytes({2, 64, 10, 0}), bytes({2, 64, 0, 0}));
  EXPECT_GT(bytes({2, 64, 0, 10}), bytes({2, 64, 0, 0}));
}

}  // namespace
}  // namespace gato::model
