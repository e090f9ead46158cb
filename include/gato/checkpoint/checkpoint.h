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

/// Throws IoError (ENOSPC) naming both sizes and what to do unless the disk under `folder` has room for `bytes` and a
/// reserve of 64 MiB, which what else a run writes needs. Quotas are not seen. A disk that does not tell is trusted.
void check_free_space(const Path& folder, uint64_t bytes);

/// Names this process for as long as its machine runs, and no other: what the folders of unfinished checkpoints carry.
[[nodiscard]] std::string process_tag();

/// `<folder>/step-N.tmp-<tag>`, where several processes of a run write the parts of one checkpoint. `tag`: the
/// process_tag() of the process that commits, and behind a point a number that is new for every try.
[[nodiscard]] Path unfinished_path(const Path& folder, int64_t step, const std::string& tag);

/// The files of a checkpoint that one process writes, each under a temporary name, fsynced and renamed. What else is in
/// the folder stays as it is. IoError (path, reason, remedy) when the disk refuses; the part, and with it the
/// checkpoint, is then given up. One thread.
class CheckpointPart {
 public:
  /// Makes the folder unless it is there.
  explicit CheckpointPart(Path unfinished);

  /// Adds a file. `name` is relative, parts separated by '/', such as "config.yaml" or "demos/grid.gato"; each name
  /// once.
  void add_file(const std::string& name, std::string_view content);
  void add_tensors(const std::string& name, std::span<const TensorView> tensors,
                   const std::map<std::string, std::string>& metadata = {});

  [[nodiscard]] const Path& path() const { return unfinished_; }
  [[nodiscard]] const std::vector<FileEntry>& entries() const { return entries_; }

 private:
  void check_new_name(const std::string& name) const;

  Path unfinished_;
  std::vector<FileEntry> entries_;
};

struct CommitOptions {
  /// Whether every file is read back from the disk (past the system's cache, where that can be had) and compared with
  /// its checksums before the checkpoint gets its name.
  bool verify = false;
};

/// Builds one checkpoint in `<folder>/step-N.tmp-<process>` and commits it as `<folder>/step-N`. Until commit()
/// returns, older checkpoints and `latest` are untouched; without commit() the destructor removes what was written.
/// Every function throws IoError (path, reason, remedy) when the disk refuses; the writer is then only good for
/// destruction. One thread.
class CheckpointWriter {
 public:
  /// Makes the folders. `step` >= 0.
  CheckpointWriter(Path folder, int64_t step);
  /// Of a checkpoint that other processes write to as well, in unfinished_path(folder, step, tag).
  CheckpointWriter(Path folder, int64_t step, const std::string& tag);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  ~CheckpointWriter();

  /// As CheckpointPart's.
  void add_file(const std::string& name, std::string_view content);
  void add_tensors(const std::string& name, std::span<const TensorView> tensors,
                   const std::map<std::string, std::string>& metadata = {});
  /// Adds files that other processes wrote into unfinished_path() through a CheckpointPart: they are not read again,
  /// but must be there with their sizes. CheckpointError for a name that came before.
  void add_entries(std::span<const FileEntry> entries);
  /// Where to write a file that others produce (parent folders are made). It must be complete when commit() is called,
  /// which reads it once for its checksums.
  [[nodiscard]] Path file_path(const std::string& name);
  /// The unfinished folder, where other processes of a run may write their files.
  [[nodiscard]] const Path& unfinished_path() const { return part_->path(); }

  /// Adds a line of the manifest's `facts` for people and tools: "attempt", "config_digest", versions.
  void set_fact(const std::string& key, const std::string& value);

  /// Writes the manifest, makes everything durable, gives the folder its final name in one rename that replaces nothing
  /// and points `latest` at it. Call once. When it returns, the checkpoint survives a power cut. A checkpoint of the
  /// same step that is there already is replaced (never before the new one is durable); if it was damaged it is kept
  /// beside as `step-N.damaged-K`.
  CheckpointInfo commit(CommitOptions options = {});

 private:
  void begin(Path unfinished);
  void check_new_name(const std::string& name) const;
  void remove_unfinished();
  void gather_foreign_files();
  void read_back() const;
  void publish();

  Path folder_;
  Path final_;
  std::optional<CheckpointPart> part_;
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
  bool unreadable = false;                     ///< The system refused to read: what is on the disk may be fine.
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

/// Why a checkpoint is not valid: its first damage, and how many more there are.
[[nodiscard]] std::string summary_of(const std::vector<Damage>& damages);

using DamageCallback = std::function<void(const CheckpointInfo&, const std::vector<Damage>&)>;

/// Logs a warning that names folder, file and offset, and says that the checkpoint is passed over and left where it is.
void warn_of_damage(const CheckpointInfo& checkpoint, const std::vector<Damage>& damages);

/// The valid checkpoint with the highest step; nothing when there is none. Damaged ones are told to `on_damaged` and
/// passed over; nothing is changed on disk.
[[nodiscard]] std::optional<CheckpointInfo> newest_valid(const Path& folder,
                                                         const DamageCallback& on_damaged = warn_of_damage,
                                                         VerifyDepth depth = VerifyDepth::kContent);

/// Renames a damaged checkpoint to `step-N.damaged-K`, where nothing takes it for a checkpoint or deletes it; returns
/// its new path. For the process that holds the run's lock.
Path set_aside(const CheckpointInfo& checkpoint);

/// For newest_valid() by the process that goes on with a run: logs a warning that names folder, file and offset, and
/// sets the checkpoint aside. One that only could not be read is left where it is.
void set_damaged_aside(const CheckpointInfo& checkpoint, const std::vector<Damage>& damages);

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
