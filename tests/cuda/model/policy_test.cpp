// An agent that acts on the CUDA half's operations, kernels run by the emulator, beside the same agent on the CPU.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "cuda/model/emulated_ops.h"
#include "gato/core/error.h"
#include "gato/eval/agent.h"
#include "integration/small_run.h"

namespace gato::eval {
namespace {

using kernels::testing::EmulatedGpu;
using testing::small_run;

/// What two slots of `task` do in some steps of the same episodes, the second of which began later.
std::vector<std::vector<episode::StepValues>> play(const std::string& task, env::Decoding decoding, bool cuda_graph) {
  const Agent agent(small_run().checkpoint());
  PolicyOptions options;
  options.decoding = decoding;
  options.max_text_tokens = 20;  // longer than what is chosen at once
  options.cuda_graph = cuda_graph;
  const auto first = env::make_environment(task), second = env::make_environment(task);
  const auto policy = make_model_policy(agent, first->spec(), 3, options);
  policy->begin_episode(0, 1);
  policy->begin_episode(2, 2);
  std::vector<episode::StepValues> observations = {first->reset(3), second->reset(4)};
  std::vector<std::vector<episode::StepValues>> played;
  played.push_back(policy->act(std::vector<int>{0}, std::vector<episode::StepValues>{observations[0]}));
  for (int step = 0; step < 2; ++step) {
    played.push_back(policy->act(std::vector<int>{0, 2}, observations));
    const auto a = first->step(played.back()[0]), b = second->step(played.back()[1]);
    if (a.done() || b.done()) break;
    observations = {a.observation, b.observation};
  }
  return played;
}

TEST(EmulatedPolicyTest, ActsAsOnTheCpuWithAndWithoutGraphs) {
  using env::Decoding;
  const std::vector<std::pair<std::string, Decoding>> cases = {{"control/point_mass", Decoding::kDefault},  // means
                                                               {"grid/go_to", Decoding::kSample},
                                                               {"pictures/question", Decoding::kSample}};  // texts
  for (const auto& [task, decoding] : cases) {
    const auto expected = play(task, decoding, false);
    EmulatedGpu gpu;
    EXPECT_EQ(play(task, decoding, false), expected) << task;
    EXPECT_GT(gpu.device().num_launches("sample_ids"), 0u) << task;
    EXPECT_EQ(play(task, decoding, true), expected) << task;
  }
}

TEST(EmulatedPolicyTest, GraphsAreRefusedOnTheCpu) {
  const Agent agent(small_run().checkpoint());
  PolicyOptions options;
  options.cuda_graph = true;
  const episode::TaskSpec spec = env::make_environment("grid/go_to")->spec();
  EXPECT_THROW((void)make_model_policy(agent, spec, 1, options), ConfigError);
}

}  // namespace
}  // namespace gato::eval
