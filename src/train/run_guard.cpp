#include "run_guard.h"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <thread>

#include "exchange_backend.h"  // own_address
#include "gato/core/error.h"
#include "gato/core/error_file.h"
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "gato/core/stack_dump.h"
#include "gato/train/trainer.h"

namespace gato::train {
namespace {

constexpr int kPeerExit = 76, kPreemptedExit = 75, kNoProgressExit = 93;  // as src/cli/program.h
constexpr double kBeatSeconds = 3;
constexpr double kPatience = 4 * kBeatSeconds;      // that a process stands still shows in so many seconds
constexpr unsigned kDiagnosing = 25, kEnding = 10;  // seconds until the process ends whatever hangs

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

extern "C" void exit_at_once(int) { ::_exit(kPeerExit); }

/// Whatever hangs from here on (a disk, a lock), the process ends.
void end_within(unsigned seconds) {
  std::signal(SIGALRM, exit_at_once);
  ::alarm(seconds);
}

run::WatchdogOptions limits(const TrainingConfig& config) {
  constexpr double kMargin = 10;  // the exchange's own limit shall come first: it knows more
  run::WatchdogOptions options;
  options.step_seconds = config.train.hang_seconds;
  options.long_seconds = config.train.long_hang_seconds;
  options.exchange_seconds = config.comm.timeout_seconds + kMargin;
  return options;
}

/// The same for all processes of one start of the run, another for the next.
std::string name_of_start(Communicator& communicator) {
  const auto time = std::chrono::system_clock::now().time_since_epoch().count();
  return communicator.gather(cat(::getpid(), "-", time), "start of the run").front();
}

}  // namespace

/// Ends a process that is asked to stop before there is anything to save, and one of whose run another process was,
/// however it waits.
struct RunGuard::StopWatcher {
  std::mutex mutex;
  std::condition_variable changed;
  bool stop = false;
  std::thread thread;

  explicit StopWatcher(RunGuard& guard) {
    thread = std::thread([this, &guard] {
      ::pthread_setname_np(::pthread_self(), "stop watcher");
      constexpr auto kOften = std::chrono::milliseconds(100);
      constexpr int kGrace = 20;   // of these: whoever polls the signal by itself ends in better order
      constexpr int kListen = 10;  // of these between looks at what others say
      std::unique_lock lock(mutex);
      for (int asked = 0, looks = 0; !stop && !guard.is_training();) {
        changed.wait_for(lock, kOften);
        if (stop || guard.is_training()) return;
        lock.unlock();  // the store may take its time
        if (stop_requested()) guard.announce_stop();
        asked = stop_requested() ? asked + 1 : 0;
        if (asked == kGrace) guard.stop_before_training(guard.own_stop());
        if (++looks % kListen == 0) {
          const std::string word = guard.notice_.heard();
          if (!word.empty() && !stop_requested()) guard.stop_before_training(word);
        }
        lock.lock();
      }
    });
  }
  ~StopWatcher() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    changed.notify_all();
    thread.join();
  }
};

RunGuard::RunGuard(const TrainingConfig& config, Launch launch) : config_(config), launch_(std::move(launch)) {
  prepare_stack_dumps();
  log::set_rank(static_cast<int>(launch_.rank));
  phases_.push_back({"starting", Limit::kLong, false, now()});
  watchdog_ =
      std::make_unique<run::Watchdog>(limits(config), [this](const run::Expiry& expiry) { return expired(expiry); });
  stop_watcher_ = std::make_unique<StopWatcher>(*this);
}

RunGuard::~RunGuard() {
  ::alarm(0);
  stop_watcher_.reset();
  watchdog_.reset();
}

void RunGuard::join(const std::shared_ptr<Communicator>& communicator, const Path& run_folder) {
  communicator_ = communicator;
  communicator->set_observer(std::shared_ptr<OperationObserver>(this, [](OperationObserver*) {}));
  run::HeartbeatOptions options;
  options.folder = run_folder / "ranks";
  options.rank = launch_.rank;
  options.size = launch_.size;
  options.run_attempt = name_of_start(*communicator);
  if (launch_.size > 1) options.address = own_address(launch_, config_.comm.interface);
  options.interval = kBeatSeconds;
  make_folders(run_folder / "logs");
  log::set_file((run_folder / "logs" / cat("rank-", launch_.rank, ".log")).string());
  log::info("train", describe(launch_));
  for (const std::string& note : launch_.notes) log::warning("train", note);
  {
    const std::lock_guard lock(mutex_);
    heartbeat_ = std::make_unique<run::Heartbeat>(std::move(options));
    tell(phases_.back());
  }
  communicator->barrier("first heartbeat");  // nobody looks for a state that is not there yet
}

void RunGuard::begin_attempt(int64_t attempt) {
  faults_ = InjectedFaults(launch_.rank, attempt);
  if (launch_.rank == 0) {
    const Path root = heartbeat_->options().folder.parent_path();
    progress_ = std::make_unique<run::ProgressGuard>(root, attempt, config_.train.max_failures_per_step);
  }
  static_cast<void>(strike("start"));
}

void RunGuard::begin_training() {
  Stage before = Stage::kStarting;
  if (!stage_.compare_exchange_strong(before, Stage::kTraining) && before == Stage::kStopping) {
    throw Interrupted(own_stop());
  }
}

std::string RunGuard::own_stop() const {
  return cat("rank ", launch_.rank, " was stopped by signal ", stop_signal(),
             " before training began: there is nothing to save");
}

/// What a process said that did not begin to train; later there can be none. A word of its own needs no store, which
/// may be gone by now with the process that served it.
std::string RunGuard::stop_of_others() {
  if (has_stepped_) return "";
  return stage_ == Stage::kStopping ? own_stop() : notice_.heard();
}

/// From here on this process does not begin to train: the others count on that.
void RunGuard::announce_stop() {
  Stage before = Stage::kStarting;
  if (stage_.compare_exchange_strong(before, Stage::kStopping)) notice_.announce(own_stop());
}

void RunGuard::begin_step(int64_t step) {
  step_ = step;
  step_began_ = now();
  if (progress_) progress_->working_on(step);
  if (heartbeat_) heartbeat_->set_step(step);
  const std::lock_guard lock(mutex_);
  phases_.assign(1, {"step", Limit::kStep, false, now()});
  tell(phases_.back());
}

void RunGuard::end_step() {
  has_stepped_ = true;
  watchdog_->add_step(now() - step_began_);
  const std::lock_guard lock(mutex_);
  phases_.assign(1, {"between steps", Limit::kStep, false, now()});
  tell(phases_.back());
}

void RunGuard::push(std::string_view name, Limit limit, bool is_exchange) {
  const std::lock_guard lock(mutex_);
  phases_.push_back({std::string(name), limit, is_exchange, now()});
  tell(phases_.back());
}

void RunGuard::pop() {
  const std::lock_guard lock(mutex_);
  if (phases_.size() > 1) phases_.pop_back();
  tell(phases_.back());
}

void RunGuard::tell(const Phase& phase) {
  if (watchdog_) watchdog_->enter(phase.name, phase.limit);
  if (heartbeat_) heartbeat_->set_activity(phase.name, phase.is_exchange);
}

void RunGuard::began(std::string_view operation) {
  // A long phase stays one: others may be in the midst of it.
  const bool is_long = [&] {
    const std::lock_guard lock(mutex_);
    return phases_.back().limit == Limit::kLong;
  }();
  push(operation, is_long ? Limit::kLongExchange : Limit::kExchange, true);
}

void RunGuard::ended(std::string_view) { pop(); }

/// On the thread that waited, before it throws: its stack says where, and everything is told before destructors run,
/// which may hang as well.
void RunGuard::failed(std::string_view operation, std::string_view cause) {
  end_within(kDiagnosing);
  if (!stop_of_others().empty()) return;  // watch() says so
  log::error("train", "step ", step_.load(), ": the exchange '", operation, "' failed: ", cause);
  remember_stacks();
  const std::string message = blame(cat("'", operation, "': ", cause));
  finish(run::RankEnd::kPeer, message);
  {
    const std::lock_guard lock(mutex_);
    failure_ = message;
    phases_.assign(1, {cat("ending, since '", operation, "' failed"), Limit::kNone, false, now()});
    tell(phases_.back());
  }
  end_within(kEnding);
}

/// Into the log's file: of many processes the console would show nothing else.
void RunGuard::remember_stacks() {
  const std::string stacks = stacks_of_all_threads();
  log::info("train", "all threads:\n", stacks);
  const std::lock_guard lock(mutex_);
  stacks_ = stacks;
}

std::optional<FaultKind> RunGuard::strike(std::string_view where) const { return faults_.strike(where, step_); }

/// The failure with who is to blame for it; as it is where nobody is lost and that is asked for.
std::string RunGuard::blame(const std::string& failure, bool only_if_lost) {
  const run::HeartbeatOptions* own = heartbeat_ ? &heartbeat_->options() : nullptr;
  if (own == nullptr || (only_if_lost && own->size == 1)) return failure;
  const run::Diagnosis diagnosis = run::diagnose(*own, kPatience);
  if (only_if_lost && !diagnosis.is_lost) return failure;
  return cat("at step ", step_.load(), " rank ", launch_.rank, " of ", launch_.size, " cannot go on: ", diagnosis.text,
             " (", failure, "). The same command goes on from the last checkpoint");
}

void RunGuard::finish(run::RankEnd end, const std::string& message) {
  if (heartbeat_) heartbeat_->end(end, message);
  if (end == run::RankEnd::kDone) return;
  log::write_to_file(log::Level::kError, "train", message);  // the program shows it
  const std::lock_guard lock(mutex_);
  write_error_file(launch_.error_file, message, stacks_);
}

/// A disk that fails now must not change how the run ends.
void RunGuard::record(const std::function<void(run::ProgressGuard&)>& how) {
  if (!progress_) return;
  try {
    how(*progress_);
  } catch (const IoError& error) {
    log::warning("train", error.what());
  }
}

void RunGuard::count_failure(const std::string& message) {
  record([&](run::ProgressGuard& progress) { progress.failed(message); });
}

/// Launchers take the first process that ends as a reason to end the others, mpirun within a second: so nobody ends
/// before all have saved.
void RunGuard::leave_together() {
  if (!is_training() || !communicator_ || communicator_->alone()) return;
  communicator_->set_observer(nullptr);
  try {
    communicator_->barrier("end of the run");
  } catch (const PeerError& error) {
    log::warning("train", "everything is done, but others are lost: ", error.what());
  }
}

void RunGuard::watch(const std::function<void()>& body) {
  try {
    body();
    leave_together();
    record([](run::ProgressGuard& progress) { progress.ended_well(); });
    finish(run::RankEnd::kDone, "finished");
  } catch (const Interrupted& stop) {
    announce_stop();
    if (!is_training()) notice_.linger();
    leave_together();
    record([](run::ProgressGuard& progress) { progress.leave(); });
    finish(run::RankEnd::kDone, stop.what());
    throw;
  } catch (const ConfigError& error) {
    record([](run::ProgressGuard& progress) { progress.leave(); });
    finish(run::RankEnd::kFailed, error.what());
    throw;
  } catch (const NoProgressError& error) {
    finish(run::RankEnd::kFailed, error.what());
    throw;
  } catch (const PeerError& error) {
    end_within(kDiagnosing);
    // Whoever announced a stop had not begun to train, and so nobody has done a step.
    if (const std::string word = stop_of_others(); !word.empty()) {
      notice_.linger();
      record([](run::ProgressGuard& progress) { progress.leave(); });
      finish(run::RankEnd::kDone, word);
      log::write_to_file(log::Level::kWarning, "train", word);  // the program shows it
      throw Interrupted(word);
    }
    communicator_.reset();
    if (failure_.empty()) {  // it came before anybody observed
      failure_ = blame(error.what());
      finish(run::RankEnd::kPeer, failure_);
    }
    count_failure(failure_);
    throw PeerError(failure_);
  } catch (const std::exception& error) {
    finish(run::RankEnd::kFailed, error.what());
    count_failure(error.what());
    throw;
  }
}

/// Where others have long work to do (a save, a validation) waiting is right as long as none of them is lost.
bool RunGuard::may_wait_on() {
  const Phase phase = [&] {
    const std::lock_guard lock(mutex_);
    return phases_.back();
  }();
  if (phase.limit != Limit::kLongExchange) return false;
  const bool is_lost = heartbeat_ && run::diagnose(heartbeat_->options(), kPatience).is_lost;
  const std::lock_guard lock(mutex_);
  const bool came_on = phases_.back().since != phase.since;
  return came_on || (!is_lost && now() - phase.since < config_.train.long_hang_seconds);
}

/// On the watchdog's thread, while the training thread hangs: no destructor may run.
bool RunGuard::expired(const run::Expiry& expiry) {
  if (may_wait_on()) return true;
  end_within(kDiagnosing);
  std::string message =
      cat("rank ", launch_.rank, " of ", launch_.size, " stands still at step ", step_.load(), " in '", expiry.activity,
          "' for ", format_seconds(expiry.seconds), " (limit ", format_seconds(expiry.limit), ")");
  remember_stacks();
  const bool in_exchange = [&] {
    const std::lock_guard lock(mutex_);
    return phases_.back().is_exchange;
  }();
  // A GPU may wait for a lost process while the host believes to be at work.
  message = blame(message, /*only_if_lost=*/!in_exchange);
  log::error("train", message);  // no program will
  finish(in_exchange ? run::RankEnd::kPeer : run::RankEnd::kFailed, message);
  int code = kPeerExit;
  try {
    count_failure(message);
  } catch (const NoProgressError& error) {
    log::error("train", error.what());
    code = kNoProgressExit;
  }
  ::_exit(code);
}

void RunGuard::stop_before_training(const std::string& why) {
  constexpr unsigned kLongest = 8;  // seconds, the others' included
  end_within(kLongest);
  log::warning("train", why);
  if (heartbeat_) heartbeat_->end(run::RankEnd::kDone, why);
  record([](run::ProgressGuard& progress) { progress.leave(); });
  notice_.linger();
  ::_exit(kPreemptedExit);
}

}  // namespace gato::train
