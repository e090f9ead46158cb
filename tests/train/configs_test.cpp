#include <gtest/gtest.h>

#include "gato/core/log.h"
#include "gato/model/estimate.h"
#include "gato/run/metrics.h"
#include "gato/run/run_folder.h"
#include "gato/train/trainer.h"
#include "support/synthetic_data.h"

// The six configurations of the paper's sizes.
namespace gato::train {
namespace {

using data::test::shared_data;

struct Shipped {
  const char* name;
  model::PositionEncoding position;
  int64_t parameters, patch_embedder;  // with a vocabulary of 33 025: 32 000 text pieces, 1024 bins, the separator
  double learning_rate;
};

void PrintTo(const Shipped& shipped, std::ostream* out) { *out << shipped.name; }

ConfigNode load(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return load_config({std::string(GATO_SOURCE_DIR) + "/configs/" + name + ".yaml"}, overrides);
}

class ShippedConfigTest : public ::testing::TestWithParam<Shipped> {};

TEST_P(ShippedConfigTest, ParametersAreFrozen) {
  const auto config = read_config<TrainingConfig>(load(GetParam().name));
  EXPECT_EQ(config.model.position, GetParam().position);
  int64_t embedder = 0;
  const auto parts = model::parameters_by_part(config.model, {33'025, 32'000, 1024});
  for (const model::NamedCount& part : parts) embedder += part.name == "patch embedder" ? part.count : 0;
  EXPECT_EQ(model::total(parts), GetParam().parameters);
  EXPECT_EQ(embedder, GetParam().patch_embedder);
}

TEST_P(ShippedConfigTest, OptimizerAndScheduleAreThePapers) {
  const auto config = read_config<TrainingConfig>(load(GetParam().name));
  const OptimizerConfig& o = config.optimizer;
  EXPECT_EQ(o.learning_rate, GetParam().learning_rate);
  EXPECT_EQ(o.beta_1, 0.9);
  EXPECT_EQ(o.beta_2, 0.95);
  EXPECT_EQ(o.epsilon, 1e-8);
  EXPECT_EQ(o.weight_decay, 0.1);
  EXPECT_EQ(o.warmup_steps, 15'000);
  EXPECT_EQ(config.train.steps, 1'000'000);
  EXPECT_EQ(config.train.batch_rows, 512);
  EXPECT_EQ(config.data.row_tokens, 1024);
  EXPECT_EQ(config.model.stochastic_depth, 0.1);
  EXPECT_EQ(config.model.dropout, 0);
  EXPECT_TRUE(config.model.tied);
  EXPECT_NEAR(learning_rate(o, 15'000, config.train.steps), o.learning_rate, 1e-12);
  EXPECT_NEAR(learning_rate(o, config.train.steps, config.train.steps), 0.1 * o.learning_rate, 1e-12);
  EXPECT_NEAR(learning_rate(o, 1, config.train.steps), 1e-7 + o.learning_rate / 15'000, 1e-9);
}

TEST_P(ShippedConfigTest, ShrunkItTrainsTwoSteps) {
  log::set_level(log::Level::kError);
  const gato::test::TempFolder folder;
  const Path tokenizer = folder / "tokenizer.model", mixture = folder / "mixture.yaml";
  write_file_atomic(tokenizer, shared_data().text().model_bytes());
  write_file_atomic(mixture, "mixture: [{tasks: \"*\", share: 1, prompt_probability: 0.25}]\n");
  std::vector<std::string> overrides{"run.dir=" + (folder / "run").string(),
                                     "tokenizer.model=" + tokenizer.string(),
                                     "tokenizer.private_discrete=true",  // 320 text pieces
                                     "data.datasets=[" + shared_data().folder().string() + "]",
                                     "data.validation_share=0.1",
                                     "data.row_tokens=64",
                                     "data.loader_threads=1",
                                     "model.layers=2",
                                     "model.width=32",
                                     "model.heads=2",
                                     "model.head_dim=8",
                                     "model.hidden=64",
                                     "model.patch_channels=4",
                                     "train.steps=2",
                                     "train.batch_rows=4",
                                     "train.micro_batch_rows=2",
                                     "train.log_every=1",
                                     "train.validation_rows=2",
                                     "train.threads=1"};
  if (GetParam().position == model::PositionEncoding::kRelative) {
    overrides.push_back("data.schedule=[{first_row: 0, mixture_file: " + mixture.string() + "}]");
  }
  const auto config = read_config<TrainingConfig>(load(GetParam().name, overrides));
  EXPECT_EQ(config.model.position, GetParam().position);
  const TrainingOutcome outcome = train(config, {"test"});
  EXPECT_TRUE(outcome.finished);
  EXPECT_EQ(outcome.step, 2);
  for (const auto& [step, loss] :
       run::read_metrics(run::RunFolder(config.run.dir).metrics_path()).series("train/loss")) {
    EXPECT_TRUE(std::isfinite(loss)) << step;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Files, ShippedConfigTest,
    ::testing::Values(Shipped{"gato_79m", model::PositionEncoding::kRotary, 73'634'624, 413'504, 1e-4},
                      Shipped{"gato_364m", model::PositionEncoding::kRotary, 336'073'280, 807'488, 2e-4},
                      Shipped{"large", model::PositionEncoding::kRotary, 1'077'556'288, 1'070'144, 1e-4},
                      Shipped{"gato_79m_paper", model::PositionEncoding::kRelative, 78'354'752, 413'504, 1e-4},
                      Shipped{"gato_364m_paper", model::PositionEncoding::kRelative, 364'387'904, 807'488, 2e-4},
                      Shipped{"large_paper", model::PositionEncoding::kRelative, 1'178'223'680, 1'070'144, 1e-4}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ShippedConfigsTest, ThePapersFilesDifferFromTheOthersInPositionsMixtureAndClippingAlone) {
  for (const char* name : {"gato_79m", "gato_364m", "large"}) {
    auto plain = read_config<TrainingConfig>(load(name));
    const auto paper = read_config<TrainingConfig>(load(std::string(name) + "_paper"));
    EXPECT_EQ(paper.optimizer.clip_norm, 0);
    EXPECT_EQ(paper.data.schedule.at(0).mixture_file, "configs/mixtures/gato.yaml");
    plain.model.position = paper.model.position;
    plain.data.schedule = paper.data.schedule;
    plain.optimizer.clip_norm = paper.optimizer.clip_norm;
    EXPECT_EQ(dump_config(plain), dump_config(paper)) << name;
  }
}

}  // namespace
}  // namespace gato::train
