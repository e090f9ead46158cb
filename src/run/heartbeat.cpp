#include "gato/run/heartbeat.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <mutex>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/log.h"
#include "run/process_status.h"
#include "run/reach.h"

namespace gato::run {
namespace {

using Clock = std::chrono::steady_clock;

/// Replaces the file at `path` as a whole. No fsync: a state that a power failure takes away is of no use, and fsync
/// would wait for the checkpoint that is being written on the same disk.
void replace_file(const Path& path, const std::string& content) {
  const std::string temporary = path.string() + ".new";
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  const auto fail = [&](const char* doing) {
    const int error_number = errno;
    if (descriptor >= 0) ::close(descriptor);
    throw IoError(cat(path.string(), ": cannot ", doing, " the state of this process: ", std::strerror(error_number)),
                  error_number);
  };
  if (descriptor < 0) fail("write");
  for (size_t written = 0; written < content.size();) {
    const ssize_t count = ::write(descriptor, content.data() + written, content.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("write");
    written += static_cast<size_t>(count);
  }
  ::close(descriptor);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    throw IoError(cat(path.string(), ": cannot replace the state of this process: ", std::strerror(errno)), errno);
  }
}

RankState initial_state(const HeartbeatOptions& options, const PresenceSocket* socket) {
  RankState state;
  state.rank = options.rank;
  state.size = options.size;
  state.run_attempt = options.run_attempt;
  utsname name{};
  if (::uname(&name) == 0) state.host = excerpt(name.nodename);
  state.machine = machine_name();
  state.process = ::getpid();
  const auto status = process_status(state.process);
  state.process_start = status ? status->start : 0;
  if (socket != nullptr) {
    state.address = options.address;
    state.port = socket->port();
  }
  state.activity = "starting";
  return state;
}

/// Null where none can be had: then others judge by the file alone.
std::unique_ptr<PresenceSocket> open_socket(const std::string& address) {
  if (address.empty()) return nullptr;
  try {
    return std::make_unique<PresenceSocket>(address);
  } catch (const IoError& error) {
    log::warning("run", "no socket shows that this process is there: ", error.what());
    return nullptr;
  }
}

}  // namespace

struct Heartbeat::Shared {
  HeartbeatOptions options;
  std::unique_ptr<PresenceSocket> socket;
  int wake = -1;  // eventfd
  mutable std::mutex mutex;
  std::condition_variable changed;
  RankState state;  // guarded by mutex, like all below
  Clock::time_point activity_began = Clock::now();
  bool stop = false, stopped = false;
  int64_t written_beat = 0;

  ~Shared() {
    if (wake >= 0) ::close(wake);
  }

  [[nodiscard]] RankState now() const {
    RankState copy = state;
    copy.activity_seconds = std::chrono::duration<double>(Clock::now() - activity_began).count();
    return copy;
  }

  void ring() const { static_cast<void>(::eventfd_write(wake, 1)); }

  /// Waits for the next time to write, answering whoever tries the socket.
  void pause() const {
    const auto until = Clock::now() + std::chrono::duration<double>(options.interval);
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
      if (left <= 0) return;
      pollfd events[2] = {{wake, POLLIN, 0}, {socket ? socket->descriptor() : -1, POLLIN, 0}};
      if (::poll(events, 2, static_cast<int>(left)) <= 0) continue;
      if (events[1].revents != 0) socket->answer();
      eventfd_t ignored = 0;
      if (events[0].revents != 0 && ::eventfd_read(wake, &ignored) == 0) return;
    }
  }

  void write_once() {
    RankState copy;
    {
      const std::lock_guard lock(mutex);
      state.beat += 1;
      copy = now();
    }
    std::string problem;
    try {
      replace_file(rank_state_path(options.folder, options.rank), to_json(copy));
    } catch (const IoError& error) {
      problem = error.what();
    }
    static std::atomic<int64_t> failures{0};
    if (!problem.empty() && log::every(failures, 100)) log::warning("run", problem);
    const std::lock_guard lock(mutex);
    written_beat = copy.beat;
    changed.notify_all();
  }

  void loop() {
    for (bool last = false; !last;) {
      {
        const std::lock_guard lock(mutex);
        last = stop;
      }
      write_once();
      if (!last) pause();
    }
    const std::lock_guard lock(mutex);
    stopped = true;
    changed.notify_all();
  }
};

Heartbeat::Heartbeat(HeartbeatOptions options) : shared_(std::make_shared<Shared>()) {
  GATO_CHECK(options.interval > 0, "a heartbeat every ", options.interval, " s");
  make_folders(options.folder);
  shared_->options = std::move(options);
  shared_->socket = open_socket(shared_->options.address);
  shared_->wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  GATO_CHECK(shared_->wake >= 0, "eventfd: ", std::strerror(errno));
  shared_->state = initial_state(shared_->options, shared_->socket.get());
  shared_->write_once();
  std::thread([shared = shared_] {
    ::pthread_setname_np(::pthread_self(), "heartbeat");
    shared->loop();
  }).detach();
}

Heartbeat::~Heartbeat() {
  constexpr auto kPatience = std::chrono::seconds(3);
  std::unique_lock lock(shared_->mutex);
  shared_->stop = true;
  shared_->ring();
  shared_->changed.wait_for(lock, kPatience, [&] { return shared_->stopped; });
}

void Heartbeat::set_step(int64_t step) {
  const std::lock_guard lock(shared_->mutex);
  shared_->state.step = step;
}

void Heartbeat::set_activity(std::string_view activity, bool is_exchange) {
  const std::lock_guard lock(shared_->mutex);
  shared_->state.activity = activity;
  shared_->state.is_exchange = is_exchange;
  shared_->activity_began = Clock::now();
}

void Heartbeat::end(RankEnd end, std::string_view message) {
  constexpr auto kPatience = std::chrono::seconds(3);
  std::unique_lock lock(shared_->mutex);
  if (shared_->state.end != RankEnd::kRunning) return;
  shared_->state.end = end;
  shared_->state.message = message;
  const int64_t before = shared_->state.beat;
  shared_->ring();
  shared_->changed.wait_for(lock, kPatience, [&] { return shared_->written_beat > before; });
}

RankState Heartbeat::state() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->now();
}

const HeartbeatOptions& Heartbeat::options() const { return shared_->options; }

}  // namespace gato::run
