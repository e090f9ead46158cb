#include "env/collect_manifest.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/log.h"

namespace gato::env {

namespace {

constexpr int kManifestVersion = 1;
constexpr uint64_t kMaxManifestBytes = uint64_t{16} << 20;

Path manifest_path(const Path& folder) { return folder / "collect.json"; }

Json to_json(const episode::ReturnRecord& record) {
  return {{"mean", record.mean}, {"standard_error", record.standard_error}, {"episodes", record.episodes}};
}

episode::ReturnRecord to_return_record(const Json& json) {
  episode::ReturnRecord record;
  record.mean = json.at("mean").get<double>();
  record.standard_error = json.at("standard_error").get<double>();
  record.episodes = json.at("episodes").get<int64_t>();
  return record;
}

Json to_json(const CollectSummary& summary) {
  return {{"task", summary.task},
          {"episodes", summary.episodes},
          {"steps", summary.steps},
          {"mean_return", summary.mean_return},
          {"failed", summary.failed},
          {"expert", to_json(summary.expert)},
          {"random", to_json(summary.random)}};
}

CollectSummary to_summary(const Json& json) {
  CollectSummary summary;
  summary.task = json.at("task").get<std::string>();
  summary.episodes = json.at("episodes").get<int64_t>();
  summary.steps = json.at("steps").get<int64_t>();
  summary.mean_return = json.at("mean_return").get<double>();
  summary.failed = json.value("failed", int64_t{0});  // manifests before it existed have none
  summary.expert = to_return_record(json.at("expert"));
  summary.random = to_return_record(json.at("random"));
  summary.reused = true;
  return summary;
}

/// What is wrong with the shards of `manifest`; empty when they are as they were written.
std::string shard_problem(const Path& folder, const Json& manifest) {
  for (const Json& shard : manifest.at("shards")) {
    const Path file = folder / shard.at("name").get<std::string>();
    std::error_code error;
    const uint64_t bytes = std::filesystem::file_size(file, error);
    if (error) return cat(file.string(), " is missing");
    if (bytes != shard.at("bytes").get<uint64_t>())
      return cat(file.string(), " has another size than when it was made");
    if (digest128_of_file(file) != shard.at("digest").get<std::string>())
      return cat(file.string(), " was changed or damaged");
  }
  return {};
}

}  // namespace

std::optional<CollectSummary> find_finished_dataset(const Path& folder, const Json& settings) {
  const Path path = manifest_path(folder);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  std::string problem;
  try {
    const Json manifest = parse_json(read_file(path, kMaxManifestBytes), path.string());
    if (manifest.at("version") != kManifestVersion || manifest.at("settings") != settings) {
      problem = "it was made with other settings";
    } else {
      problem = shard_problem(folder, manifest);
      if (problem.empty()) return to_summary(manifest.at("summary"));
    }
  } catch (const DataError& error) {
    problem = error.what();
  } catch (const nlohmann::json::exception&) {
    problem = cat(path.string(), " lacks an entry, or has one of another kind");
  }
  log::info("env", "The data set in ", folder.string(), " is made again: ", problem, ".");
  return std::nullopt;
}

void begin_dataset(const Path& folder) {
  make_folders(folder);
  remove_abandoned_temporaries(folder);
  std::error_code error;
  std::filesystem::remove(manifest_path(folder), error);
  if (error) {
    throw IoError(cat(manifest_path(folder).string(), " cannot be removed: ", error.message(),
                      ". Make the folder writable or collect into another one."),
                  error.value());
  }
  fsync_folder(folder);
}

void commit_dataset(const Path& folder, const Json& settings, const std::vector<Path>& shards,
                    const CollectSummary& summary) {
  Json list = Json::array();
  for (const Path& shard : shards) {
    list.push_back({{"name", shard.filename().string()},
                    {"bytes", std::filesystem::file_size(shard)},
                    {"digest", digest128_of_file(shard)}});
  }
  const Json manifest = {
      {"version", kManifestVersion}, {"settings", settings}, {"shards", list}, {"summary", to_json(summary)}};
  write_file_atomic(manifest_path(folder), manifest.dump(2) + "\n");
}

}  // namespace gato::env
