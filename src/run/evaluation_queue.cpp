#include "gato/run/evaluation_queue.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <tuple>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "run/clock.h"
#include "run/exclusive_file.h"
#include "run/queue_names.h"

namespace gato::run {
namespace {

namespace fs = std::filesystem;

/// Names in a folder; none when there is no such folder.
std::vector<std::string> names_in(const Path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator walk(folder, error);
  for (; !error && walk != fs::directory_iterator(); walk.increment(error)) {
    names.push_back(walk->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw IoError(cat(folder.string(), ": cannot list the folder: ", error.message(), "; check the disk"),
                  error.value());
  }
  return names;
}

/// The file's content, or nothing when there is no such file.
std::optional<std::string> read_if_there(const Path& path, uint64_t max_bytes) {
  try {
    return read_file(path, max_bytes);
  } catch (const IoError& error) {
    if (error.error_number() == ENOENT) return std::nullopt;
    throw;
  }
}

/// Rollouts of a planned task in pieces, each a job's part.
std::vector<JobPart> parts_of(const PlannedTask& task, int64_t per_job) {
  const int64_t size = per_job > 0 ? std::min(per_job, task.rollouts) : task.rollouts;
  const int64_t shards = (task.rollouts + size - 1) / size;
  std::vector<JobPart> parts;
  for (int64_t shard = 0; shard < shards; ++shard) {
    JobPart part{task, shard * size, shard, shards};
    part.task.rollouts = std::min(size, task.rollouts - part.first);
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

JobBatch make_batch(const EvaluationPlan& plan, const PlannedSuite& suite, int64_t step) {
  JobBatch batch{checkpoint::step_name(step), step, suite.name, plan.settings, {}};
  const auto together = static_cast<size_t>(std::max<int64_t>(1, plan.tasks_together));
  for (const PlannedTask& task : suite.tasks) {
    for (JobPart& part : parts_of(task, plan.rollouts_per_job)) {
      const bool has_room = !batch.jobs.empty() && batch.jobs.back().parts.size() < together;
      if (!has_room) batch.jobs.emplace_back();
      batch.jobs.back().parts.push_back(std::move(part));
    }
  }
  if (suite.texts.empty()) return batch;
  Job texts;
  for (const std::string& text : suite.texts) {
    JobPart part;
    part.task.task = text;
    part.task.rollouts = 0;
    texts.parts.push_back(std::move(part));
  }
  batch.jobs.push_back(std::move(texts));
  return batch;
}

std::string_view job_state_name(JobState state) {
  constexpr std::string_view kNames[] = {"pending", "running", "done", "failed", "cancelled"};
  return kNames[static_cast<size_t>(state)];
}

JobStatus status_of(const std::vector<JobEvent>& events, int64_t max_attempts) {
  JobStatus status;
  for (const JobEvent& event : events) {
    switch (event.kind) {
      case JobEventKind::kClaimed:
        status.state = JobState::kRunning;
        status.worker = event.worker;
        break;
      case JobEventKind::kDone:
        status.state = JobState::kDone;
        status.worker = event.worker;
        break;
      case JobEventKind::kFailed:
      case JobEventKind::kLost:
        status.attempts += 1;
        status.reasons.push_back(event.reason);
        status.state = status.attempts >= max_attempts ? JobState::kFailed : JobState::kPending;
        break;
      case JobEventKind::kReturned:
        status.state = JobState::kPending;
        break;
      case JobEventKind::kCancelled:
        status.state = JobState::kCancelled;
        break;
      case JobEventKind::kRetried:
        status = {};
        break;
    }
    if (status.state != JobState::kRunning && status.state != JobState::kDone) status.worker.clear();
  }
  return status;
}

struct QueuedBatch::Origin {
  std::optional<FileIdentity> identity;
};

QueuedBatch::QueuedBatch(Path folder) : folder_(std::move(folder)) {
  const Path path = folder_ / kJobsName;
  origin_ = std::make_unique<Origin>(Origin{file_identity(path)});  // before it is read: a change meanwhile is seen
  batch_ = parse_job_batch(read_file(path, kMaxBatchBytes), path.string());
  if (batch_name(batch_.step, batch_.suite) != name()) {
    throw DataError(cat(path.string(), ": holds the jobs of ", batch_name(batch_.step, batch_.suite),
                        "; remove the folder and queue the evaluation again"));
  }
  events_.resize(batch_.jobs.size());
}

QueuedBatch::~QueuedBatch() = default;

bool QueuedBatch::is_replaced() {
  if (!is_replaced_) is_replaced_ = !origin_->identity || file_identity(folder_ / kJobsName) != origin_->identity;
  return is_replaced_;
}

JobStatus QueuedBatch::status(size_t job) const {
  if (is_replaced_) return {JobState::kCancelled, 0, "", {}};
  return status_of(events_.at(job), batch_.settings.max_attempts);
}

bool QueuedBatch::is_finished() const {
  for (size_t job = 0; job < events_.size(); ++job) {
    const JobState state = status(job).state;
    if (state == JobState::kPending || state == JobState::kRunning) return false;
  }
  return true;
}

void QueuedBatch::refresh() {
  if (is_replaced()) return;
  std::set<size_t> changed;
  for (const std::string& entry : names_in(folder_)) {
    const auto event = parse_event_name(entry);
    if (event && event->first < events_.size() && event->second >= events_[event->first].size()) {
      changed.insert(event->first);
    }
  }
  for (const size_t job : changed) refresh(job);
}

void QueuedBatch::refresh(size_t job) {
  if (is_replaced()) return;
  std::vector<JobEvent>& events = events_.at(job);
  while (true) {
    const Path path = folder_ / event_name(job, events.size());
    const auto text = read_if_there(path, kMaxEventBytes);
    if (!text) return;
    events.push_back(parse_job_event(*text, path.string()));
  }
}

bool QueuedBatch::add(size_t job, const JobEvent& event) {
  if (is_replaced()) return false;
  std::vector<JobEvent>& events = events_.at(job);
  const Path path = folder_ / event_name(job, events.size());
  if (create_file(path, to_json(event))) {
    if (is_replaced()) {  // meanwhile: the new batch knows nothing of it
      std::error_code ignored;
      fs::remove(path, ignored);
      return false;
    }
    events.push_back(event);
    return true;
  }
  refresh(job);
  return false;
}

EvaluationQueue::EvaluationQueue(Path run) : folder_(std::move(run)) {}

bool EvaluationQueue::enqueue(const JobBatch& batch) {
  const Path path = folder_.queue_path() / batch_name(batch.step, batch.suite) / kJobsName;
  const std::string text = to_json(batch);
  if (create_file(path, text)) return true;
  if (read_file(path, kMaxBatchBytes) != text) {
    log::warning("run", path.parent_path().string(), ": is queued already with other tasks or settings, which stay; ",
                 "give the suite another name to evaluate it in two ways");
  }
  return false;
}

std::vector<QueuedBatch*> EvaluationQueue::read(bool with_closed) {
  std::vector<QueuedBatch*> found;
  std::set<std::string> present;
  for (const std::string& entry : names_in(folder_.queue_path())) {
    if (entry.find('@') == std::string::npos) continue;
    const Path path = folder_.queue_path() / entry;
    if (!fs::exists(path / kJobsName)) continue;  // being made
    present.insert(entry);
    if (!with_closed && fs::exists(path / kClosedName)) continue;
    try {
      auto& batch = batches_[entry];
      if (!batch || batch->is_replaced()) batch = std::make_unique<QueuedBatch>(path);
      batch->refresh();
      found.push_back(batch.get());
    } catch (const DataError& error) {
      if (warned_.insert(entry).second) log::warning("run", "a batch of evaluations is left out: ", error.what());
    }
  }
  std::erase_if(batches_, [&](const auto& batch) { return !batch.second || !present.contains(batch.first); });
  std::sort(found.begin(), found.end(), [](const QueuedBatch* a, const QueuedBatch* b) {
    return std::tie(a->batch().step, a->batch().suite) < std::tie(b->batch().step, b->batch().suite);
  });
  return found;
}

std::vector<QueuedBatch*> EvaluationQueue::open_batches() { return read(false); }
std::vector<QueuedBatch*> EvaluationQueue::all_batches() { return read(true); }

bool EvaluationQueue::close(QueuedBatch& batch) {
  batch.refresh();
  if (batch.is_replaced() || !batch.is_finished()) return false;
  const Path path = batch.folder() / kClosedName;
  static_cast<void>(create_file(path, cat(seconds_since_1970(), "\n")));
  // A retry meanwhile may have looked for the mark before it was there.
  batch.refresh();
  if (batch.is_replaced() || !batch.is_finished()) {
    fs::remove(path);
    return false;
  }
  remove_left_by_create_file(batch.folder());
  remove_left_by_create_file(folder_.results_path(batch.batch().step, batch.batch().suite));
  return true;
}

bool EvaluationQueue::cancel(QueuedBatch& batch, size_t job, const std::string& who) {
  while (true) {
    const JobState state = batch.status(job).state;
    if (state == JobState::kDone || state == JobState::kCancelled) return false;
    if (batch.add(job, {JobEventKind::kCancelled, who, "", seconds_since_1970()})) return true;
  }
}

bool EvaluationQueue::retry(QueuedBatch& batch, size_t job, const std::string& who) {
  while (!batch.is_replaced()) {
    const JobState state = batch.status(job).state;
    if (state != JobState::kFailed && state != JobState::kCancelled) return false;
    if (!batch.add(job, {JobEventKind::kRetried, who, "", seconds_since_1970()})) continue;
    fs::remove(batch.folder() / kClosedName);
    return true;
  }
  return false;
}

int64_t enqueue_due(const RunFolder& folder) {
  const auto plan = read_plan(folder);
  if (!plan) return 0;
  EvaluationQueue queue(folder.root());
  int64_t added = 0;
  for (const std::string& entry : names_in(folder.checkpoints_path())) {
    const auto step = checkpoint::parse_step_name(entry);
    if (!step || !plan->is_due(*step)) continue;
    for (const PlannedSuite& suite : plan->suites) {
      if (fs::exists(folder.queue_path() / batch_name(*step, suite.name) / kJobsName)) continue;
      added += queue.enqueue(make_batch(*plan, suite, *step)) ? 1 : 0;
    }
  }
  return added;
}

void queue_evaluations(const RunFolder& folder) noexcept {
  try {
    const int64_t added = enqueue_due(folder);
    if (added > 0) log::info("run", added, added == 1 ? " evaluation" : " evaluations", " of checkpoints queued");
  } catch (const std::exception& error) {
    log::warning("run", "evaluations could not be queued; the next checkpoint tries again: ", error.what());
  }
}

std::set<int64_t> checkpoints_in_use(const RunFolder& folder) {
  std::set<int64_t> steps;
  EvaluationQueue queue(folder.root());
  for (const QueuedBatch* batch : queue.open_batches()) {
    if (!batch->is_finished()) steps.insert(batch->batch().step);
  }
  return steps;
}

}  // namespace gato::run
