#include <algorithm>
#include <cerrno>
#include <system_error>

#include "checkpoint/checksums.h"
#include "checkpoint/verify_files.h"
#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxDamagesPerFile = 16;  // the rest is summed up: a report of a lost disk should stay readable

/// "" when `path` is a regular file reached from `root` without links; otherwise what it is.
std::string problem_of_path(const Path& root, const std::string& name) {
  Path path = root;
  std::vector<std::string> parts = split(name, '/');
  for (size_t i = 0; i < parts.size(); ++i) {
    path /= parts[i];
    std::error_code error;
    const fs::file_type type = fs::symlink_status(path, error).type();
    if (type == fs::file_type::not_found) return "the file is missing";
    if (type == fs::file_type::none) return cat("the file cannot be looked at: ", error.message());
    const bool is_last = i + 1 == parts.size();
    if (type != (is_last ? fs::file_type::regular : fs::file_type::directory)) return "not a regular file";
  }
  return "";
}

Manifest read_manifest(const Path& checkpoint) {
  const Path path = checkpoint / kManifestName;
  const std::string problem = problem_of_path(checkpoint, kManifestName);
  if (!problem.empty()) throw CheckpointError(cat(path.string(), ": ", problem, ", so this is not a valid checkpoint"));
  return parse_manifest(read_file(path, kMaxManifestBytes), path.string());
}

std::string hex_of(uint32_t value) {
  std::ostringstream out;
  out << std::hex << value;
  return out.str();
}

/// Reads a file against its entry.
class FileCheck {
 public:
  FileCheck(const Path& root, const FileEntry& entry) : path_(root / entry.name), entry_(entry) {}

  [[nodiscard]] std::vector<Damage> run(const Path& root, VerifyDepth depth) {
    const std::string problem = problem_of_path(root, entry_.name);
    if (!problem.empty()) {
      add(0, problem);
      return std::move(damages_);
    }
    try {
      const InputFile file(path_);
      if (file.size() != entry_.size) {
        add(std::min(file.size(), entry_.size),
            cat("the file has ", file.size(), " bytes, the manifest says ", entry_.size));
      }
      if (depth == VerifyDepth::kContent) compare_content(file);
    } catch (const IoError& error) {
      add_unreadable(0, error);
    } catch (const Error& error) {
      add(0, error.what());
    }
    if (skipped_ > 0) add(0, cat("and ", skipped_, " more chunks"));
    return std::move(damages_);
  }

 private:
  void add(uint64_t offset, const std::string& reason) { damages_.push_back({entry_.name, offset, reason}); }
  void add_unreadable(uint64_t offset, const IoError& error) {
    damages_.push_back({entry_.name, offset, error.what(), error.error_number() != ENOENT});
  }

  /// Compares the chunks that are wholly there.
  void compare_content(const InputFile& file) {
    FileChecksums whole;
    std::vector<std::byte> buffer(static_cast<size_t>(std::min({kChunkBytes, file.size(), entry_.size})));
    const uint64_t end = std::min(file.size(), entry_.size);
    for (uint64_t offset = 0; offset < end; offset += kChunkBytes) {
      const uint64_t chunk_bytes = std::min(kChunkBytes, entry_.size - offset);
      if (chunk_bytes > end - offset) return;  // the file is too short, which is reported already
      const auto chunk = std::span(buffer).first(static_cast<size_t>(chunk_bytes));
      try {
        file.read_at(offset, chunk);
      } catch (const IoError& error) {
        return add_unreadable(offset, error);
      } catch (const Error& error) {
        return add(offset, error.what());
      }
      compare_chunk(offset, crc32c(chunk), entry_.crc32c[static_cast<size_t>(offset / kChunkBytes)]);
      whole.update(chunk);
    }
    if (damages_.empty() && whole.finish(entry_.name).xxh3_128 != entry_.xxh3_128) {
      add(0, "the digest of the whole file differs from the manifest's");
    }
  }

  void compare_chunk(uint64_t offset, uint32_t found, uint32_t expected) {
    if (found == expected) return;
    if (damages_.size() >= kMaxDamagesPerFile) {
      ++skipped_;
      return;
    }
    add(offset, cat("the checksum of this chunk is ", hex_of(found), ", the manifest says ", hex_of(expected)));
  }

  Path path_;
  const FileEntry& entry_;
  std::vector<Damage> damages_;
  uint64_t skipped_ = 0;
};

}  // namespace

std::string Damage::describe() const { return cat(file, " at offset ", offset, ": ", reason); }

std::string summary_of(const std::vector<Damage>& damages) {
  if (damages.empty()) return "nothing is wrong with it";
  return damages.front().describe() + (damages.size() > 1 ? cat(" (and ", damages.size() - 1, " more)") : "");
}

std::vector<Damage> check_files(const Path& root, const std::vector<FileEntry>& files, VerifyDepth depth) {
  std::vector<Damage> damages;
  for (const FileEntry& entry : files) {
    const std::vector<Damage> found = FileCheck(root, entry).run(root, depth);
    damages.insert(damages.end(), found.begin(), found.end());
  }
  return damages;
}

std::vector<Damage> verify_checkpoint(const Path& path, VerifyDepth depth) {
  Manifest manifest;
  try {
    manifest = read_manifest(path);
  } catch (const IoError& error) {
    return {{kManifestName, 0, error.what(), error.error_number() != ENOENT}};
  } catch (const Error& error) {
    return {{kManifestName, 0, error.what()}};
  }
  std::vector<Damage> damages;
  const std::optional<int64_t> named_step = parse_step_name(path.filename().string());
  if (named_step && *named_step != manifest.step) {
    damages.push_back({kManifestName, 0, cat("it is of step ", manifest.step, ", the folder says ", *named_step)});
  }
  const std::vector<Damage> found = check_files(path, manifest.files, depth);
  damages.insert(damages.end(), found.begin(), found.end());
  return damages;
}

Checkpoint::Checkpoint(const Path& path) : path_(path) {
  try {
    manifest_ = read_manifest(path);
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

Path Checkpoint::file(const std::string& name) const {
  if (has(name)) return path_ / name;
  std::vector<std::string> names;
  for (const FileEntry& entry : manifest_.files) names.push_back(entry.name);
  const std::string near = nearest(name, names);
  throw CheckpointError(cat(path_.string(), ": the checkpoint has no file \"", name, "\"",
                            near.empty() ? "" : cat("; the nearest name is \"", near, "\"")));
}

std::string Checkpoint::read(const std::string& name, uint64_t max_bytes) const {
  const Path path = file(name);
  const FileEntry& entry = *manifest_.find(name);
  if (entry.size > max_bytes) {
    throw CheckpointError(
        cat(path.string(), ": the file has ", entry.size, " bytes where at most ", max_bytes, " are expected"));
  }
  const std::string problem = problem_of_path(path_, name);
  if (!problem.empty()) throw CheckpointError(cat(path.string(), ": ", problem));
  std::string content = read_file(path, max_bytes);
  FileChecksums checksums;
  checksums.update(std::as_bytes(std::span(content)));
  const FileEntry found = checksums.finish(name);
  if (found == entry) return content;
  const auto [chunk, unused] =
      std::mismatch(found.crc32c.begin(), found.crc32c.end(), entry.crc32c.begin(), entry.crc32c.end());
  const auto offset = std::min(static_cast<uint64_t>(chunk - found.crc32c.begin()) * kChunkBytes, found.size);
  throw CheckpointError(cat(path.string(), ": damaged at offset ", offset, ": ", found.size, " bytes there, ",
                            entry.size, " in the manifest, and their checksums differ; use another checkpoint"));
}

}  // namespace gato::checkpoint
