#include <map>

#include "env/reference_play.h"
#include "gato/core/error.h"
#include "gato/env/rollout.h"

namespace gato::env {

Rng random_play_stream(uint64_t seed) { return Rng(mix_seed(seed, {hash_name("random play")})); }

namespace {

class RandomPolicy final : public Policy {
 public:
  explicit RandomPolicy(const TaskSpec& spec) : spec_(spec) {}

  void begin_episode(int slot, uint64_t seed) override { streams_.insert_or_assign(slot, random_play_stream(seed)); }

  std::vector<StepValues> act(std::span<const int> slots, std::span<const StepValues> /*observations*/) override {
    std::vector<StepValues> actions;
    for (const int slot : slots) {
      const auto stream = streams_.find(slot);
      GATO_CHECK(stream != streams_.end(), "slot ", slot, " has begun no episode");
      actions.push_back(random_action(spec_, stream->second));
    }
    return actions;
  }

 private:
  TaskSpec spec_;
  std::map<int, Rng> streams_;
};

}  // namespace

std::unique_ptr<Policy> make_random_policy(const TaskSpec& spec) { return std::make_unique<RandomPolicy>(spec); }

}  // namespace gato::env
