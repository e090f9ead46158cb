#include <iostream>

#include "ckpt_paths.h"
#include "ckpt_verbs.h"
#include "gato/core/signals.h"
#include "program.h"

namespace gato::cli {
namespace {

/// The checkpoints that are meant: one, or all of a run, oldest first.
std::vector<checkpoint::CheckpointInfo> meant_by(const Path& given) {
  std::error_code ignored;
  const Path path = std::filesystem::canonical(given, ignored);
  if (std::filesystem::exists(path / checkpoint::kManifestName) ||
      checkpoint::parse_step_name(path.filename().string())) {
    return {{checkpoint::parse_step_name(path.filename().string()).value_or(0), path}};
  }
  const auto infos = checkpoint::list_checkpoints(checkpoints_folder(given));
  return {infos.rbegin(), infos.rend()};
}

int verify(const std::vector<std::string>& paths) {
  size_t num_checked = 0, num_damaged = 0;
  for (const std::string& path : paths) {
    for (const checkpoint::CheckpointInfo& info : meant_by(path)) {
      throw_if_stopped("verification");
      const auto damages = checkpoint::verify_checkpoint(info.path);
      ++num_checked;
      std::cout << info.path.string() << (damages.empty() ? ": valid\n" : ": DAMAGED\n");
      for (const checkpoint::Damage& damage : damages) std::cout << "  " << damage.describe() << "\n";
      num_damaged += damages.empty() ? 0 : 1;
    }
  }
  std::cout << num_checked << " read, " << num_damaged << " damaged\n";
  return num_damaged == 0 ? kDone : kFailed;
}

}  // namespace

CkptVerb add_ckpt_verify(CLI::App& app) {
  auto paths = std::make_shared<std::vector<std::string>>();
  auto* verb = app.add_subcommand("verify", "Read every byte of checkpoints; exit code 1 when something is damaged");
  verb->add_option("path", *paths, "Checkpoints, or run folders for all of theirs")
      ->required()
      ->check(CLI::ExistingDirectory);
  return [verb, paths] { return verb->parsed() ? verify(*paths) : -1; };
}

}  // namespace gato::cli
