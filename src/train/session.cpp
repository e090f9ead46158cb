#include "session.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "gato/core/json.h"
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/core/version.h"
#include "gato/kernels/optimizer.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {
namespace {

constexpr int64_t kMaxRefusedInARow = 10;

/// What must not change during a run: another value would make other numbers out of the same checkpoint.
std::map<std::string, std::string> fixed_settings(const TrainingConfig& config) {
  data::DataConfig data = config.data;
  data.loader_threads = data.prefetch_batches = 1;  // do not bear on the rows
  data.datasets.clear();                            // compared by fingerprint
  return {{"model", dump_config(config.model)},
          {"data", dump_config(data)},
          {"tokenizer.private_discrete", config.tokenizer.private_discrete ? "true" : "false"},
          {"train.seed", cat(config.train.seed)},
          {"train.batch_rows", cat(config.train.batch_rows)},
          {"train.micro_batch_rows", cat(config.train.micro_batch_rows)},
          {"train.soft_target_bins", cat(config.train.soft_target_bins)}};
}

std::string domain_text(const std::map<std::string, double>& losses) {
  std::vector<std::string> parts;
  for (const auto& [domain, loss] : losses) parts.push_back(cat(domain, " ", format_fixed(loss, 3)));
  return join(parts, ", ");
}

/// The shards a run was started with, so that a resumed run can tell that its data changed.
std::string schedule_json(const data::OpenedData& data, const TrainingConfig& config) {
  Json json;
  json["seed"] = config.train.seed;
  json["row_tokens"] = config.data.row_tokens;
  json["tokenizer"] = data.text ? data.text->digest() : "";
  json["sources"] = Json::array();
  for (const auto& source : data.training) {
    Json entry;
    entry["source"] = source->id();
    entry["shards"] = Json::array();
    for (int64_t s = 0; s < source->num_shards(); ++s) {
      const episode::ShardReader& reader = *source->shard(s).reader;
      entry["shards"].push_back({{"file", reader.path().filename().string()}, {"fingerprint", reader.fingerprint()}});
    }
    json["sources"].push_back(std::move(entry));
  }
  return json.dump(2) + "\n";
}

}  // namespace

Session::Session(const TrainingConfig& config, const std::vector<std::string>& command)
    : config_(config),
      config_yaml_(dump_config(config)),
      folder_(config.run.dir),
      data_(open_data(config)),
      losses_(*data_.plan),
      shares_(*data_.plan) {
  set_thread_budget(static_cast<int>(config.train.threads));
  at::set_num_threads(thread_budget());
  model_ = std::make_unique<model::Model>(config.model, model_shape(*data_.vocabulary),
                                          static_cast<uint64_t>(config.train.seed));
  optimizer_ = {at::zeros_like(model_->store().values()), at::zeros_like(model_->store().values())};
  folder_.lock();
  folder_.create();
  checkpoint::clean_checkpoints(folder_.checkpoints_path());
  resume_or_start();
  check_same_data();
  folder_.write_config(config_yaml_);
  attempt_ =
      folder_.begin_attempt({{"gato", version()}, {"compiler", compiler_version()}, {"torch", TORCH_VERSION}}, command);
  metrics_ = std::make_unique<run::MetricsWriter>(folder_.metrics_path(), attempt_);
  tensorboard_ = std::make_unique<run::TensorBoardWriter>(folder_.tensorboard_path("train"), attempt_, state_.step);
  static_files_ = make_static_files(config_, data_.text ? data_.text->model_bytes() : "", data_.training,
                                    data_.validation, folder_.root() / cat("scratch-", attempt_));
}

void Session::check_same_run(const checkpoint::Checkpoint& checkpoint) const {
  const std::string origin = (checkpoint.path() / "config.yaml").string();
  const auto before = fixed_settings(read_config<TrainingConfig>(parse_yaml(checkpoint.read("config.yaml"), origin)));
  const auto now = fixed_settings(config_);
  std::vector<std::string> changed;
  for (const auto& [key, value] : now) {
    if (before.at(key) != value) changed.push_back(key);
  }
  if (changed.empty()) return;
  throw ConfigError(cat("the run in ", folder_.root().string(), " was started with other settings of ",
                        join(changed, ", "), " (compare ", origin,
                        "); give run.dir another folder, or the old settings to go on"));
}

void Session::check_same_data() {
  const std::string schedule = schedule_json(data_, config_);
  const auto before = folder_.read_schedule();
  if (state_.step > 0 && before && *before != schedule) {
    throw ConfigError(cat("the data sets or the tokenizer changed since the run in ", folder_.root().string(),
                          " was started (see ", folder_.schedule_path().string(),
                          "); restore them, or start a new run with another run.dir"));
  }
  if (!before || *before != schedule) folder_.write_schedule(schedule);
}

void Session::resume_or_start() {
  const auto newest = checkpoint::newest_valid(folder_.checkpoints_path());
  if (!newest) return;
  check_same_run(checkpoint::Checkpoint(newest->path));
  state_ = load_checkpoint(newest->path, *model_, optimizer_);
  last_saved_step_ = state_.step;
  log::info("train", "goes on from ", newest->path.string(), " (step ", state_.step, " of ", config_.train.steps, ")");
}

void Session::print_shares() const {
  log::info("train", model_->store().num_parameters(), " parameters; rows of ", config_.data.row_tokens, " tokens, ",
            config_.train.batch_rows, " rows per step, ", config_.train.steps, " steps (",
            format_count(static_cast<double>(config_.train.steps * config_.train.batch_rows * config_.data.row_tokens)),
            " tokens)");
  for (const data::SourceShare& share : data_.plan->shares(state_.next_row)) {
    log::info("train", "  ", share.task, ": ", format_fixed(100 * share.asked_share, 1), " % of tokens, ",
              format_fixed(100 * share.loss_share, 1), " % of the loss, label weight ",
              format_fixed(share.label_weight, 2), ", all seen once in ", format_count(share.epoch_rows), " rows");
  }
}

TrainingOutcome Session::run() {
  print_shares();
  start_ = window_start_ = Clock::now();
  seconds_before_ = state_.seconds;
  tokens_before_ = state_.tokens;
  loader_ = std::make_unique<data::Loader>(
      std::make_shared<const data::RowBuilder>(data_.plan, true), state_.next_row, config_.train.batch_rows, 0, 1,
      static_cast<int>(config_.data.loader_threads), config_.data.prefetch_batches);
  const auto due = [&](int64_t every) { return every > 0 && state_.step % every == 0; };
  try {
    // A stop signal during validation saves before the validation is done: then it comes first now.
    if (state_.step > 0 && due(config_.train.validate_every) && !validated_before()) validate();
    while (state_.step < config_.train.steps && !out_of_time()) {
      throw_if_stopped("training");
      step(loader_->next());
      if (due(config_.train.log_every) || state_.step == config_.train.steps) log_point();
      if (due(config_.train.validate_every) || state_.step == config_.train.steps) validate();
      if (due(config_.train.checkpoint_every) || take_save_request()) save();
    }
  } catch (const Interrupted&) {
    loader_.reset();
    save();
    throw Interrupted(cat("stopped by a signal at step ", state_.step, " of ", config_.train.steps,
                          "; everything is saved, the same command goes on"));
  }
  loader_.reset();
  if (state_.step == config_.train.steps && last_validated_step_ != state_.step && !validated_before()) validate();
  save();
  TrainingOutcome outcome;
  outcome.step = state_.step;
  outcome.finished = state_.step >= config_.train.steps;
  outcome.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  outcome.tokens_per_second = static_cast<double>(state_.tokens - tokens_before_) / std::max(1e-9, outcome.seconds);
  outcome.validation_loss = validation_loss_;
  return outcome;
}

void Session::step(const data::Batch& batch) {
  model_->store().zero_gradients();
  const int64_t micro = config_.train.micro_batch_rows > 0 ? config_.train.micro_batch_rows : batch.rows;
  double weight_sum = 0, summed_loss = 0;
  for (int64_t first = 0; first < batch.rows; first += micro) {
    const BatchTensors tensors = batch_tensors(batch, first, std::min(micro, batch.rows - first));
    if (tensors.loss_sources.empty()) continue;
    model::ForwardOptions options;
    options.training = true;
    options.seed = static_cast<uint64_t>(config_.train.seed);
    options.step = state_.step;
    options.first_row = batch.first_row + first;
    const model::LossResult result = model_->loss(tensors.input, tensors.loss, options, config_.train.soft_target_bins);
    model_->backward(result.loss);
    summed_loss += result.loss.item<double>();
    weight_sum += tensors.weight_sum;
    losses_.add(result.nll, tensors.loss_sources);
  }
  state_.step += 1;
  state_.next_row += config_.train.batch_rows;
  state_.tokens += batch.tokens;
  window_tokens_ += batch.tokens;
  shares_.add(batch);
  window_steps_ += 1;
  if (weight_sum > 0 && update(weight_sum, summed_loss)) refused_in_a_row_ = 0;
}

bool Session::update(double weight_sum, double summed_loss) {
  const double norm = std::sqrt(kernels::squared_norm(model_->store().gradients())) / weight_sum;
  if (!std::isfinite(norm) || !std::isfinite(summed_loss)) {
    refuse_step(cat("loss ", summed_loss / weight_sum, ", gradient norm ", norm));
    return false;
  }
  gradient_norm_ = norm;
  std::vector<kernels::UpdateSpan> spans;
  for (const model::Segment& segment : model_->store().segments()) {
    if (segment.trainable) spans.push_back({segment.offset, segment.size, segment.decay});
  }
  const OptimizerConfig& optimizer = config_.optimizer;
  kernels::AdamWStep update;
  update.learning_rate = learning_rate(optimizer, state_.step, config_.train.steps);
  update.beta_1 = optimizer.beta_1;
  update.beta_2 = optimizer.beta_2;
  update.epsilon = optimizer.epsilon;
  update.weight_decay = optimizer.weight_decay;
  update.step = ++state_.updates;
  const bool clip = optimizer.clip_norm > 0 && norm > optimizer.clip_norm;
  update.grad_scale = (clip ? optimizer.clip_norm / norm : 1) / weight_sum;
  kernels::adamw_step(model_->store().values(), model_->store().gradients(), optimizer_.first_moment,
                      optimizer_.second_moment, spans, update);
  return true;
}

void Session::refuse_step(const std::string& why) {
  ++state_.refused;
  ++refused_in_a_row_;
  log::warning("train", "step ", state_.step, " is refused (", why,
               "); its rows are passed over, parameters stay as they were");
  if (refused_in_a_row_ >= kMaxRefusedInARow) {
    throw DivergedError(cat(refused_in_a_row_, " steps in a row up to step ", state_.step,
                            " were not finite; checkpoints up to step ", last_saved_step_,
                            " are whole. Lower optimizer.learning_rate or set optimizer.clip_norm, and start again "
                            "from an earlier checkpoint"));
  }
}

bool Session::out_of_time() const {
  const double minutes = std::chrono::duration<double>(Clock::now() - start_).count() / 60;
  return config_.train.max_minutes > 0 && minutes >= config_.train.max_minutes;
}

void Session::log_point() {
  const auto now = Clock::now();
  const double elapsed = std::max(1e-9, std::chrono::duration<double>(now - window_start_).count());
  const double waited = loader_->seconds_waited();
  const double rate = static_cast<double>(window_tokens_) / elapsed;
  const double left = elapsed / static_cast<double>(std::max<int64_t>(1, window_steps_)) *
                      static_cast<double>(config_.train.steps - state_.step);
  const double lr = learning_rate(config_.optimizer, state_.step, config_.train.steps);
  const auto domains = losses_.means();
  log::info("train", "step ", state_.step, "/", config_.train.steps, "  loss ", format_fixed(losses_.mean(), 3), " (",
            domain_text(domains), ")  lr ", lr, "  |g| ", format_fixed(gradient_norm_, 2), "  ", format_count(rate),
            " tok/s  ", format_seconds(left), " left");
  run::MetricValues values;
  for (const auto& [domain, loss] : domains) values["train/loss/" + domain] = loss;
  values["train/loss"] = losses_.mean();
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
  metrics_->write(state_.step, state_.tokens, values);
  tensorboard_->write(state_.step, values);
  losses_.clear();
  shares_.clear();
  window_start_ = now;
  window_tokens_ = window_steps_ = 0;
  window_waited_ = waited;
}

bool Session::validated_before() const {
  const auto losses = run::read_metrics(folder_.metrics_path()).series("validation/loss");
  return std::any_of(losses.begin(), losses.end(), [&](const auto& point) { return point.first == state_.step; });
}

void Session::validate() {
  if (!data_.validation_plan || config_.train.validation_rows == 0) return;
  const auto begin = Clock::now();
  const at::NoGradGuard no_grad;
  const data::RowBuilder builder(data_.validation_plan, false);
  DomainLosses losses(*data_.validation_plan);
  const int64_t micro = config_.train.micro_batch_rows > 0 ? config_.train.micro_batch_rows : config_.train.batch_rows;
  for (int64_t row = 0; row < config_.train.validation_rows; row += micro) {
    throw_if_stopped("validation");
    const data::Batch batch = builder.build(row, std::min(micro, config_.train.validation_rows - row));
    const BatchTensors tensors = batch_tensors(batch, 0, batch.rows);
    if (tensors.loss_sources.empty()) continue;
    losses.add(model_->loss(tensors.input, tensors.loss).nll, tensors.loss_sources);
  }
  validation_loss_ = losses.means();
  last_validated_step_ = state_.step;
  run::MetricValues values;
  for (const auto& [domain, loss] : validation_loss_) values["validation/loss/" + domain] = loss;
  values["validation/loss"] = losses.mean();
  metrics_->write(state_.step, state_.tokens, values);
  tensorboard_->write(state_.step, values);
  log::info("train", "validation at step ", state_.step, ": loss ", format_fixed(losses.mean(), 3), " (",
            domain_text(validation_loss_), ")");
  window_start_ += Clock::now() - begin;  // so that tokens/s speaks of training alone
}

void Session::save() {
  if (last_saved_step_ == state_.step) return;
  const auto begin = Clock::now();
  state_.seconds = seconds_before_ + std::chrono::duration<double>(begin - start_).count();
  const auto saved =
      save_checkpoint(folder_.checkpoints_path(), state_, config_yaml_, *model_, optimizer_, static_files_, attempt_);
  last_saved_step_ = state_.step;
  checkpoint::prune(folder_.checkpoints_path(), {config_.train.keep_checkpoints, config_.train.keep_every},
                    checkpoint::VerifyDepth::kSizes);
  const auto took = Clock::now() - begin;
  window_start_ += took;
  log::info("train", "saved ", saved.path.string(), " (", format_seconds(std::chrono::duration<double>(took).count()),
            ")");
}

TrainingOutcome train(const TrainingConfig& config, const std::vector<std::string>& command) {
  return Session(config, command).run();
}

}  // namespace gato::train
