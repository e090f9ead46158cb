#include "gato/checkpoint/retention.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "checkpoint/folder_names.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

constexpr size_t kAlwaysKept = 2;  // the newest valid checkpoints that nothing deletes
constexpr uint64_t kMaxPinsBytes = uint64_t{1} << 20;

struct Found {
  CheckpointInfo info;
  std::vector<Damage> damages;
};

/// Every checkpoint by falling step, read as far as deciding needs: the newest to `depth` until enough are known to be
/// valid, older ones by their sizes.
std::vector<Found> find_all(const Path& folder, VerifyDepth depth) {
  std::vector<Found> all;
  size_t num_valid = 0;
  for (const CheckpointInfo& info : list_checkpoints(folder)) {
    all.push_back({info, verify_checkpoint(info.path, num_valid < kAlwaysKept ? depth : VerifyDepth::kSizes)});
    if (all.back().damages.empty()) ++num_valid;
  }
  return all;
}

/// The steps with the best scores among the valid checkpoints, with those scores.
std::map<int64_t, double> best_of(const std::vector<Found>& all, const Retention& retention) {
  std::vector<std::pair<double, int64_t>> ranked;
  for (const Found& found : all) {
    const auto score = retention.scores.find(found.info.step);
    if (found.damages.empty() && score != retention.scores.end()) ranked.emplace_back(score->second, score->first);
  }
  std::sort(ranked.rbegin(), ranked.rend());
  ranked.resize(std::min(ranked.size(), static_cast<size_t>(std::max<int64_t>(0, retention.keep_best))));
  std::map<int64_t, double> best;
  for (const auto& [score, step] : ranked) best[step] = score;
  return best;
}

/// Why the settings alone keep a valid checkpoint with `newer` valid ones before it; "" when they do not.
std::string reason_to_keep(int64_t step, size_t newer, const Retention& retention,
                           const std::map<int64_t, double>& best) {
  if (newer < std::max(kAlwaysKept, static_cast<size_t>(std::max<int64_t>(0, retention.keep_last)))) return "newest";
  if (retention.keep_every > 0 && step % retention.keep_every == 0)
    return cat("step divisible by ", retention.keep_every);
  if (const auto score = best.find(step); score != best.end()) return cat("best score ", score->second);
  return "";
}

/// Why others need the step kept; "" when they do not.
std::string reason_of_others(const Path& folder, int64_t step, const Retention& retention) {
  if (read_pins(folder).contains(step)) return "pinned";
  if (retention.in_use && retention.in_use().contains(step)) return "in use";
  return "";
}

std::vector<RetentionDecision> decide(const Path& folder, const std::vector<Found>& all, const Retention& retention) {
  const std::map<int64_t, double> best = best_of(all, retention);
  std::vector<RetentionDecision> decisions;
  size_t newer = 0;
  for (const Found& found : all) {
    RetentionDecision& decision = decisions.emplace_back(RetentionDecision{found.info, true, ""});
    if (!found.damages.empty()) {
      decision.reason = "damaged: " + summary_of(found.damages);
      continue;
    }
    decision.reason = reason_to_keep(found.info.step, newer++, retention, best);
    if (decision.reason.empty()) decision.reason = reason_of_others(folder, found.info.step, retention);
    decision.keep = !decision.reason.empty();
  }
  return decisions;
}

bool is_doomed(const RetentionDecision& decision) { return !decision.keep; }

Path pins_path(const Path& folder) { return folder / kPinsName; }

/// The text of the list; nothing when there is none.
std::optional<std::string> pins_text(const Path& folder) {
  if (!std::filesystem::exists(std::filesystem::symlink_status(pins_path(folder)))) return std::nullopt;
  return read_file(pins_path(folder), kMaxPinsBytes);
}

}  // namespace

std::vector<RetentionDecision> plan_retention(const Path& folder, const Retention& retention, VerifyDepth depth) {
  return decide(folder, find_all(folder, depth), retention);
}

std::vector<CheckpointInfo> prune(const Path& folder, const Retention& retention, VerifyDepth depth) {
  // Sizes first: reading everything is for the case that something is to be deleted.
  const auto by_sizes = plan_retention(folder, retention, VerifyDepth::kSizes);
  if (std::none_of(by_sizes.begin(), by_sizes.end(), is_doomed)) return {};
  const auto decisions = plan_retention(folder, retention, depth);
  std::vector<CheckpointInfo> deleted;
  for (auto decision = decisions.rbegin(); decision != decisions.rend(); ++decision) {
    if (decision->keep || !reason_of_others(folder, decision->checkpoint.step, retention).empty()) continue;
    delete_tree(decision->checkpoint.path);
    deleted.push_back(decision->checkpoint);
  }
  return deleted;
}

std::set<int64_t> parse_pins(std::string_view text, const std::string& origin) {
  std::set<int64_t> steps;
  int64_t number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    const std::string_view name = trim(line);
    if (name.empty() || name.front() == '#') continue;
    const std::optional<int64_t> step = parse_step_name(name);
    if (!step) {
      throw DataError(cat(origin, ":", number,
                          ": not the name of a checkpoint, such as step-00001000; mend the line: until then nothing is "
                          "deleted"));
    }
    steps.insert(*step);
  }
  return steps;
}

std::set<int64_t> read_pins(const Path& folder) {
  const std::optional<std::string> text = pins_text(folder);
  return text ? parse_pins(*text, pins_path(folder).string()) : std::set<int64_t>{};
}

bool pin(const Path& folder, int64_t step) {
  const std::string name = step_name(step);
  const bool is_new = !read_pins(folder).contains(step);
  if (is_new && std::filesystem::exists(folder / name)) append_line(pins_path(folder), name, true);
  // Looked at behind the writing: whoever deletes reads the list right before.
  if (std::filesystem::exists(folder / name)) return is_new;
  throw ConfigError(cat((folder / name).string(), ": there is no such checkpoint to pin"));
}

bool unpin(const Path& folder, int64_t step) {
  if (!read_pins(folder).contains(step)) return false;
  std::vector<std::string> kept;
  for (const std::string& line : split(*pins_text(folder), '\n')) {
    if (parse_step_name(trim(line)) != step) kept.push_back(line);
  }
  write_file_atomic(pins_path(folder), join(kept, "\n"));
  return true;
}

}  // namespace gato::checkpoint
