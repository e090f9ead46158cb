#include "gato/eval/agent.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "gato/checkpoint/checkpoint.h"
#include "gato/checkpoint/safetensors.h"
#include "gato/core/config.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/data/mixture.h"
#include "gato/data/plan.h"
#include "gato/episode/shard.h"
#include "gato/tokenizer/config.h"

namespace gato::eval {
namespace {

template <class Section>
Section config_section(const ConfigNode& node, const char* name) {
  const ConfigNode* section = node.find(name);
  return section == nullptr ? Section{} : read_config<Section>(*section);
}

void check_whole(const Path& path) {
  const auto damages = checkpoint::verify_checkpoint(path);
  if (damages.empty()) return;
  throw CheckpointError(cat(path.string(), " is not a valid checkpoint: ", damages.front().describe(),
                            damages.size() > 1 ? cat(" (and ", damages.size() - 1, " more)") : "",
                            "; use another one"));
}

/// The last row that the checkpoint was trained on; 0 for one that was not trained.
int64_t last_row(const checkpoint::Checkpoint& checkpoint) {
  const std::string origin = (checkpoint.path() / "training_state.json").string();
  const Json state = parse_json(checkpoint.read("training_state.json"), origin);
  const auto next_row = state.find("next_row");
  if (next_row == state.end() || !next_row->is_number_integer())
    throw CheckpointError(cat(origin, ": next_row is missing or no integer"));
  return std::max<int64_t>(0, next_row->get<int64_t>() - 1);
}

/// The phase of the schedule that held for a row; null when there is no schedule.
const data::MixturePhase* trained_phase(const data::DataConfig& data, int64_t row) {
  const data::MixturePhase* held = nullptr;
  for (const data::MixturePhase& phase : data.schedule) {
    const int64_t first_block = (phase.first_row + data::kBlockRows - 1) / data::kBlockRows;
    if (held == nullptr || first_block <= row / data::kBlockRows) held = &phase;
  }
  return held;
}

}  // namespace

Agent::Agent(const Path& path, std::optional<kernels::WeightType> weights, at::Device device) : path_(path) {
  check_whole(path);
  const checkpoint::Checkpoint checkpoint(path);
  step_ = checkpoint.step();
  const ConfigNode config = parse_yaml(checkpoint.read("config.yaml"), (path / "config.yaml").string());
  const auto data = config_section<data::DataConfig>(config, "data");
  const auto tokens = config_section<tokenizer::TokenizerConfig>(config, "tokenizer");
  row_tokens_ = data.row_tokens;
  prompt_tokens_ = static_cast<int64_t>(data.prompt_tokens_share * static_cast<double>(row_tokens_));
  if (const data::MixturePhase* phase = trained_phase(data, last_row(checkpoint))) {
    for (const data::MixtureEntry& entry : phase->mixture) {
      context_by_pattern_.emplace_back(entry.tasks, entry.steps.row ? 0 : entry.steps.high);
    }
  }
  if (checkpoint.has("tokenizer.model")) {
    text_ =
        tokenizer::TextTokenizer::from_bytes(checkpoint.read("tokenizer.model"), (path / "tokenizer.model").string());
  }
  vocabulary_ = tokenizer::Vocabulary(text_ ? text_->size() : tokenizer::kNumBins, tokens.private_discrete);
  model_ = std::make_unique<model::Model>(
      config_section<model::ModelConfig>(config, "model"),
      model::ModelShape{vocabulary_->size(), vocabulary_->first_bin(), tokenizer::kNumBins}, 0,
      model::Model::Purpose::kInference, device);
  model_->store().import_tensors(checkpoint::SafetensorsReader(checkpoint.file("model.safetensors")));
  model_digest_ = checkpoint.manifest().find("model.safetensors")->xxh3_128;
  acting_ =
      std::make_shared<const model::ActingWeights>(*model_, weights.value_or(model::ActingWeights::type_of(*model_)));
  const episode::ShardReader demonstrations(checkpoint.file("demonstrations.gato"));
  for (const episode::TaskSpec& task : demonstrations.tasks()) tasks_.emplace(task.id, task);
}

const episode::TaskSpec* Agent::trained_task(const std::string& id) const {
  const auto found = tasks_.find(id);
  return found == tasks_.end() ? nullptr : &found->second;
}

namespace {

episode::StepValues values_of(const std::vector<episode::Column>& columns,
                              const std::vector<episode::FieldSpec>& fields, int64_t step) {
  episode::StepValues values;
  for (size_t f = 0; f < fields.size(); ++f) values.push_back(episode::value_at(columns[f], fields[f], step));
  return values;
}

}  // namespace

tokenizer::TokenSequence Agent::demonstration(const std::string& task) const {
  const episode::ShardReader shard(path_ / "demonstrations.gato");
  for (size_t e = 0; e < shard.index().size(); ++e) {
    const episode::TaskSpec& spec = shard.tasks()[shard.index()[e].task];
    if (spec.id != task) continue;
    const tokenizer::TaskTokenizer tokens(spec, *vocabulary_, text());
    const episode::Episode shown = shard.read(static_cast<int64_t>(e));
    tokenizer::StepStorage storage;
    for (int64_t count = shown.num_steps; count > 0; --count) {
      tokenizer::TokenSequence prompt;
      for (int64_t step = shown.num_steps - count; step < shown.num_steps; ++step) {
        const auto observation = values_of(shown.observation, spec.observation, step);
        const auto action = values_of(shown.action, spec.action, step);
        tokens.append_step(storage.view(spec, text(), observation, action), {}, prompt);
        if (prompt.size() > prompt_tokens_) break;
      }
      if (prompt.size() <= prompt_tokens_) return prompt;
    }
    throw ConfigError(cat("task ", task, ": one step takes more than the ", prompt_tokens_,
                          " tokens that a prompt may have (data.prompt_tokens_share); evaluate with --prompt none"));
  }
  throw ConfigError(cat(path_.string(), " carries no demonstration of ", task, "; evaluate with --prompt none"));
}

int64_t Agent::context_steps(const std::string& task) const {
  for (auto entry = context_by_pattern_.rbegin(); entry != context_by_pattern_.rend(); ++entry) {
    if (matches_pattern(entry->first, task)) return entry->second;
  }
  return 0;
}

namespace {

/// One window of a document as a batch of one row, with loss on every token but the first.
struct DocumentRow {
  std::vector<int32_t> ids, starts, positions;
  std::vector<int64_t> loss_positions, targets;

  DocumentRow(const tokenizer::TokenSequence& stream) {
    const auto size = static_cast<size_t>(stream.size());
    ids = stream.ids;
    starts.assign(size, 0);
    positions.assign(stream.local_positions.begin(), stream.local_positions.end());
    for (size_t t = 1; t < size; ++t) {
      loss_positions.push_back(static_cast<int64_t>(t) - 1);
      targets.push_back(stream.ids[t]);
    }
  }
};

double summed_nll(const model::Model& model, DocumentRow& row) {
  const auto tokens = static_cast<int64_t>(row.ids.size());
  const auto labels = static_cast<int64_t>(row.targets.size());
  const auto on_device = [&](auto& values, at::IntArrayRef shape, at::ScalarType type) {
    return at::from_blob(values.data(), shape, type).to(model.store().device());
  };
  model::ModelInput input;
  input.ids = on_device(row.ids, {1, tokens}, at::kInt);
  input.sequence_starts = on_device(row.starts, {1, tokens}, at::kInt);
  input.local_positions = on_device(row.positions, {1, tokens}, at::kInt);
  const model::LossInput where{on_device(row.loss_positions, {labels}, at::kLong),
                               on_device(row.targets, {labels}, at::kLong),
                               at::ones({labels}, at::TensorOptions(model.store().device()))};
  return model.loss(input, where).nll.sum(at::kDouble).item<double>();
}

/// -log p of every id under a unigram model with add-one smoothing.
std::vector<double> unigram_nll(const checkpoint::SafetensorsReader& reader, const std::string& task) {
  const checkpoint::TensorInfo& info = reader.info(task);
  if (info.dtype != checkpoint::Dtype::kI64)
    throw CheckpointError(cat(reader.path().string(), ": ", task, " is not of type I64"));
  std::vector<int64_t> counts(static_cast<size_t>(info.num_elements()));
  reader.read(task, std::as_writable_bytes(std::span(counts)));
  double total = 0;
  for (const int64_t count : counts) total += static_cast<double>(count + 1);
  std::vector<double> nll;
  for (const int64_t count : counts) nll.push_back(std::log(total / static_cast<double>(count + 1)));
  return nll;
}

}  // namespace

std::map<std::string, Agent::HeldoutLoss> Agent::heldout_losses(const std::function<void()>& on_window) const {
  std::map<std::string, HeldoutLoss> losses;
  const checkpoint::Checkpoint checkpoint(path_);
  if (!checkpoint.has("heldout.gato")) return losses;
  const at::NoGradGuard no_grad;
  const episode::ShardReader shard(checkpoint.file("heldout.gato"));
  const checkpoint::SafetensorsReader counts(checkpoint.file("unigram.safetensors"));
  for (size_t e = 0; e < shard.index().size(); ++e) {
    const episode::TaskSpec& spec = shard.tasks()[shard.index()[e].task];
    const tokenizer::TaskTokenizer tokens(spec, *vocabulary_, text());
    const std::vector<double> unigram = unigram_nll(counts, spec.id);
    const std::vector<int32_t> encoded = text()->encode(shard.read(static_cast<int64_t>(e)).action[0].text[0]);
    const std::vector<uint32_t> ids(encoded.begin(), encoded.end());
    HeldoutLoss& loss = losses[spec.id];
    const auto length = static_cast<int64_t>(ids.size()) + 1;  // with </s>
    for (int64_t first = 0; first + 1 < length; first += row_tokens_) {
      tokenizer::TokenSequence stream;
      tokens.append_document(ids, first, std::min(row_tokens_, length - first), {}, stream);
      DocumentRow row(stream);
      if (row.targets.empty()) continue;
      if (on_window) on_window();
      loss.nats_per_token += summed_nll(*model_, row);
      for (const int64_t target : row.targets) loss.unigram_nats_per_token += unigram[static_cast<size_t>(target)];
      loss.tokens += static_cast<int64_t>(row.targets.size());
    }
  }
  for (auto& [task, loss] : losses) {
    loss.nats_per_token /= static_cast<double>(std::max<int64_t>(1, loss.tokens));
    loss.unigram_nats_per_token /= static_cast<double>(std::max<int64_t>(1, loss.tokens));
  }
  return losses;
}

}  // namespace gato::eval
