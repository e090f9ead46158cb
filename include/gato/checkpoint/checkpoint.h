#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gato/checkpoint/manifest.h"
#include "gato/checkpoint/safetensors.h"  // TensorView
#include "gato/core/file.h"               // Path

/// Checkpoints as folders `checkpoints/step-00001000`: complete or absent whenever the process dies
/// (docs/formats/checkpoint.md).
namespace gato::checkpoint {

/// "step-00001000"; eight digits or more. `step` >= 0.
[[nodiscard]] std::string step_name(int64_t step);
/// The inverse; nothing for any other name.
[[nodiscard]] std::optional<int64_t> parse_step_name(std::string_view name);

struct CheckpointInfo {
  int64_t step = 0;
  Path path;
  bool operator==(const CheckpointInfo&) const = default;
};

/// Builds one checkpoint in `<folder>/step-N.tmp-<process>` and commits it as `<folder>/step-N`. Until commit()
/// returns, older checkpoints and `latest` are untouched; without commit() the destructor removes what was written.
/// Every function throws IoError (path, reason, remedy) when the disk refuses; the writer is then only good for
/// destruction. One thread.
class CheckpointWriter {
 public:
  /// Makes the folders. `step` >= 0.
  CheckpointWriter(Path folder, int64_t step);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  ~CheckpointWriter();

  /// Adds a file. `name` is relative, parts separated by '/', such as "config.yaml" or "demos/grid.gato"; each name
  /// once.
  void add_file(const std::string& name, std::string_view content);
  void add_tensors(const std::string& name, std::span<const TensorView> tensors,
                   const std::map<std::string, std::string>& metadata = {});
  /// Where to write a file that others produce (parent folders are made). It must be complete when commit() is called,
  /// which reads it once for its checksums.
  [[nodiscard]] Path file_path(const std::string& name);
  /// The unfinished folder, where other processes of a run may write their files.
  [[nodiscard]] const Path& unfinished_path() const { return unfinished_; }

  /// Adds a line of the manifest's `facts` for people and tools: "attempt", "config_digest", versions.
  void set_fact(const std::string& key, const std::string& value);

  /// Writes the manifest, makes everything durable, gives the folder its final name in one rename and points `latest`
  /// at it. Call once. When it returns, the checkpoint survives a power cut. A checkpoint of the same step that is
  /// there already is replaced (never before the new one is durable); if it was damaged it is kept beside as
  /// `step-N.damaged-K`.
  CheckpointInfo commit();

 private:
  void check_new_name(const std::string& name) const;
  void remove_unfinished();
  void gather_foreign_files();
  void publish();

  Path folder_;
  Path final_;
  Path unfinished_;
  Manifest manifest_;
  std::vector<std::string> foreign_;
  bool committed_ = false;
};

/// All folders named `step-N`, by falling step, without looking inside. A missing `folder` gives none.
[[nodiscard]] std::vector<CheckpointInfo> list_checkpoints(const Path& folder);

/// One thing wrong with a checkpoint.
struct Damage {
  std::string file;     ///< Relative to the checkpoint, such as "model.safetensors".
  uint64_t offset = 0;  ///< Of the 1 MiB chunk that is damaged, or where the file ends too early.
  std::string reason;
  [[nodiscard]] std::string describe() const;  ///< "model.safetensors at offset 1048576: checksum ... differs".
};

/// How far a checkpoint is read.
enum class VerifyDepth {
  kSizes,    ///< The manifest, and that every file is there with its size.
  kContent,  ///< Also every byte against its checksum.
};

/// Everything wrong with the checkpoint at `path`; empty when it is valid. Never throws for what it finds on disk: a
/// file that cannot be read is a damage. Reads with bounded memory.
[[nodiscard]] std::vector<Damage> verify_checkpoint(const Path& path, VerifyDepth depth = VerifyDepth::kContent);

using DamageCallback = std::function<void(const CheckpointInfo&, const std::vector<Damage>&)>;

/// Logs a warning that names folder, file and offset, and says that the checkpoint is passed over and left where it is.
void warn_of_damage(const CheckpointInfo& checkpoint, const std::vector<Damage>& damages);

/// The valid checkpoint with the highest step; nothing when there is none. Damaged ones are told to `on_damaged` and
/// passed over; nothing is changed on disk.
[[nodiscard]] std::optional<CheckpointInfo> newest_valid(const Path& folder,
                                                         const DamageCallback& on_damaged = warn_of_damage,
                                                         VerifyDepth depth = VerifyDepth::kContent);

/// Which checkpoints prune() leaves.
struct Retention {
  int64_t keep_last = 2;   ///< The newest valid ones; fewer than 2 counts as 2.
  int64_t keep_every = 0;  ///< Also every step divisible by this; 0: none.
};

/// Deletes valid checkpoints that `retention` does not keep, oldest first, and returns them. Never touches damaged
/// ones, nor the newest two that are valid (established by reading them to `depth`, when there is something to delete).
std::vector<CheckpointInfo> prune(const Path& folder, Retention retention, VerifyDepth depth = VerifyDepth::kContent);

/// Finishes what killed processes left: removes unfinished and half-deleted folders whose process is gone, and gives a
/// checkpoint back its name where a replacement was cut short. Returns what it removed. Call at start, by the process
/// that holds the run's lock.
std::vector<Path> clean_checkpoints(const Path& folder);

/// A checkpoint opened for reading: only files its manifest names can be had.
class Checkpoint {
 public:
  /// Reads the manifest; CheckpointError when there is no valid one. File contents are not verified here.
  explicit Checkpoint(const Path& path);

  [[nodiscard]] const Path& path() const { return path_; }
  [[nodiscard]] const Manifest& manifest() const { return manifest_; }
  [[nodiscard]] int64_t step() const { return manifest_.step; }
  [[nodiscard]] bool has(const std::string& name) const { return manifest_.find(name) != nullptr; }
  /// Path of a file. CheckpointError naming the checkpoint and the nearest name when the manifest does not have it.
  [[nodiscard]] Path file(const std::string& name) const;
  /// Content of a file, verified against the manifest. CheckpointError naming file and offset when it differs.
  [[nodiscard]] std::string read(const std::string& name, uint64_t max_bytes = uint64_t{64} << 20) const;

 private:
  Path path_;
  Manifest manifest_;
};

}  // namespace gato::checkpoint
