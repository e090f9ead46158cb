#include "train/attention_record.h"

#include <gtest/gtest.h>

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
    for (const AttentionTrial& trial : try_attention(config, row, at::kCPU)) {
      EXPECT_EQ(trial.problem, "") << kernels::route_name(trial.route);
      EXPECT_GT(trial.milliseconds, 0);
    }
  }
}

}  // namespace
}  // namespace gato::train
