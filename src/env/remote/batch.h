#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "env/remote/worker.h"
#include "gato/env/rollout.h"

namespace gato::env::remote {

/// Where a batch gets workers from, and where they go; tests give their own.
struct WorkerSource {
  std::function<std::unique_ptr<Worker>()> borrow;
  std::function<void(std::unique_ptr<Worker>)> give_back;
};
[[nodiscard]] WorkerSource idle_workers(const std::string& family);

/// Environments of one task in up to `workers` worker processes, each of which plays a share of the slots. What happens
/// to a worker costs the episodes it plays and nothing else: their next step is truncated with StepResult::failure, and
/// a new worker takes its place at the next reset. A reset that fails is tried once more, on a new worker where the old
/// one is gone; an episode that
/// cannot begin fails at its first step. EnvironmentError when a worker has another specification than `spec`, refuses
/// the task, or more were lost than RemoteLimits allows.
class RemoteBatch final : public EnvironmentBatch {
 public:
  RemoteBatch(TaskSpec spec, std::map<std::string, std::string> packages, int size, int workers, WorkerSource source,
              int spare_restarts);
  RemoteBatch(const RemoteBatch&) = delete;
  RemoteBatch& operator=(const RemoteBatch&) = delete;
  ~RemoteBatch() override;

  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }
  [[nodiscard]] int size() const override { return static_cast<int>(slots_.size()); }
  [[nodiscard]] StepValues reset(int slot, uint64_t seed) override;
  void start(std::span<const int> slots, std::span<const StepValues> actions) override;
  [[nodiscard]] std::vector<StepResult> wait() override;
  [[nodiscard]] std::optional<Image> frame(int slot) override;
  [[nodiscard]] std::optional<std::string> reference_answer(int slot) const override;
  /// What the expert would do in `slot`. Where the expert fails, so does the episode; the answer is then blank.
  [[nodiscard]] StepValues act(int slot);
  /// Whether an episode goes on in `slot`.
  [[nodiscard]] bool playing(int slot) const;

 private:
  enum class State { kIdle, kPlaying, kFailed };
  struct Slot {
    State state = State::kIdle;
    std::string failure;
  };
  struct Host {
    std::unique_ptr<Worker> worker;
    uint32_t first = 0, count = 0;  // the slots it plays
  };
  /// A step under way in the slots of one worker.
  struct Share {
    Host* host = nullptr;
    std::vector<size_t> places;  // in the list of slots of start()
  };

  Slot& at(int slot);
  Host& host_of(int slot);
  Worker& worker_of(Host& host);
  void open_task(Worker& worker, uint32_t slots) const;
  void count_loss(const std::string& why);
  void lose(Host& host, const std::string& why);
  void fail_slot(int slot, const std::string& why);
  std::optional<StepValues> try_reset(int slot, uint64_t seed, std::string& failure);
  void send_share(const Share& share, std::span<const StepValues> actions);
  void receive_share(const Share& share, std::vector<StepResult>& results);
  [[nodiscard]] StepResult failed_step(const std::string& why) const;

  TaskSpec spec_;
  std::map<std::string, std::string> packages_;
  WorkerSource source_;
  int spare_restarts_;
  int64_t losses_ = 0, finished_ = 0;
  std::vector<Slot> slots_;
  std::vector<Host> hosts_;
  bool busy_ = false, told_no_picture_ = false;
  std::vector<int> stepping_;
  std::vector<Share> shares_;
};

}  // namespace gato::env::remote
