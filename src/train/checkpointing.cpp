#include "checkpointing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "gato/checkpoint/safetensors.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"
#include "gato/core/version.h"
#include "gato/data/statistics.h"

namespace gato::train {

std::string to_json(const TrainingState& state) {
  Json json;
  json["step"] = state.step;
  json["next_row"] = state.next_row;
  json["tokens"] = state.tokens;
  json["refused"] = state.refused;
  json["updates"] = state.updates;
  json["seconds"] = state.seconds;
  json["rollbacks"] = state.rollbacks;
  json["recent_refused"] = state.recent_refused;
  return json.dump(2) + "\n";
}

TrainingState parse_training_state(const std::string& text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  JsonFields fields(json, origin);
  TrainingState state;
  state.step = fields.integer("step", 0);
  state.next_row = fields.integer("next_row", 0);
  state.tokens = fields.integer("tokens", 0);
  state.refused = fields.integer("refused", 0);
  state.updates = fields.integer("updates", 0);
  state.seconds = fields.number("seconds");
  if (fields.has("rollbacks")) state.rollbacks = fields.integer("rollbacks", 0);  // absent in the first checkpoints
  if (fields.has("recent_refused")) {
    for (const Json& step : fields.array("recent_refused")) {
      if (!step.is_number_integer()) fields.fail("recent_refused", "holds something that is no step");
      state.recent_refused.push_back(step.get<int64_t>());
    }
  }
  fields.finish();
  return state;
}

namespace {

using data::Source;

constexpr const char* kFirstMomentFile = "optimizer-first_moment.safetensors";
constexpr const char* kSecondMomentFile = "optimizer-second_moment.safetensors";

/// Writes some episodes of each source to a shard and returns its bytes.
class ShardBuilder {
 public:
  ShardBuilder(const Path& scratch, const std::string& name, const std::vector<std::shared_ptr<const Source>>& sources)
      : path_(scratch / (name + ".gato")) {
    std::vector<episode::TaskSpec> tasks;
    for (const auto& source : sources) tasks.push_back(source->spec());
    writer_ = std::make_unique<episode::ShardWriter>(
        path_, episode::DatasetInfo{name, "Kept in a checkpoint.", "", "gato-train " + version()}, std::move(tasks));
  }
  void add(int task, const episode::Episode& episode) { writer_->add(task, episode); }
  [[nodiscard]] std::string finish() {
    writer_->finish();
    std::string bytes = read_file(path_);
    std::filesystem::remove(path_);
    return bytes;
  }

 private:
  Path path_;
  std::unique_ptr<episode::ShardWriter> writer_;
};

/// Two tasks of one id in several data sets are one task to the evaluator: the first source stands for it.
std::vector<std::shared_ptr<const Source>> one_per_task(const std::vector<std::shared_ptr<const Source>>& sources) {
  std::vector<std::shared_ptr<const Source>> chosen;
  for (const auto& source : sources) {
    const auto same = [&](const auto& other) { return other->spec().id == source->spec().id; };
    if (std::none_of(chosen.begin(), chosen.end(), same)) chosen.push_back(source);
  }
  return chosen;
}

/// Damaged episodes are passed over where the run quarantines them: there are others to show and to count.
class EpisodeGuard {
 public:
  explicit EpisodeGuard(const data::DataConfig& config)
      : skip_damaged_(config.on_corrupt == data::OnCorrupt::kQuarantine) {}
  template <class Use>
  void operator()(Use&& use) const {
    try {
      use();
    } catch (const DataError& error) {
      if (!skip_damaged_) throw;
      log::warning("train", "passed over for the checkpoints' own data: ", error.what());
    }
  }

 private:
  bool skip_damaged_;
};

std::string demonstrations(const std::vector<std::shared_ptr<const Source>>& sources, int64_t max_steps,
                           const EpisodeGuard& guard, const Path& scratch) {
  ShardBuilder builder(scratch, "demonstrations", sources);
  for (size_t s = 0; s < sources.size(); ++s) {
    if (sources[s]->tokenizer().is_document()) continue;
    int64_t steps = 0;
    for (int64_t e = 0; e < sources[s]->num_episodes() && steps < max_steps; ++e) {
      guard([&] {
        const episode::Episode shown = sources[s]->read(e, 0, std::min(max_steps - steps, sources[s]->length(e)));
        steps += shown.num_steps;
        builder.add(static_cast<int>(s), shown);
      });
    }
  }
  return builder.finish();
}

std::string heldout_documents(const std::vector<std::shared_ptr<const Source>>& documents, int64_t max_tokens,
                              const EpisodeGuard& guard, const Path& scratch) {
  ShardBuilder builder(scratch, "heldout", documents);
  for (size_t s = 0; s < documents.size(); ++s) {
    int64_t tokens = 0;
    for (int64_t e = 0; e < documents[s]->num_episodes() && tokens < max_tokens; ++e) {
      guard([&] {
        builder.add(static_cast<int>(s), documents[s]->read(e));
        tokens += documents[s]->length(e);
      });
    }
  }
  return builder.finish();
}

/// How often every text id comes in the training documents, for the unigram model that text losses are compared with.
std::string unigram_counts(const std::vector<std::shared_ptr<const Source>>& documents, const EpisodeGuard& guard) {
  std::vector<std::vector<int64_t>> counts;
  std::vector<checkpoint::TensorView> views;
  for (const auto& source : documents) {
    std::vector<int64_t>& count =
        counts.emplace_back(static_cast<size_t>(source->tokenizer().vocabulary().text_size()), 0);
    tokenizer::TokenSequence stream;
    constexpr int64_t kEnough = 20'000'000;  // tokens; the counts of larger corpora change no more
    int64_t seen = 0;
    for (int64_t e = 0; e < source->num_episodes() && seen < kEnough; ++e) {
      stream.clear();
      guard([&] { source->append({e, 0, source->length(e)}, {}, stream); });
      for (const int32_t id : stream.ids) ++count[static_cast<size_t>(id)];
      seen += stream.size();
    }
  }
  for (size_t s = 0; s < documents.size(); ++s) {
    views.push_back({documents[s]->spec().id,
                     checkpoint::Dtype::kI64,
                     {static_cast<int64_t>(counts[s].size())},
                     std::as_bytes(std::span(counts[s]))});
  }
  std::string bytes;
  const checkpoint::ByteSink sink = [&](std::span<const std::byte> piece) {
    bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  };
  checkpoint::write_safetensors(sink, views);
  return bytes;
}

std::vector<std::shared_ptr<const Source>> documents_of(const std::vector<std::shared_ptr<const Source>>& sources) {
  std::vector<std::shared_ptr<const Source>> documents;
  std::copy_if(sources.begin(), sources.end(), std::back_inserter(documents),
               [](const auto& source) { return source->tokenizer().is_document(); });
  return documents;
}

}  // namespace

std::vector<Path> shards_of(const std::vector<std::shared_ptr<const Source>>& sources) {
  std::set<Path> shards;
  for (const auto& source : sources) {
    for (int64_t s = 0; s < source->num_shards(); ++s) shards.insert(source->shard(s).reader->path());
  }
  return {shards.begin(), shards.end()};
}

StaticFiles make_static_files(const TrainingConfig& config, const data::OpenedData& data, const Path& scratch) {
  make_folders(scratch);
  const EpisodeGuard guard(config.data);
  StaticFiles files;
  const auto tasks = one_per_task(data.plan->sources());
  const auto validation = data.validation_plan ? data.validation_plan->sources() : decltype(tasks){};
  files.files["demonstrations.gato"] = demonstrations(tasks, config.train.demonstration_steps, guard, scratch);
  auto heldout = documents_of(one_per_task(validation));
  // The unigram model that a loss is compared with comes from the training side.
  std::erase_if(heldout, [&](const auto& source) {
    return std::none_of(tasks.begin(), tasks.end(),
                        [&](const auto& other) { return other->spec().id == source->spec().id; });
  });
  if (!heldout.empty()) {
    files.files["heldout.gato"] = heldout_documents(heldout, config.train.heldout_tokens, guard, scratch);
    files.files["unigram.safetensors"] = unigram_counts(documents_of(tasks), guard);
  }
  if (data.text) files.files["tokenizer.model"] = data.text->model_bytes();
  files.files["value_statistics.json"] =
      data::statistics_json(data::statistics_of_shards(shards_of(data.plan->sources())));
  std::error_code ignored;
  std::filesystem::remove(scratch, ignored);
  return files;
}

checkpoint::CheckpointInfo save_checkpoint(const Path& folder, const TrainingState& state,
                                           const std::string& config_yaml, const model::Model& model,
                                           const OptimizerState& optimizer, const StaticFiles& static_files,
                                           int64_t attempt) {
  checkpoint::CheckpointWriter writer(folder, state.step);
  const auto add = [&](const char* file, const at::Tensor& flat, const char* prefix, auto&&... metadata) {
    const at::Tensor host = flat.cpu();  // itself on the CPU
    writer.add_tensors(file, model::export_flat(model.store(), host, prefix), metadata...);
  };
  add("model.safetensors", model.store().values(), "", std::map<std::string, std::string>{{"format", "pt"}});
  add(kFirstMomentFile, optimizer.first_moment, "first_moment.");
  add(kSecondMomentFile, optimizer.second_moment, "second_moment.");
  writer.add_file("training_state.json", to_json(state));
  writer.add_file("config.yaml", config_yaml);
  for (const auto& [name, content] : static_files.files) writer.add_file(name, content);
  writer.set_fact("gato", version());
  writer.set_fact("attempt", std::to_string(attempt));
  return writer.commit();
}

TrainingState load_checkpoint(const Path& path, model::Model& model, const OptimizerState& optimizer) {
  const checkpoint::Checkpoint checkpoint(path);
  model.store().import_tensors(checkpoint::SafetensorsReader(checkpoint.file("model.safetensors")));
  model::import_flat(model.store(), optimizer.first_moment, "first_moment.",
                     checkpoint::SafetensorsReader(checkpoint.file(kFirstMomentFile)));
  model::import_flat(model.store(), optimizer.second_moment, "second_moment.",
                     checkpoint::SafetensorsReader(checkpoint.file(kSecondMomentFile)));
  return parse_training_state(checkpoint.read("training_state.json"), (path / "training_state.json").string());
}

}  // namespace gato::train
