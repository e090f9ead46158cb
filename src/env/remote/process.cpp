#include "env/remote/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "gato/core/text.h"

namespace gato::env::remote {

namespace {

constexpr rlim_t kLogBytes = rlim_t{16} << 20;  // a worker's files, of which its log is the only one
constexpr size_t kShownLogBytes = 1500;

[[noreturn]] void fail(const char* doing) {
  const int error = errno;
  throw EnvironmentError(cat("A worker for environments cannot be started: ", doing, ": ", std::strerror(error),
                             "; see what this machine allows (memory, processes, open files)."));
}

/// A descriptor that is closed on the way out of a constructor that throws.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] int get() const { return number_; }
  [[nodiscard]] int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

/// What the forked child needs, made before the fork: afterwards nothing may allocate.
struct ChildPlan {
  std::vector<char*> arguments, environment;
  int socket = -1, memory = -1, lifeline = -1, log = -1;
  rlim_t address_space = 0, cpu_seconds = 0, open_files = 0;
};

void set_limit(int resource, rlim_t value) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0 && limit.rlim_max < value)
    value = limit.rlim_max;
  limit.rlim_cur = limit.rlim_max = value;
  ::setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

/// Puts `from` at number `to`, without close-on-exec. The plan's descriptors are above all numbers used here.
bool place(int from, int to) { return ::dup2(from, to) >= 0; }

/// In the child, between fork and exec: async-signal-safe calls only.
void become_worker(const ChildPlan& plan) {
  ::setpgid(0, 0);
  const int nothing = ::open("/dev/null", O_RDONLY);
  const bool placed = place(nothing, STDIN_FILENO) && place(plan.log, STDOUT_FILENO) &&
                      place(plan.log, STDERR_FILENO) && place(plan.socket, kWorkerSocket) &&
                      place(plan.memory, kWorkerMemory) && place(plan.lifeline, kWorkerLifeline);
  if (!placed) ::_exit(126);
  ::close_range(kWorkerLifeline + 1, ~0U, 0);  // also what others opened without close-on-exec
  struct sigaction default_action {};
  default_action.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &default_action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (plan.address_space > 0) set_limit(RLIMIT_AS, plan.address_space);
  set_limit(RLIMIT_CPU, plan.cpu_seconds);
  set_limit(RLIMIT_NOFILE, plan.open_files);
  set_limit(RLIMIT_FSIZE, kLogBytes);
  set_limit(RLIMIT_CORE, 0);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/// Nothing of this process's environment but what finds programs and says the language.
std::vector<std::string> worker_environment() {
  std::vector<std::string> variables = {"MUJOCO_GL=osmesa",
                                        "PYOPENGL_PLATFORM=osmesa",
                                        "OMP_NUM_THREADS=1",
                                        "OPENBLAS_NUM_THREADS=1",
                                        "SDL_VIDEODRIVER=dummy",
                                        "SDL_AUDIODRIVER=dummy",
                                        "PYGAME_HIDE_SUPPORT_PROMPT=1",
                                        "LANG=C.UTF-8"};
  for (const char* name : {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}) {
    if (const char* value = std::getenv(name); value != nullptr) variables.push_back(cat(name, "=", value));
  }
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// Moves a descriptor above those that a worker inherits under fixed numbers.
int moved_up(int number) {
  const int moved = ::fcntl(number, F_DUPFD_CLOEXEC, 16);
  const int error = errno;
  ::close(number);
  errno = error;
  return moved;
}

std::string end_of(int status) {
  if (WIFSIGNALED(status)) return cat("was ended by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  return cat("ended with code ", WEXITSTATUS(status));
}

}  // namespace

SharedMemory::SharedMemory(size_t size) : size_(size) {
  descriptor_ = moved_up(::memfd_create("gato-frames", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (descriptor_ < 0) fail("memfd_create");
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0 ||
      ::fcntl(descriptor_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    ::close(descriptor_);
    fail("sizing shared memory");
  }
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor_, 0);
  if (address == MAP_FAILED) {
    ::close(descriptor_);
    fail("mapping shared memory");
  }
  data_ = static_cast<const std::byte*>(address);
}

SharedMemory::~SharedMemory() {
  ::munmap(const_cast<std::byte*>(data_), size_);
  ::close(descriptor_);
}

WorkerProcess::WorkerProcess(const WorkerProgram& program, const RemoteLimits& limits, size_t memory_bytes)
    : memory_(memory_bytes) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail("socketpair");
  Descriptor ours(ends[0]), theirs(moved_up(ends[1]));
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) fail("pipe");
  Descriptor kept(pipe_ends[1]), lifeline(moved_up(pipe_ends[0]));
  Descriptor log(moved_up(::memfd_create("gato-worker-log", MFD_CLOEXEC)));
  if (theirs.get() < 0 || lifeline.get() < 0 || log.get() < 0) fail("no file descriptor is left");
  if (::fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) fail("fcntl");

  std::vector<std::string> command = program.command, variables = worker_environment();
  ChildPlan plan;
  plan.arguments = pointers_to(command);
  plan.environment = pointers_to(variables);
  plan.socket = theirs.get();
  plan.memory = memory_.descriptor();
  plan.lifeline = lifeline.get();
  plan.log = log.get();
  // A forked copy of this process may already be larger than a worker may be.
  plan.address_space = command.empty() ? 0 : static_cast<rlim_t>(limits.memory_mb) << 20;
  plan.cpu_seconds = static_cast<rlim_t>(limits.cpu_seconds);
  plan.open_files = static_cast<rlim_t>(limits.open_files);

  pid_ = ::fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) {
    become_worker(plan);
    if (command.empty()) ::_exit(program.in_child());
    ::execve(plan.arguments[0], plan.arguments.data(), plan.environment.data());
    ::_exit(127);
  }
  ::setpgid(pid_, pid_);  // also here, so that it is done before the first kill
  socket_ = ours.release();
  lifeline_ = kept.release();
  log_ = log.release();
}

WorkerProcess::~WorkerProcess() { static_cast<void>(end()); }

void WorkerProcess::wait_for(short events, const Deadline& deadline) const {
  while (true) {
    const double left = std::chrono::duration<double, std::milli>(deadline.at - Deadline::Clock::now()).count();
    if (left <= 0) throw DataError(cat("no answer within ", format_seconds(deadline.seconds)));
    pollfd waiting{socket_, events, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min(left + 1, 1e9)));
    if (ready > 0) return;
    if (ready < 0 && errno != EINTR) throw DataError(cat("it cannot be waited for: ", std::strerror(errno)));
  }
}

void WorkerProcess::send(std::string_view bytes, const Deadline& deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      wait_for(POLLOUT, deadline);
    } else if (errno != EINTR) {
      throw DataError("the connection ended");
    }
  }
}

std::string WorkerProcess::receive(const Deadline& deadline) {
  std::string bytes(size_t{64} << 10, '\0');
  while (true) {
    const ssize_t got = ::recv(socket_, bytes.data(), bytes.size(), 0);
    if (got > 0) {
      bytes.resize(static_cast<size_t>(got));
      return bytes;
    }
    if (got == 0) throw DataError("the connection ended");
    if (errno == EAGAIN) {
      wait_for(POLLIN, deadline);
    } else if (errno != EINTR) {
      throw DataError("the connection ended");
    }
  }
}

std::string WorkerProcess::printed() const {
  const off_t size = ::lseek(log_, 0, SEEK_END);
  if (size <= 0) return {};
  const auto shown = std::min(static_cast<size_t>(size), kShownLogBytes);
  std::string text(shown, '\0');
  const ssize_t got = ::pread(log_, text.data(), shown, size - static_cast<off_t>(shown));
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  for (char& letter : text) {
    if (static_cast<unsigned char>(letter) < ' ' && letter != '\n') letter = ' ';
  }
  return std::string(trim(text));
}

std::string WorkerProcess::end() {
  if (pid_ <= 0) return "has ended";
  // One that is on its way out shows its own code; one that hangs is not waited for.
  ::close(socket_);
  int status = 0;
  pid_t waited = 0;
  for (int tries = 0; tries < 50 && waited == 0; ++tries) {
    waited = ::waitpid(pid_, &status, WNOHANG);
    if (waited == 0) ::usleep(1000);
  }
  const bool killed = waited == 0;
  ::kill(-pid_, SIGKILL);
  while (waited == 0 || (waited < 0 && errno == EINTR)) waited = ::waitpid(pid_, &status, 0);
  std::string text = killed ? "was killed" : end_of(status);
  const std::string lines = printed();
  if (!lines.empty()) text += cat("; it printed:\n", lines);
  pid_ = -1;
  ::close(lifeline_);
  ::close(log_);
  return text;
}

}  // namespace gato::env::remote
