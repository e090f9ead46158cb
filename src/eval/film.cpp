#include "film.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/text.h"

extern char** environ;

namespace gato::eval {
namespace {

/// Starts ffmpeg with a pipe as its standard input; 0 when that fails.
pid_t start(std::vector<std::string> arguments, int& input) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return 0;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t process = 0;
  const int error = ::posix_spawnp(&process, "ffmpeg", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[0]);
  if (error != 0) {
    ::close(ends[1]);
    return 0;
  }
  input = ends[1];
  return process;
}

bool write_all(int file, const std::vector<uint8_t>& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::write(file, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

/// No signal when ffmpeg ends before it has read all: the write fails instead. Only this thread's signals are held.
class BrokenPipesAreErrors {
 public:
  BrokenPipesAreErrors() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  BrokenPipesAreErrors(const BrokenPipesAreErrors&) = delete;
  BrokenPipesAreErrors& operator=(const BrokenPipesAreErrors&) = delete;
  ~BrokenPipesAreErrors() {
    const timespec now{};
    while (sigtimedwait(&pipe_, nullptr, &now) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_{}, before_{};
};

}  // namespace

bool can_make_films() {
  const char* path = std::getenv("PATH");
  if (path == nullptr) return false;
  for (const std::string& folder : split(path, ':')) {
    if (!folder.empty() && ::access((Path(folder) / "ffmpeg").c_str(), X_OK) == 0) return true;
  }
  return false;
}

bool write_film(const Path& path, const std::vector<episode::Image>& frames, int frames_per_second, int scale) {
  GATO_CHECK(!frames.empty() && frames_per_second > 0 && scale > 0, frames.size(), " frames");
  for (const episode::Image& frame : frames) {
    GATO_CHECK(frame.width == frames[0].width && frame.height == frames[0].height, "frames differ in size");
  }
  make_folders(path.parent_path());
  const Path unfinished = path.parent_path() / cat(".", path.stem().string(), ".", ::getpid(), ".mp4");
  const BrokenPipesAreErrors guard;
  int input = -1;
  const pid_t process = start({"ffmpeg",
                               "-nostdin",
                               "-y",
                               "-loglevel",
                               "error",
                               "-f",
                               "rawvideo",
                               "-pix_fmt",
                               "rgb24",
                               "-s",
                               cat(frames[0].width, "x", frames[0].height),
                               "-r",
                               cat(frames_per_second),
                               "-i",
                               "pipe:0",
                               "-vf",
                               cat("scale=trunc(iw*", scale, "/2)*2:trunc(ih*", scale, "/2)*2:flags=neighbor"),
                               "-c:v",
                               "libx264",
                               "-preset",
                               "veryfast",
                               "-threads",
                               "1",
                               "-pix_fmt",
                               "yuv420p",
                               "-movflags",
                               "+faststart",
                               "file:" + unfinished.string()},
                              input);
  if (process == 0) {
    log::warning("eval", path.string(), ": ffmpeg could not be started, so there is no film of it");
    return false;
  }
  bool is_whole = true;
  for (const episode::Image& frame : frames) {
    is_whole = is_whole && write_all(input, frame.pixels);
  }
  ::close(input);
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  std::error_code ignored;
  if (!is_whole || status != 0 || !std::filesystem::exists(unfinished, ignored)) {
    std::filesystem::remove(unfinished, ignored);
    log::warning("eval", path.string(), ": ffmpeg made no film of it");
    return false;
  }
  std::filesystem::rename(unfinished, path);
  return true;
}

}  // namespace gato::eval
