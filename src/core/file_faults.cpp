#include "file_faults.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <mutex>

namespace gato {
namespace testing_hooks {
namespace {

std::atomic<bool> g_armed{false};
std::mutex g_mutex;
FileFault g_fault;                  // guarded by g_mutex
std::array<int64_t, 5> g_counts{};  // guarded by g_mutex

/// Counts a call and copies the armed fault to `fault` when it is this call's turn.
bool fails_now(FileOperation operation, const std::string& path, FileFault& fault) {
  const std::lock_guard lock(g_mutex);
  if (path.find(g_fault.path_contains) == std::string::npos) return false;
  const int64_t number = ++g_counts[static_cast<size_t>(operation)];
  if (g_fault.operation != operation || g_fault.nth == 0) return false;
  if (number != g_fault.nth && !(g_fault.all_after && number > g_fault.nth)) return false;
  fault = g_fault;
  return true;
}

}  // namespace

void arm_file_fault(const FileFault& fault) {
  const std::lock_guard lock(g_mutex);
  g_fault = fault;
  g_counts.fill(0);
  g_armed.store(true);
}

void clear_file_fault() {
  const std::lock_guard lock(g_mutex);
  g_armed.store(false);
}

int64_t count_file_operations(FileOperation operation) {
  const std::lock_guard lock(g_mutex);
  return g_counts[static_cast<size_t>(operation)];
}

}  // namespace testing_hooks

namespace detail {
namespace {

using testing_hooks::FileFault;
using testing_hooks::FileOperation;

bool is_failing(FileOperation operation, const std::string& path, FileFault& fault) {
  return testing_hooks::g_armed.load(std::memory_order_relaxed) && testing_hooks::fails_now(operation, path, fault);
}

/// What a failing call other than a write does.
int fail(const FileFault& fault) {
  if (fault.effect == FileFault::Effect::kKill) ::kill(::getpid(), SIGKILL);
  errno = fault.error_number;
  return -1;
}

ssize_t fail_write(const FileFault& fault, int descriptor, const void* data, size_t size) {
  if (fault.effect == FileFault::Effect::kError) return fail(fault);
  const ssize_t written = ::write(descriptor, data, std::min(size, std::max<size_t>(1, size / 2)));
  return fault.effect == FileFault::Effect::kShortWrite ? written : fail(fault);
}

}  // namespace

int seam_open(const char* path, int flags, unsigned mode) {
  FileFault fault;
  if (is_failing(FileOperation::kOpen, path, fault)) return fail(fault);
  return ::open(path, flags, mode);
}

ssize_t seam_pread(int descriptor, const std::string& path, void* buffer, size_t size, uint64_t offset) {
  FileFault fault;
  if (is_failing(FileOperation::kRead, path, fault)) return fail(fault);
  return ::pread(descriptor, buffer, size, static_cast<off_t>(offset));
}

ssize_t seam_write(int descriptor, const std::string& path, const void* data, size_t size) {
  FileFault fault;
  if (is_failing(FileOperation::kWrite, path, fault)) return fail_write(fault, descriptor, data, size);
  return ::write(descriptor, data, size);
}

int seam_fsync(int descriptor, const std::string& path) {
  FileFault fault;
  if (is_failing(FileOperation::kFsync, path, fault)) return fail(fault);
  return ::fsync(descriptor);
}

int seam_rename(const char* from, const char* to) {
  FileFault fault;
  if (is_failing(FileOperation::kRename, to, fault)) return fail(fault);
  return ::rename(from, to);
}

int seam_rename_new(const char* from, const char* to) {
  FileFault fault;
  if (is_failing(FileOperation::kRename, to, fault)) return fail(fault);
  if (::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return -1;
  struct stat ignored {};  // a file system without that flag: looking first is all there is
  if (::lstat(to, &ignored) == 0) {
    errno = EEXIST;
    return -1;
  }
  return ::rename(from, to);
}

}  // namespace detail
}  // namespace gato
