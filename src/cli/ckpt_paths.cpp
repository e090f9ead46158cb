#include "ckpt_paths.h"

#include "gato/core/error.h"
#include "gato/run/run_folder.h"

namespace gato::cli {
namespace {

namespace fs = std::filesystem;

bool is_checkpoint(const Path& path) { return fs::exists(path / checkpoint::kManifestName); }

/// Without links and a last '/', so that the name is the one the checkpoint was saved by.
Path resolved(const Path& path) {
  std::error_code error;
  const Path real = fs::canonical(path, error);
  return error ? path : real;
}

}  // namespace

Path checkpoints_folder(const Path& given) {
  const Path path = resolved(given);
  const Path inside = run::RunFolder(path).checkpoints_path();
  if (fs::is_directory(inside)) return inside;
  const bool is_folder = fs::is_directory(path) && !is_checkpoint(path);
  if (is_folder && (path.filename() == inside.filename() || !checkpoint::list_checkpoints(path).empty())) return path;
  throw ConfigError(cat(given.string(), ": neither a run folder nor a folder of checkpoints; give such as runs/demo"));
}

checkpoint::CheckpointInfo find_checkpoint(const Path& given) {
  const Path path = resolved(given);
  if (is_checkpoint(path)) return {checkpoint::Checkpoint(path).step(), path};
  if (checkpoint::parse_step_name(path.filename().string())) {
    throw CheckpointError(cat(given.string(), ": there is no ", checkpoint::kManifestName, " in it, so this is no ",
                              "checkpoint; use another one"));
  }
  const Path folder = checkpoints_folder(path);
  const auto newest = checkpoint::newest_valid(folder);
  if (!newest) throw ConfigError(cat(folder.string(), ": there is no valid checkpoint"));
  return *newest;
}

Path run_of(const Path& checkpoint) {
  const Path folder = resolved(checkpoint).parent_path();
  const run::RunFolder run(folder.parent_path());
  return folder == run.checkpoints_path() && run.exists() ? run.root() : Path();
}

void require_valid(const Path& checkpoint) {
  const auto damages = checkpoint::verify_checkpoint(checkpoint);
  if (damages.empty()) return;
  throw CheckpointError(
      cat(checkpoint.string(), " is not a valid checkpoint: ", checkpoint::summary_of(damages), "; use another one"));
}

}  // namespace gato::cli
