#include "session.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention_record.h"
#include "gato/checkpoint/retention.h"
#include "gato/core/launch.h"
#include "gato/core/log.h"
#include "gato/core/profile.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/core/version.h"
#include "gato/run/checkpoint_use.h"
#include "gato/run/evaluation_queue.h"
#include "gato/train/batch_tensors.h"
#include "load_policy.h"
#include "micro_batch.h"
#include "replica_check.h"
#include "resume_rules.h"

namespace gato::train {
namespace {

constexpr int64_t kMaxRefusedInARow = 5, kMaxRefused = 20, kRefusalWindow = 1000;

std::string domain_text(const std::map<std::string, double>& losses) {
  std::vector<std::string> parts;
  for (const auto& [domain, loss] : losses) parts.push_back(cat(domain, " ", format_fixed(loss, 3)));
  return join(parts, ", ");
}

TrainingConfig expanded(TrainingConfig config) {
  data::expand_mixture_files(config.data);
  return config;
}

/// Of several processes on a host each has a GPU of its own.
at::Device device_of(const std::string& name, const Launch& launch) {
  const bool any_gpu = name == "cuda" || (name == "auto" && kernels::num_gpus() > 0);
  if (launch.local_size == 1 || !any_gpu) return kernels::open_device(name);
  if (launch.local_rank >= kernels::num_gpus()) {
    throw DeviceError(cat("this host has ", launch.local_size, " processes of the run and ", kernels::num_gpus(),
                          " GPUs; start one process per GPU, or set train.device: cpu"));
  }
  return kernels::open_device(cat("cuda:", launch.local_rank));
}

/// Before anything is opened: a batch that does not divide is no reason to wait for others.
TrainingConfig checked(const TrainingConfig& config, const Launch& launch) {
  static_cast<void>(rows_per_process(config.train, launch.size));
  return expanded(config);
}

}  // namespace

Session::Session(const TrainingConfig& config, const Launch& launch, RunGuard& guard,
                 const std::vector<std::string>& command, int64_t profiled_steps)
    : guard_(guard),
      launch_(launch),
      device_(device_of(config.train.device, launch)),
      config_(checked(config, launch)),
      processes_(Communicator::connect(launch, device_, config.comm)),
      folder_(config.run.dir),
      began_(find_start()),
      data_(open_data(config_, folder_, began_.next_row)),
      profiled_steps_(profiled_steps),
      losses_(*data_.plan),
      shares_(*data_.plan) {
  check_attention_setting(config_, device_);
  meet();
  make_model();
  stepper_ = std::make_unique<Stepper>(config_, *shared_, *model_, optimizer_);
  if (is_first()) {
    folder_.lock();
    folder_.create();
  }
  processes_->barrier("the run folder");
  guard_.join(processes_, folder_.root());
  if (is_first()) checkpoint::clean_checkpoints(folder_.checkpoints_path());
  if (began_.checkpoint) {
    state_ = load_checkpoint(began_.checkpoint->path, *model_, optimizer_);
    last_saved_step_ = last_tried_step_ = state_.step;
    log::info("train", "goes on from ", began_.checkpoint->path.string(), " (step ", state_.step, " of ",
              config_.train.steps, ")");
  } else if (!config_.train.init_from.empty()) {
    log::info("train", load_initial_weights({config_.train.init_from, config_.train.init_include,
                                             config_.train.init_exclude, config_.train.init_strict},
                                            *model_));
  }
  state_.processes = processes_->size();
  make_saver();
  record_data();
  wait_for_work_of_others("recording of the data");
  choose_attention();
  if (config_.train.micro_batch_rows.is_auto()) measure_micro_batch();
  config_yaml_ = dump_config(config_);
  if (is_first()) {
    folder_.write_config(config_yaml_);
    attempt_ = folder_.begin_attempt({{"gato", version()}, {"compiler", compiler_version()}, {"torch", TORCH_VERSION}},
                                     command);
  }
  attempt_ = std::stoll(from_first(cat(attempt_), "number of the attempt"));
  guard_.begin_attempt(attempt_);
  for (const run::StepRecord& record : run::read_steps(folder_.steps_path())) {
    if (record.step > state_.step) break;
    loss_outliers_.add(record.loss);
    norm_outliers_.add(record.gradient_norm);
  }
  if (!is_first()) return;
  metrics_ = std::make_unique<run::MetricsWriter>(folder_.metrics_path(), attempt_);
  step_log_ = std::make_unique<run::StepLogWriter>(folder_.steps_path());
  tensorboard_ = std::make_unique<run::TensorBoardWriter>(folder_.tensorboard_path("train"), attempt_, state_.step);
  static_files_ = std::make_shared<const StaticFiles>(
      make_static_files(config_, data_, folder_.root() / cat("scratch-", attempt_)));
}

/// Before anything measures memory: the saver takes what its copy needs now and keeps it.
void Session::make_saver() {
  const auto delete_old = [root = folder_.root(), train = config_.train] {
    const run::RunFolder folder(root);
    checkpoint::Retention retention{train.keep_checkpoints, train.keep_every, train.keep_best};
    if (train.keep_best > 0) {
      retention.scores = run::scores_by_step(folder, train.best_by, train.best_is == BestIs::kMax);
    }
    retention.in_use = [&] { return run::checkpoints_in_use(folder); };
    checkpoint::prune(folder.checkpoints_path(), retention);
  };
  saver_ = std::make_unique<BackgroundSaver>(
      model_->store(), optimizer_,
      SaverOptions{folder_.checkpoints_path(), place(), from_first(checkpoint::process_tag(), "name of the saves"),
                   config_.train.background_save, delete_old});
}

void Session::make_model() {
  const model::ModelShape shape = model_shape(*data_.vocabulary);
  try {
    model_ = std::make_unique<model::Model>(config_.model, shape, static_cast<uint64_t>(config_.train.seed),
                                            model::Model::Purpose::kTraining, device_,
                                            bucket_layout(model::total(model::parameters_by_part(config_.model, shape)),
                                                          processes_->size(), config_.comm.bucket_mib));
    shared_ = std::make_unique<SharedParameters>(processes_, model_->store(), config_.train.shard_optimizer);
    optimizer_ = shared_->make_optimizer();
  } catch (const std::exception& error) {
    if (!is_out_of_memory(error)) throw;
    const model::StepShape nothing_yet;
    throw DeviceError(explain_out_of_memory(config_, shape, nothing_yet, error.what()));
  }
}

Session::Start Session::find_start() {
  // Whoever sets damaged checkpoints aside must be alone in the folder.
  if (is_first() && std::filesystem::exists(folder_.checkpoints_path())) folder_.lock();
  const auto newest = choose_checkpoint(folder_.checkpoints_path(), place(), [this](const std::string& text) {
    wait_for_work_of_others("reading of the newest checkpoint");
    return processes_->gather(text, "newest checkpoint");
  });
  if (!newest) return {};
  const checkpoint::Checkpoint checkpoint(newest->path);
  const std::string origin = (newest->path / "training_state.json").string();
  const TrainingState state = parse_training_state(checkpoint.read("training_state.json"), origin);
  check_same_run(checkpoint, state);
  return {newest, state.next_row};
}

/// What was measured when the run began stays: another micro-batch adds gradients up in another order.
void Session::check_same_run(const checkpoint::Checkpoint& checkpoint, const TrainingState& state) {
  const std::string origin = (checkpoint.path() / "config.yaml").string();
  const auto recorded = read_config<TrainingConfig>(parse_yaml(checkpoint.read("config.yaml"), origin));
  const bool same_processes = state.processes == processes_->size();
  if (config_.train.micro_batch_rows.is_auto() && same_processes)
    config_.train.micro_batch_rows = recorded.train.micro_batch_rows;
  std::vector<ChangedSetting> changed = changed_fixed_settings(recorded, config_, same_processes);
  const std::string& model = config_.tokenizer.model;
  if (model.empty() || std::filesystem::exists(model)) {  // a missing one is told with its remedy when it is opened
    const std::string now_text = model.empty() ? "" : read_file(model);
    const std::string before_text = checkpoint.has("tokenizer.model") ? checkpoint.read("tokenizer.model") : "";
    if (now_text != before_text)
      changed.push_back({"tokenizer.model", recorded.tokenizer.model, model, "the file has another content"});
  }
  if (changed.empty()) return;
  throw ConfigError(cat("the run in ", folder_.root().string(), " was started with other settings (", origin,
                        ") that cannot change when it goes on:\n", describe(changed),
                        "\ngive run.dir another folder, or the old settings to go on"));
}

/// On a GPU `auto` tries what there is on the first micro-batches of this run. What came of it is in attention.json,
/// and stays for the rest of the run on this kind of GPU. A route that was named must compute the right thing.
void Session::choose_attention() {
  set_attention(config_, device_);
  const data::RowBuilder builder(data_.plan, true, quarantine_);
  if (device_.is_cpu() || config_.kernels.attention != kernels::AttentionRoute::kAuto ||
      config_.model.position == model::PositionEncoding::kRelative) {
    if (!device_.is_cpu()) check_named_route(config_, builder.build(state_.next_row, 1), device_);
    return;
  }
  const auto use = [this](kernels::AttentionRoute route) {  // rank 0's, for all
    const std::string chosen = from_first(cat(static_cast<int>(route)), "choice of attention");
    kernels::set_attention_route(static_cast<kernels::AttentionRoute>(std::stoi(chosen)));
  };
  AttentionRecord record;
  record.device = kernels::gpu_properties(device_).name;
  record.own_is_proven = kernels::kernels_are_proven(device_);
  const Path path = folder_.root() / kAttentionFile;
  const auto before = began_.checkpoint ? recorded_route(path, record.device, record.own_is_proven) : std::nullopt;
  if (before && !(config_.train.cuda_graph && !kernels::can_be_captured(*before))) {
    use(*before);
    log::info("train", "attention goes by ", kernels::route_name(*before), " as ", path.string(), " says");
    return;
  }
  constexpr int64_t kMicroBatches = 6;    // with other sequences each
  constexpr int64_t kRowsUnlessSaid = 8;  // where the micro-batch is measured later
  const int64_t most = micro_rows(config_.train, processes_->size());
  const int64_t rows = config_.train.micro_batch_rows.is_auto() ? std::min(kRowsUnlessSaid, most) : most;
  record.trials = try_attention(config_, builder.build(state_.next_row, kMicroBatches * rows), rows, device_);
  for (kernels::AttentionTrial& trial : record.trials) {
    if (config_.train.cuda_graph && trial.problem.empty() && !kernels::can_be_captured(trial.route)) {
      trial.problem = "cannot be part of a CUDA graph (train.cuda_graph)";
    }
  }
  record.route = kernels::choose_attention_route(record.trials, record.own_is_proven);
  use(record.route);
  if (is_first()) write_file_atomic(path, to_json(record));
  log::info("train", "kernels.attention auto: ", kernels::route_name(record.route), " of\n", attention_table(record));
}

void Session::measure_micro_batch() {
  const data::RowBuilder builder(data_.plan, true, quarantine_);
  const data::Batch batch = builder.build(state_.next_row, rows_per_process(config_.train, processes_->size()));
  const int64_t budget = memory_budget(device_.is_cpu() ? 0.8 / static_cast<double>(launch_.local_size) : 0.8, device_);
  const MicroBatchChoice choice = choose_micro_batch(*model_, config_, batch, budget);
  kernels::release_cached_memory(device_);
  std::vector<std::string> tried;
  for (const auto& [rows, bytes] : choice.measured)
    tried.push_back(cat(rows, rows == 1 ? " row " : " rows ", format_bytes(static_cast<double>(bytes))));
  log::info("train", "train.micro_batch_rows auto: ", choice.rows, " of ", batch.rows,
            " rows at once (measured: ", join(tried, ", "), "; ", format_bytes(static_cast<double>(budget)),
            " are free for it)");
  config_.train.micro_batch_rows.rows = choice.rows;
  for (const std::string& rows : processes_->gather(cat(choice.rows), "rows per forward pass")) {
    int64_t& least = config_.train.micro_batch_rows.rows;
    least = std::min<int64_t>(least, std::stoll(rows));
  }
}

/// Keeps what was opened in the run folder: the schedule with its shards, and what the filters left.
void Session::record_data() {
  for (const std::string& note : data_.notes) log::info("train", note);
  const std::string schedule = data::to_json(data_.record);
  const auto before = folder_.read_schedule();
  if (is_first() && (!before || *before != schedule)) folder_.write_schedule(schedule);
  quarantine_ = open_quarantine(config_, *data_.plan, folder_.quarantine_path(), is_first());
  if (quarantine_ && !quarantine_->empty())
    log::warning("train", quarantine_->entries().size(),
                 " episodes are left out: ", folder_.quarantine_path().string());
  if (config_.data.filters.empty() || !is_first()) return;
  const auto reports = data::filter_shards(shards_of(data_.plan->sources()), config_.data.filters);
  write_file_atomic(folder_.root() / "filters.json", data::filter_json(reports));
  log::info("train", "filters:\n", data::filter_table(reports));
}

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
  window_exchanged_ = processes_->seconds_waited();
  start_ = window_start_ = Clock::now();
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
        check_replicas(*processes_, model_->store().values(), state_.step);
      }
      if (due(config_.train.log_every) || state_.step == config_.train.steps) log_point();
      if (due(config_.train.validate_every) || state_.step == config_.train.steps) validate();
      if (due(config_.train.checkpoint_every) || agreed_.save > 0) begin_save();
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
  if (fault == FaultKind::kFlip) model_->store().values().view(at::kInt).slice(0, 0, 1).bitwise_xor_(1);
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
  // While a GPU computes, the input of the step after this one is fetched and copied.
  const auto fetch_ahead = [&] {
    if (device_.is_cpu() || state_.step + 1 >= config_.train.steps) return;
    try {
      ahead_ = fetch_input();
    } catch (const Interrupted&) {  // the step is shared with other processes: begin_step() tells them of the stop
    }
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
  window_tokens_ += input.tokens;
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
  const auto now = Clock::now();
  const double elapsed = std::max(1e-9, std::chrono::duration<double>(now - window_start_).count());
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
  tell_times(values, elapsed, waited - window_waited_);
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
  window_start_ = now;
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
  tensorboard_->write(step, values);
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
  const auto begin = Clock::now();
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
  window_start_ += Clock::now() - begin;  // so that tokens/s speaks of training alone
}

/// Copies what there is, and lets it be written while training goes on.
void Session::begin_save(SaveCare care) {
  if (last_tried_step_ == state_.step) return;
  const RunGuard::Activity activity(guard_, "saving", RunGuard::Limit::kLong);
  static_cast<void>(guard_.strike("save"));
  const auto begin = Clock::now();
  if (!is_alone()) settle_save();
  shared_->finish_values();
  check_replicas(*processes_, model_->store().values(), state_.step);
  state_.seconds = seconds_before_ + std::chrono::duration<double>(begin - start_).count();
  if (step_log_) step_log_->flush();
  last_tried_step_ = state_.step;
  commit_is_due_ = !is_alone();
  saver_->start(
      {state_, config_yaml_, attempt_, static_files_, care == SaveCare::kVerified, care == SaveCare::kHurried});
  if (!config_.train.background_save && !is_alone()) settle_save();  // the others have no file to write
  window_start_ += Clock::now() - begin;
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
  const int64_t failures = saver_->failures_in_a_row();
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
