#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/env/rollout.h"
#include "gato/env/suite.h"
#include "gato/model/acting_weights.h"
#include "gato/tokenizer/sequence.h"

namespace gato::eval {

/// A trained model with its tokenizers and what it knows of its tasks, read from one checkpoint folder and nothing
/// else. Const and thread-safe after construction.
class Agent {
 public:
  /// Verifies the checkpoint's files against its manifest. Policies act with weights of the type `weights`, by default
  /// that of training; losses are always computed as in training. The model is on `device` (kernels::open_device),
  /// where all of it is computed and choices are made. Throws CheckpointError naming what is damaged or
  /// missing, and ConfigError for int8 weights on a GPU.
  explicit Agent(const Path& checkpoint, std::optional<kernels::WeightType> weights = std::nullopt,
                 at::Device device = at::kCPU);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  [[nodiscard]] const Path& path() const { return path_; }
  [[nodiscard]] int64_t step() const { return step_; }
  [[nodiscard]] const model::Model& model() const { return *model_; }
  [[nodiscard]] const std::shared_ptr<const model::ActingWeights>& acting() const { return acting_; }  ///< Never null.
  [[nodiscard]] const tokenizer::Vocabulary& vocabulary() const { return *vocabulary_; }
  /// Null for models trained without text.
  [[nodiscard]] const tokenizer::TextTokenizer* text() const { return text_ ? &*text_ : nullptr; }
  [[nodiscard]] int64_t row_tokens() const { return row_tokens_; }
  /// Specification of a task as it was trained, with expert and random returns; null for tasks that were not in the
  /// data.
  [[nodiscard]] const episode::TaskSpec* trained_task(const std::string& id) const;
  /// All of them, by id.
  [[nodiscard]] const std::map<std::string, episode::TaskSpec>& trained_tasks() const { return tasks_; }
  /// Steps of context the task was trained with (the upper bound of its window); 0: as many as a row holds.
  [[nodiscard]] int64_t context_steps(const std::string& task) const;

  /// The tokens of a demonstration of a task, to stand in front of an episode: the last steps of the first one that the
  /// checkpoint carries, as many as data.prompt_tokens_share of a row holds. ConfigError when it carries none.
  [[nodiscard]] tokenizer::TokenSequence demonstration(const std::string& task) const;
  [[nodiscard]] const std::string& model_digest() const { return model_digest_; }  ///< XXH3-128 of the weights' file.

  /// Mean loss of held-out documents of a text task that the checkpoint carries, beside a unigram model's on the same
  /// tokens.
  struct HeldoutLoss {
    double nats_per_token = 0, unigram_nats_per_token = 0;
    int64_t tokens = 0;
  };
  [[nodiscard]] std::map<std::string, HeldoutLoss> heldout_losses(
      const std::function<void()>& on_window = nullptr) const;

 private:
  Path path_;
  int64_t step_ = 0, row_tokens_ = 0, prompt_tokens_ = 0;
  std::string model_digest_;
  std::unique_ptr<model::Model> model_;
  std::shared_ptr<const model::ActingWeights> acting_;
  std::optional<tokenizer::Vocabulary> vocabulary_;
  std::optional<tokenizer::TextTokenizer> text_;
  std::map<std::string, episode::TaskSpec> tasks_;
  std::vector<std::pair<std::string, int64_t>> context_by_pattern_;  // the last match holds
};

struct PolicyOptions {
  env::Decoding decoding = env::Decoding::kDefault;  ///< kDefault: mean for continuous, greedy for discrete and text,
                                                     ///< sampled for discrete fields of tasks with a partial view.
  double temperature = 1;
  double top_p = 1;              ///< Sampling: only the likeliest ids that together have this probability.
  int64_t context_steps = -1;    ///< -1: as the task was trained; 0: as many as a row holds.
  int64_t max_text_tokens = 64;  ///< Longest text action.
  bool cuda_graph = false;       ///< Acts in CUDA graphs (model::TokenLoop).
  bool demonstration = false;    ///< A demonstration from the checkpoint (Agent::demonstration) is in front.
};

/// Slots of a policy that act in environments of one task.
struct SlotGroup {
  episode::TaskSpec task;
  int slots = 1;
  PolicyOptions options;
};

/// The agent as a policy for environments of several tasks: slots [0, n) are those of the first group, the next those
/// of the second, and so on; all that act share forward passes. `cuda_graph` is the first group's.
[[nodiscard]] std::unique_ptr<env::Policy> make_model_policy(const Agent& agent, std::span<const SlotGroup> groups);

/// The agent as a policy for `slots` environments of one task: one batched forward pass per token for all slots that
/// act; on a GPU all tokens of an action (16 at a time of a text) without waiting for it in between. The context is the
/// last steps of each slot's episode, at most `context_steps` and at most a row; choices are restricted to what each
/// field allows. The agent must outlive it. One thread. Throws ConfigError for graphs where the model is on no GPU.
[[nodiscard]] std::unique_ptr<env::Policy> make_model_policy(const Agent& agent, const episode::TaskSpec& task,
                                                             int slots, const PolicyOptions& options = {});

}  // namespace gato::eval
