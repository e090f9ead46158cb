#include "gato/model/config.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"

namespace gato::model {
namespace {

std::string problems_of(const std::string& yaml) {
  try {
    (void)read_config<ModelConfig>(parse_yaml(yaml, "test.yaml"));
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

TEST(ModelConfigTest, ReadsAllFields) {
  const auto config = read_config<ModelConfig>(parse_yaml(
      "{layers: 3, width: 64, heads: 4, head_dim: 16, hidden: 128, position: none, rotary_base: 500, tied: false, "
      "patch_channels: 64, patch_stride: 2, stochastic_depth: 0, dropout: 0.1, action_positions: false, "
      "action_inputs: false}",
      "test.yaml"));
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.position, PositionEncoding::kNone);
  EXPECT_FALSE(config.tied);
  EXPECT_EQ(config.stochastic_depth, 0);
  EXPECT_EQ(config.dropout, 0.1);
  EXPECT_FALSE(config.action_positions);
  EXPECT_FALSE(config.action_inputs);
  const auto again = read_config<ModelConfig>(parse_yaml(dump_config(config), "dump"));
  EXPECT_EQ(dump_config(again), dump_config(config));
}

TEST(ModelConfigTest, RefusesImpossibleValuesByName) {
  EXPECT_EQ(problems_of("{}"), "");
  for (const auto& [yaml, part] : std::vector<std::pair<std::string, std::string>>{
           {"layers: 0", "layers: must be in [1, 1024], is 0"},
           {"width: -5", "width"},
           {"heads: 0", "heads"},
           {"head_dim: 33", "head_dim: must be even with rotary positions"},
           {"hidden: 7", "hidden: must be even"},
           {"patch_channels: 33", "patch_channels: must be a multiple of 32"},
           {"patch_stride: 3", "patch_stride"},
           {"rotary_base: 1", "rotary_base"},
           {"rotary_base: .nan", "rotary_base"},
           {"stochastic_depth: 1", "stochastic_depth"},
           {"stochastic_depth: .nan", "stochastic_depth"},
           {"position: relativ", "position"},
           {"dropout: 1", "dropout: must be in [0, 1), is 1"},
           {"dropout: .nan", "dropout"},
           {"dropout: -0.1", "dropout"},
           {"witdh: 3", "width"}}) {
    EXPECT_NE(problems_of(yaml).find(part), std::string::npos) << yaml << " gave: " << problems_of(yaml);
  }
  EXPECT_EQ(problems_of("{head_dim: 33, position: none}"), "");
  EXPECT_EQ(problems_of("{head_dim: 33, position: relative}"), "");
  const std::string both = problems_of("{layers: 0, hidden: 7}");
  EXPECT_NE(both.find("layers"), std::string::npos);
  EXPECT_NE(both.find("hidden"), std::string::npos);
}

}  // namespace
}  // namespace gato::model
