#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "gato/core/log.h"
#include "gato/run/run_folder.h"
#include "gato/run/step_log.h"
#include "gato/train/trainer.h"
#include "support/synthetic_data.h"

/// The losses of a tiny run, step by step, as they were when the files in golden/ were written: a change that should
/// not alter numbers shows here when it does. After a wanted change: GATO_GOLDEN=write.
namespace gato::train {
namespace {

using data::test::shared_data;

TrainingConfig tiny_config(const Path& run, model::Precision precision) {
  const Path tokenizer_file = shared_data().folder() / "golden.model";
  write_file_atomic(tokenizer_file, shared_data().text().model_bytes());
  TrainingConfig config;
  config.run.dir = run.string();
  config.tokenizer = {tokenizer_file.string(), true};
  config.data = shared_data().config(128);
  config.model = {.layers = 2,
                  .width = 64,
                  .heads = 2,
                  .head_dim = 32,
                  .hidden = 128,
                  .patch_channels = 8,
                  .stochastic_depth = 0.1,
                  .dropout = 0.05,
                  .precision = precision};
  config.optimizer = {.learning_rate = 2e-3, .warmup_steps = 10};
  config.train.steps = 50;
  config.train.batch_rows = 4;
  config.train.soft_target_bins = 4;
  config.train.validate_every = 0;
  config.train.validation_rows = 4;
  config.train.threads = 1;
  return config;
}

struct Case {
  const char* name;
  model::Precision precision;
  double tolerance;  // relative; other processors round in another order
};

class GoldenCurveTest : public testing::TestWithParam<Case> {};

TEST_P(GoldenCurveTest, LossesAreThoseOfBefore) {
  log::set_level(log::Level::kError);
  const gato::test::TempFolder folder;
  train(tiny_config(folder / "run", GetParam().precision), {"test"});
  const Path steps = run::RunFolder(folder / "run").steps_path();
  const Path golden = Path(GATO_SOURCE_DIR) / "tests/train/golden" / (std::string(GetParam().name) + ".csv");
  const char* write = std::getenv("GATO_GOLDEN");
  if (write != nullptr && std::string(write) == "write") write_file_atomic(golden, read_file(steps));
  const auto expected = run::read_steps(golden), found = run::read_steps(steps);
  ASSERT_EQ(found.size(), 50u);
  ASSERT_EQ(expected.size(), found.size()) << golden << " is missing or of another length";
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i].loss, expected[i].loss, GetParam().tolerance * expected[i].loss) << "step " << found[i].step;
    EXPECT_NEAR(found[i].gradient_norm, expected[i].gradient_norm,
                10 * GetParam().tolerance * expected[i].gradient_norm)
        << "step " << found[i].step;
  }
  EXPECT_LT(found.back().loss, 0.9 * found.front().loss);
}

INSTANTIATE_TEST_SUITE_P(Precisions, GoldenCurveTest,
                         testing::Values(Case{"fp32", model::Precision::kFp32, 2e-3},
                                         Case{"bf16", model::Precision::kBf16, 2e-2}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace gato::train
