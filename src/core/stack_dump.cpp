#include "gato/core/stack_dump.h"

#include <cxxabi.h>
#include <dirent.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "gato/core/error.h"

namespace gato {
namespace {

constexpr int kMostFrames = 64;
constexpr size_t kMostListed = 1024;

int dump_signal() { return SIGRTMIN + 6; }

// What the handler of one thread writes and the asking thread reads. `wanted` is the thread that may write; an answer
// that comes after its time finds another number there and leaves everything alone.
struct Answer {
  std::atomic<int> wanted{0};
  std::atomic<int> num_frames{0};
  std::array<void*, kMostFrames> frames{};
};
Answer g_answer;
static_assert(std::atomic<int>::is_always_lock_free);

int thread_number() { return static_cast<int>(::syscall(SYS_gettid)); }

/// In the thread that is asked. backtrace() takes no lock once its library is loaded (prepare_stack_dumps).
extern "C" void on_dump_signal(int) {
  const int saved_errno = errno;
  int mine = thread_number();
  if (g_answer.wanted.compare_exchange_strong(mine, -1)) {
    const int count = ::backtrace(g_answer.frames.data(), kMostFrames);
    g_answer.num_frames.store(count);
  }
  errno = saved_errno;
}

std::vector<int> thread_numbers() {
  std::vector<int> numbers;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/task"), ::closedir);
  if (!folder) return numbers;
  while (const dirent* entry = ::readdir(folder.get())) {
    const int number = std::atoi(static_cast<const char*>(entry->d_name));
    if (number > 0 && numbers.size() < kMostListed) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
  return status == 0 ? text.get() : name;
}

/// Library and offset serve addr2line where the function has no name.
std::string frame_text(void* address) {
  Dl_info info{};
  if (::dladdr(address, &info) == 0 || info.dli_fname == nullptr) return cat("    ", address);
  const auto offset = static_cast<const char*>(address) - static_cast<const char*>(info.dli_fbase);
  const std::string path = info.dli_fname;
  const std::string library = path.substr(path.rfind('/') + 1);
  std::ostringstream text;
  text << "    " << (info.dli_sname != nullptr ? demangled(info.dli_sname) : "?") << " (" << library << "+0x"
       << std::hex << offset << ")";
  return text.str();
}

std::string frames_text(void* const* frames, int count, int skipped) {
  std::string text;
  for (int i = skipped; i < count; ++i) text += frame_text(frames[i]) + "\n";
  return text;
}

std::string stack_of(int thread, double patience_seconds) {
  constexpr int kHandlerFrames = 2;  // the handler and the kernel's return from it
  if (thread == thread_number()) {
    std::array<void*, kMostFrames> frames{};
    const int count = ::backtrace(frames.data(), kMostFrames);
    return frames_text(frames.data(), count, 1);
  }
  g_answer.num_frames.store(0);
  g_answer.wanted.store(thread);
  if (::syscall(SYS_tgkill, ::getpid(), thread, dump_signal()) != 0) {
    g_answer.wanted.store(0);
    return "    (has ended)\n";
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(patience_seconds);
  while (g_answer.num_frames.load() == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      int still = thread;
      if (g_answer.wanted.compare_exchange_strong(still, 0)) return "    (does not answer)\n";
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return frames_text(g_answer.frames.data(), g_answer.num_frames.load(), kHandlerFrames);
}

}  // namespace

void prepare_stack_dumps() {
  std::array<void*, 2> frames{};
  static_cast<void>(::backtrace(frames.data(), 2));  // loads the unwinder, which takes memory
  struct sigaction action {};
  action.sa_handler = on_dump_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  GATO_CHECK(::sigaction(dump_signal(), &action, nullptr) == 0, "cannot install the handler for stack dumps");
}

std::string stacks_of_all_threads(double patience_seconds) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  prepare_stack_dumps();
  std::string text;
  for (const int thread : thread_numbers()) {
    const std::string task = cat("/proc/self/task/", thread);
    const std::string wchan = first_line(task + "/wchan");
    text += cat("  thread ", thread, " ", first_line(task + "/comm"), wchan.empty() || wchan == "0" ? "" : " in ",
                wchan == "0" ? "" : wchan, ":\n", stack_of(thread, patience_seconds));
  }
  return text;
}

}  // namespace gato
