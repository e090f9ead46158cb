#include <algorithm>
#include <optional>
#include <system_error>

#include "episode/import/import_state.h"
#include "episode/shard_footer.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/shard.h"

namespace gato::episode {
namespace {

constexpr std::string_view kExtension = ".gato";

std::string stem_of(const std::string& name) {
  std::string stem = name;
  std::replace(stem.begin(), stem.end(), '/', '-');
  return stem;
}

/// Whether there was one.
bool remove_file(const Path& path) {
  std::error_code error;
  const bool removed = std::filesystem::remove(path, error);
  if (error) {
    throw IoError(cat(path.string(), ": this shard of an earlier version cannot be removed: ", error.message()),
                  error.value());
  }
  return removed;
}

/// An interrupted import must not be taken for a small data set.
void check_import_complete(const Path& folder) {
  std::optional<ImportState> import;
  try {
    import = load_import_state(folder / kImportStateName);
  } catch (const DataError&) {
    return;  // No file of ours; the importer itself says so when it is asked to go on.
  }
  if (!import || import->complete) return;
  throw ConfigError(cat(folder.string(), ": the import into this folder is not complete (", import->shards.size(),
                        " shards so far); run the same gato-data import again, or remove ", kImportStateName,
                        " to use what is there"));
}

bool is_shard_name(const std::string& name) {
  return name.size() > kExtension.size() && name.front() != '.' && name.ends_with(kExtension);
}

}  // namespace

Path shard_path(const Path& folder, const std::string& dataset_name, size_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < 5) digits.insert(0, 5 - digits.size(), '0');
  return folder / cat(stem_of(dataset_name), "-", digits, kExtension);
}

struct DatasetWriter::State {
  Path folder;
  DatasetInfo info;
  std::vector<TaskSpec> tasks;
  uint64_t shard_bytes;
  size_t first_shard;
  std::unique_ptr<ShardWriter> writer;
  std::vector<Path> shards;
  bool finished = false;

  [[nodiscard]] size_t next_number() const { return first_shard + shards.size(); }

  ShardWriter& open_writer() {
    if (!writer) writer = std::make_unique<ShardWriter>(shard_path(folder, info.name, next_number()), info, tasks);
    return *writer;
  }

  void commit() {
    writer->finish();
    writer.reset();
    shards.push_back(shard_path(folder, info.name, next_number()));
  }

  /// An earlier, longer version of this data set must not be mixed with the new one.
  void remove_later_shards() const {
    for (size_t number = next_number();; ++number) {
      const Path path = shard_path(folder, info.name, number);
      if (!remove_file(path)) return;
      remove_file(token_columns_path(path));
    }
  }
};

DatasetWriter::DatasetWriter(const Path& folder, DatasetInfo info, std::vector<TaskSpec> tasks, uint64_t shard_bytes,
                             size_t first_shard) {
  check_dataset_info(info);
  check_tasks(tasks);
  GATO_CHECK(shard_bytes > 0, "shards of 0 bytes");
  make_folders(folder);
  state_ = std::make_unique<State>(
      State{folder, std::move(info), std::move(tasks), shard_bytes, first_shard, nullptr, {}, false});
}

DatasetWriter::~DatasetWriter() = default;

bool DatasetWriter::add(int task, const Episode& episode) {
  GATO_CHECK(!state_->finished, "add() after finish()");
  state_->open_writer().add(task, episode);
  if (state_->writer->bytes() < state_->shard_bytes) return false;
  state_->commit();
  return true;
}

void DatasetWriter::finish() {
  GATO_CHECK(!state_->finished, "finish() called twice");
  state_->finished = true;
  if (state_->next_number() == 0) state_->open_writer();
  if (state_->writer) state_->commit();
  state_->remove_later_shards();
}

const std::vector<Path>& DatasetWriter::shards() const { return state_->shards; }

std::vector<Path> list_shards(const Path& folder_or_file) {
  std::error_code error;
  const auto status = std::filesystem::status(folder_or_file, error);
  if (std::filesystem::is_regular_file(status)) return {folder_or_file};
  if (!std::filesystem::is_directory(status)) {
    throw ConfigError(cat(folder_or_file.string(),
                          ": no such folder or shard file; make data with gato-data collect or "
                          "gato-data import"));
  }
  std::vector<Path> shards;
  std::filesystem::directory_iterator entries(folder_or_file, error);
  if (error) throw IoError(cat(folder_or_file.string(), ": cannot be listed: ", error.message()), error.value());
  for (const auto& entry : entries) {
    if (is_shard_name(entry.path().filename().string()) && entry.is_regular_file()) shards.push_back(entry.path());
  }
  check_import_complete(folder_or_file);
  if (shards.empty()) {
    throw ConfigError(cat(folder_or_file.string(), ": the folder holds no shards (*", kExtension,
                          "); make data with gato-data collect or gato-data import"));
  }
  std::sort(shards.begin(), shards.end());
  return shards;
}

}  // namespace gato::episode
