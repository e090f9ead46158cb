#pragma once
#include "gato/core/log.h"
#include "gato/data/source.h"
#include "gato/data/tokenize.h"
#include "gato/env/collect.h"
#include "gato/train/trainer.h"
#include "support/temp_folder.h"

namespace gato::eval::testing {

/// A small run on tasks of every kind, trained for some steps: enough to act validly.
class SmallRun {
 public:
  SmallRun() {
    log::set_level(log::Level::kError);
    suite_.name = "small";
    suite_.tasks = {{.pattern = "control/point_mass", .episodes = 2, .noise = {0.2}, .rollouts = 3},
                    {.pattern = "grid/go_to", .episodes = 30, .rollouts = 5},
                    {.pattern = "game/catch", .episodes = 2, .rollouts = 2},
                    {.pattern = "pictures/question", .episodes = 60, .rollouts = 20}};
    suite_.texts = {{.name = "text/kjv", .files = {"text/kjv.txt"}, .licence = "Public domain", .separator = "%"}};
    env::CollectOptions options;
    options.out = folder_ / "data";
    options.reference_episodes = 5;
    env::collect(suite_, options);
    const auto shards = find();
    tokenizer::TokenizerTraining training;
    training.vocabulary_size = 400;
    training.max_sentences = 200;
    write_file_atomic(folder_ / "tokenizer.model", tokenizer::train_text_tokenizer(training, data::texts_of(shards)));
    const auto text = tokenizer::TextTokenizer::load(folder_ / "tokenizer.model");
    for (const Path& shard : shards) data::tokenize_shard(shard, text);

    train::TrainingConfig config;
    config.run.dir = run().string();
    config.tokenizer = {(folder_ / "tokenizer.model").string(), true};
    config.data.datasets = {(folder_ / "data").string()};
    config.data.row_tokens = 192;
    config.data.validation_share = 0.05;
    config.data.schedule = {{0,
                             {{.tasks = "*", .share = 1},
                              {.tasks = "grid/*", .share = 1, .steps = {1, 4, false}},
                              {.tasks = "text/*", .share = 1, .steps = {1, 1, true}}}}};
    config.model = {
        .layers = 2, .width = 32, .heads = 2, .head_dim = 16, .hidden = 64, .patch_channels = 8, .stochastic_depth = 0};
    config.optimizer = {.learning_rate = 3e-3, .warmup_steps = 5};
    config.train.steps = 30;
    config.train.batch_rows = 4;
    config.train.validate_every = 0;
    config.train.validation_rows = 8;
    config.train.heldout_tokens = 2000;
    train::train(config, {"test"});
  }

  [[nodiscard]] Path run() const { return folder_ / "run"; }
  [[nodiscard]] const env::Suite& suite() const { return suite_; }
  [[nodiscard]] Path checkpoint() const { return run() / "checkpoints" / "step-00000030"; }

 private:
  [[nodiscard]] std::vector<Path> find() const {
    data::DataConfig config;
    config.datasets = {(folder_ / "data").string()};
    return data::find_shards(config);
  }
  gato::test::TempFolder folder_;
  env::Suite suite_;
};

inline const SmallRun& small_run() {
  static const SmallRun run;
  return run;
}

}  // namespace gato::eval::testing
