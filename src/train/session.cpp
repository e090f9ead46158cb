#include "session.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>

#include "gato/core/launch.h"
#include "gato/core/log.h"
#include "gato/core/profile.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/run/evaluation_queue.h"
#include "gato/train/batch_tensors.h"
#include "load_policy.h"
#include "micro_batch.h"
#include "replica_check.h"

namespace gato::train {
namespace {

constexpr int64_t kMaxRefusedInARow = 5, kMaxRefused = 20, kRefusalWindow = 1000;

std::string domain_text(const std::map<std::string, double>& losses) {
  std::vector<std::string> parts;
  for (const auto& [domain, loss] : losses) parts.push_back(cat(domain, " ", format_fixed(loss, 3)));
  return join(parts, ", ");
}

}  // namespace

void Session::print_shares() const {
  log::info("train", model_->store().num_parameters(), " parameters; rows of ", config_.data.row_tokens, " tokens, ",
            config_.train.batch_rows, " rows per step, ", config_.train.steps, " steps (",
            format_count(static_cast<double>(config_.train.steps * config_.train.batch_rows * config_.data.row_tokens)),
            " tokens)");
  for (const data::SourceShare& share : data_.plan->shares(state_.next_row)) {
    log::info("train", "  ", share.source, ": ", format_fixed(100 * share.asked_share, 1), " % of tokens, ",
              format_fixed(100 * share.label_share, 1), " % of labels, ", format_fixed(100 * share.loss_share, 1),
              " % of the loss, label weight ", format_fixed(share.label_weight, 2), ", all seen once in ",
              format_count(share.epoch_rows), " rows");
  }
}

TrainingOutcome Session::run() {
  print_shares();
  wait_for_work_of_others("what every checkpoint holds");
  start_ = Clock::now();
  clock_.restart();
  seconds_before_ = state_.seconds;
  tokens_before_ = state_.tokens;
  first_step_ = state_.step;
  inputs_ = std::make_unique<InputPreparer>(device_, config_, processes_->size());
  loader_ = std::make_unique<data::Loader>(
      std::make_shared<const data::RowBuilder>(data_.plan, true, quarantine_), state_.next_row,
      config_.train.batch_rows, static_cast<int>(processes_->rank()), static_cast<int>(processes_->size()),
      static_cast<int>(config_.data.loader_threads), config_.data.prefetch_batches);
  const auto due = [&](int64_t every) { return every > 0 && state_.step % every == 0; };
  guard_.begin_training();
  try {
    // A stop signal during validation saves before the validation is done: then it comes first now.
    if (state_.step > 0 && due(config_.train.validate_every) && !validated_before()) validate();
    while (state_.step < config_.train.steps) {
      profile_steps();
      guard_.begin_step(state_.step + 1);
      StepInput input;
      if (!begin_step(input)) break;
      fail_on_purpose(input);
      step(input);
      guard_.end_step();
      if (due(config_.train.check_replicas_every)) {
        shared_->finish_values();
        check_replicas(*processes_, shared_->replicas(), state_.step);
      }
      if (due(config_.train.log_every) || state_.step == config_.train.steps) log_point();
      if (due(config_.train.validate_every) || state_.step == config_.train.steps) validate();
      if (std::exchange(save_is_asked_, false) || due(config_.train.checkpoint_every)) begin_save();
      if (!is_alone()) continue;  // who settle a save together
      if (const auto outcome = saver_->poll()) report(*outcome);
    }
  } catch (const Interrupted&) {
    loader_.reset();
    save_now(SaveCare::kHurried);
    throw Interrupted(cat("stopped by a signal at step ", state_.step, " of ", config_.train.steps,
                          "; everything is saved, the same command goes on"));
  }
  loader_.reset();
  if (state_.step == config_.train.steps && last_validated_step_ != state_.step && !validated_before()) validate();
  const bool last = state_.step == config_.train.steps;
  save_now(config_.train.verify_last_save && last ? SaveCare::kVerified : SaveCare::kUsual);
  TrainingOutcome outcome;
  outcome.step = state_.step;
  outcome.finished = state_.step >= config_.train.steps;
  outcome.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  outcome.tokens_per_second = static_cast<double>(state_.tokens - tokens_before_) / std::max(1e-9, outcome.seconds);
  outcome.validation_loss = validation_loss_;
  return outcome;
}

/// What GATO_FAULTS asks of the trainer itself.
void Session::fail_on_purpose(StepInput& input) {
  const std::optional<FaultKind> fault = guard_.strike("step");
  if (fault == FaultKind::kFlip) shared_->replicas().front().view(at::kInt).slice(0, 0, 1).bitwise_xor_(1);
  if (fault != FaultKind::kNan) return;
  for (StepInput::MicroBatch& micro : input.micro) {
    at::Tensor& weights = micro.tensors.loss.weights;
    weights = at::full_like(weights, std::numeric_limits<double>::quiet_NaN());
  }
}

StepInput Session::fetch_input() {
  data::Batch batch = [&] {
    const profile::Scope scope("waiting for data");
    const RunGuard::Activity activity(guard_, "waiting for data", RunGuard::Limit::kStep);
    static_cast<void>(guard_.strike("data"));
    return loader_->next();
  }();
  return inputs_->prepare(std::move(batch));
}

StepInput Session::next_input() {
  StepInput input = ahead_ ? std::move(*ahead_) : fetch_input();
  ahead_.reset();
  inputs_->wait_for(input);
  return input;
}

/// Records the steps that were asked for once the first ones, which take memory, are done.
void Session::profile_steps() {
  constexpr int64_t kWarmUp = 3;
  if (profiled_steps_ == 0 || !is_first()) return;
  const int64_t done = state_.step - first_step_ - kWarmUp;
  if (done == 0) profile::start();
  if (done != profiled_steps_) return;
  const profile::Recording recording = profile::stop();
  const Path trace = folder_.root() / cat("profile-", state_.step, ".json");
  profile::write_chrome_trace(recording, trace);
  log::info("train", "where ", profiled_steps_,
            " steps spent their time (trace for chrome://tracing and Perfetto: ", trace.string(), "):\n",
            profile::table(recording, profiled_steps_));
  profiled_steps_ = 0;
}

/// To be called with parameters and state as the last whole step left them.
void Session::out_of_memory(const data::Batch& batch, const std::string& cause) {
  kernels::release_cached_memory(device_);
  if (is_alone()) save_now();  // the others wait for this step's gradients
  model::StepShape shape;
  shape.rows = micro_rows(config_.train, processes_->size());
  shape.row_tokens = batch.row_tokens;
  const auto labels =
      std::count_if(batch.loss_weights.begin(), batch.loss_weights.end(), [](float weight) { return weight != 0; });
  shape.loss_positions = labels * shape.rows / batch.rows;
  shape.patches = static_cast<int64_t>(batch.patch_index.size()) * shape.rows / batch.rows;
  shape.recompute = config_.train.recompute;
  throw DeviceError(cat("step ", state_.step + 1, ": ",
                        explain_out_of_memory(config_, model_shape(*data_.vocabulary), shape, cause),
                        ". Everything up to step ", std::max<int64_t>(0, last_saved_step_), " is saved"));
}

void Session::step(const StepInput& input) {
  const data::Batch& batch = input.batch;
  // While a GPU computes, the input of the step after this one is fetched and copied. Several processes do so
  // everywhere, and say with this step whether they can go on to the next.
  const auto fetch_ahead = [&]() -> StepSignals {
    const bool is_last = state_.step + 1 >= config_.train.steps;
    if (is_last || (is_alone() && device_.is_cpu())) return is_alone() ? StepSignals() : own_signals();
    if (!is_alone()) return fetch_and_signal();
    try {
      ahead_ = fetch_input();
    } catch (const Interrupted&) {  // begin_step() sees the signal itself
    }
    return {};
  };
  const StepResult result = [&] {
    const TrainingState before = state_;
    try {
      return stepper_->run(input, state_, losses_, fetch_ahead);
    } catch (const std::exception& error) {
      if (!is_out_of_memory(error)) throw;
      state_ = before;  // the stepper counts a step before its update, which allocates first and writes then
      out_of_memory(batch, error.what());
    }
  }();
  if (!is_alone()) take(result.agreed);
  window_tokens_ += result.agreed.tokens;
  window_steps_ += 1;
  shares_.add(batch);
  note(batch, result);
  if (!result.refused.empty()) refuse_step(result.refused);
}

void Session::note(const data::Batch& batch, const StepResult& result) {
  if (step_log_) {
    step_log_->add(
        {attempt_, state_.step, batch.first_row, result.loss, result.gradient_norm, !result.refused.empty()});
  }
  const auto keep_worst = [](double& worst, double z) { worst = std::abs(z) > std::abs(worst) ? z : worst; };
  keep_worst(worst_loss_z_, loss_outliers_.add(result.loss));
  keep_worst(worst_norm_z_, norm_outliers_.add(result.gradient_norm));
  if (result.refused.empty()) gradient_norm_ = result.gradient_norm;
}

int64_t Session::refused_in_a_row() const {
  int64_t count = 0;
  for (auto step = state_.recent_refused.rbegin(); step != state_.recent_refused.rend(); ++step) {
    if (*step != state_.step - count) break;
    ++count;
  }
  return count;
}

void Session::refuse_step(const std::string& why) {
  ++state_.refused;
  std::erase_if(state_.recent_refused, [&](int64_t step) { return step <= state_.step - kRefusalWindow; });
  state_.recent_refused.push_back(state_.step);
  const int64_t first_row = state_.next_row - config_.train.batch_rows;
  log::warning("train", "step ", state_.step, " is refused (", why, "); its rows ", first_row, " to ",
               state_.next_row - 1, " are passed over, parameters stay as they were. `gato-train replay --run ",
               folder_.root().string(), " --step ", state_.step, "` runs it again");
  const auto refused = static_cast<int64_t>(state_.recent_refused.size());
  if (refused_in_a_row() >= kMaxRefusedInARow || refused >= kMaxRefused) roll_back();
}

/// Parameters and moments go back to the last checkpoint; the data goes on, so that what did the harm is passed over
/// (practice of PaLM, Chowdhery et al. 2022, section 5.1). The second time is once too often.
void Session::roll_back() {
  const RunGuard::Activity activity(guard_, "rolling back", RunGuard::Limit::kLong);
  const TrainingClock::Pause pause(clock_);
  if (step_log_) step_log_->flush();
  settle_save();
  shared_->finish_values();
  const auto newest = choose_checkpoint(folder_.checkpoints_path(), place(), [this](const std::string& text) {
    wait_for_work_of_others("reading of the checkpoint to go back to");
    return processes_->gather(text, "checkpoint to go back to");
  });
  if (state_.rollbacks > 0 || !newest) {
    throw DivergedError(cat(state_.recent_refused.size(), " of the last ", std::min(state_.step, kRefusalWindow),
                            " steps up to step ", state_.step, " were not finite",
                            state_.rollbacks > 0 ? ", after a rollback before" : ", and there is no checkpoint yet",
                            "; checkpoints up to step ", std::max<int64_t>(0, last_saved_step_),
                            " are whole. Lower optimizer.learning_rate or set optimizer.clip_norm, and start again "
                            "from an earlier checkpoint"));
  }
  const TrainingState before = load_checkpoint(newest->path, *model_, optimizer_);
  state_.updates = before.updates;
  state_.recent_refused.clear();
  ++state_.rollbacks;
  log::warning("train", "too many steps were refused: parameters go back to those of step ", before.step,
               ", training goes on at step ", state_.step, " with row ", state_.next_row);
  begin_save();
}

bool Session::out_of_time() const {
  const double minutes = std::chrono::duration<double>(Clock::now() - start_).count() / 60;
  return config_.train.max_minutes > 0 && minutes >= config_.train.max_minutes;
}

void Session::log_point() {
  losses_.add_up(*processes_);
  shares_.add_up(*processes_);
  const TrainingClock::Stretch stretch = clock_.restart();
  const double elapsed = std::max(1e-9, stretch.seconds);
  const double waited = loader_->seconds_waited();
  const double rate = static_cast<double>(window_tokens_) / elapsed;
  const double left = elapsed / static_cast<double>(std::max<int64_t>(1, window_steps_)) *
                      static_cast<double>(config_.train.steps - state_.step);
  const double lr = learning_rate(config_.optimizer, state_.step, config_.train.steps);
  const auto domains = losses_.domain_means();
  log::info("train", "step ", state_.step, "/", config_.train.steps, "  loss ", format_fixed(losses_.mean(), 3), " (",
            domain_text(domains), ")  lr ", lr, "  |g| ", format_fixed(gradient_norm_, 2), "  ", format_count(rate),
            " tok/s  ", format_seconds(left), " left");
  run::MetricValues values;
  tell_times(values, stretch, waited - window_waited_);
  tell_loader((waited - window_waited_) / elapsed);
  for (const auto& [domain, loss] : domains) values["train/loss/" + domain] = loss;
  for (const auto& [task, loss] : losses_.task_means()) values["train/task_loss/" + task] = loss;
  for (const auto& [domain, share] : losses_.domain_gradient_shares()) values["train/gradient_share/" + domain] = share;
  for (const auto& [task, share] : losses_.task_gradient_shares()) values["train/task_gradient_share/" + task] = share;
  values["train/loss"] = losses_.mean();
  values["train/loss_z"] = worst_loss_z_;
  values["train/gradient_norm_z"] = worst_norm_z_;
  values["train/learning_rate"] = lr;
  values["train/gradient_norm"] = gradient_norm_;
  values["train/tokens_per_second"] = rate;
  values["train/data_wait_share"] = (waited - window_waited_) / elapsed;
  values["data/fill"] = shares_.fill();
  for (const auto& [task, share] : shares_.shares()) {
    values["data/token_share/" + task] = share.tokens;
    values["data/label_share/" + task] = share.labels;
    values["data/loss_share/" + task] = share.loss;
  }
  values["train/refused_steps"] = static_cast<double>(state_.refused);
  write_metrics(values, state_.step, state_.tokens);
  if (step_log_) step_log_->flush();
  losses_.clear();
  shares_.clear();
  worst_loss_z_ = worst_norm_z_ = 0;
  window_tokens_ = window_steps_ = 0;
  window_waited_ = waited;
}

void Session::tell_loader(double waited_share) const {
  constexpr double kWorthTelling = 0.05;
  if (waited_share < kWorthTelling) return;
  const data::LoaderStages stages = loader_->stages();
  log::warning("train", "waits for data ", format_fixed(100 * waited_share, 0), " % of the time; the slowest stage is ",
               stages.slowest(), " (", stages.text(), "); more data.loader_threads may help");
}

/// Rank 0 writes for all.
void Session::write_metrics(const run::MetricValues& values, int64_t step, int64_t tokens) {
  if (!is_first()) return;
  metrics_->write(step, tokens, values);
  try {
    tensorboard_->write(step, values);
  } catch (const IoError& error) {
    static std::atomic<int64_t> failures{0};
    if (log::every(failures, 100)) {
      log::warning("train", "TensorBoard will not show step ", step, ", which metrics.jsonl has: ", error.what());
    }
  }
}

bool Session::validated_before() const {
  if (!is_first()) return from_first("", "validation before") == "yes";
  const auto losses = run::read_metrics(folder_.metrics_path()).series("validation/loss");
  const bool before =
      std::any_of(losses.begin(), losses.end(), [&](const auto& point) { return point.first == state_.step; });
  return from_first(before ? "yes" : "no", "validation before") == "yes";
}

void Session::validate() {
  if (!data_.validation_plan || config_.train.validation_rows == 0) return;
  const RunGuard::Activity activity(guard_, "validation", RunGuard::Limit::kLong);
  static_cast<void>(guard_.strike("validation"));
  const TrainingClock::Pause pause(clock_);
  const at::NoGradGuard no_grad;
  shared_->finish_values();
  // A list of its own: entries hold row numbers, and these are of other rows.
  const data::RowBuilder builder(data_.validation_plan, false,
                                 open_quarantine(config_, *data_.validation_plan, Path()));
  LabelMeter losses(*data_.validation_plan);
  const int64_t micro = micro_rows(config_.train, processes_->size());
  const int64_t begin_row = data_.validation_plan->first_row_of_phase(std::max<int64_t>(0, state_.next_row - 1));
  if (!data_.validation_plan->has_rows(begin_row)) return;
  const int64_t size = processes_->size();
  const data::RowRange own = data::rows_of_rank(begin_row, config_.train.validation_rows,
                                                static_cast<int>(processes_->rank()), static_cast<int>(size));
  const int64_t most_rows = (config_.train.validation_rows + size - 1) / size, end_row = own.first + own.count;
  for (int64_t row = own.first; row < own.first + most_rows; row += micro) {  // as often on every process
    if (stop_agreed()) throw Interrupted("stopped during validation");
    if (row >= end_row) continue;
    const data::Batch batch = builder.build(row, std::min(micro, end_row - row));
    const BatchTensors tensors = to_device(batch_tensors(batch, 0, batch.rows), device_);
    if (tensors.loss_sources.empty()) continue;
    losses.add(model_->loss(tensors.input, tensors.loss).nll.cpu(), tensors.loss_sources);
  }
  losses.add_up(*processes_);
  validation_loss_ = losses.domain_means();
  last_validated_step_ = state_.step;
  run::MetricValues values;
  for (const auto& [domain, loss] : validation_loss_) values["validation/loss/" + domain] = loss;
  values["validation/loss"] = losses.mean();
  write_metrics(values, state_.step, state_.tokens);
  log::info("train", "validation at step ", state_.step, ": loss ", format_fixed(losses.mean(), 3), " (",
            domain_text(validation_loss_), ")");
}

/// Copies what there is, and lets it be written while training goes on.
void Session::begin_save(SaveCare care) {
  if (last_tried_step_ == state_.step) return;
  const RunGuard::Activity activity(guard_, "saving", RunGuard::Limit::kLong);
  static_cast<void>(guard_.strike("save"));
  const TrainingClock::Pause pause(clock_);
  const auto begin = Clock::now();
  if (!is_alone()) settle_save();
  shared_->finish_values();
  check_replicas(*processes_, shared_->replicas(), state_.step);
  state_.seconds = seconds_before_ + std::chrono::duration<double>(begin - start_).count();
  if (step_log_) step_log_->flush();
  last_tried_step_ = state_.step;
  commit_is_due_ = outcome_is_due_ = !is_alone();
  saver_->start(
      {state_, config_yaml_, attempt_, static_files_, care == SaveCare::kVerified, care == SaveCare::kHurried});
  if (!config_.train.background_save && !is_alone()) settle_save();  // the others have no file to write
}

/// On return the present state is on disk. Throws CheckpointError when it could not be saved.
void Session::save_now(SaveCare care) {
  const RunGuard::Activity activity(guard_, "saving", RunGuard::Limit::kLong);
  settle_save();
  if (last_saved_step_ == state_.step) return;
  last_tried_step_ = -1;
  begin_save(care);
  settle_save();
  if (last_saved_step_ == state_.step) return;
  throw CheckpointError(cat("step ", state_.step, " could not be saved: ", last_save_problem_,
                            "; the newest checkpoint is of step ", std::max<int64_t>(0, last_saved_step_)));
}

/// One save that failed is told and training goes on: the next may succeed. When none does there is no use in going on.
void Session::report(const SaveOutcome& outcome) {
  last_save_problem_ = outcome.problem;
  save_failures_ = outcome.saved ? 0 : save_failures_ + 1;
  if (outcome.saved) {
    last_saved_step_ = outcome.step;
    log::info("train", "saved ", (folder_.checkpoints_path() / checkpoint::step_name(outcome.step)).string(), " (",
              format_seconds(outcome.seconds), ", training waited ", format_seconds(outcome.stall_seconds), ")");
    const run::MetricValues values = {{"checkpoint/seconds", outcome.seconds},
                                      {"checkpoint/stall_seconds", outcome.stall_seconds}};
    // At the checkpoint's step: of a later one an attempt that goes on from here would know nothing.
    write_metrics(values, outcome.step, outcome.tokens);
    if (is_first()) run::queue_evaluations(folder_);
    return;
  }
  const int64_t failures = save_failures_;
  const std::string newest =
      last_saved_step_ < 0 ? "there is no checkpoint yet" : cat("the newest checkpoint is of step ", last_saved_step_);
  if (failures >= config_.train.save_failures) {
    throw CheckpointError(cat(failures, failures == 1 ? " save" : " saves in a row", " failed, the last of step ",
                              outcome.step, ": ", outcome.problem, "; ", newest,
                              ". When the disk is well the same command goes on from there"));
  }
  log::warning("train", "step ", outcome.step, " could not be saved (failure ", failures, " of ",
               config_.train.save_failures, " in a row that end the run): ", outcome.problem, "; ", newest,
               ", training goes on");
}

TrainingOutcome train(const TrainingConfig& config, const std::vector<std::string>& command, int64_t profiled_steps,
                      const std::function<void()>& on_begin) {
  const Launch launch = detect_launch(process_environment(), config.comm.launcher);
  set_thread_budget(static_cast<int>(config.train.threads));
  if (config.train.threads == 0 && launch.local_size > 1) {  // the processes of a host share its processors
    set_thread_budget(static_cast<int>(std::max<int64_t>(1, thread_budget() / launch.local_size)));
  }
  at::set_num_threads(thread_budget());
  RunGuard guard(config, launch);
  TrainingOutcome outcome;
  guard.watch([&] {
    Session session(config, launch, guard, command, profiled_steps);
    if (on_begin) on_begin();
    outcome = session.run();
  });
  return outcome;
}

}  // namespace gato::train
