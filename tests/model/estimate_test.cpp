#include "gato/model/estimate.h"

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <cstdlib>

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
  // 73.2 M, 335.3 M and 1076.5 M; with relative positions 77.9 M, 363.6 M, 1177.1 M: docs/design.md, section "Model".
  const auto millions = [](ModelConfig config, PositionEncoding position) {
    config.position = position;
    const auto parts = parameters_by_part(config, kPaperVocabulary);
    return static_cast<double>(total(parts) - part(parts, "patch embedder")) / 1e6;
  };
  struct Size {
    ModelConfig config;
    double rotary, relative;
  };
  for (const Size& size :
       {Size{paper_config(8, 24, 32, 768, 3072), 73.2, 77.9}, Size{paper_config(12, 12, 128, 1536, 6144), 335.3, 363.6},
        Size{paper_config(24, 16, 128, 2048, 8192), 1076.5, 1177.1}}) {
    EXPECT_NEAR(millions(size.config, PositionEncoding::kRotary), size.rotary, 0.05);
    EXPECT_NEAR(millions(size.config, PositionEncoding::kNone), size.rotary, 0.05);
    EXPECT_NEAR(millions(size.config, PositionEncoding::kRelative), size.relative, 0.06);
  }
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
  ModelConfig relative = small_config();
  relative.position = PositionEncoding::kRelative;
  EXPECT_GT(training_flops(relative, small_shape(), step, 10), base);
}

/// Counts the bytes of all tensors alive.
class CountingAllocator : public c10::Allocator {
 public:
  static inline int64_t current = 0, peak = 0;

  c10::DataPtr allocate(size_t bytes) override {
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kHeader, (bytes + 2 * kHeader - 1) / kHeader * kHeader));
    if (memory == nullptr) throw std::bad_alloc();
    *reinterpret_cast<size_t*>(memory) = bytes;
    current += static_cast<int64_t>(bytes);
    peak = std::max(peak, current);
    return {memory + kHeader, memory + kHeader, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static constexpr size_t kHeader = 64;
  static void release(void* data) {
    auto* memory = static_cast<std::byte*>(data) - kHeader;
    current -= static_cast<int64_t>(*reinterpret_cast<size_t*>(memory));
    std::free(memory);
  }
};

TEST(EstimateTest, ActivationsAreWithinTenPercentOfTheMeasuredPeak) {
  static CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator, 1);  // for the rest of this program: harmless, it only counts
  struct Case {
    const char* name;
    int64_t patches;
    PositionEncoding position;
    Precision precision;
    bool recompute;
  };
  for (const Case& c : {Case{"rotary", 0, PositionEncoding::kRotary, Precision::kFp32, false},
                        Case{"patches", 60, PositionEncoding::kRotary, Precision::kFp32, false},
                        Case{"relative", 0, PositionEncoding::kRelative, Precision::kFp32, false},
                        Case{"recompute", 0, PositionEncoding::kRotary, Precision::kFp32, true},
                        Case{"bf16", 0, PositionEncoding::kRotary, Precision::kBf16, false}}) {
    const int64_t patches = c.patches;
    ModelConfig config = small_config();
    config.position = c.position;
    config.precision = c.precision;
    config.layers = 3;
    config.width = 96;
    config.hidden = 320;
    config.patch_channels = 24;
    Model model(config, small_shape(), 1);
    ModelInput in;
    in.ids = at::zeros({2, 192}, at::kInt);
    in.sequence_starts = at::zeros({2, 192}, at::kInt);
    in.local_positions = at::zeros({2, 192}, at::kInt);
    in.patch_index = at::arange(patches, at::kLong);
    in.patches = random_integers({patches, 16, 16, 3}, 0, 256, 1, at::kByte);
    in.patch_rows = in.patch_columns = at::zeros({patches}, at::kInt);
    const LossInput where{at::arange(100, at::kLong), at::zeros({100}, at::kLong), at::ones({100})};
    const auto step = [&] {
      at::Tensor hidden;
      ForwardOptions options;
      options.hidden = &hidden;
      options.recompute = c.recompute;
      const LossResult result = model.loss(in, where, options);
      hidden.retain_grad();  // as the trainer does, for the gradient by task
      model.backward(result.loss);
    };
    step();  // once, so that what is made once is there
    const int64_t before = CountingAllocator::current;
    CountingAllocator::peak = before;
    step();
    const auto measured = static_cast<double>(CountingAllocator::peak - before);
    const auto estimated =
        static_cast<double>(total(activation_bytes(config, small_shape(), {2, 192, 100, patches, c.recompute})));
    EXPECT_NEAR(estimated / measured, 1, 0.1) << c.name;
  }
}

TEST(EstimateTest, ActivationsFollowTheStep) {
  const auto bytes = [](const StepShape& step) { return total(activation_bytes(small_config(), small_shape(), step)); };
  EXPECT_EQ(bytes({2, 64, 0, 0}) * 2, bytes({4, 64, 0, 0}));
  EXPECT_GT(bytes({2, 64, 10, 0}), bytes({2, 64, 0, 0}));
  EXPECT_GT(bytes({2, 64, 0, 10}), bytes({2, 64, 0, 0}));
}

}  // namespace
}  // namespace gato::model
