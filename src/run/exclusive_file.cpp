#include "run/exclusive_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <random>
#include <system_error>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::run {
namespace {

constexpr std::string_view kSuffix = ".new";

Path unused_name_beside(const Path& path) {
  static const uint64_t tag = uint64_t{std::random_device{}()} << 32 | std::random_device{}();
  static std::atomic<uint64_t> counter{0};
  return path.parent_path() / cat(".", path.filename().string(), ".", ::getpid(), "-", tag, "-", counter++, kSuffix);
}

/// Removes a file at the end of a scope.
class Remover {
 public:
  explicit Remover(const Path& path) : path_(path) {}
  Remover(const Remover&) = delete;
  Remover& operator=(const Remover&) = delete;
  ~Remover() { ::unlink(path_.c_str()); }

 private:
  const Path& path_;
};

}  // namespace

bool create_file(const Path& path, std::string_view content) {
  const Path temporary = unused_name_beside(path);
  write_file_atomic(temporary, content);
  const Remover remover(temporary);
  if (::link(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    struct stat status {};
    // A network share may carry a link out, lose its answer, and refuse the repetition: the count of names tells.
    const bool is_ours = ::stat(temporary.c_str(), &status) == 0 && status.st_nlink == 2;
    if (!is_ours && error == EEXIST) return false;
    if (!is_ours) {
      throw IoError(cat(path.string(), ": cannot give a file this name: ", std::generic_category().message(error),
                        "; the folder must be on a file system with hard links"),
                    error);
    }
  }
  fsync_folder(path.parent_path());
  return true;
}

bool is_left_by_create_file(std::string_view name) { return name.starts_with('.') && name.ends_with(kSuffix); }

}  // namespace gato::run
