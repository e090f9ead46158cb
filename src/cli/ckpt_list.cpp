#include <array>
#include <ctime>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "ckpt_paths.h"
#include "ckpt_verbs.h"
#include "gato/checkpoint/retention.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "program.h"

namespace gato::cli {
namespace {

namespace fs = std::filesystem;

std::string date_text(double seconds_since_1970) {
  const auto time = static_cast<std::time_t>(seconds_since_1970);
  std::tm utc{};
  std::array<char, 32> text{};
  if (::gmtime_r(&time, &utc) == nullptr) return "?";
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &utc);
  return text.data();
}

std::string fact(const checkpoint::Manifest& manifest, const std::string& key) {
  const auto found = manifest.facts.find(key);
  return found == manifest.facts.end() ? "-" : found->second;
}

std::string tokens_text(const checkpoint::Checkpoint& checkpoint) {
  if (!checkpoint.has("training_state.json")) return "-";
  const std::string origin = (checkpoint.path() / "training_state.json").string();
  const Json state = parse_json(checkpoint.read("training_state.json"), origin);
  const auto tokens = state.is_object() ? state.find("tokens") : state.end();
  return tokens != state.end() && tokens->is_number() ? format_count(tokens->get<double>()) : "-";
}

/// One line about a checkpoint whose sizes are right.
std::string describe_valid(const checkpoint::CheckpointInfo& info) {
  const checkpoint::Checkpoint checkpoint(info.path);
  uint64_t bytes = 0;
  for (const checkpoint::FileEntry& file : checkpoint.manifest().files) bytes += file.size;
  std::ostringstream line;
  line << date_text(checkpoint.manifest().time) << std::setw(11) << format_bytes(static_cast<double>(bytes))
       << std::setw(12) << tokens_text(checkpoint) << std::setw(11) << fact(checkpoint.manifest(), "processes")
       << std::setw(9) << fact(checkpoint.manifest(), "attempt") << "  " << fact(checkpoint.manifest(), "gato");
  return line.str();
}

std::string describe_any(const checkpoint::CheckpointInfo& info) {
  const auto damages = checkpoint::verify_checkpoint(info.path, checkpoint::VerifyDepth::kSizes);
  if (!damages.empty()) return "DAMAGED: " + checkpoint::summary_of(damages);
  try {
    return describe_valid(info);
  } catch (const Error& error) {
    return cat("DAMAGED: ", error.what());
  }
}

/// Folders that are no checkpoints (unfinished, damaged and set aside): they take room.
void list_others(const Path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.find('.') != std::string::npos) names.insert(name);
  }
  for (const std::string& name : names) {
    const bool damaged = name.find(".damaged-") != std::string::npos;
    std::cout << name << "  "
              << (damaged ? "damaged, set aside: nothing reads or deletes it" : "unfinished: the next start settles it")
              << "\n";
  }
}

int list(const Path& given) {
  const Path folder = checkpoints_folder(given);
  const auto infos = checkpoint::list_checkpoints(folder);
  const auto pins = checkpoint::read_pins(folder);
  std::error_code ignored;
  const std::string latest = fs::read_symlink(folder / "latest", ignored).string();
  std::cout << std::left << std::setw(16) << "checkpoint" << std::right << std::setw(19) << "saved (UTC)"
            << std::setw(11) << "size" << std::setw(12) << "tokens" << std::setw(11) << "processes" << std::setw(9)
            << "attempt"
            << "  gato\n";
  for (auto info = infos.rbegin(); info != infos.rend(); ++info) {
    const std::string name = checkpoint::step_name(info->step);
    std::cout << std::left << std::setw(16) << name << std::right << describe_any(*info)
              << (pins.contains(info->step) ? "  pinned" : "") << (name == latest ? "  latest" : "") << "\n";
  }
  list_others(folder);
  std::cout << infos.size() << (infos.size() == 1 ? " checkpoint" : " checkpoints") << " in " << folder.string()
            << "; only names, manifests and sizes were looked at: gato-ckpt verify reads everything\n";
  return kDone;
}

}  // namespace

CkptVerb add_ckpt_list(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  auto* verb = app.add_subcommand("list", "List a run's checkpoints");
  verb->add_option("path", *path, "Run folder, or its checkpoints")->required()->check(CLI::ExistingDirectory);
  return [verb, path] { return verb->parsed() ? list(*path) : -1; };
}

}  // namespace gato::cli
