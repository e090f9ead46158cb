#pragma once
#include "gato/run/evaluation_queue.h"
#include "gato/run/results.h"

/// What of a results folder belongs to the jobs of a batch.
namespace gato::run {

/// Whether a result is what part `part` of the job asks for: task, checkpoint, suite, division, decoding, and all that
/// bears on the rollouts (PlayRecord) but the machine. One that does not record how it was played is not.
[[nodiscard]] bool is_result_of(const TaskResult& result, const JobBatch& batch, const Job& job, const JobPart& part);

/// The result of a part, from its file in the folder `results`. DataError, naming the file, when it is damaged or of
/// something else; IoError when it cannot be read or is not there.
[[nodiscard]] TaskResult read_part(const Path& results, const JobBatch& batch, const Job& job, const JobPart& part);

/// Whether it is there.
[[nodiscard]] bool has_result(const Path& results, const JobBatch& batch, const Job& job, const JobPart& part);

}  // namespace gato::run
