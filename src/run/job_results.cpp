#include "run/job_results.h"

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "run/queue_names.h"

namespace gato::run {
namespace {

/// What shares forward passes when the job is played.
std::vector<EpisodeRange> played_together(const Job& job) {
  std::vector<EpisodeRange> ranges;
  for (const JobPart& part : job.parts) {
    if (!part.is_text()) ranges.push_back({part.task.task, part.first, part.task.rollouts});
  }
  return ranges;
}

bool is_decoded_as(const DecodingRecord& decoding, const JobBatch& batch, const JobPart& part) {
  return decoding.rule == part.task.rule && decoding.temperature == part.task.temperature &&
         decoding.top_p == part.task.top_p && decoding.prompt == batch.settings.prompt &&
         (batch.settings.weights.empty() || decoding.weights == batch.settings.weights);
}

}  // namespace

bool is_result_of(const TaskResult& result, const JobBatch& batch, const Job& job, const JobPart& part) {
  const bool is_named_so = result.task == part.task.task && result.checkpoint == batch.checkpoint &&
                           result.step == batch.step && result.suite == batch.suite && result.shard == part.shard &&
                           result.num_shards == part.num_shards &&
                           static_cast<int64_t>(result.rollouts.size()) == part.task.rollouts;
  if (!is_named_so || part.is_text()) return is_named_so;
  return is_decoded_as(result.decoding, batch, part) && result.play && result.play->seed == batch.settings.seed &&
         result.play->first == part.first && result.play->slots == batch.settings.slots &&
         result.play->together == played_together(job);
}

TaskResult read_part(const Path& results, const JobBatch& batch, const Job& job, const JobPart& part) {
  TaskResult result = read_result(results / result_file_name(part.task.task, part.shard));
  if (is_result_of(result, batch, job, part)) return result;
  throw DataError(cat((results / result_file_name(part.task.task, part.shard)).string(),
                      ": is of other rollouts or settings than ", batch_name(batch.step, batch.suite), " asks for"));
}

bool has_result(const Path& results, const JobBatch& batch, const Job& job, const JobPart& part) {
  try {
    static_cast<void>(read_part(results, batch, job, part));
    return true;
  } catch (const DataError&) {
    return false;
  } catch (const IoError&) {
    return false;
  }
}

}  // namespace gato::run
