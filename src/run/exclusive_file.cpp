#include "run/exclusive_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <random>
#include <system_error>
#include <utility>

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

/// A new file that is removed at the end of a scope.
class TemporaryFile {
 public:
  explicit TemporaryFile(Path path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  [[nodiscard]] const Path& path() const { return path_; }

 private:
  Path path_;
};

/// What open(2) and fstat(2) say of a file; false when it cannot be opened.
bool look_at(const Path& path, struct stat& status) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return false;
  const bool known = ::fstat(file, &status) == 0;
  const int error = errno;
  ::close(file);
  errno = error;
  return known;
}

/// After link(2) said no: whether it gave `path` to our file all the same. A network share may carry a link out, lose
/// its answer, and refuse the repetition.
bool was_linked(const Path& temporary, const Path& path) {
  struct stat ours {};
  struct stat there {};
  if (!look_at(temporary, ours)) return false;
  if (ours.st_nlink > 1) return true;  // nobody but us gives it names
  return look_at(path, there) && there.st_dev == ours.st_dev && there.st_ino == ours.st_ino;
}

[[noreturn]] void throw_io(const Path& path, const char* doing, int error) {
  throw IoError(cat(path.string(), ": cannot ", doing, ": ", std::generic_category().message(error),
                    error == ENOSPC ? "; free some space there" : "; check the disk and the folder's permissions"),
                error);
}

}  // namespace

void write_whole(const Path& path, std::string_view content, bool durable) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (file < 0) throw_io(path, "open for writing", errno);
  int error = 0;
  while (error == 0 && !content.empty()) {
    const ssize_t count = ::write(file, content.data(), content.size());
    if (count > 0) content.remove_prefix(static_cast<size_t>(count));
    if (count <= 0 && errno != EINTR) error = count == 0 ? ENOSPC : errno;
  }
  if (error == 0 && durable && ::fsync(file) != 0) error = errno;
  if (::close(file) != 0 && error == 0) error = errno;
  if (error != 0) throw_io(path, "write", error);
}

bool create_file(const Path& path, std::string_view content) {
  constexpr int kMostTries = 10;  // whoever tidies up may take the file below for one that a killed process left
  make_folders(path.parent_path());
  for (int tries = 1;; ++tries) {
    const TemporaryFile temporary(unused_name_beside(path));
    write_whole(temporary.path(), content, true);
    if (::link(temporary.path().c_str(), path.c_str()) == 0) break;
    const int error = errno;
    if (error == ENOENT && tries < kMostTries) continue;
    if (was_linked(temporary.path(), path)) break;
    if (error == EEXIST) return false;
    throw IoError(cat(path.string(), ": cannot give a file this name: ", std::generic_category().message(error),
                      "; the folder must be on a file system with hard links"),
                  error);
  }
  fsync_folder(path.parent_path());
  return true;
}

std::optional<FileIdentity> file_identity(const Path& path) {
  struct stat status {};
  if (!look_at(path, status)) {
    // A full table of files or a share that stutters says nothing about the file.
    if (errno != ENOENT && errno != ENOTDIR) throw_io(path, "open", errno);
    return std::nullopt;
  }
  return FileIdentity{status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

void remove_left_by_create_file(const Path& folder) {
  std::error_code error;
  std::filesystem::directory_iterator walk(folder, error);
  for (; !error && walk != std::filesystem::directory_iterator(); walk.increment(error)) {
    const std::string name = walk->path().filename().string();
    std::error_code ignored;
    if (name.starts_with('.') && name.ends_with(kSuffix)) std::filesystem::remove(walk->path(), ignored);
  }
}

}  // namespace gato::run
