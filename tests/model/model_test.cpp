#include "gato/model/model.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <thread>

#include "gato/core/error.h"
#include "gato/kernels/optimizer.h"
#include "model/small_model.h"

namespace gato::model {
namespace {

using namespace testing;

struct Variant {
  const char* name;
  PositionEncoding position;
  bool tied;
  int64_t patch_stride;
  double sigma;
};

class ModelVariantTest : public ::testing::TestWithParam<Variant> {};

TEST_P(ModelVariantTest, LossAndEveryGradientMatchThePlainModel) {
  const Variant v = GetParam();
  ModelConfig config = small_config();
  config.position = v.position;
  config.tied = v.tied;
  config.patch_stride = v.patch_stride;
  Model model(config, small_shape(), 7);
  const SmallBatch batch = small_batch(3, 41, 11);
  const PlainModel plain(model);

  EXPECT_TRUE(all_close(model.forward(batch.input), plain.forward(batch.input), tolerance_of(at::kFloat).times(5)));
  const LossResult result = model.loss(batch.input, batch.where, {}, v.sigma);
  const LossResult expected = plain.loss(batch.input, batch.where, v.sigma);
  EXPECT_TRUE(all_close(result.loss, expected.loss, tolerance_of(at::kFloat).times(5)));
  EXPECT_TRUE(all_close(result.nll, expected.nll, tolerance_of(at::kFloat).times(5)));
  model.backward(result.loss);
  torch::autograd::backward({expected.loss});
  for (const Segment& segment : model.store().segments()) {
    const at::Tensor& wanted = plain.parameter(segment.name).grad();
    // Sums over all tokens of terms that partly cancel: the error is relative to the largest gradient of the tensor.
    const double largest = wanted.abs().max().item<double>();
    EXPECT_GT(largest, 0) << segment.name;
    EXPECT_TRUE(all_close(model.store().parameter(segment.name).gradient, wanted, {2e-5 * (largest + 0.1), 1e-4}))
        << segment.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ModelVariantTest,
                         ::testing::Values(Variant{"tied_rotary", PositionEncoding::kRotary, true, 1, 0},
                                           Variant{"untied_soft", PositionEncoding::kRotary, false, 2, 3},
                                           Variant{"tied_relative", PositionEncoding::kRelative, true, 1, 0},
                                           Variant{"tied_none", PositionEncoding::kNone, true, 2, 2}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ModelTest, GradientsAreZeroWhereThereIsPadding) {
  Model model(small_config(), small_shape(), 7);
  const SmallBatch batch = small_batch(2, 30, 1);
  model.backward(model.loss(batch.input, batch.where).loss);
  at::Tensor flat = model.store().gradients().clone();
  for (const Segment& s : model.store().segments()) flat.slice(0, s.offset, s.offset + s.size).zero_();
  EXPECT_EQ(flat.abs().max().item<float>(), 0);
}

TEST(ModelTest, GradientsAccumulateOverMicroBatches) {
  // Rows in one batch, or one after the other: the same sums.
  Model model(small_config(), small_shape(), 7);
  const SmallBatch batch = small_batch(2, 30, 1);
  ModelInput text = batch.input;  // without patches, so that rows can simply be cut
  text.ids = text.ids.clamp_min(0);
  text.patch_index = text.patches = text.patch_rows = text.patch_columns = at::Tensor();
  const auto run = [&](const ModelInput& in, int64_t first_row) {
    const at::Tensor& p = batch.where.positions;
    const int64_t low = first_row * 30, high = low + in.ids.numel();
    const at::Tensor chosen = p.ge(low).logical_and(p.lt(high)).nonzero().view(-1);
    const LossInput where{p.index_select(0, chosen) - low, batch.where.targets.index_select(0, chosen),
                          batch.where.weights.index_select(0, chosen)};
    model.backward(model.loss(in, where).loss);
  };
  run(text, 0);
  const at::Tensor whole = model.store().gradients().clone();
  model.store().zero_gradients();
  for (int64_t row = 0; row < 2; ++row) {
    ModelInput part = text;
    part.ids = text.ids.slice(0, row, row + 1);
    part.sequence_starts = text.sequence_starts.slice(0, row, row + 1);
    part.local_positions = text.local_positions.slice(0, row, row + 1);
    run(part, row);
  }
  EXPECT_TRUE(
      all_close(model.store().gradients(), whole, tolerance_of(at::kFloat).times(50)));  // other sums, same terms
}

class ModelPositionTest : public ::testing::TestWithParam<PositionEncoding> {
 protected:
  ModelPositionTest() { config_.position = GetParam(); }
  ModelConfig config_ = small_config();
};

TEST_P(ModelPositionTest, ADocumentsLossIsUnchangedWhenItsNeighboursChange) {
  const Model model(config_, small_shape(), 7, Model::Purpose::kInference);
  SmallBatch batch = small_batch(2, 60, 3);
  const auto* starts = batch.input.sequence_starts.const_data_ptr<int32_t>();
  const at::Tensor before = model.loss(batch.input, batch.where).nll;
  // Everything but the sequence around token 30 of row 0 changes: ids, positions, patches, cuts.
  const int64_t begin = starts[30];
  int64_t end = 30;
  while (end < 60 && starts[end] == begin) ++end;
  for (int64_t i = 0; i < 120; ++i) {
    if (i >= begin && i < end) continue;
    auto& id = batch.input.ids.mutable_data_ptr<int32_t>()[i];
    if (id >= 0) id = (id + 31) % 90;
    batch.input.local_positions.mutable_data_ptr<int32_t>()[i] = 5;
  }
  const auto* index = batch.input.patch_index.const_data_ptr<int64_t>();
  for (int64_t p = 0; p < batch.input.patch_index.numel(); ++p) {
    if (index[p] < begin || index[p] >= end) batch.input.patches[p].fill_(17);
  }
  for (int64_t i = end; i < 60; ++i)
    batch.input.sequence_starts.mutable_data_ptr<int32_t>()[i] = static_cast<int32_t>(end);
  const at::Tensor after = model.loss(batch.input, batch.where).nll;
  int64_t inside = 0, changed_outside = 0;
  for (int64_t p = 0; p < batch.where.positions.numel(); ++p) {
    const int64_t place = batch.where.positions[p].item<int64_t>();
    const bool same = before[p].item<float>() == after[p].item<float>();
    if (place >= begin && place < end) {
      EXPECT_TRUE(same) << "position " << place;
      ++inside;
    } else if (!same) {
      ++changed_outside;
    }
  }
  EXPECT_GT(inside, 0);
  EXPECT_GT(changed_outside, 10);
}

TEST_P(ModelPositionTest, PredictionsDependOnThePastOfTheirSequenceOnly) {
  // One sequence of 12 after one of 4: changing token t changes hidden states from t on, of its sequence.
  const Model model(config_, small_shape(), 7, Model::Purpose::kInference);
  ModelInput in;
  in.ids = random_integers({1, 16}, 0, 90, 1, at::kInt);
  in.local_positions = at::full({1, 16}, -1, at::kInt);
  in.sequence_starts = at::zeros({1, 16}, at::kInt);
  in.sequence_starts.slice(1, 4).fill_(4);
  const at::Tensor before = model.forward(in);
  for (const int64_t t : {0, 3, 4, 9, 15}) {
    ModelInput other = in;
    other.ids = in.ids.clone();
    other.ids[0][t] = (in.ids[0][t].item<int32_t>() + 1) % 90;
    const at::Tensor difference = (model.forward(other) - before).abs().amax(1);
    for (int64_t i = 0; i < 16; ++i) {
      const bool visible = i >= t && (t < 4) == (i < 4);
      EXPECT_EQ(difference[i].item<float>() > 0, visible) << "token " << t << ", state " << i;
    }
  }
}

TEST_P(ModelPositionTest, GradientsReachThePastOfTheirSequenceOnly) {
  // The same probe backwards: every token has its own row of the local position table, so that the table's gradient is
  // that with respect to every token's embedding.
  const Model model(config_, small_shape(), 7);
  const int64_t tokens = 24;
  ModelInput in;
  in.ids = random_integers({1, tokens}, 0, 90, 1, at::kInt);
  in.local_positions = at::arange(tokens, at::kInt).view({1, tokens});
  in.sequence_starts = at::zeros({1, tokens}, at::kInt);
  in.sequence_starts.slice(1, 7).fill_(7);
  in.sequence_starts.slice(1, 20).fill_(20);
  const at::Tensor gradient = model.store().parameter("local_position_table").gradient.slice(0, 0, tokens);
  for (const int64_t t : {0, 6, 7, 13, 19, 20, 23}) {
    model.store().gradients().zero_();
    const LossInput where{at::tensor({t}, at::kLong), at::tensor({3}, at::kLong), at::ones({1})};
    model.backward(model.loss(in, where).loss);
    const int64_t start = in.sequence_starts[0][t].item<int64_t>();
    for (int64_t s = 0; s < tokens; ++s) {
      EXPECT_EQ(gradient[s].abs().max().item<float>() > 0, s >= start && s <= t) << "loss at " << t << ", token " << s;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Positions, ModelPositionTest,
                         ::testing::Values(PositionEncoding::kRotary, PositionEncoding::kRelative,
                                           PositionEncoding::kNone),
                         [](const auto& test) { return position_name(test.param); });

TEST(ModelTest, ActionTokensMayHaveNoPositionAndNoValue) {
  // Tokens 2 and 5 are actions. Without inputs their ids do not matter, without positions their row does not.
  ModelInput in;
  in.ids = random_integers({1, 8}, 0, 90, 1, at::kInt);
  in.local_positions = at::zeros({1, 8}, at::kInt);
  in.local_positions[0][2] = in.local_positions[0][5] = static_cast<int>(kActionPositionRow);
  in.sequence_starts = at::zeros({1, 8}, at::kInt);
  ModelInput other_ids = in;
  other_ids.ids = in.ids.clone();
  other_ids.ids[0][2] = (in.ids[0][2].item<int32_t>() + 1) % 90;
  for (const bool inputs : {true, false}) {
    for (const bool positions : {true, false}) {
      ModelConfig config = small_config();
      config.action_inputs = inputs;
      config.action_positions = positions;
      const Model model(config, small_shape(), 7, Model::Purpose::kInference);
      const at::Tensor before = model.forward(in);
      EXPECT_EQ(same_bits(before, model.forward(other_ids)), !inputs);
      model.store().parameter("local_position_table").value[kActionPositionRow].add_(0.5);
      EXPECT_EQ(same_bits(before, model.forward(in)), !positions);
    }
  }
}

TEST(ModelTest, OverfitsOneTinyBatch) {
  Model model(small_config(), small_shape(), 5);
  SmallBatch batch = small_batch(2, 24, 21);
  batch.where.weights = at::ones_like(batch.where.weights);
  const at::Tensor m = at::zeros_like(model.store().values()), v = at::zeros_like(model.store().values());
  std::vector<kernels::UpdateSpan> spans;
  for (const Segment& s : model.store().segments()) spans.push_back({s.offset, s.size, s.decay});
  const auto positions = static_cast<double>(batch.where.positions.numel());
  double first = 0, last = 0;
  for (int64_t step = 1; step <= 150; ++step) {
    model.store().zero_gradients();
    const LossResult result = model.loss(batch.input, batch.where);
    model.backward(result.loss);
    last = result.loss.item<double>() / positions;
    if (step == 1) first = last;
    kernels::adamw_step(model.store().values(), model.store().gradients(), m, v, spans,
                        {.learning_rate = 1e-2, .step = step, .grad_scale = 1 / positions});
  }
  EXPECT_GT(first, 3.5);  // about log(90) at the start
  EXPECT_LT(first, 6);
  EXPECT_LT(last, 0.02);
}

TEST(ModelTest, SameSeedSameBits) {
  const SmallBatch batch = small_batch(3, 64, 2);
  ModelConfig config = small_config();
  config.stochastic_depth = 0.3;
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    std::vector<at::Tensor> gradients;
    for (int run = 0; run < 2; ++run) {
      Model model(config, small_shape(), 7);
      const ForwardOptions options{.training = true, .seed = 3, .step = 4, .first_row = 5};
      model.backward(model.loss(batch.input, batch.where, options, 2).loss);
      gradients.push_back(model.store().gradients().clone());
    }
    EXPECT_TRUE(same_bits(gradients[0], gradients[1])) << threads << " threads";
  }
  at::set_num_threads(1);
  EXPECT_FALSE(
      same_bits(Model(config, small_shape(), 7).store().values(), Model(config, small_shape(), 8).store().values()));
}

TEST(ModelTest, SeveralThreadsMayAskOneModel) {
  const Model model(small_config(), small_shape(), 7, Model::Purpose::kInference);
  std::vector<SmallBatch> batches;
  std::vector<at::Tensor> expected, actual(4);
  for (uint64_t i = 0; i < 4; ++i) {
    batches.push_back(small_batch(2, 20 + 10 * static_cast<int64_t>(i), i));
    expected.push_back(model.forward(batches.back().input));
  }
  const Model fresh(small_config(), small_shape(), 7, Model::Purpose::kInference);  // with no rotary table yet
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) threads.emplace_back([&, i] { actual[i] = fresh.forward(batches[i].input); });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(all_close(actual[i], expected[i], tolerance_of(at::kFloat)));
}

TEST(ModelTest, StochasticDepthIsAFunctionOfSeedStepAndRow) {
  ModelConfig config = small_config();
  config.stochastic_depth = 0.5;
  const Model model(config, small_shape(), 7, Model::Purpose::kInference);
  const SmallBatch batch = small_batch(4, 20, 2);
  ModelInput in = batch.input;
  in.ids = in.ids.clamp_min(0);
  in.patch_index = at::Tensor();
  const auto run = [&](const ForwardOptions& options) { return model.forward(in, options).view({4, 20, -1}); };
  const ForwardOptions base{.training = true, .seed = 3, .step = 10, .first_row = 100};
  EXPECT_TRUE(same_bits(run(base), run(base)));
  EXPECT_FALSE(same_bits(run(base), run({.training = true, .seed = 4, .step = 10, .first_row = 100})));
  EXPECT_FALSE(same_bits(run(base), run({.training = true, .seed = 3, .step = 11, .first_row = 100})));
  EXPECT_FALSE(same_bits(run(base), run({})));
  // Row 2 of a batch that starts at row 100 is row 0 of one that starts at 102.
  ModelInput part = in;
  part.ids = in.ids.slice(0, 2);
  part.sequence_starts = in.sequence_starts.slice(0, 2);
  part.local_positions = in.local_positions.slice(0, 2);
  const at::Tensor later = model.forward(part, {.training = true, .seed = 3, .step = 10, .first_row = 102});
  EXPECT_TRUE(all_close(later.view({2, 20, -1}), run(base).slice(0, 2), tolerance_of(at::kFloat)));
}

TEST(ModelTest, StochasticDepthKeepsTheExpectedStream) {
  // Over many steps the share of skipped branches is the probability, and kept ones are scaled up by 1 / keep
  // probability.
  ModelConfig config = small_config();
  config.layers = 1;
  config.stochastic_depth = 0.25;
  const Model model(config, small_shape(), 7, Model::Purpose::kInference);
  const SmallBatch batch = small_batch(1, 4, 2);
  ModelInput in = batch.input;
  in.ids = in.ids.clamp_min(0);
  in.patch_index = at::Tensor();
  std::map<float, int> outcomes;  // both branches on or off: four different results
  for (int64_t step = 0; step < 2000; ++step) {
    ++outcomes[model.forward(in, {.training = true, .seed = 1, .step = step}).abs().sum().item<float>()];
  }
  ASSERT_EQ(outcomes.size(), 4U);
  std::vector<int> counts;
  for (const auto& [value, count] : outcomes) counts.push_back(count);
  std::sort(counts.begin(), counts.end());
  EXPECT_NEAR(counts[0], 2000 * 0.0625, 40);
  EXPECT_NEAR(counts[1], 2000 * 0.1875, 60);
  EXPECT_NEAR(counts[2], 2000 * 0.1875, 60);
  EXPECT_NEAR(counts[3], 2000 * 0.5625, 80);
}

TEST(ModelTest, DropoutGivesTheSameGradientsWithAnyMicroBatch) {
  ModelConfig config = small_config();
  config.dropout = 0.2;
  const auto gradients = [&](int64_t micro) {
    Model model(config, small_shape(), 7);
    const SmallBatch batch = small_batch(4, 20, 2);
    ModelInput in = batch.input;
    in.ids = in.ids.clamp_min(0);
    in.patch_index = at::Tensor();
    for (int64_t row = 0; row < 4; row += micro) {
      ModelInput part = in;
      part.ids = in.ids.slice(0, row, row + micro);
      part.sequence_starts = in.sequence_starts.slice(0, row, row + micro);
      part.local_positions = in.local_positions.slice(0, row, row + micro);
      const at::Tensor& p = batch.where.positions;
      const at::Tensor chosen = p.ge(row * 20).logical_and(p.lt((row + micro) * 20)).nonzero().view(-1);
      const LossInput where{p.index_select(0, chosen) - row * 20, batch.where.targets.index_select(0, chosen),
                            batch.where.weights.index_select(0, chosen)};
      model.backward(model.loss(part, where, {.training = true, .seed = 3, .step = 10, .first_row = 100 + row}).loss);
    }
    return model.store().gradients().clone();
  };
  const at::Tensor whole = gradients(4);
  EXPECT_TRUE(all_close(gradients(1), whole, tolerance_of(at::kFloat).times(50)));  // other sums, same terms
  EXPECT_TRUE(all_close(gradients(2), whole, tolerance_of(at::kFloat).times(50)));
  config.dropout = 0.3;
  EXPECT_FALSE(all_close(gradients(4), whole, {1e-3, 1e-2}));
}

TEST(ModelTest, DropoutIsOffInEvaluationAndChangesWithTheStep) {
  ModelConfig config = small_config();
  config.dropout = 0.2;
  const Model model(config, small_shape(), 7, Model::Purpose::kInference);
  const Model plain(small_config(), small_shape(), 7, Model::Purpose::kInference);
  const SmallBatch batch = small_batch(2, 20, 2);
  EXPECT_TRUE(same_bits(model.forward(batch.input), plain.forward(batch.input)));
  const at::Tensor one = model.forward(batch.input, {.training = true, .seed = 3, .step = 10});
  EXPECT_TRUE(same_bits(one, model.forward(batch.input, {.training = true, .seed = 3, .step = 10})));
  EXPECT_FALSE(same_bits(one, model.forward(batch.input, {.training = true, .seed = 3, .step = 11})));
}

TEST(ModelTest, InferenceRecordsNothing) {
  const Model model(small_config(), small_shape(), 7, Model::Purpose::kInference);
  const SmallBatch batch = small_batch(1, 20, 1);
  const LossResult result = model.loss(batch.input, batch.where);
  EXPECT_FALSE(result.loss.requires_grad());
  EXPECT_FALSE(model.store().gradients().defined());
  EXPECT_THROW(model.backward(result.loss), ContractError);
  Model trained(small_config(), small_shape(), 7);
  {
    const c10::AutoGradMode off(false);
    EXPECT_FALSE(trained.loss(batch.input, batch.where).loss.requires_grad());
  }
  EXPECT_THROW(Model(small_config(), small_shape(), 7, Model::Purpose::kInference).store().zero_gradients(),
               ContractError);
}

TEST(ModelTest, NoLossPositionsGiveZeroLossAndZeroGradients) {
  Model model(small_config(), small_shape(), 7);
  SmallBatch batch = small_batch(1, 20, 1);
  batch.where = {at::empty({0}, at::kLong), at::empty({0}, at::kLong), at::empty({0})};
  const LossResult result = model.loss(batch.input, batch.where);
  EXPECT_EQ(result.loss.item<float>(), 0);
  model.backward(result.loss);
  EXPECT_EQ(model.store().gradients().abs().max().item<float>(), 0);
}

TEST(ModelTest, LogitsOfASliceAreThoseOfTheHead) {
  const Model model(small_config(), small_shape(), 7, Model::Purpose::kInference);
  const at::Tensor hidden = random_normal({5, 24}, 1);
  const at::Tensor all = hidden.matmul(model.store().parameter("token_table").value.t());
  EXPECT_TRUE(all_close(model.logits(hidden, 0, 90), all, tolerance_of(at::kFloat).times(4)));
  EXPECT_TRUE(all_close(model.logits(hidden, 40, 32), all.slice(1, 40, 72), tolerance_of(at::kFloat).times(4)));
  EXPECT_THROW((void)model.logits(hidden, 80, 11), ContractError);
  EXPECT_THROW((void)model.logits(hidden, -1, 1), ContractError);
}

TEST(ModelTest, NeighbouringBinsStartAsNeighbours) {
  const ModelShape shape{2000, 900, 1024};
  for (const bool tied : {true, false}) {
    ModelConfig config = small_config();
    config.width = 128;
    config.tied = tied;
    const Model model(config, shape, 7, Model::Purpose::kInference);
    for (const char* name : {"token_table", "head.weight"}) {
      if (tied && std::string(name) != "token_table") continue;
      const at::Tensor rows = model.store().parameter(name).value.slice(0, 900, 1924);
      const auto similarity = [&](int64_t a, int64_t b) {
        return (rows[a] * rows[b]).sum().item<double>() /
               std::sqrt(rows[a].square().sum().item<double>() * rows[b].square().sum().item<double>());
      };
      for (const int64_t bin : {0, 300, 512, 1000}) {
        EXPECT_GT(similarity(bin, bin + 1), 0.99);
        EXPECT_GT(similarity(bin, bin + 5), 0.9);
        EXPECT_LT(similarity(bin, (bin + 400) % 1024), 0.9);
      }
      // As large as the other rows, so that tied logits start alike.
      const at::Tensor others = model.store().parameter(name).value.slice(0, 0, 900);
      const double ratio = (rows.square().mean() / others.square().mean()).sqrt().item<double>();
      EXPECT_GT(ratio, 0.9);
      EXPECT_LT(ratio, tied ? 1.3 : 1.9);
    }
  }
}

TEST(ModelTest, RefusesWrongInput) {
  const Model model(small_config(), small_shape(), 7, Model::Purpose::kInference);
  const SmallBatch batch = small_batch(2, 20, 1);
  const auto refused = [&](auto change) {
    SmallBatch b = batch;
    change(b);
    EXPECT_THROW((void)model.loss(b.input, b.where), ContractError);
  };
  refused([](SmallBatch& b) { b.input.ids = b.input.ids.to(at::kLong); });
  refused([](SmallBatch& b) { b.input.ids = b.input.ids.view(-1); });
  refused([](SmallBatch& b) { b.input.ids = b.input.ids.clone().fill_(90); });
  refused([](SmallBatch& b) { b.input.sequence_starts = b.input.sequence_starts.slice(1, 1); });
  refused([](SmallBatch& b) { b.input.local_positions = b.input.local_positions.clone().fill_(513); });
  refused([](SmallBatch& b) { b.input.patches = b.input.patches.slice(0, 1); });
  refused([](SmallBatch& b) { b.where.positions = b.where.positions + 40; });
  refused([](SmallBatch& b) { b.where.targets = b.where.targets + 90; });
  EXPECT_THROW(Model(small_config(), {90, 80, 32}, 7), ContractError);
  ModelConfig bad = small_config();
  bad.hidden = 3;
  EXPECT_THROW(Model(bad, small_shape(), 7), ConfigError);
}

}  // namespace
}  // namespace gato::model
