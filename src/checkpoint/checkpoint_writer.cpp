#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "checkpoint/checksums.h"
#include "checkpoint/folder_names.h"
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
  GATO_CHECK(step >= 0, "a checkpoint of step ", step);
  manifest_.step = step;
  final_ = folder_ / step_name(step);
  unfinished_ = free_name(folder_, step_name(step), kUnfinishedMark);
  try {
    make_folders(unfinished_);
  } catch (const IoError&) {
    remove_unfinished();  // made, but not known to be durable
    throw;
  }
}

CheckpointWriter::~CheckpointWriter() {
  if (!committed_) remove_unfinished();
}

void CheckpointWriter::remove_unfinished() {
  std::error_code ignored;  // what stays is removed by clean_checkpoints()
  fs::remove_all(unfinished_, ignored);
}

void CheckpointWriter::check_new_name(const std::string& name) const {
  GATO_CHECK(!committed_, "file \"", name, "\" is added after commit()");
  GATO_CHECK(is_valid_file_name(name), "\"", name, "\" cannot be the name of a file in a checkpoint");
  const auto is_same = [&](const FileEntry& file) { return file.name == name; };
  GATO_CHECK(std::none_of(manifest_.files.begin(), manifest_.files.end(), is_same) &&
                 std::find(foreign_.begin(), foreign_.end(), name) == foreign_.end(),
             "file \"", name, "\" is added twice");
}

void CheckpointWriter::add_file(const std::string& name, std::string_view content) {
  check_new_name(name);
  write_file_atomic(unfinished_ / name, content);
  FileChecksums checksums;
  checksums.update(std::as_bytes(std::span(content.data(), content.size())));
  manifest_.files.push_back(checksums.finish(name));
}

void CheckpointWriter::add_tensors(const std::string& name, std::span<const TensorView> tensors,
                                   const std::map<std::string, std::string>& metadata) {
  check_new_name(name);
  OutputFile file(unfinished_ / name);
  FileChecksums checksums;
  const auto write_piece = [&](std::span<const std::byte> piece) {
    file.write(piece);
    checksums.update(piece);
  };
  write_safetensors(
      [&](std::span<const std::byte> bytes) {
        // Piece by piece, so that what is written is still in the processor's cache when its checksums are computed.
        for (; bytes.size() > kChunkBytes; bytes = bytes.subspan(kChunkBytes)) write_piece(bytes.first(kChunkBytes));
        write_piece(bytes);
      },
      tensors, metadata);
  file.commit();
  manifest_.files.push_back(checksums.finish(name));
}

Path CheckpointWriter::file_path(const std::string& name) {
  check_new_name(name);
  Path path = unfinished_ / name;
  make_folders(path.parent_path());
  foreign_.push_back(name);
  return path;
}

void CheckpointWriter::set_fact(const std::string& key, const std::string& value) {
  GATO_CHECK(is_valid_utf8(key) && is_valid_utf8(value), "fact \"", key, "\" is not valid UTF-8");
  manifest_.facts[key] = value;
}

void CheckpointWriter::gather_foreign_files() {
  const Contents contents = contents_of(unfinished_);
  for (const std::string& name : foreign_) {
    if (std::binary_search(contents.files.begin(), contents.files.end(), name)) continue;
    throw CheckpointError(cat((unfinished_ / name).string(), ": the file was announced but never written"));
  }
  const size_t own_files = manifest_.files.size();
  for (const std::string& name : contents.files) {
    const auto own_end = manifest_.files.begin() + static_cast<std::ptrdiff_t>(own_files);
    if (std::any_of(manifest_.files.begin(), own_end, [&](const FileEntry& file) { return file.name == name; }))
      continue;
    fsync_file(unfinished_ / name);
    manifest_.files.push_back(checksums_of_file(unfinished_ / name, name));
  }
  std::sort(manifest_.files.begin(), manifest_.files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
  for (const FileEntry& file : manifest_.files) {
    std::error_code error;
    const uint64_t size = fs::file_size(unfinished_ / file.name, error);
    if (error || size != file.size) {
      throw CheckpointError(
          cat((unfinished_ / file.name).string(), ": changed while the checkpoint was being written"));
    }
  }
  for (const Path& folder : contents.folders) fsync_folder(folder);
}

void CheckpointWriter::publish() {
  settle_replaced(final_);  // of an earlier commit
  try {
    if (fs::exists(fs::symlink_status(final_))) rename_durable(final_, final_.string() + std::string(kReplacedMark));
    rename_durable(unfinished_, final_);
  } catch (const IoError&) {
    std::error_code ignored;
    if (!fs::exists(final_)) fs::rename(final_.string() + std::string(kReplacedMark), final_, ignored);
    throw;
  }
  committed_ = true;
  settle_replaced(final_);
}

CheckpointInfo CheckpointWriter::commit() {
  GATO_CHECK(!committed_, "second commit of ", final_.string());
  gather_foreign_files();
  manifest_.time = seconds_since_1970();
  write_file_atomic(unfinished_ / kManifestName, to_text(manifest_));
  publish();
  replace_link(folder_ / kLatestName, final_.filename().string());
  return {manifest_.step, final_};
}

}  // namespace gato::checkpoint
