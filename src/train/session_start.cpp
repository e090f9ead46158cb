// What a session does before its first step.
#include <ATen/ATen.h>
#include <torch/version.h>

#include <algorithm>

#include "attention_record.h"
#include "gato/checkpoint/retention.h"
#include "gato/core/log.h"
#include "gato/core/version.h"
#include "gato/run/checkpoint_use.h"
#include "gato/run/evaluation_queue.h"
#include "load_policy.h"
#include "micro_batch.h"
#include "resume_rules.h"
#include "session.h"

namespace gato::train {
namespace {

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
      processes_(Communicator::connect(launch, device_, config.comm, &guard.stop_notice())),
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
  load_start();
  state_.processes = processes_->size();
  make_saver();
  record_data();
  wait_for_work_of_others("recording of the data");
  choose_attention();
  if (config_.train.micro_batch_rows.is_auto()) measure_micro_batch();
  open_records(command);
}

/// Parameters, moments and state as this start has them.
void Session::load_start() {
  if (is_first()) checkpoint::clean_checkpoints(folder_.checkpoints_path());
  if (began_.checkpoint) {
    state_ = load_checkpoint(began_.checkpoint->path, *model_, optimizer_);
    last_saved_step_ = last_tried_step_ = state_.step;
    log::info("train", "goes on from ", began_.checkpoint->path.string(), " (step ", state_.step, " of ",
              config_.train.steps, ")");
  } else if (!config_.train.init_from.empty()) {
    log::info("train", load_initial_weights({choose_initial_weights(), config_.train.init_include,
                                             config_.train.init_exclude, config_.train.init_strict},
                                            *model_));
  }
}

/// What is written along the way.
void Session::open_records(const std::vector<std::string>& command) {
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
  SaverOptions options{folder_.checkpoints_path(), place(), from_first(checkpoint::process_tag(), "name of the saves"),
                       config_.train.background_save, delete_old};
  if (model_->store().has_divided_masters()) {
    options.gather_values = [this](const at::Tensor& whole) { shared_->gather_masters(whole); };
  }
  saver_ = std::make_unique<BackgroundSaver>(model_->store(), optimizer_, std::move(options));
}

void Session::make_model() {
  const model::ModelShape shape = model_shape(*data_.vocabulary);
  try {
    model_ = std::make_unique<model::Model>(
        config_.model, shape, static_cast<uint64_t>(config_.train.seed), model::Model::Purpose::kTraining, device_,
        bucket_layout(model::total(model::parameters_by_part(config_.model, shape)), *processes_, config_));
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

}  // namespace gato::train
