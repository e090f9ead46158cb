// What a session does because it is one of many processes.
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "session.h"

namespace gato::train {

/// Rank 0's text, at every rank.
std::string Session::from_first(const std::string& text, const char* name) const {
  return processes_->gather(is_first() ? text : "", name).front();
}

/// Before an exchange: some processes may be at work, on a disk above all, for longer than an exchange may take.
void Session::wait_for_work_of_others(const char* work) const {
  processes_->barrier(work, config_.train.long_hang_seconds);
}

/// All processes have opened their data: now they can be compared, and rank 0 may write into the run folder.
void Session::meet() const {
  if (is_alone()) return;
  wait_for_work_of_others("opening of the data");
  check_alike(*processes_, process_facts(config_, data_, launch_, device_));
  const ExchangeSpeed speed = measure_exchange(*processes_, device_);
  const int64_t rows = rows_per_process(config_.train, processes_->size());
  log::info("train", processes_->size(), " processes by ", processes_->backend(), ": ", rows, " of ",
            config_.train.batch_rows, " rows each, ", format_count(speed.bytes_per_second), "B/s, latency ",
            format_fixed(1e6 * speed.latency, 0), " us, slowest at its own work rank ", speed.slowest_rank, " (",
            format_fixed(speed.slowest_factor, 2), " x the median)");
  if (config_.train.micro_batch_rows.is_auto()) return;
  const int64_t micro = micro_rows(config_.train, processes_->size());
  log::info("train", "each process computes its ", rows, " rows in ", rows / micro,
            rows == micro ? " piece" : " pieces", " of ", micro, " (train.micro_batch_rows ",
            config_value_yaml(config_.train.micro_batch_rows), ")");
}

/// Gets the next step's input, and the word of all processes on whether it is to be computed. False when time is up.
/// Throws Interrupted at all of them when one was asked to stop.
bool Session::begin_step(StepInput& input) {
  StepSignals own;
  while (true) {
    own.damage = own.part_unfinished = 0;
    own.out_of_time = out_of_time() ? 1 : 0;
    if (take_save_request()) own.save = 1;  // kept when it has to be asked again
    own.stop = stop_requested() ? 1 : 0;
    if (own.stop == 0 && own.out_of_time == 0) {
      try {
        input = next_input();
        own.tokens = input.batch.tokens;
      } catch (const Interrupted&) {  // the others must hear of it
        own.stop = 1;
      }
    }
    if (quarantine_ && !is_alone()) own.damage = static_cast<int64_t>(quarantine_->num_news());
    if (commit_is_due_ && !saver_->written()) own.part_unfinished = 1;
    agreed_ = agree(*processes_, own);
    if (agreed_.stop > 0) throw Interrupted("training was asked to stop");
    if (agreed_.out_of_time > 0) return false;
    if (commit_is_due_ && agreed_.part_unfinished == 0) commit_save();
    if (agreed_.damage == 0) break;
    const data::Batch& batch = input.batch;
    if (share_damage()) {
      input = inputs_->prepare(data::RowBuilder(data_.plan, true, quarantine_).build(batch.first_row, batch.rows));
    }
    ahead_ = std::move(input);  // and ask again: building it may have found more
  }
  input.tokens = agreed_.tokens;
  return true;
}

/// Whether the list of any process changed: all have the same one now.
bool Session::share_damage() {
  const uint64_t before = quarantine_->version();
  std::vector<data::QuarantineEntry> found;
  const auto texts = processes_->gather(data::to_lines(quarantine_->take_news()), "damaged episodes");
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    const auto part = data::parse_quarantine(texts[rank], cat("what rank ", rank, " found damaged"));
    found.insert(found.end(), part.begin(), part.end());
  }
  quarantine_->merge(found);
  return quarantine_->version() != before;
}

/// Whether some process was asked to stop: the same answer at all of them.
bool Session::stop_agreed() const {
  StepSignals own;
  own.stop = stop_requested() ? 1 : 0;
  return agree(*processes_, own).stop > 0;
}

/// Once every process has written its part.
void Session::commit_save() {
  if (!commit_is_due_) return;
  commit_is_due_ = false;
  saver_->commit(processes_->gather(saver_->part(), "parts of a checkpoint"));
}

/// On return no save is under way, and all processes know which was the last that succeeded.
void Session::settle_save() {
  if (commit_is_due_) {
    static_cast<void>(saver_->part());  // waits for the disk, which may take other processes longer
    processes_->barrier("parts of a checkpoint", config_.train.long_hang_seconds);
    commit_save();
  }
  while (const auto outcome = saver_->wait()) report(*outcome);
  if (is_alone()) return;
  processes_->barrier("end of a save", config_.train.long_hang_seconds);
  last_saved_step_ = std::stoll(from_first(cat(last_saved_step_), "last saved step"));
}

/// Per process, into rank 0's metrics; and who is slow.
void Session::tell_times(run::MetricValues& values, double elapsed, double data_waited) {
  if (is_alone()) return;
  const double steps = static_cast<double>(std::max<int64_t>(1, window_steps_));
  const double exchanged = processes_->seconds_waited();
  const auto times =
      gather_times(*processes_, {elapsed / steps, (exchanged - window_exchanged_) / steps, data_waited / steps});
  window_exchanged_ = processes_->seconds_waited();
  for (size_t rank = 0; rank < times.size(); ++rank) {
    const std::string prefix = cat("processes/", rank, "/");
    values[prefix + "step_seconds"] = times[rank].step;
    values[prefix + "exchange_seconds"] = times[rank].exchange;
    values[prefix + "data_seconds"] = times[rank].data;
  }
  const std::string slow = stragglers_.look(times);
  if (!slow.empty() && is_first()) log::warning("train", slow);
}

}  // namespace gato::train
