#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

/// The one place where core's file functions meet the operating system, and where tests make it fail. Without an armed
/// fault each call costs one relaxed load more than the system call itself.
namespace gato::testing_hooks {

enum class FileOperation { kOpen, kRead, kWrite, kFsync, kRename };

/// What happens to an operation that is chosen to fail.
struct FileFault {
  enum class Effect {
    kError,          ///< The call fails with `error_number` and does nothing.
    kShortWrite,     ///< The call writes half of what it was given (at least one byte) and says so. Writes only.
    kTornThenError,  ///< The call writes half of what it was given and then fails with `error_number`. Writes only.
    kKill,           ///< The process gets SIGKILL, a write after its first half, everything else before its effect.
  };
  FileOperation operation = FileOperation::kWrite;
  int64_t nth = 1;         ///< The first call that fails, counted from arm_file_fault; 0: none, calls are counted only.
  bool all_after = false;  ///< Whether the later calls fail too.
  Effect effect = Effect::kError;
  int error_number = 5;            ///< An `errno` value; 5 is EIO.
  std::string path_contains = {};  ///< Calls on other paths are neither counted nor failed.
};

/// Arms one fault in place of an earlier one and sets the counts to 0. Thread-safe, as is everything here.
void arm_file_fault(const FileFault& fault);
void clear_file_fault();
/// Calls of `operation` on matching paths since arm_file_fault.
[[nodiscard]] int64_t count_file_operations(FileOperation operation);

/// Arms a fault for a scope.
class ScopedFileFault {
 public:
  explicit ScopedFileFault(const FileFault& fault) { arm_file_fault(fault); }
  ScopedFileFault(const ScopedFileFault&) = delete;
  ScopedFileFault& operator=(const ScopedFileFault&) = delete;
  ~ScopedFileFault() { clear_file_fault(); }
};

}  // namespace gato::testing_hooks

/// System calls by way of the seam: they return and set errno as the originals do.
namespace gato::detail {

int seam_open(const char* path, int flags, unsigned mode);
ssize_t seam_pread(int descriptor, const std::string& path, void* buffer, size_t size, uint64_t offset);
ssize_t seam_write(int descriptor, const std::string& path, const void* data, size_t size);
int seam_fsync(int descriptor, const std::string& path);
int seam_rename(const char* from, const char* to);
int seam_rename_new(const char* from, const char* to);  // fails with EEXIST when there is something named `to`

}  // namespace gato::detail
