// What a session does because it is one of many processes.
#include <algorithm>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "load_policy.h"
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

/// What this process has to say to the others now.
StepSignals Session::own_signals() {
  StepSignals own;
  own.stop = stop_requested() ? 1 : 0;
  own.out_of_time = out_of_time() ? 1 : 0;
  own.save = take_save_request() ? 1 : 0;
  if (quarantine_ && !is_alone()) own.damage = static_cast<int64_t>(quarantine_->num_news());
  own.parts_written = commit_is_due_ && saver_->written() ? 1 : 0;
  own.save_ended = is_first() && outcome_is_due_ && !commit_is_due_ && saver_->ended() ? 1 : 0;
  return own;
}

/// Fetches the next step's input unless it is there. What was found damaged on the way is among the signals then.
/// A stop signal while it waits for data is told like any other.
StepSignals Session::fetch_and_signal() {
  bool stopped = false;
  try {
    if (!ahead_ && !stop_requested() && !out_of_time()) ahead_ = fetch_input();
  } catch (const Interrupted&) {  // the step is shared with others, who must hear of it
    stopped = true;
  }
  StepSignals own = own_signals();
  if (stopped) own.stop = 1;
  return own;
}

void Session::take(const StepSignals& agreed) {
  agreed_ = agreed;
  has_agreed_ = true;
  if (agreed.save > 0) save_is_asked_ = true;
}

/// Gets the next step's input if all processes go on, as they said with the step before. False when time is up.
/// Throws Interrupted at all of them when one was asked to stop.
bool Session::begin_step(StepInput& input) {
  if (is_alone() || !has_agreed_) take(agree(*processes_, fetch_and_signal()));
  while (true) {
    if (agreed_.stop > 0) throw Interrupted("training was asked to stop");
    if (agreed_.out_of_time > 0) return false;
    if (agreed_.parts_written == processes_->size()) commit_save();
    if (agreed_.save_ended > 0) settle_save();
    if (agreed_.damage == 0) break;
    if (share_damage() && ahead_) {
      const data::Batch& batch = ahead_->batch;
      ahead_ = inputs_->prepare(data::RowBuilder(data_.plan, true, quarantine_).build(batch.first_row, batch.rows));
    }
    take(agree(*processes_, fetch_and_signal()));  // building it may have found more
  }
  input = next_input();
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
  agreed_.parts_written = 0;  // said of this save
  if (!commit_is_due_) return;
  const TrainingClock::Pause pause(clock_);
  commit_is_due_ = false;
  saver_->commit(processes_->gather(saver_->part(), "parts of a checkpoint"));
}

/// On return no save is under way, and all processes know how the last one ended: rank 0 alone sees the end of it, and
/// what it says is reported by all, so that they end alike where that was one failure too many.
void Session::settle_save() {
  agreed_.save_ended = 0;
  if (is_alone()) {
    while (const auto outcome = saver_->wait()) report(*outcome);
    return;
  }
  if (!outcome_is_due_) return;
  const TrainingClock::Pause pause(clock_);
  if (commit_is_due_) {
    static_cast<void>(saver_->part());  // waits for the disk, which may take other processes longer
    wait_for_work_of_others("parts of a checkpoint");
    commit_save();
  }
  outcome_is_due_ = false;
  const auto own = saver_->wait();
  wait_for_work_of_others("end of a save");
  report(parse_save_outcome(from_first(own ? to_json(*own) : "", "outcome of a save")));
}

/// What train.init_from names, as rank 0 sees it: while another run goes on in that folder, its newest checkpoint is
/// not the same a moment later. Throws at all processes what rank 0 found wrong.
Path Session::choose_initial_weights() const {
  constexpr char kFound = '+', kWrong = '-', kMissing = '?';
  std::string answer;
  if (is_first()) {
    try {
      answer = kFound + find_initial_weights(config_.train.init_from).string();
    } catch (const ConfigError& error) {
      answer = kMissing + std::string(error.what());
    } catch (const Error& error) {
      answer = kWrong + std::string(error.what());
    }
  }
  wait_for_work_of_others("search for the initial weights");
  answer = from_first(answer, "initial weights");
  GATO_CHECK(!answer.empty(), "rank 0 says nothing of the initial weights");
  const std::string text = answer.substr(1);
  if (answer.front() == kMissing) throw ConfigError(text);
  if (answer.front() == kWrong) throw CheckpointError(text);
  return text;
}

/// Per process, into rank 0's metrics; and who is slow.
void Session::tell_times(run::MetricValues& values, const TrainingClock::Stretch& stretch, double data_waited) {
  if (is_alone()) return;
  const double steps = static_cast<double>(std::max<int64_t>(1, window_steps_));
  const auto times = gather_times(*processes_, {stretch.seconds / steps, stretch.waited / steps, data_waited / steps});
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
