#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/train/batch_tensors.h"
#include "gato/train/config.h"
#include "support/synthetic_data.h"
#include "support/tensor_compare.h"
#include "train/meters.h"
#include "train/micro_step.h"
#include "train/step.h"

namespace gato::train {
namespace {

using data::test::shared_data;

model::ModelConfig small_model_config() {
  model::ModelConfig config;
  config.layers = 2;
  config.width = 32;
  config.heads = 2;
  config.head_dim = 16;
  config.hidden = 64;
  config.patch_channels = 8;
  config.stochastic_depth = 0;
  return config;
}

model::ModelShape shape() { return {shared_data().vocabulary().size(), shared_data().vocabulary().first_bin(), 1024}; }

class PadSizesTest : public ::testing::Test {
 protected:
  std::shared_ptr<const data::RowPlan> plan_ = shared_data().plan(shared_data().config(100));
  data::Batch batch_ = data::RowBuilder(plan_, true).build(0, 4);
  BatchTensors tensors_ = batch_tensors(batch_, 0, 4);
  BatchTensors padded_ = pad_sizes(tensors_);
};

TEST_F(PadSizesTest, UnusedPlacesWithoutWeightFillUp) {
  const int64_t before = tensors_.loss.positions.numel(), after = padded_.loss.positions.numel();
  ASSERT_GT(before, 0);
  ASSERT_GT(after, before);
  EXPECT_TRUE(after % kLossStep == 0 || after == 400) << after;
  EXPECT_LT(after - before, kLossStep);
  ASSERT_EQ(padded_.loss_sources.size(), static_cast<size_t>(after));
  EXPECT_GT(padded_.loss.positions.diff().min().item<int64_t>(), 0);
  std::vector<int64_t> real;
  for (int64_t i = 0; i < after; ++i) {
    if (padded_.loss_sources[static_cast<size_t>(i)] >= 0) {
      real.push_back(i);
    } else {
      EXPECT_EQ(padded_.loss.weights[i].item<float>(), 0);
    }
  }
  const at::Tensor places = at::tensor(real, at::kLong);
  EXPECT_TRUE(at::equal(padded_.loss.positions.index_select(0, places), tensors_.loss.positions));
  EXPECT_TRUE(at::equal(padded_.loss.targets.index_select(0, places), tensors_.loss.targets));
  EXPECT_TRUE(at::equal(padded_.loss.weights.index_select(0, places), tensors_.loss.weights));
  EXPECT_EQ(padded_.weight_sum, tensors_.weight_sum);
}

TEST_F(PadSizesTest, BoundariesEndWithEmptySequences) {
  const at::Tensor &before = tensors_.input.bounds.boundaries, &after = padded_.input.bounds.boundaries;
  EXPECT_EQ(after.numel() % kBoundaryStep, 0);
  EXPECT_LT(after.numel() - before.numel(), kBoundaryStep);
  EXPECT_TRUE(at::equal(after.slice(0, 0, before.numel()), before));
  EXPECT_EQ(after.slice(0, before.numel()).ne(400).sum().item<int64_t>(), 0);
  EXPECT_EQ(padded_.input.bounds.longest, 100);
}

TEST_F(PadSizesTest, IsDoneOnceAndNeverBeyondAllPlaces) {
  const BatchTensors again = pad_sizes(padded_);
  EXPECT_TRUE(at::equal(again.loss.positions, padded_.loss.positions));
  EXPECT_EQ(again.loss_sources, padded_.loss_sources);
  EXPECT_EQ(again.input.bounds.boundaries.numel(), padded_.input.bounds.boundaries.numel());
  const BatchTensors row = pad_sizes(batch_tensors(batch_, 0, 1));
  EXPECT_EQ(row.loss.positions.numel(), 100);
}

TEST_F(PadSizesTest, NothingToLearnStaysNothing) {
  std::fill(batch_.loss_weights.begin(), batch_.loss_weights.end(), 0.0f);
  const BatchTensors none = pad_sizes(batch_tensors(batch_, 0, 4));
  EXPECT_EQ(none.loss.positions.numel(), 0);
  EXPECT_TRUE(none.loss_sources.empty());
}

TEST_F(PadSizesTest, LossGradientsAndMetersStayWhatTheyWere) {
  model::Model plain(small_model_config(), shape(), 1), filled(small_model_config(), shape(), 1);
  const MicroResult a = micro_step(plain, tensors_, {}, 2), b = micro_step(filled, padded_, {}, 2);
  EXPECT_NEAR(b.loss.item<double>(), a.loss.item<double>(), 1e-5 * a.loss.item<double>());
  EXPECT_TRUE(gato::testing::all_close(filled.store().gradients(), plain.store().gradients(),
                                       gato::testing::tolerance_of(at::kFloat).times(5)));
  LabelMeter expected(*plan_), actual(*plan_);
  expected.add(a.nll, tensors_.loss_sources);
  expected.add_gradients(a.gradient_squares, tensors_.loss_sources);
  actual.add(b.nll, padded_.loss_sources);
  actual.add_gradients(b.gradient_squares, padded_.loss_sources);
  EXPECT_NEAR(actual.mean(), expected.mean(), 1e-5);
  const auto shares = expected.task_gradient_shares();
  for (const auto& [task, share] : actual.task_gradient_shares()) EXPECT_NEAR(share, shares.at(task), 1e-5) << task;
}

TEST(CudaGraphSettingTest, IsCheckedWithTheConfiguration) {
  const auto problem = [](const std::string& yaml) -> std::string {
    try {
      (void)read_config<TrainingConfig>(parse_yaml(yaml, "test.yaml"));
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(problem("{train: {cuda_graph: true}}"), "");
  EXPECT_EQ(problem("{train: {cuda_graph: true}, model: {dropout: 0.1}}"), "");
  EXPECT_EQ(problem("{train: {cuda_graph: false, device: cpu}, model: {position: relative}}"), "");
  for (const auto& [yaml, named] : std::map<std::string, std::string>{
           {"{train: {cuda_graph: true, device: cpu}}", "train.device is cpu"},
           {"{train: {cuda_graph: true}, model: {position: relative}}", "model.position relative"},
           {"{train: {cuda_graph: true}, kernels: {attention: cudnn}}", "kernels.attention cudnn"}}) {
    EXPECT_NE(problem(yaml).find("train.cuda_graph"), std::string::npos) << yaml << ": " << problem(yaml);
    EXPECT_NE(problem(yaml).find(named), std::string::npos) << yaml << ": " << problem(yaml);
  }
}

TEST(CudaGraphSettingTest, WithoutAGpuThereIsNoStepper) {
  TrainingConfig config;
  config.model = small_model_config();
  config.train.cuda_graph = true;
  model::Model model(config.model, shape(), 1);
  OptimizerState optimizer{at::zeros_like(model.store().values()), at::zeros_like(model.store().values()), {}};
  EXPECT_THROW(Stepper(config, model, optimizer), ConfigError);
}

}  // namespace
}  // namespace gato::train
