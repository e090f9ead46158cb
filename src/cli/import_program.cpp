#include "import_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/suite.h"
#include "gato/episode/formats.h"

namespace gato::cli {
namespace {

constexpr int kOutputClosed = 128 + SIGPIPE;  // As shells report it; the scripts exit with it.

[[noreturn]] void fail_to_start(const std::string& program, int error) {
  throw IoError(cat(program, ": cannot be started: ", std::strerror(error)), error);
}

/// A running program whose standard output we read. Ended when this object goes.
class Child {
 public:
  explicit Child(std::vector<std::string> command) : command_(std::move(command)) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail_to_start(command_[0], errno);
    output_ = ends[0];
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::vector<char*> arguments;
    for (std::string& argument : command_) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    const int error = ::posix_spawn(&process_, command_[0].c_str(), &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    if (error != 0) {
      ::close(output_);
      fail_to_start(command_[0], error);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    close_output();
    if (process_ <= 0) return;
    ::kill(process_, SIGTERM);
    static_cast<void>(wait());
  }

  [[nodiscard]] int output() const { return output_; }

  /// Closes its output and waits for its end. Throws when that was not a good one: ConfigError for exit code 2, else
  /// DataError. That it could write no more is our doing.
  void finish() {
    if (process_ <= 0) return;
    close_output();
    const int status = wait();
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kOutputClosed)) return;
    const std::string end = WIFEXITED(status) ? cat("ended with code ", WEXITSTATUS(status))
                                              : cat("was ended by signal ", WTERMSIG(status));
    const std::string message = cat(command_[1], " ", end, "; see its message above");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) throw ConfigError(message);
    throw DataError(message);
  }

 private:
  void close_output() {
    if (output_ >= 0) ::close(output_);
    output_ = -1;
  }

  int wait() {
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
    }
    process_ = 0;
    return status;
  }

  std::vector<std::string> command_;
  pid_t process_ = 0;
  int output_ = -1;
};

using OptionValues = std::map<std::string, std::vector<std::string>>;

std::vector<std::string> command_of(const ImportProgram& program, const OptionValues& values,
                                    const std::string& source) {
  const std::string root = env::data_root();
  std::vector<std::string> command = {import_python(root), root + "/tools/import/" + program.script, "--quiet"};
  for (const auto& [name, given] : values) {
    for (const std::string& value : given) command.push_back(cat(name, "=", value));
  }
  command.push_back("--");
  command.push_back(source);
  return command;
}

std::unique_ptr<episode::ForeignFormat> start(const ImportProgram& program, const OptionValues& values,
                                              const std::vector<std::string>& sources, episode::DatasetInfo& info) {
  if (sources.size() != 1) {
    throw ConfigError(cat("import ", program.name, " reads one data set, not ", sources.size()));
  }
  const auto child = std::make_shared<Child>(command_of(program, values, sources.front()));
  // The format keeps `finished`, and with it the program.
  episode::OpenedStream stream =
      episode::stream_format(child->output(), cat(program.name, " ", sources.front()), [child] { child->finish(); });
  fill_in(info, stream.info);
  return std::move(stream.format);
}

}  // namespace

std::string import_python(const std::string& root) {
  const char* const setting = std::getenv("GATO_DEPS_DIR");
  const std::string deps = setting != nullptr && *setting != '\0' ? setting : root + "/.deps";
  const std::string python = deps + "/import/bin/python";
  if (::access(python.c_str(), X_OK) != 0) {
    throw ConfigError(cat("this format is read by its official Python library, and ", python,
                          " is not there: run tools/setup --import once (0.1 GB), or set GATO_DEPS_DIR to the folder "
                          "that it filled"));
  }
  return python;
}

ImportCommand program_import(ImportProgram program) {
  return {.name = program.name,
          .description = program.description,
          .sources_help = program.sources_help,
          .add_options = [program](CLI::App& verb) -> MakeFormat {
            auto values = std::make_shared<OptionValues>();
            for (const ProgramOption& option : program.options) {
              auto* added = verb.add_option(option.name, (*values)[option.name], option.help)->type_name("TEXT");
              added->expected(1)->multi_option_policy(option.repeatable ? CLI::MultiOptionPolicy::TakeAll
                                                                        : CLI::MultiOptionPolicy::Throw);
            }
            return [program, values](const std::vector<std::string>& sources, episode::DatasetInfo& info) {
              return start(program, *values, sources, info);
            };
          }};
}

}  // namespace gato::cli
