#pragma once
#include "env/remote/batch.h"
#include "gato/env/environment.h"

namespace gato::env::remote {

/// One slot of a worker as an Environment. Its step() never throws for what befalls the worker: StepResult::failure
/// says it.
class RemoteEnvironment final : public Environment {
 public:
  explicit RemoteEnvironment(std::unique_ptr<RemoteBatch> batch);
  [[nodiscard]] const TaskSpec& spec() const override { return batch_->spec(); }
  StepValues reset(uint64_t seed) override { return batch_->reset(0, seed); }
  StepResult step(const StepValues& action) override;
  std::optional<Image> frame() override { return batch_->frame(0); }
  /// What the expert inside the worker would do now.
  [[nodiscard]] StepValues act() { return batch_->act(0); }

 private:
  std::unique_ptr<RemoteBatch> batch_;
};

/// The expert of a RemoteEnvironment (else ContractError), which acts inside the worker.
[[nodiscard]] std::unique_ptr<Expert> make_remote_expert(Environment& environment);

}  // namespace gato::env::remote
