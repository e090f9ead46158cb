#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <system_error>
#include <utility>

#include "checkpoint/folder_names.h"
#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";
constexpr size_t kStepDigits = 8;

/// Names in `folder`; none when it is missing.
std::vector<std::string> names_in(const Path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator walk(folder, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (; !error && walk != fs::directory_iterator(); walk.increment(error)) {
    names.push_back(walk->path().filename().string());
  }
  if (error) {
    throw IoError(cat(folder.string(), ": cannot list the folder: ", error.message(), "; check its permissions"),
                  error.value());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The process tag in a name such as "step-00001000.tmp-TAG" or "latest.tmp-TAG"; nothing for other names.
std::optional<std::string_view> unfinished_by(std::string_view name) {
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view stem = name.substr(0, dot);
  if (stem != kLatestName && !parse_step_name(stem)) return std::nullopt;
  const std::string_view rest = name.substr(dot);
  for (const std::string_view mark : {kUnfinishedMark, kDeletedMark}) {
    if (rest.starts_with(mark)) return rest.substr(mark.size(), rest.find('.', 1) - mark.size());
  }
  return std::nullopt;
}

}  // namespace

std::string step_name(int64_t step) {
  GATO_CHECK(step >= 0, "step ", step);
  const std::string digits = std::to_string(step);
  return cat(kStepPrefix, std::string(kStepDigits - std::min(kStepDigits, digits.size()), '0'), digits);
}

std::optional<int64_t> parse_step_name(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kStepPrefix.size());
  int64_t step = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || step < 0) return std::nullopt;
  if (step_name(step) != name) return std::nullopt;  // one name per step
  return step;
}

std::vector<CheckpointInfo> list_checkpoints(const Path& folder) {
  std::vector<CheckpointInfo> checkpoints;
  for (const std::string& name : names_in(folder)) {
    const std::optional<int64_t> step = parse_step_name(name);
    std::error_code ignored;
    if (step && fs::is_directory(folder / name, ignored)) checkpoints.push_back({*step, folder / name});
  }
  std::sort(checkpoints.begin(), checkpoints.end(),
            [](const CheckpointInfo& a, const CheckpointInfo& b) { return a.step > b.step; });
  return checkpoints;
}

void warn_of_damage(const CheckpointInfo& checkpoint, const std::vector<Damage>& damages) {
  log::warning("checkpoint", checkpoint.path.string(), " is damaged and passed over: ", summary_of(damages),
               "; it is left where it is");
}

std::optional<CheckpointInfo> newest_valid(const Path& folder, const DamageCallback& on_damaged, VerifyDepth depth) {
  for (const CheckpointInfo& checkpoint : list_checkpoints(folder)) {
    const std::vector<Damage> damages = verify_checkpoint(checkpoint.path, depth);
    if (damages.empty()) return checkpoint;
    if (on_damaged) on_damaged(checkpoint, damages);
  }
  return std::nullopt;
}

Path set_aside(const CheckpointInfo& checkpoint) {
  const Path kept = free_damaged_name(checkpoint.path);
  rename_new_durable(checkpoint.path, kept);
  return kept;
}

void set_damaged_aside(const CheckpointInfo& checkpoint, const std::vector<Damage>& damages) {
  const auto is_unreadable = [](const Damage& damage) { return damage.unreadable; };
  if (std::all_of(damages.begin(), damages.end(), is_unreadable)) {
    log::warning("checkpoint", checkpoint.path.string(), " cannot be read and is passed over: ", summary_of(damages),
                 "; it is left where it is");
    return;
  }
  const Path kept = set_aside(checkpoint);
  log::warning("checkpoint", checkpoint.path.string(), " is damaged and passed over: ", summary_of(damages),
               "; it is kept as ", kept.filename().string());
}

std::vector<Path> clean_checkpoints(const Path& folder) {
  std::vector<Path> removed;
  for (const std::string& name : names_in(folder)) {
    const std::string_view original = std::string_view(name).substr(0, name.find('.'));
    if (parse_step_name(original) && name.substr(original.size()) == kReplacedMark) {
      if (settle_replaced(folder / original)) removed.push_back(folder / name);
      continue;
    }
    const std::optional<std::string_view> process = unfinished_by(name);
    if (!process || is_running(*process)) continue;
    delete_tree(folder / name);
    removed.push_back(folder / name);
  }
  return removed;
}

}  // namespace gato::checkpoint
