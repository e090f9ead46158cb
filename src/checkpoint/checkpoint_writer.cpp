#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "checkpoint/checksums.h"
#include "checkpoint/folder_names.h"
#include "checkpoint/verify_files.h"
#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

namespace fs = std::filesystem;

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// What lies below an unfinished checkpoint.
struct Contents {
  std::vector<std::string> files;  // relative, sorted
  std::vector<Path> folders;       // the checkpoint's own last
};

Contents contents_of(const Path& root) {
  Contents contents;
  std::error_code error;
  fs::recursive_directory_iterator walk(root, error);
  for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    const fs::file_status status = walk->symlink_status(error);
    if (error) break;
    if (status.type() == fs::file_type::directory) {
      contents.folders.push_back(walk->path());
      continue;
    }
    const std::string name = walk->path().lexically_relative(root).generic_string();
    if (status.type() != fs::file_type::regular || !is_valid_file_name(name)) {
      throw CheckpointError(cat(walk->path().string(),
                                ": cannot be part of a checkpoint: only regular files with plain "
                                "names can; remove it"));
    }
    contents.files.push_back(name);
  }
  if (error) {
    throw IoError(cat(root.string(), ": cannot list the folder: ", error.message(), "; check the disk"), error.value());
  }
  std::sort(contents.files.begin(), contents.files.end());
  contents.folders.push_back(root);
  return contents;
}

}  // namespace

CheckpointWriter::CheckpointWriter(Path folder, int64_t step) : folder_(std::move(folder)) {
  manifest_.step = step;
  begin(free_name(folder_, step_name(step), kUnfinishedMark));
}

CheckpointWriter::CheckpointWriter(Path folder, int64_t step, const std::string& tag) : folder_(std::move(folder)) {
  manifest_.step = step;
  begin(checkpoint::unfinished_path(folder_, step, tag));
}

void CheckpointWriter::begin(Path unfinished) {
  final_ = folder_ / step_name(manifest_.step);
  try {
    part_.emplace(unfinished);
  } catch (const IoError&) {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);  // made, but not known to be durable
    throw;
  }
}

CheckpointWriter::~CheckpointWriter() {
  if (!committed_) remove_unfinished();
}

void CheckpointWriter::remove_unfinished() {
  std::error_code ignored;  // what stays is removed by clean_checkpoints()
  fs::remove_all(unfinished_path(), ignored);
}

void CheckpointWriter::check_new_name(const std::string& name) const {
  GATO_CHECK(!committed_, "file \"", name, "\" is added after commit()");
  const auto is_same = [&](const FileEntry& file) { return file.name == name; };
  GATO_CHECK(std::none_of(manifest_.files.begin(), manifest_.files.end(), is_same) &&
                 std::none_of(part_->entries().begin(), part_->entries().end(), is_same) &&
                 std::find(foreign_.begin(), foreign_.end(), name) == foreign_.end(),
             "file \"", name, "\" is added twice");
}

void CheckpointWriter::add_file(const std::string& name, std::string_view content) {
  check_new_name(name);
  part_->add_file(name, content);
}

void CheckpointWriter::add_tensors(const std::string& name, std::span<const TensorView> tensors,
                                   const std::map<std::string, std::string>& metadata) {
  check_new_name(name);
  part_->add_tensors(name, tensors, metadata);
}

void CheckpointWriter::add_entries(std::span<const FileEntry> entries) {
  GATO_CHECK(!committed_, "entries are added after commit()");
  for (const FileEntry& entry : entries) {
    const auto is_same = [&](const FileEntry& file) { return file.name == entry.name; };
    if (std::any_of(manifest_.files.begin(), manifest_.files.end(), is_same) ||
        std::any_of(part_->entries().begin(), part_->entries().end(), is_same)) {
      throw CheckpointError(cat(unfinished_path().string(), ": two processes wrote the file \"", entry.name, "\""));
    }
    manifest_.files.push_back(entry);
  }
}

Path CheckpointWriter::file_path(const std::string& name) {
  check_new_name(name);
  GATO_CHECK(is_valid_file_name(name), "\"", name, "\" cannot be the name of a file in a checkpoint");
  Path path = unfinished_path() / name;
  make_folders(path.parent_path());
  foreign_.push_back(name);
  return path;
}

void CheckpointWriter::set_fact(const std::string& key, const std::string& value) {
  GATO_CHECK(is_valid_utf8(key) && is_valid_utf8(value), "fact \"", key, "\" is not valid UTF-8");
  manifest_.facts[key] = value;
}

void CheckpointWriter::gather_foreign_files() {
  manifest_.files.insert(manifest_.files.end(), part_->entries().begin(), part_->entries().end());
  const Contents contents = contents_of(unfinished_path());
  for (const std::string& name : foreign_) {
    if (std::binary_search(contents.files.begin(), contents.files.end(), name)) continue;
    throw CheckpointError(cat((unfinished_path() / name).string(), ": the file was announced but never written"));
  }
  const size_t own_files = manifest_.files.size();
  for (const std::string& name : contents.files) {
    const auto own_end = manifest_.files.begin() + static_cast<std::ptrdiff_t>(own_files);
    if (std::any_of(manifest_.files.begin(), own_end, [&](const FileEntry& file) { return file.name == name; }))
      continue;
    fsync_file(unfinished_path() / name);
    manifest_.files.push_back(checksums_of_file(unfinished_path() / name, name));
  }
  std::sort(manifest_.files.begin(), manifest_.files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
  for (const FileEntry& file : manifest_.files) {
    std::error_code error;
    const uint64_t size = fs::file_size(unfinished_path() / file.name, error);
    if (error || size != file.size) {
      throw CheckpointError(
          cat((unfinished_path() / file.name).string(), ": changed while the checkpoint was being written"));
    }
  }
  for (const Path& folder : contents.folders) fsync_folder(folder);
}

void CheckpointWriter::publish() {
  settle_replaced(final_);  // of an earlier commit
  try {
    if (fs::exists(fs::symlink_status(final_))) rename_durable(final_, final_.string() + std::string(kReplacedMark));
    rename_new_durable(unfinished_path(), final_);
  } catch (const IoError&) {
    std::error_code ignored;
    if (!fs::exists(final_)) fs::rename(final_.string() + std::string(kReplacedMark), final_, ignored);
    throw;
  }
  committed_ = true;
  settle_replaced(final_);
}

/// What the disk gives back must be what was written.
void CheckpointWriter::read_back() const {
  for (const FileEntry& file : manifest_.files) drop_from_cache(unfinished_path() / file.name);
  const std::vector<Damage> damages = check_files(unfinished_path(), manifest_.files, VerifyDepth::kContent);
  if (damages.empty()) return;
  throw CheckpointError(cat(unfinished_path().string(), ": what was written is not what the disk gives back: ",
                            summary_of(damages), "; check the disk"));
}

CheckpointInfo CheckpointWriter::commit(CommitOptions options) {
  GATO_CHECK(!committed_, "second commit of ", final_.string());
  gather_foreign_files();
  manifest_.time = seconds_since_1970();
  write_file_atomic(unfinished_path() / kManifestName, to_text(manifest_));
  if (options.verify) read_back();
  publish();
  replace_link(folder_ / kLatestName, final_.filename().string());
  return {manifest_.step, final_};
}

}  // namespace gato::checkpoint
