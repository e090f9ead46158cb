#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "checkpoint/checksums.h"
#include "checkpoint/folder_names.h"
#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::checkpoint {

void check_free_space(const Path& folder, uint64_t bytes) {
  constexpr uint64_t kReserve = uint64_t{64} << 20;
  Path present = std::filesystem::absolute(folder);
  std::error_code error;
  while (!std::filesystem::exists(present, error) && present.has_relative_path()) present = present.parent_path();
  const std::filesystem::space_info space = std::filesystem::space(present, error);
  if (error || space.capacity == 0) return;  // a file system that does not count its room
  if (space.available >= kReserve && space.available - kReserve >= bytes) return;
  throw IoError(cat(folder.string(), ": a checkpoint needs ", format_bytes(static_cast<double>(bytes)),
                    " and a reserve of ", format_bytes(static_cast<double>(kReserve)), ", but only ",
                    format_bytes(static_cast<double>(space.available)),
                    " are free there; free some space, or keep fewer checkpoints (train.keep_checkpoints)"),
                ENOSPC);
}

Path unfinished_path(const Path& folder, int64_t step, const std::string& tag) {
  return folder / cat(step_name(step), kUnfinishedMark, tag);
}

CheckpointPart::CheckpointPart(Path unfinished) : unfinished_(std::move(unfinished)) { make_folders(unfinished_); }

void CheckpointPart::check_new_name(const std::string& name) const {
  GATO_CHECK(is_valid_file_name(name), "\"", name, "\" cannot be the name of a file in a checkpoint");
  const auto is_same = [&](const FileEntry& file) { return file.name == name; };
  GATO_CHECK(std::none_of(entries_.begin(), entries_.end(), is_same), "file \"", name, "\" is added twice");
}

void CheckpointPart::add_file(const std::string& name, std::string_view content) {
  check_new_name(name);
  write_file_atomic(unfinished_ / name, content);
  FileChecksums checksums;
  checksums.update(std::as_bytes(std::span(content.data(), content.size())));
  entries_.push_back(checksums.finish(name));
}

void CheckpointPart::add_tensors(const std::string& name, std::span<const TensorView> tensors,
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
  entries_.push_back(checksums.finish(name));
}

}  // namespace gato::checkpoint
