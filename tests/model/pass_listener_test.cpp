#include <gtest/gtest.h>

#include <algorithm>

#include "model/small_model.h"

namespace gato::model {
namespace {

using namespace testing;

/// Keeps what was said, and the gradients of which it was said that they are whole.
class Recorder : public PassListener {
 public:
  explicit Recorder(const ParameterStore& store) : store_(store) {}
  void before_values(int64_t first) override { firsts.push_back(first); }
  void after_gradients(int64_t end) override {
    ends.push_back(end);
    gradients.push_back(store_.gradients().slice(0, 0, end).clone());
  }
  std::vector<int64_t> firsts, ends;
  std::vector<at::Tensor> gradients;

 private:
  const ParameterStore& store_;
};

struct Case {
  const char* name;
  PositionEncoding position = PositionEncoding::kRotary;
  bool tied = true, recompute = false;
  Precision precision = Precision::kFp32;
};

class PassListenerTest : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Models, PassListenerTest,
                         ::testing::Values(Case{"rotary"}, Case{"relative", PositionEncoding::kRelative},
                                           Case{"untied", PositionEncoding::kNone, false},
                                           Case{"recompute", PositionEncoding::kRotary, true, true},
                                           Case{"bf16", PositionEncoding::kRotary, true, false, Precision::kBf16}),
                         [](const auto& test) { return test.param.name; });

TEST_P(PassListenerTest, GradientsAreWholeWhenItSaysSo) {
  ModelConfig config = small_config();
  config.layers = 3;
  config.position = GetParam().position;
  config.tied = GetParam().tied;
  config.precision = GetParam().precision;
  config.stochastic_depth = 0.3;
  Model model(config, small_shape(), 5, Model::Purpose::kTraining, at::kCPU, {1000, 3});
  const SmallBatch batch = small_batch(2, 30, 4);
  Recorder recorder(model.store());
  ForwardOptions options;
  options.training = true;
  options.recompute = GetParam().recompute;
  options.listener = &recorder;
  const LossResult result = model.loss(batch.input, batch.where, options);

  ASSERT_EQ(recorder.firsts.size(), 5u);  // embedding, three blocks, head
  EXPECT_TRUE(std::is_sorted(recorder.firsts.rbegin(), recorder.firsts.rend()));
  const bool relative = GetParam().position == PositionEncoding::kRelative;
  const char* behind_blocks = relative ? "relative.content_bias" : "patch.output.weight";
  EXPECT_EQ(recorder.firsts.front(), model.store().find(behind_blocks)->offset);
  EXPECT_EQ(recorder.firsts.back(), 0);
  EXPECT_TRUE(recorder.ends.empty());

  model.backward(result.loss);
  ASSERT_EQ(recorder.ends.size(), 3u);
  EXPECT_TRUE(std::is_sorted(recorder.ends.begin(), recorder.ends.end()));
  EXPECT_EQ(recorder.ends.back(), recorder.firsts.front());
  for (size_t i = 0; i < recorder.ends.size(); ++i) {
    const at::Tensor whole = model.store().gradients().slice(0, 0, recorder.ends[i]);
    EXPECT_TRUE(same_bits(recorder.gradients[i], whole)) << "something was added behind " << recorder.ends[i];
    EXPECT_GT(whole.abs().max().item<float>(), 0);
  }
}

}  // namespace
}  // namespace gato::model
