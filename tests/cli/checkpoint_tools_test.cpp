#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/checkpoint_diff.h"
#include "cli/ckpt_paths.h"
#include "cli/export_checkpoint.h"
#include "gato/checkpoint/tensor_set.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/run/results.h"
#include "gato/run/run_folder.h"
#include "support/temp_folder.h"

namespace gato::cli {
namespace {

namespace fs = std::filesystem;
using checkpoint::CheckpointInfo;
using checkpoint::TensorSet;

constexpr const char* kConfig =
    "tokenizer:\n  model: \"\"\n  private_discrete: true\ndata:\n  row_tokens: 64\n  schedule:\n    - first_row: 0\n"
    "      mixture:\n        - tasks: control/*\n          share: 1.5\n          steps: [1, 4]\n"
    "        - tasks: text|kjv\n          share: 2\n          steps: row\n"
    "model:\n  layers: 2\n  width: 4\n  heads: 1\n  head_dim: 4\n  hidden: 8\n  position: rotary\n  tied: true\n"
    "optimizer:\n  learning_rate: 0.001\ntrain:\n  batch_rows: 4\n  seed: 3\n";

/// A run folder with checkpoints of three tensors, 100 values each.
class CheckpointToolsTest : public testing::Test {
 protected:
  CheckpointInfo save(int64_t step, float change = 0, const std::string& config = kConfig) {
    for (size_t t = 0; t < 3; ++t) {
      values_[t].assign(100, 0.1F * static_cast<float>(t + 1));
    }
    values_[1][7] += change;
    std::vector<checkpoint::TensorView> views;
    for (size_t t = 0; t < 3; ++t) {
      views.push_back({kNames[t], checkpoint::Dtype::kF32, {20, 5}, std::as_bytes(std::span(values_[t]))});
    }
    checkpoint::CheckpointWriter writer(folder_.checkpoints_path(), step);
    writer.add_tensors("model.safetensors", views, {{"format", "pt"}});
    writer.add_tensors("optimizer-first_moment.safetensors", views);
    writer.add_file("config.yaml", config);
    writer.add_file("training_state.json", cat("{\"step\": ", step, ", \"tokens\": 123456, \"seconds\": 61}"));
    writer.add_file("value_statistics.json", "{}");
    return writer.commit();
  }
  [[nodiscard]] std::string exported(const std::string& name) const { return read_file(temp_ / "out" / name); }
  ExportOptions to_out() const {
    ExportOptions options;
    options.out = temp_ / "out";
    return options;
  }

  static constexpr const char* kNames[] = {"blocks.0.weight", "blocks.1.weight", "token_table"};
  gato::test::TempFolder temp_;
  run::RunFolder folder_{temp_ / "run"};
  std::vector<float> values_[3];
};

TEST_F(CheckpointToolsTest, ACheckpointIsFoundByEveryNameItHas) {
  folder_.create();
  save(1);
  const CheckpointInfo second = save(2);
  folder_.write_config(kConfig);
  for (const Path& given : {second.path, folder_.checkpoints_path() / "latest", folder_.root(),
                            folder_.checkpoints_path(), Path(folder_.root().string() + "/")}) {
    EXPECT_EQ(find_checkpoint(given).step, 2) << given;
    EXPECT_EQ(run_of(find_checkpoint(given).path).filename(), "run") << given;
  }
  EXPECT_THROW(static_cast<void>(find_checkpoint(temp_.path())), ConfigError);
  fs::remove(second.path / "MANIFEST.json");
  EXPECT_THROW(static_cast<void>(find_checkpoint(second.path)), CheckpointError);
  EXPECT_EQ(find_checkpoint(folder_.root()).step, 1);
  fs::copy(folder_.checkpoints_path() / "step-00000001", temp_ / "copy");
  EXPECT_EQ(find_checkpoint(temp_ / "copy").step, 1);
  EXPECT_TRUE(run_of(temp_ / "copy").empty());
}

TEST_F(CheckpointToolsTest, AnExportHasWhatALoaderNeeds) {
  const CheckpointInfo saved = save(5);
  const auto names = export_checkpoint(saved, to_out());
  EXPECT_EQ(names, (std::vector<std::string>{"model.safetensors", "config.json", "config.yaml", "value_statistics.json",
                                             "README.md", "checksums.json"}));
  const Json config = parse_json(exported("config.json"), "config.json");
  EXPECT_EQ(config.at("model_type"), "gato");
  EXPECT_EQ(config.at("vocab_size"), 20);
  EXPECT_EQ(config.at("hidden_size"), 4);
  EXPECT_EQ(config.at("tie_word_embeddings"), true);
  EXPECT_EQ(config.at("max_position_embeddings"), 64);
  EXPECT_EQ(config.at("gato").at("model").at("position"), "rotary");
  EXPECT_EQ(config.at("gato").at("tokenizer").at("private_discrete"), true);
  EXPECT_TRUE(compare(saved.path, temp_ / "out").none());
  const Json checksums = parse_json(exported("checksums.json"), "checksums.json");
  for (const std::string& name : names) {
    if (name == "checksums.json") continue;
    EXPECT_EQ(checksums.at(name).at("xxh3_128"), digest128(exported(name))) << name;
  }
  EXPECT_THROW(static_cast<void>(export_checkpoint(saved, to_out())), ConfigError) << "there is something already";
}

TEST_F(CheckpointToolsTest, LargeWeightsAreSeveralFilesAndBf16HalvesThem) {
  const CheckpointInfo saved = save(5);
  ExportOptions options = to_out();
  options.bf16 = true;
  options.max_file_bytes = 400;
  const auto names = export_checkpoint(saved, options);
  EXPECT_EQ(names[0], "model-00001-of-00002.safetensors") << "two tensors of 200 bytes in a file";
  EXPECT_EQ(names[2], checkpoint::kTensorIndexName);
  const auto difference = compare(saved.path, temp_ / "out");
  EXPECT_EQ(difference.structure.size(), 3u) << "of another type";
  ASSERT_FALSE(difference.tensors.empty());
  EXPECT_LT(difference.tensors.front().relative, 1.0 / 256);
  EXPECT_EQ(parse_json(exported("config.json"), "config.json").at("torch_dtype"), "bfloat16");
}

TEST_F(CheckpointToolsTest, TheCardTellsDataScoresUseAndHarms) {
  folder_.create();
  folder_.write_config(kConfig);
  run::Summary summary;
  summary.checkpoint = "step-00000005";
  summary.step = 5;
  summary.suite = "demo";
  run::TaskSummary& task = summary.tasks["control/point_mass"];
  task.score = 71.25;
  task.ci95 = {60, 80};
  task.rollouts = 50;
  summary.mean_score = 71.25;
  run::append_scores(folder_.scores_path(), summary);
  summary.step = 4;
  summary.suite = "other";
  run::append_scores(folder_.scores_path(), summary);
  static_cast<void>(export_checkpoint(save(5), to_out()));
  const std::string card = exported("README.md");
  for (const char* text :
       {"---\nlibrary_name: gato", "# run at step 5", "| parameters | 300 (F32) |", "123 k tokens seen",
        "| 0 | control/* | 1.5 | 1 to 4 |", "| 0 | text/kjv | 2 | row |", "seed 3",
        "| control/point_mass | 71.2 | 60.0 to 80.0 | 50 |", "## Intended use", "## Harms and limits"}) {
    EXPECT_NE(card.find(text), std::string::npos) << text << " is not in\n" << card;
  }
  EXPECT_EQ(card.find("`other`"), std::string::npos) << "scores of another step";
}

TEST_F(CheckpointToolsTest, ADamagedCheckpointIsNotExportedAndLeavesNothing) {
  const CheckpointInfo saved = save(5);
  std::string content = read_file(saved.path / "model.safetensors");
  content.back() = static_cast<char>(~content.back());
  write_file_atomic(saved.path / "model.safetensors", content);
  EXPECT_THROW(static_cast<void>(export_checkpoint(saved, to_out())), CheckpointError);
  EXPECT_FALSE(fs::exists(temp_ / "out"));
}

TEST_F(CheckpointToolsTest, DifferencesAreNamedAndMeasured) {
  std::string config = kConfig;
  config.replace(config.find("layers: 2"), 9, "layers: 3");
  const CheckpointInfo a = save(1), b = save(2, 0.5F, config);
  const CheckpointDifference difference = compare(a.path, b.path, true);
  EXPECT_EQ(difference.settings, (std::vector<std::string>{"model.layers: 2 -> 3"}));
  EXPECT_EQ(difference.state, (std::vector<std::string>{"step: 1 -> 2"}));
  ASSERT_EQ(difference.tensors.size(), 2u) << "of the parameters, and of the moments";
  EXPECT_EQ(difference.tensors[0].name, "blocks.1.weight");
  EXPECT_FLOAT_EQ(static_cast<float>(difference.tensors[0].max_abs), 0.5F);
  EXPECT_FLOAT_EQ(static_cast<float>(difference.tensors[0].norm), 0.5F);
  EXPECT_NEAR(difference.tensors[0].relative, 0.5 / (0.2 * 10), 1e-6);
  EXPECT_EQ(difference.equal, 4u);
  EXPECT_TRUE(compare(a.path, a.path, true).none());
  EXPECT_NE(to_text(difference).find("blocks.1.weight"), std::string::npos);
}

TEST_F(CheckpointToolsTest, NonFiniteAndMissingTensorsAreDifferences) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto write = [&](const Path& path, const std::vector<float>& values, const char* name) {
    checkpoint::write_safetensors(path, std::vector<checkpoint::TensorView>{
                                            {name, checkpoint::Dtype::kF32, {2}, std::as_bytes(std::span(values))}});
    return path;
  };
  const Path a = write(temp_ / "a.safetensors", {1, nan}, "x"), b = write(temp_ / "b.safetensors", {1, 2}, "x");
  EXPECT_TRUE(std::isinf(compare(a, b).tensors.at(0).max_abs));
  EXPECT_TRUE(compare(a, a).none());
  const Path c = write(temp_ / "c.safetensors", {0, -0.0F}, "x"), d = write(temp_ / "d.safetensors", {0, 0}, "x");
  EXPECT_TRUE(compare(c, d).none()) << "the same numbers";
  const auto names = compare(b, write(temp_ / "e.safetensors", {1, 2}, "y")).structure;
  EXPECT_EQ(names.size(), 2u);
}

}  // namespace
}  // namespace gato::cli
