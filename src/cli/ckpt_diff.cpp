#include <iostream>

#include "checkpoint_diff.h"
#include "ckpt_paths.h"
#include "ckpt_verbs.h"
#include "program.h"

namespace gato::cli {
namespace {

namespace fs = std::filesystem;

/// A file, an export, or a checkpoint however it was named.
Path meant_by(const std::string& given) {
  const bool is_export = fs::exists(Path(given) / "config.json");
  if (!fs::is_directory(given) || is_export) return given;
  const Path path = find_checkpoint(given).path;
  require_valid(path);
  return path;
}

}  // namespace

CkptVerb add_ckpt_diff(CLI::App& app) {
  struct Arguments {
    std::string first, second;
    bool moments = false;
    size_t most = 20;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand(
      "diff",
      "Compare settings, state and tensors of two checkpoints, exports or safetensors files; exit code 1 when "
      "something differs");
  verb->add_option("first", arguments->first, "One of them")->required()->check(CLI::ExistingPath);
  verb->add_option("second", arguments->second, "The other")->required()->check(CLI::ExistingPath);
  verb->add_flag("--moments", arguments->moments, "Also the optimizer's moments");
  verb->add_option("--most", arguments->most, "Most tensors listed");
  return [verb, arguments] {
    if (!verb->parsed()) return -1;
    const auto difference = compare(meant_by(arguments->first), meant_by(arguments->second), arguments->moments);
    std::cout << to_text(difference, arguments->most);
    return static_cast<int>(difference.none() ? kDone : kFailed);
  };
}

}  // namespace gato::cli
