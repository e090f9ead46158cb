// Campaigns against the code that saves and loads checkpoints; tools/faults/checkpoints runs them.
//
//   faults_checkpoints kills FOLDER [COUNT [SEED]]  SIGKILL at random times in children that save, link, delete and pin
//   faults_checkpoints flips FOLDER [EVERY]         one bit of every (EVERY-th) byte of a checkpoint of more than 1 MB
//                                                   flipped
//   faults_checkpoints truncations FOLDER           every file of a small checkpoint cut at every length
//   faults_checkpoints calls FOLDER                 every open, write, fsync and rename of saves failing, once and for
//                                                   good
//
// Each prints what it did, figures on lines `figure NAME VALUE UNIT`, and exits with 1 when anything was lost, wrongly
// loaded or not told.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <system_error>

#include "core/file_faults.h"
#include "gato/checkpoint/retention.h"
#include "gato/checkpoint/safetensors.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/random.h"

namespace {

using namespace gato;
using namespace gato::checkpoint;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using testing_hooks::FileFault;
using testing_hooks::FileOperation;

/// A finding that makes the campaign fail.
class Finding : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require(bool condition, const std::string& what) {
  if (!condition) throw Finding(what);
}

void figure(const std::string& name, double value, const char* unit) {
  std::cout << "figure checkpoint_faults/" << name << " " << value << " " << unit << "\n";
}

// ---- Checkpoints that are known

std::vector<float> weights_of(int64_t step, size_t count) {
  std::vector<float> weights(count);
  for (size_t i = 0; i < count; ++i) weights[i] = static_cast<float>(step) + static_cast<float>(i) / 1024.0F;
  return weights;
}

std::string state_of(int64_t step) { return cat("{\"step\": ", step, "}\n"); }

/// Two ranks' files, small ones and one that others wrote: every way a file gets into a checkpoint.
CheckpointInfo save(const Path& folder, int64_t step, size_t num_weights) {
  static int64_t tries = 0;
  const std::string tag = cat(process_tag(), ".", ++tries);
  const std::vector<float> weights = weights_of(step, num_weights);
  const TensorView view{"weights", Dtype::kF32, {static_cast<int64_t>(num_weights)}, std::as_bytes(std::span(weights))};
  CheckpointWriter writer(folder, step, tag);
  CheckpointPart other(unfinished_path(folder, step, tag));
  other.add_tensors("optimizer-00001-of-00002.safetensors", std::span(&view, 1));
  writer.add_tensors("model.safetensors", std::span(&view, 1), {{"format", "pt"}});
  writer.add_file("state.json", state_of(step));
  write_file_atomic(writer.file_path("demos/grid.txt"), cat("demonstration of ", step));
  writer.add_entries(other.entries());
  writer.set_fact("attempt", "1");
  return writer.commit();
}

void check_content(const CheckpointInfo& info, size_t num_weights) {
  const Checkpoint checkpoint(info.path);
  const std::vector<float> weights = weights_of(info.step, num_weights);
  const auto expected = std::as_bytes(std::span(weights));
  bool same = checkpoint.step() == info.step && checkpoint.read("state.json") == state_of(info.step) &&
              checkpoint.read("demos/grid.txt") == cat("demonstration of ", info.step);
  for (const char* name : {"model.safetensors", "optimizer-00001-of-00002.safetensors"}) {
    const auto found = SafetensorsReader(checkpoint.file(name)).read("weights");
    same = same && std::equal(found.begin(), found.end(), expected.begin(), expected.end());
  }
  require(same, cat(info.path.string(), ": is not what was saved"));
}

std::vector<std::string> names_in(const Path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void fresh(const Path& folder) {
  fs::remove_all(folder);
  fs::create_directories(folder);
}

// ---- Kills

constexpr size_t kKilledWeights = 20'000;

/// What a training process does after a restart, until it is killed; every saved step is reported through a pipe. Every
/// third step is saved twice, which replaces; every seventh is pinned for a while.
[[noreturn]] void save_until_killed(const Path& folder, int report) {
  static_cast<void>(clean_checkpoints(folder));
  const auto newest = newest_valid(folder, set_damaged_aside);
  for (int64_t step = newest ? newest->step + 1 : 1;; ++step) {
    save(folder, step, kKilledWeights);
    if (step % 3 == 0) save(folder, step, kKilledWeights);
    if (::write(report, &step, sizeof step) != sizeof step) ::_exit(1);
    if (step % 7 == 0) pin(folder, step);
    if (step > 7 && step % 7 == 5 && read_pins(folder).contains(step - 5)) unpin(folder, step - 5);
    prune(folder, {.keep_last = 2, .keep_every = 100});
  }
}

struct Child {
  pid_t process = -1;
  int reports = -1;
};

Child start_child(const Path& folder) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  std::cout.flush();
  const pid_t process = ::fork();
  if (process < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (process == 0) {
    ::close(ends[0]);
    try {
      save_until_killed(folder, ends[1]);
    } catch (const std::exception& error) {
      std::cerr << "child: " << error.what() << std::endl;
    }
    ::_exit(99);
  }
  ::close(ends[1]);
  return {process, ends[0]};
}

bool next_report(const Child& child, int64_t& step) { return ::read(child.reports, &step, sizeof step) == sizeof step; }

void kill_child(const Child& child) {
  ::kill(child.process, SIGKILL);
  int status = 0;
  while (::waitpid(child.process, &status, 0) < 0 && errno == EINTR) {
  }
  require(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a child ended by itself");
}

/// In what it was killed, by what it left.
std::string window_of(const Path& folder) {
  std::string window = "between saves, or pinning";
  for (const std::string& name : names_in(folder)) {
    if (name.find(".replaced") != std::string::npos) return "replacing a checkpoint";
    if (name.starts_with("latest.tmp-")) return "linking";
    if (name.find(".deleted-") != std::string::npos) return "deleting an old one";
    if (name.find(".tmp-") == std::string::npos) continue;
    window = fs::exists(folder / name / kManifestName) ? "between manifest and name" : "writing files";
  }
  return window;
}

void check_after_kill(const Path& folder, int64_t& last_reported) {
  // A reader that only looks, such as an evaluation, comes before any cleaning.
  const auto newest = newest_valid(folder, [](const CheckpointInfo& info, const std::vector<Damage>& damages) {
    throw Finding(cat(info.path.string(), " has a checkpoint's name and is damaged: ", summary_of(damages)));
  });
  if (last_reported == 0 && !newest) return;
  require(newest.has_value(), "every checkpoint is gone");
  require(newest->step >= last_reported,
          cat("step ", last_reported, " was reported as saved, ", newest->step, " is loaded"));
  require(newest->step <= last_reported + 1, "a step that nobody saved is loaded");
  check_content(*newest, kKilledWeights);
  clean_checkpoints(folder);
  // A replacement that was cut short gives the former checkpoint its name back.
  const auto cleaned = newest_valid(folder, nullptr);
  require(cleaned && cleaned->step >= newest->step && cleaned->step <= last_reported + 1,
          "cleaning lost what was loaded before");
  check_content(*cleaned, kKilledWeights);
  for (const int64_t step : read_pins(folder)) {
    require(fs::exists(folder / step_name(step)), cat("the pinned step ", step, " was deleted"));
  }
  last_reported = cleaned->step;
}

void kills(const Path& folder, int64_t count, uint64_t seed) {
  fresh(folder);
  Rng random(seed);
  int64_t last_reported = 0;
  double save_seconds = 0.02;
  std::map<std::string, int64_t> windows;
  const auto begin = Clock::now();
  for (int64_t kill = 0; kill < count; ++kill) {
    const Child child = start_child(folder);
    // Mostly after a first save, so that the moment lies among deleting, saving and linking; sometimes in the start.
    for (int64_t reports = random.below(10) == 0 ? 0 : 1 + random.below(2); reports > 0; --reports) {
      const auto before = Clock::now();
      require(next_report(child, last_reported), "a child failed before it was killed");
      save_seconds = std::chrono::duration<double>(Clock::now() - before).count();
    }
    ::usleep(static_cast<useconds_t>(random.uniform(0, 1.2) * std::min(save_seconds, 0.5) * 1e6));
    kill_child(child);
    while (next_report(child, last_reported)) {
    }
    ::close(child.reports);
    ++windows[window_of(folder)];
    check_after_kill(folder, last_reported);
    if ((kill + 1) % 1000 == 0) std::cout << kill + 1 << " kills, step " << last_reported << std::endl;
  }
  for (const auto& [window, number] : windows) std::cout << "  killed while " << window << ": " << number << "\n";
  figure("kills", static_cast<double>(count), "kills");
  figure("kills/lost_or_wrong", 0, "runs");
  figure("kills/saved", static_cast<double>(last_reported), "steps");
  figure("kills/seconds", std::chrono::duration<double>(Clock::now() - begin).count(), "s");
}

// ---- Flips and truncations

constexpr size_t kFlippedWeights = 140'000;  // twice 560 KB: more than one chunk, more than 1 MB in all
constexpr size_t kSmallWeights = 40;

void put_byte(int descriptor, uint64_t offset, unsigned char byte) {
  require(::pwrite(descriptor, &byte, 1, static_cast<off_t>(offset)) == 1, "cannot write a byte");
}

/// Whether the damage at `offset` of `file` is told with its file and chunk, and the older checkpoint taken.
void check_told(const Path& folder, const std::string& file, uint64_t offset, int64_t older, bool is_there = true) {
  std::vector<Damage> told;
  const auto newest =
      newest_valid(folder, [&](const CheckpointInfo&, const std::vector<Damage>& damages) { told = damages; });
  const std::string where = cat(file, " at ", offset);
  require(!told.empty(), cat("not found: ", where));
  require(newest && newest->step == older, cat("the older checkpoint is not taken: ", where));
  const bool is_manifest = file == kManifestName;
  const uint64_t chunk = offset / kChunkBytes * kChunkBytes;
  const bool named = std::any_of(told.begin(), told.end(), [&](const Damage& damage) {
    return damage.file == file &&
           (is_manifest ? !is_there || damage.reason.find("offset") != std::string::npos : damage.offset >= chunk);
  });
  require(named, cat("the message does not name ", where, ": ", summary_of(told)));
}

std::vector<std::string> files_of(const Path& path) {
  const Checkpoint checkpoint(path);
  std::vector<std::string> files = {kManifestName};
  for (const FileEntry& file : checkpoint.manifest().files) files.push_back(file.name);
  return files;
}

void flips(const Path& folder, uint64_t every) {
  fresh(folder);
  save(folder, 1, kSmallWeights);
  const CheckpointInfo newest = save(folder, 2, kFlippedWeights);
  uint64_t flipped = 0, total = 0;
  const auto begin = Clock::now();
  for (const std::string& file : files_of(newest.path)) {
    const std::string content = read_file(newest.path / file);
    total += content.size();
    const int descriptor = ::open((newest.path / file).c_str(), O_RDWR | O_CLOEXEC);
    require(descriptor >= 0, "cannot open a file");
    for (uint64_t offset = 0; offset < content.size(); offset += every) {
      const auto byte = static_cast<unsigned char>(content[offset]);
      // One bit, each in its turn: the hardest to see.
      put_byte(descriptor, offset, static_cast<unsigned char>(byte ^ (1U << (offset % 8))));
      check_told(folder, file, offset, 1);
      put_byte(descriptor, offset, byte);
      if (++flipped % 100'000 == 0) std::cout << flipped << " flips" << std::endl;
    }
    ::close(descriptor);
  }
  require(verify_checkpoint(newest.path).empty(), "the checkpoint was not put back");
  figure("flips/checkpoint_bytes", static_cast<double>(total), "bytes");
  figure("flips", static_cast<double>(flipped), "flips");
  figure("flips/missed", 0, "flips");
  figure("flips/seconds", std::chrono::duration<double>(Clock::now() - begin).count(), "s");
}

void truncations(const Path& folder) {
  fresh(folder);
  save(folder, 1, kSmallWeights);
  const CheckpointInfo newest = save(folder, 2, kSmallWeights);
  uint64_t cuts = 0;
  for (const std::string& file : files_of(newest.path)) {
    const std::string content = read_file(newest.path / file);
    for (uint64_t length = 0; length < content.size(); ++length) {
      fs::resize_file(newest.path / file, length);
      check_told(folder, file, file == kManifestName ? 0 : length, 1);
      ++cuts;
    }
    fs::remove(newest.path / file);
    check_told(folder, file, 0, 1, false);
    write_file_atomic(newest.path / file, content);
    require(verify_checkpoint(newest.path).empty(), "the checkpoint was not put back");
  }
  figure("truncations", static_cast<double>(cuts), "cuts");
  figure("truncations/missed", 0, "cuts");
}

// ---- Calls

struct CallCase {
  const char* name;
  FileOperation operation;
  FileFault::Effect effect;
  int error_number;
};

constexpr CallCase kCallCases[] = {
    {"open EMFILE", FileOperation::kOpen, FileFault::Effect::kError, EMFILE},
    {"open EIO", FileOperation::kOpen, FileFault::Effect::kError, EIO},
    {"write EIO", FileOperation::kWrite, FileFault::Effect::kError, EIO},
    {"write ENOSPC", FileOperation::kWrite, FileFault::Effect::kError, ENOSPC},
    {"write torn, ENOSPC", FileOperation::kWrite, FileFault::Effect::kTornThenError, ENOSPC},
    {"write short", FileOperation::kWrite, FileFault::Effect::kShortWrite, 0},
    {"fsync EIO", FileOperation::kFsync, FileFault::Effect::kError, EIO},
    {"fsync ENOSPC", FileOperation::kFsync, FileFault::Effect::kError, ENOSPC},
    {"rename EIO", FileOperation::kRename, FileFault::Effect::kError, EIO},
    {"rename ENOSPC", FileOperation::kRename, FileFault::Effect::kError, ENOSPC},
};

/// Saves step `step` over steps 1 and 2 and deletes what is too old.
void save_and_prune(const Path& folder, int64_t step) {
  save(folder, step, kSmallWeights);
  prune(folder, {.keep_last = 2});
}

void prepare(const Path& original, const Path& tried, bool damaged) {
  fs::remove_all(tried);
  fs::copy(original, tried, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  if (damaged) write_file_atomic(tried / "step-00000002" / "state.json", "x");
}

/// One call fails; returns whether the save said so.
bool try_failing(const Path& tried, const CallCase& one, int64_t nth, bool all_after, int64_t step) {
  const testing_hooks::ScopedFileFault fault({.operation = one.operation,
                                              .nth = nth,
                                              .all_after = all_after,
                                              .effect = one.effect,
                                              .error_number = one.error_number,
                                              .path_contains = tried.string()});
  try {
    save_and_prune(tried, step);
    return false;
  } catch (const IoError& error) {
    require(error.error_number() == one.error_number, cat("another error was told: ", error.what()));
    require(std::string(error.what()).find(tried.string()) != std::string::npos,
            cat("the message names no file: ", error.what()));
    return true;
  }
}

int64_t count_calls(const Path& tried, const CallCase& one, int64_t step) {
  const testing_hooks::ScopedFileFault counter({.operation = one.operation, .nth = 0, .path_contains = tried.string()});
  save_and_prune(tried, step);
  return testing_hooks::count_file_operations(one.operation);
}

/// Every call of one kind in one kind of save: over nothing (3), over a valid (2) or a damaged checkpoint.
int64_t fail_each(const Path& folder, const CallCase& one, int64_t step, bool damaged) {
  const Path original = folder / "original", tried = folder / "tried";
  prepare(original, tried, damaged);
  const int64_t calls = count_calls(tried, one, step);
  require(calls > 0, "nothing was called");
  for (int64_t nth = 1; nth <= calls; ++nth) {
    for (const bool all_after : {false, true}) {
      const std::string where = cat(one.name, ", call ", nth, " of ", calls, all_after ? " and all later ones" : "",
                                    ", step ", step, damaged ? " over a damaged one" : "");
      prepare(original, tried, damaged);
      const bool told = try_failing(tried, one, nth, all_after, step);
      const bool may_succeed = one.operation == FileOperation::kOpen || one.effect == FileFault::Effect::kShortWrite;
      require(told || may_succeed, cat("not told: ", where));
      clean_checkpoints(tried);
      const auto newest = newest_valid(tried, nullptr);
      require(newest && newest->step >= (told ? damaged ? 1 : 2 : step), cat("lost: ", where));
      check_content(*newest, kSmallWeights);
      save_and_prune(tried, step);
      require(newest_valid(tried, nullptr)->step == step, cat("saving does not work again: ", where));
    }
  }
  return 2 * calls;
}

void calls(const Path& folder) {
  fresh(folder);
  for (const int64_t step : {1, 2}) save(folder / "original", step, kSmallWeights);
  int64_t failures = 0;
  for (const CallCase& one : kCallCases) {
    const int64_t number =
        fail_each(folder, one, 3, false) + fail_each(folder, one, 2, false) + fail_each(folder, one, 2, true);
    std::cout << "  " << one.name << ": " << number << "\n";
    failures += number;
  }
  figure("calls/failures", static_cast<double>(failures), "calls");
  figure("calls/lost_or_untold", 0, "calls");
}

// ---- Main

uint64_t number_of(const std::string& text) {
  uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || number == 0) {
    throw ConfigError(cat("\"", text, "\" is no number from 1"));
  }
  return number;
}

int run(const std::vector<std::string>& arguments) {
  const auto argument = [&](size_t i, const char* otherwise) {
    return i < arguments.size() ? arguments[i] : otherwise;
  };
  if (arguments.size() < 2)
    throw ConfigError("usage: faults_checkpoints kills|flips|truncations|calls FOLDER [NUMBER [SEED]]");
  log::set_level(log::Level::kError);
  const std::string& campaign = arguments[0];
  const Path folder = arguments[1];
  if (campaign == "kills") {
    kills(folder, static_cast<int64_t>(number_of(argument(2, "10000"))), number_of(argument(3, "1")));
  } else if (campaign == "flips") {
    flips(folder, number_of(argument(2, "1")));
  } else if (campaign == "truncations") {
    truncations(folder);
  } else if (campaign == "calls") {
    calls(folder);
  } else {
    throw ConfigError(cat("there is no campaign \"", campaign, "\""));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const Finding& finding) {
    std::cout << "FOUND: " << finding.what() << "\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
