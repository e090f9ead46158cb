#include <algorithm>
#include <system_error>
#include <tuple>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/run/results.h"
#include "run/exclusive_file.h"

namespace gato::run {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxResultBytes = uint64_t{256} << 20;
constexpr std::string_view kShardMark = ".shard-";

/// Whether there is an undamaged result of another task under this name ('/' and '-' look alike in file names).
bool belongs_to_another_task(const Path& path, const std::string& task) {
  if (!fs::exists(path)) return false;
  try {
    return read_result(path).task != task;
  } catch (const DataError&) {
    return false;  // damaged: worth replacing
  } catch (const IoError&) {
    return false;  // nobody can read it
  }
}

}  // namespace

TaskResult read_result(const Path& file) { return parse_task_result(read_file(file, kMaxResultBytes), file.string()); }

std::string result_file_name(const std::string& task, int64_t shard) {
  std::string name = task;
  std::replace(name.begin(), name.end(), '/', '-');
  return cat(name, kShardMark, shard, ".json");
}

void write_result(const Path& folder, const TaskResult& result) {
  const Path path = folder / result_file_name(result.task, result.shard);
  const std::string text = to_json(result);
  if (belongs_to_another_task(path, result.task)) {
    throw DataError(cat(path.string(), ": holds a result of another task than ", result.task,
                        ", whose name differs in '/' and '-' only; rename one of the two tasks"));
  }
  write_file_atomic(path, text);
}

namespace {

/// Whether both say that they were played alike, wherever that was.
bool are_played_alike(const std::optional<PlayRecord>& a, const std::optional<PlayRecord>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  PlayRecord elsewhere = *a;
  elsewhere.machine = b->machine;
  elsewhere.cuda_graph = b->cuda_graph;  // gives the same numbers
  return elsewhere == *b;
}

/// Whether the file holds what `result` is a repetition of.
bool holds_same(const Path& path, const TaskResult& result) {
  try {
    const TaskResult found = read_result(path);
    const auto same_seed = [](const RolloutRecord& a, const RolloutRecord& b) { return a.seed == b.seed; };
    return found.task == result.task && found.checkpoint == result.checkpoint && found.suite == result.suite &&
           found.step == result.step && found.shard == result.shard && found.num_shards == result.num_shards &&
           found.scoring == result.scoring && found.decoding == result.decoding &&
           are_played_alike(found.play, result.play) &&
           std::equal(found.rollouts.begin(), found.rollouts.end(), result.rollouts.begin(), result.rollouts.end(),
                      same_seed);
  } catch (const DataError&) {
    return false;
  } catch (const IoError&) {
    return false;
  }
}

}  // namespace

bool write_result_once(const Path& folder, const TaskResult& result) {
  const Path path = folder / result_file_name(result.task, result.shard);
  if (create_file(path, to_json(result))) return true;
  if (holds_same(path, result)) return false;
  write_result(folder, result);
  return true;
}

std::vector<TaskResult> read_results(const Path& folder) {
  std::vector<TaskResult> results;
  std::error_code error;
  fs::directory_iterator walk(folder, error);
  for (; !error && walk != fs::directory_iterator(); walk.increment(error)) {
    const std::string name = walk->path().filename().string();
    const bool is_result = name.front() != '.' && name.ends_with(".json") && name.find(kShardMark) != std::string::npos;
    if (is_result) results.push_back(read_result(walk->path()));
  }
  if (error) {
    throw IoError(cat(folder.string(), ": cannot list the results: ", error.message(), "; check the path"),
                  error.value());
  }
  std::sort(results.begin(), results.end(), [](const TaskResult& a, const TaskResult& b) {
    return std::tie(a.task, a.shard) < std::tie(b.task, b.shard);
  });
  return results;
}

}  // namespace gato::run
