#include "local_workers.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "gato/run/evaluation_worker.h"

namespace gato::cli {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kMaxCrashes = 3;
constexpr int kNice = 10;
constexpr auto kLook = milliseconds(200);
constexpr auto kPatience = milliseconds(10'000);  // from TERM to KILL

/// In the child: only what is allowed between fork and exec of a process with threads.
[[noreturn]] void become(char* const* arguments, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);  // it ended before the line above
  ::setpriority(PRIO_PROCESS, 0, kNice);
  ::setpgid(0, 0);  // a Ctrl-C in the terminal is the trainer's, which ends its workers itself
  const int none = ::open("/dev/null", O_RDONLY);
  ::dup2(none, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  // Nothing of the trainer stays open in a worker: a connection that outlives rank 0 would hide its end from the
  // others.
  ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  ::execv(arguments[0], arguments);
  ::_exit(127);
}

std::string end_text(int status) {
  if (WIFSIGNALED(status)) return cat("was ended by signal ", WTERMSIG(status));
  if (WEXITSTATUS(status) == 127) return "could not be started";
  return cat("ended with exit code ", WEXITSTATUS(status));
}

}  // namespace

LocalWorkers::LocalWorkers(LocalWorkersOptions options) : options_(std::move(options)) {
  workers_.resize(static_cast<size_t>(options_.workers));
  if (workers_.empty()) return;
  make_folders(options_.run / "logs");
  log::info("train", "starts ", workers_.size(), " evaluation workers beside training; their logs are ",
            (options_.run / "logs" / "eval-worker-*.log").string());
  // The thread that starts a process is its parent to PR_SET_PDEATHSIG, so one that lives as long as this object.
  watcher_ = std::thread([this] { watch(); });
}

LocalWorkers::~LocalWorkers() {
  if (!watcher_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  watcher_.join();
}

bool LocalWorkers::all_ended() const {
  return std::all_of(workers_.begin(), workers_.end(), [](const Worker& worker) { return worker.ended; });
}

void LocalWorkers::wait_until_drained() {
  std::unique_lock lock(mutex_);
  while (!all_ended() && !stop_requested()) changed_.wait_for(lock, kLook);
}

void LocalWorkers::watch() {
  std::unique_lock lock(mutex_);
  for (size_t w = 0; w < workers_.size(); ++w) start(w);
  while (!stopping_) {
    changed_.wait_for(lock, kLook, [&] { return stopping_; });
    for (size_t w = 0; w < workers_.size(); ++w) {
      try {
        look_after(w);
        end_if_it_hangs(w);
      } catch (const std::exception& error) {  // of reading the run folder: training goes on, so does the worker
        log::warning("train", "evaluation worker ", w, " cannot be looked after: ", error.what());
        workers_[w].came_on = std::chrono::steady_clock::now();  // not at every turn
      }
    }
    changed_.notify_all();
  }
  for (const Worker& worker : workers_) {
    if (worker.process > 0) ::kill(worker.process, SIGTERM);
  }
  for (auto waited = milliseconds(0); !all_ended() && waited < kPatience; waited += milliseconds(50)) {
    std::this_thread::sleep_for(milliseconds(50));
    for (size_t w = 0; w < workers_.size(); ++w) look_after(w);
  }
  for (Worker& worker : workers_) {
    if (worker.process <= 0) continue;
    ::kill(worker.process, SIGKILL);
    ::waitpid(worker.process, nullptr, 0);
  }
}

void LocalWorkers::start(size_t number) {
  const std::vector<std::string> words = {options_.program.string(),
                                          "--run",
                                          options_.run.string(),
                                          "--watch",
                                          "--device",
                                          "cpu",
                                          "--threads",
                                          std::to_string(options_.threads),
                                          "--stall-seconds",
                                          cat(options_.stall_seconds)};
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const Path path = options_.run / "logs" / cat("eval-worker-", number, ".log");
  const int log = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  const pid_t self = ::getpid();
  const pid_t child = log < 0 ? -1 : ::fork();
  if (child == 0) become(arguments.data(), log, self);
  if (child < 0) log::warning("train", "an evaluation worker could not be started: ", std::strerror(errno));
  if (log >= 0) ::close(log);
  workers_[number].progress = -1;
  workers_[number].came_on = std::chrono::steady_clock::now();
  workers_[number].process = std::max<pid_t>(0, child);
  workers_[number].ended = child < 0;
}

/// Its own word counts: what a worker says of itself in the run folder; before its first word, the time since its
/// start.
void LocalWorkers::end_if_it_hangs(size_t number) {
  Worker& worker = workers_[number];
  const auto now = std::chrono::steady_clock::now();
  const double still = std::chrono::duration<double>(now - worker.came_on).count();
  if (worker.process <= 0 || still < options_.stall_seconds) return;
  // Only now: a look at every turn would read the folder five times a second.
  const auto state = run::worker_of_process(run::RunFolder(options_.run), worker.process);
  const int64_t progress = state ? state->progress : -1;
  if (progress != worker.progress) {
    worker.progress = progress;
    worker.came_on = now;
    return;
  }
  log::warning("train", "evaluation worker ", number, " has not come on for ", format_seconds(still), ", at ",
               state ? state->doing : "its start", ": it is ended");
  ::kill(worker.process, SIGKILL);  // one that hangs need not hear TERM; look_after() starts it again
}

void LocalWorkers::look_after(size_t number) {
  Worker& worker = workers_[number];
  int status = 0;
  if (worker.process <= 0 || ::waitpid(worker.process, &status, WNOHANG) != worker.process) return;
  worker.process = 0;
  const bool ended_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  worker.ended = true;
  if (stopping_ || ended_well) return;
  const bool try_again = ++worker.crashes <= kMaxCrashes && WIFSIGNALED(status);
  log::warning("train", "evaluation worker ", number, " ", end_text(status), " (see logs/eval-worker-", number, ".log)",
               try_again ? "; it is started again" : "; training goes on without it");
  if (try_again) start(number);
}

}  // namespace gato::cli
