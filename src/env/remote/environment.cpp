#include "env/remote/environment.h"

#include "gato/core/error.h"

namespace gato::env::remote {

namespace {

class RemoteExpert final : public Expert {
 public:
  explicit RemoteExpert(RemoteEnvironment& environment) : environment_(environment) {}
  StepValues act() override { return environment_.act(); }

 private:
  RemoteEnvironment& environment_;
};

}  // namespace

RemoteEnvironment::RemoteEnvironment(std::unique_ptr<RemoteBatch> batch) : batch_(std::move(batch)) {
  GATO_CHECK(batch_->size() == 1, "a batch of ", batch_->size(), " for one environment");
}

StepResult RemoteEnvironment::step(const StepValues& action) {
  check_action(batch_->spec(), action);
  const int slot = 0;
  batch_->start({&slot, 1}, {&action, 1});
  return std::move(batch_->wait().front());
}

std::unique_ptr<Expert> make_remote_expert(Environment& environment) {
  auto* remote = dynamic_cast<RemoteEnvironment*>(&environment);
  GATO_CHECK(remote != nullptr, "the expert of a worker was asked to play ", environment.spec().id,
             ", which no worker plays");
  return std::make_unique<RemoteExpert>(*remote);
}

}  // namespace gato::env::remote
