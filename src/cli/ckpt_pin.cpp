#include <iostream>

#include "ckpt_paths.h"
#include "ckpt_verbs.h"
#include "gato/checkpoint/retention.h"
#include "gato/core/error.h"
#include "program.h"

namespace gato::cli {
namespace {

int pin(const std::vector<std::string>& paths, bool remove) {
  for (const std::string& given : paths) {
    std::error_code ignored;
    const Path real = std::filesystem::canonical(given, ignored);
    const Path path = real.empty() ? Path(given) : real;  // one that is gone can still be unpinned
    const auto step = checkpoint::parse_step_name(path.filename().string());
    if (!step)
      throw ConfigError(cat(given, ": give a checkpoint among others, such as runs/demo/checkpoints/step-00001000"));
    const bool changed =
        remove ? checkpoint::unpin(path.parent_path(), *step) : checkpoint::pin(path.parent_path(), *step);
    std::cout << path.string()
              << (remove    ? changed ? ": no longer pinned" : ": was not pinned"
                  : changed ? ": pinned: nothing deletes it"
                            : ": is pinned already")
              << "\n";
  }
  return kDone;
}

}  // namespace

CkptVerb add_ckpt_pin(CLI::App& app) {
  struct Arguments {
    std::vector<std::string> paths;
    bool remove = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand("pin", "Keep checkpoints whatever the settings say");
  verb->add_option("path", arguments->paths, "Checkpoints")->required();
  verb->add_flag("--remove", arguments->remove, "No longer keep them");
  return [verb, arguments] { return verb->parsed() ? pin(arguments->paths, arguments->remove) : -1; };
}

}  // namespace gato::cli
