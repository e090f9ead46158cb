#include "train/attention_record.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "support/temp_folder.h"

namespace gato::train {
namespace {

using kernels::AttentionRoute;
using kernels::AttentionTrial;

TEST(AttentionRecordTest, IsReadBack) {
  const gato::test::TempFolder folder;
  const Path path = folder / "attention.json";
  EXPECT_FALSE(read_attention_record(path));
  AttentionRecord record{"NVIDIA \"X\"", AttentionRoute::kFlash, false, {}};
  record.trials = {{AttentionRoute::kOwn, "", 0.25, 1e-3}, {AttentionRoute::kCudnn, "fails: no", 0, 0}};
  write_file_atomic(path, to_json(record));
  const auto read = read_attention_record(path);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->device, record.device);
  EXPECT_EQ(read->route, AttentionRoute::kFlash);
  EXPECT_NE(attention_table(record).find("own: 0.250 ms"), std::string::npos);
  EXPECT_NE(attention_table(record).find("cudnn: fails: no"), std::string::npos);
  for (const char* damaged : {"", "{", "[]", R"({"device": 3})", R"({"device": "x", "route": "auto"})"}) {
    write_file_atomic(path, damaged);
    EXPECT_FALSE(read_attention_record(path)) << damaged;
  }
}

TEST(AttentionRecordTest, AnUnprovenKernelOrAnotherGpuIsMeasuredAnew) {
  const gato::test::TempFolder folder;
  const Path path = folder / kAttentionFile;
  EXPECT_FALSE(recorded_route(path, "X", true));
  write_file_atomic(path, to_json({"X", AttentionRoute::kOwn, true, {}}));
  EXPECT_EQ(recorded_route(path, "X", true), AttentionRoute::kOwn);
  EXPECT_FALSE(recorded_route(path, "X", false));  // as after a change of the kernels
  EXPECT_FALSE(recorded_route(path, "Y", true));
  write_file_atomic(path, to_json({"X", AttentionRoute::kFlash, false, {}}));
  EXPECT_EQ(recorded_route(path, "X", false), AttentionRoute::kFlash);
}

TEST(AttentionRecordTest, RoutesThatCannotBeAreRefused) {
  const at::Device gpu(at::kCUDA, 0);
  TrainingConfig config;
  config.model.head_dim = 48;
  const auto problem = [&](AttentionRoute route, at::Device device) -> std::string {
    config.kernels.attention = route;
    try {
      check_attention_setting(config, device);
      return "";
    } catch (const ConfigError& error) {
      return error.what();
    }
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_PRED2(has, problem(AttentionRoute::kFlash, at::kCPU), "train.device");
  EXPECT_PRED2(has, problem(AttentionRoute::kCudnn, gpu), "model.precision: bf16");
  EXPECT_PRED2(has, problem(AttentionRoute::kOwn, gpu), "model.head_dim 32, 64 or 128, not 48");
  for (const AttentionRoute route : {AttentionRoute::kAuto, AttentionRoute::kReference}) {
    EXPECT_EQ(problem(route, at::kCPU), "");
    EXPECT_EQ(problem(route, gpu), "");
  }
  EXPECT_EQ(problem(AttentionRoute::kOwn, at::kCPU), "");
  config.model.precision = model::Precision::kBf16;
  EXPECT_EQ(problem(AttentionRoute::kFlash, gpu), "");
  config.model.head_dim = 64;
  EXPECT_EQ(problem(AttentionRoute::kOwn, gpu), "");
  config.model.position = model::PositionEncoding::kRelative;
  EXPECT_PRED2(has, problem(AttentionRoute::kFlash, gpu), "model.position");
  EXPECT_EQ(problem(AttentionRoute::kOwn, gpu), "");
}

TEST(AttentionRecordTest, TheFastestThatWorksIsChosen) {
  const std::vector<AttentionTrial> trials{{AttentionRoute::kOwn, "", 1, 0},
                                           {AttentionRoute::kFlash, "", 2, 0},
                                           {AttentionRoute::kCudnn, "differs", 0.5, 1},
                                           {AttentionRoute::kReference, "", 9, 0}};
  EXPECT_EQ(kernels::choose_attention_route(trials, true), AttentionRoute::kOwn);
  EXPECT_EQ(kernels::choose_attention_route(trials, false), AttentionRoute::kFlash);
  EXPECT_THROW((void)kernels::choose_attention_route({trials[2]}, true), DeviceError);
}

TEST(AttentionRecordTest, RoutesAreTriedOnTheConfiguredShape) {
  TrainingConfig config;
  config.model.heads = 2;
  config.model.head_dim = 16;
  data::Batch row;
  row.rows = 1;
  row.row_tokens = 48;
  row.ids.assign(48, 1);
  row.targets = row.ids;
  row.local_positions.assign(48, -1);
  row.loss_weights.assign(48, 0);
  row.sources.assign(48, 0);
  for (int32_t i = 0; i < 48; ++i) row.sequence_starts.push_back(i < 20 ? 0 : 20);
  for (const auto precision : {model::Precision::kFp32, model::Precision::kBf16}) {
    config.model.precision = precision;
    for (const AttentionTrial& trial : try_attention(config, row, 1, at::kCPU)) {
      EXPECT_EQ(trial.problem, "") << kernels::route_name(trial.route);
      EXPECT_GT(trial.milliseconds, 0);
    }
  }
}

}  // namespace
}  // namespace gato::train
