#include "gato/core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <new>
#include <random>
#include <system_error>
#include <utility>

#include "file_faults.h"
#include "gato/core/error.h"
#include "gato/core/excerpt.h"

namespace gato {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;     // per read of a whole file, and what one write hands over at most
constexpr size_t kBufferBytes = size_t{256} << 10;  // of an OutputFile

/// What a person can do about an error of the system.
std::string_view remedy_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "; free some space there or choose another folder";
    case EFBIG:
      return "; raise the file size limit (ulimit -f) or choose another disk";
    case EACCES:
    case EPERM:
      return "; check the permissions of the file and its folder";
    case EROFS:
      return "; the file system is read-only: choose another folder";
    case ENOENT:
      return "; check the path";
    case ENOTDIR:
    case EISDIR:
    case EEXIST:
    case ENOTEMPTY:
      return "; something else is in the way under that name: move it or choose another path";
    case EMFILE:
    case ENFILE:
      return "; raise the limit of open files (ulimit -n)";
    case EIO:
      return "; the disk or network file system failed: check its state";
    default:
      return "";
  }
}

[[noreturn]] void throw_io(const Path& path, std::string_view action, int error_number) {
  throw IoError(cat(path.string(), ": cannot ", action, ": ", std::generic_category().message(error_number),
                    remedy_for(error_number)),
                error_number);
}

/// Closes a descriptor at the end of a scope, keeping errno.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }
  [[nodiscard]] int get() const { return descriptor_; }
  [[nodiscard]] int release() { return std::exchange(descriptor_, -1); }
  void reset() {
    const int saved = errno;
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    errno = saved;
  }

 private:
  int descriptor_;
};

int open_retrying(const Path& path, int flags, unsigned mode = 0666) {
  int descriptor = -1;
  do {
    descriptor = detail::seam_open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

/// Opens a regular file for reading; `size` receives its size. Pipes and devices are refused: reading them may never
/// end.
int open_regular(const Path& path, uint64_t& size) {
  Descriptor file(open_retrying(path, O_RDONLY | O_NONBLOCK));  // without O_NONBLOCK opening a pipe waits for a writer
  if (file.get() < 0) throw_io(path, "open for reading", errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_io(path, "read the size", errno);
  if (S_ISDIR(status.st_mode)) throw_io(path, "read", EISDIR);
  if (!S_ISREG(status.st_mode)) {
    throw IoError(cat(path.string(), ": cannot read: not a regular file; give the path of a file"), EINVAL);
  }
  size = static_cast<uint64_t>(status.st_size);
  return file.release();
}

/// Reads up to `size` bytes at `offset`; fewer only at the end of the file.
size_t read_up_to(int descriptor, const Path& path, uint64_t offset, std::byte* out, size_t size) {
  size_t done = 0;
  while (done < size) {
    const size_t piece = std::min(size - done, size_t{1} << 30);
    const ssize_t count = detail::seam_pread(descriptor, path.native(), out + done, piece, offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_io(path, cat("read ", piece, " bytes at offset ", offset + done), errno);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return done;
}

/// Writes everything; on an error throws, with some of it written.
void write_all(int descriptor, const Path& path, const Path& shown_path, const std::byte* data, size_t size) {
  size_t done = 0;
  while (done < size) {
    const size_t piece = std::min(size - done, size_t{1} << 30);
    const ssize_t count = detail::seam_write(descriptor, path.native(), data + done, piece);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_io(shown_path, "write", errno);
    if (count == 0)
      throw_io(shown_path, "write", ENOSPC);  // write(2) of more than nothing says so only when it is stuck
    done += static_cast<size_t>(count);
  }
}

int fsync_retrying(int descriptor, const Path& path) {
  int result = 0;
  do {
    result = detail::seam_fsync(descriptor, path.native());
  } while (result != 0 && errno == EINTR);
  return result;
}

void rename_or_throw(const Path& from, const Path& to) {
  if (detail::seam_rename(from.c_str(), to.c_str()) != 0) {
    throw_io(to, cat("rename ", from.filename().string(), " to this name"), errno);
  }
}

Path folder_of(const Path& path) {
  const Path folder = path.parent_path();
  return folder.empty() ? Path(".") : folder;
}

/// A name beside `path` that no other process or thread uses, hidden, so that listings pass it over.
Path temporary_beside(const Path& path) {
  static const uint32_t process_tag = std::random_device{}();
  static std::atomic<uint32_t> counter{0};
  constexpr size_t kNameBytes = 180;  // file systems allow 255 for the whole name
  std::array<char, 48> suffix{};
  std::snprintf(suffix.data(), suffix.size(), ".%d-%08x-%u.tmp", static_cast<int>(::getpid()), process_tag,
                counter.fetch_add(1));
  return folder_of(path) / cat(".", path.filename().string().substr(0, kNameBytes), suffix.data());
}

/// Whether `name` was made by temporary_beside: ".<name>.<process>-<8 hex digits>-<number>.tmp".
bool is_temporary_name(std::string_view name) {
  constexpr std::string_view kDigits = "0123456789";
  constexpr std::string_view kSuffix = ".tmp";
  if (!name.starts_with('.') || !name.ends_with(kSuffix)) return false;
  name.remove_suffix(kSuffix.size());
  const std::vector<std::string> parts = split(name.substr(name.rfind('.') + 1), '-');
  const auto consists_of = [](const std::string& part, std::string_view allowed) {
    return !part.empty() && part.find_first_not_of(allowed) == std::string::npos;
  };
  return parts.size() == 3 && consists_of(parts[0], kDigits) && parts[1].size() == 8 &&
         consists_of(parts[1], "0123456789abcdef") && consists_of(parts[2], kDigits);
}

/// Waits for an exclusive lock; returns whether there is one (some network file systems have none).
bool lock_waiting(int descriptor) {
  int result = 0;
  do {
    result = ::flock(descriptor, LOCK_EX);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

/// Creates a temporary file beside `path` and locks it, which tells remove_abandoned_temporaries that it is in use.
int create_temporary(const Path& path, Path& temporary) {
  while (true) {
    temporary = temporary_beside(path);
    Descriptor file(open_retrying(temporary, O_WRONLY | O_CREAT | O_EXCL));
    if (file.get() < 0) throw_io(path, "open for writing", errno);
    struct stat status {};
    // Between creation and lock it may have been taken for abandoned, and removed: then begin anew.
    if (!lock_waiting(file.get()) || ::fstat(file.get(), &status) != 0 || status.st_nlink > 0) return file.release();
  }
}

std::string hex_of(XXH128_hash_t hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  XXH128_canonical_t canonical{};
  XXH128_canonicalFromHash(&canonical, hash);
  std::string hex;
  for (const unsigned char byte : canonical.digest) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

/// Cuts a file back to `size` after a failed append; what cannot be cut is healed by the next append.
void cut_back(int descriptor, off_t size) {
  const int saved = errno;
  static_cast<void>(::ftruncate(descriptor, size) == 0);
  errno = saved;
}

/// Whether a kill in the middle of a write left a line without its end.
bool ends_inside_line(int descriptor, const Path& path, off_t size) {
  if (size == 0) return false;
  std::byte last{};
  const size_t count = read_up_to(descriptor, path, static_cast<uint64_t>(size) - 1, &last, 1);
  return count == 1 && last != std::byte{'\n'};
}

}  // namespace

std::string digest128(std::span<const std::byte> bytes) { return hex_of(XXH3_128bits(bytes.data(), bytes.size())); }

std::string digest128(std::string_view bytes) {
  return digest128(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

std::string digest128_of_file(const Path& path) {
  uint64_t size = 0;
  const Descriptor file(open_regular(path, size));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  if (!state) throw std::bad_alloc();
  XXH3_128bits_reset(state.get());
  std::vector<std::byte> piece(kPieceBytes);
  for (uint64_t offset = 0;;) {
    const size_t count = read_up_to(file.get(), path, offset, piece.data(), piece.size());
    XXH3_128bits_update(state.get(), piece.data(), count);
    offset += count;
    if (count < piece.size()) return hex_of(XXH3_128bits_digest(state.get()));
  }
}

std::string read_file(const Path& path, uint64_t max_bytes) {
  uint64_t size = 0;
  const Descriptor file(open_regular(path, size));
  const auto throw_too_large = [&](std::string_view relation, uint64_t bytes) {
    throw DataError(cat(path.string(), ": the file has ", relation, bytes, " bytes where at most ", max_bytes,
                        " are expected; check that it is the right file"));
  };
  if (size > max_bytes) throw_too_large("", size);
  std::string content;
  // The size is a hint only: files under /proc say 0, and a file may grow meanwhile.
  while (true) {
    const size_t before = content.size();
    const size_t wanted = before < size ? static_cast<size_t>(size) - before : 4096;
    content.resize(before + wanted);
    const size_t count = read_up_to(file.get(), path, before, reinterpret_cast<std::byte*>(&content[before]), wanted);
    content.resize(before + count);
    if (content.size() > max_bytes) throw_too_large("more than ", max_bytes);
    if (count < wanted) return content;
  }
}

void write_file_atomic(const Path& path, std::string_view content) {
  OutputFile file(path);
  file.write(content);
  file.commit();
}

void append_line(const Path& path, std::string_view line, bool durable) {
  GATO_CHECK(line.find('\n') == std::string_view::npos, "append_line to ", path.string(),
             ": the line holds a line end");
  append_lines(path, line, durable);
}

void append_lines(const Path& path, std::string_view lines, bool durable) {
  make_folders(folder_of(path));
  const Descriptor file(open_retrying(path, O_RDWR | O_APPEND | O_CREAT));
  if (file.get() < 0) throw_io(path, "open for appending", errno);
  // The lock keeps others' lines apart from ours while we look at the end; where a file system has no locks, O_APPEND
  // alone still keeps whole lines apart.
  while (::flock(file.get(), LOCK_EX) != 0 && errno == EINTR) {
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_io(path, "read the size", errno);
  std::string text = S_ISREG(status.st_mode) && ends_inside_line(file.get(), path, status.st_size) ? "\n" : "";
  text.append(lines).append("\n");
  try {
    write_all(file.get(), path, path, reinterpret_cast<const std::byte*>(text.data()), text.size());
    if (durable && fsync_retrying(file.get(), path) != 0) throw_io(path, "fsync", errno);
  } catch (const IoError&) {
    if (S_ISREG(status.st_mode)) cut_back(file.get(), status.st_size);
    throw;
  }
  if (durable && status.st_size == 0) fsync_folder(folder_of(path));
}

void make_folders(const Path& path) {
  if (path.empty()) return;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return;
  const Path parent = path.parent_path();
  if (parent != path) make_folders(parent);
  if (path.filename().empty() || path.filename() == ".") return;  // "a/b/" names what "a/b" names
  if (::mkdir(path.c_str(), 0777) == 0) return fsync_folder(folder_of(path));
  const int error_number = errno;
  if (error_number == EEXIST && std::filesystem::is_directory(path, error)) return;  // another process was faster
  throw_io(path, "make the folder", error_number);
}

void fsync_file(const Path& path) {
  uint64_t size = 0;
  const Descriptor file(open_regular(path, size));
  if (fsync_retrying(file.get(), path) != 0) throw_io(path, "fsync", errno);
}

void fsync_folder(const Path& path) {
  const Path folder = path.empty() ? Path(".") : path;
  const Descriptor descriptor(open_retrying(folder, O_RDONLY | O_DIRECTORY));
  if (descriptor.get() < 0) throw_io(folder, "open the folder", errno);
  if (fsync_retrying(descriptor.get(), folder) == 0) return;
  // Some network and user-space file systems have no fsync for folders: they order renames by themselves.
  if (errno != EINVAL && errno != ENOTSUP) throw_io(folder, "fsync the folder", errno);
}

void rename_durable(const Path& from, const Path& to) {
  rename_or_throw(from, to);
  fsync_folder(folder_of(to));
  if (folder_of(from) != folder_of(to)) fsync_folder(folder_of(from));
}

void rename_new_durable(const Path& from, const Path& to) {
  if (detail::seam_rename_new(from.c_str(), to.c_str()) != 0) {
    throw_io(to, cat("rename ", from.filename().string(), " to this name"), errno);
  }
  fsync_folder(folder_of(to));
  if (folder_of(from) != folder_of(to)) fsync_folder(folder_of(from));
}

void drop_from_cache(const Path& path) {
  const Descriptor file(open_retrying(path, O_RDONLY | O_NONBLOCK));
  if (file.get() >= 0) static_cast<void>(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED));
}

size_t remove_abandoned_temporaries(const Path& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entries(folder_of(folder / "x"), error);
  if (error == std::errc::no_such_file_or_directory) return 0;
  if (error) throw_io(folder, "list the folder", error.value());
  size_t num_removed = 0;
  while (entries != std::filesystem::directory_iterator()) {
    const Path path = entries->path();
    if (is_temporary_name(path.filename().string())) {
      const Descriptor file(open_retrying(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW));
      const bool abandoned = file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0;
      if (abandoned && ::unlink(path.c_str()) == 0) ++num_removed;
    }
    entries.increment(error);
    if (error) throw_io(folder, "list the folder", error.value());
  }
  return num_removed;
}

InputFile::InputFile(const Path& path) : path_(path) { descriptor_ = open_regular(path, size_); }

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(std::exchange(other.size_, 0)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void InputFile::read_at(uint64_t offset, std::span<std::byte> out) const {
  const auto throw_short = [&](uint64_t size) {
    throw DataError(cat(path_.string(), ": the file ends at byte ", size, ", but ", out.size(), " bytes at offset ",
                        offset, " are needed: it was cut short or its contents contradict each other; make it anew"));
  };
  if (offset > size_ || out.size() > size_ - offset) throw_short(size_);
  const size_t count = read_up_to(descriptor_, path_, offset, out.data(), out.size());
  if (count < out.size()) throw_short(offset + count);
}

OutputFile::OutputFile(const Path& path) : path_(path) {
  GATO_CHECK(!path.filename().empty(), "\"", path.string(), "\" names no file");
  make_folders(folder_of(path));
  buffer_.reserve(kBufferBytes);
  descriptor_ = create_temporary(path_, temporary_);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
  GATO_CHECK(descriptor_ >= 0, "write after commit of ", path_.string());
  position_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes) return write_all(descriptor_, temporary_, path_, bytes.data(), bytes.size());
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void OutputFile::write(std::string_view bytes) { write(std::as_bytes(std::span(bytes.data(), bytes.size()))); }

void OutputFile::flush() {
  write_all(descriptor_, temporary_, path_, buffer_.data(), buffer_.size());
  buffer_.clear();
}

void OutputFile::commit() {
  GATO_CHECK(descriptor_ >= 0, "second commit of ", path_.string());
  flush();
  // After a failed fsync the system may have dropped the pages: it must not be tried again, the file is given up.
  if (fsync_retrying(descriptor_, temporary_) != 0) throw_io(path_, "fsync", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) throw_io(path_, "close", errno);
  rename_or_throw(temporary_, path_);
  temporary_.clear();
  fsync_folder(folder_of(path_));
}

MappedFile::MappedFile(const Path& path) {
  uint64_t size = 0;
  const Descriptor file(open_regular(path, size));
  if (size == 0) return;  // mmap refuses nothing
  void* address = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) throw_io(path, cat("map ", size, " bytes into memory"), errno);
  data_ = static_cast<const std::byte*>(address);
  size_ = static_cast<size_t>(size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

FileLock::FileLock(const Path& path, std::string_view remedy) {
  make_folders(folder_of(path));
  Descriptor file(open_retrying(path, O_RDWR | O_CREAT));
  if (file.get() < 0) throw_io(path, "open the lock", errno);
  int result = 0;
  do {
    result = ::flock(file.get(), LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) {
    std::array<char, 400> holder{};
    const size_t count = read_up_to(file.get(), path, 0, reinterpret_cast<std::byte*>(holder.data()), holder.size());
    const std::string name = excerpt(trim({holder.data(), count}), holder.size());
    throw ConfigError(cat(path.string(), ": in use by ", name.empty() ? "another process" : name, "; ", remedy));
  }
  if (result != 0) throw_io(path, "lock", errno);
  const std::string holder = cat("process ", ::getpid(), " on ", host_name(), "\n");
  if (::ftruncate(file.get(), 0) != 0) throw_io(path, "write the lock", errno);
  write_all(file.get(), path, path, reinterpret_cast<const std::byte*>(holder.data()), holder.size());
  descriptor_ = file.release();
}

FileLock::~FileLock() {
  // The file stays: unlinking it would let two processes lock two files of one name.
  static_cast<void>(::ftruncate(descriptor_, 0) == 0);
  ::close(descriptor_);
}

}  // namespace gato
