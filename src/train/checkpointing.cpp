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
#include "slices.h"

namespace gato::train {
namespace {

constexpr int64_t kStateVersion = 2;

/// Version 1 said no version, and at first neither rollbacks nor recent_refused. It was of one process.
void migrate_from_1(Json& json) {
  json["version"] = 2;
  if (!json.contains("rollbacks")) json["rollbacks"] = 0;
  if (!json.contains("recent_refused")) json["recent_refused"] = Json::array();
  json["processes"] = 1;
}

/// Brings what an older version wrote to the form of the present one, version by version.
void migrate(Json& json, const std::string& origin) {
  if (!json.is_object()) throw CheckpointError(cat(origin, ": a JSON object is expected"));
  if (!json.contains("version")) migrate_from_1(json);
  JsonFields fields(json, origin);
  const int64_t version = fields.integer("version", 1);
  if (version == kStateVersion) return;
  fields.fail("version", cat("version ", version, " is not known to this program, which reads versions 1 to ",
                             kStateVersion, "; use a newer one"));
}

}  // namespace

std::string to_json(const TrainingState& state) {
  Json json;
  json["version"] = kStateVersion;
  json["step"] = state.step;
  json["next_row"] = state.next_row;
  json["tokens"] = state.tokens;
  json["refused"] = state.refused;
  json["updates"] = state.updates;
  json["seconds"] = state.seconds;
  json["rollbacks"] = state.rollbacks;
  json["recent_refused"] = state.recent_refused;
  json["processes"] = state.processes;
  return json.dump(2) + "\n";
}

TrainingState parse_training_state(const std::string& text, const std::string& origin) {
  try {
    Json json = parse_json(text, origin);
    migrate(json, origin);
    JsonFields fields(json, origin);
    static_cast<void>(fields.integer("version"));
    TrainingState state;
    state.step = fields.integer("step", 0);
    state.next_row = fields.integer("next_row", 0);
    state.tokens = fields.integer("tokens", 0);
    state.refused = fields.integer("refused", 0);
    state.updates = fields.integer("updates", 0);
    state.seconds = fields.number("seconds");
    state.rollbacks = fields.integer("rollbacks", 0);
    for (const Json& step : fields.array("recent_refused")) {
      if (!step.is_number_integer()) fields.fail("recent_refused", "holds something that is no step");
      state.recent_refused.push_back(step.get<int64_t>());
    }
    state.processes = fields.integer("processes", 1);
    fields.finish();
    return state;
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

namespace {

using data::Source;

constexpr const char* kFirstMoment = "first_moment";
constexpr const char* kSecondMoment = "second_moment";

/// optimizer-first_moment.safetensors, or one rank's part: optimizer-first_moment-00001-of-00004.safetensors.
std::string moment_file(const char* stem, SaveRank rank) {
  const auto five = [](int64_t number) {
    const std::string digits = std::to_string(number);
    return std::string(5 - std::min<size_t>(5, digits.size()), '0') + digits;
  };
  const std::string part = rank.size == 1 ? "" : cat("-", five(rank.rank), "-of-", five(rank.size));
  return cat("optimizer-", stem, part, ".safetensors");
}

/// All files of a moment, whoever wrote them.
std::vector<checkpoint::SafetensorsReader> moment_readers(const checkpoint::Checkpoint& checkpoint, const char* stem) {
  std::vector<checkpoint::SafetensorsReader> readers;
  for (const checkpoint::FileEntry& file : checkpoint.manifest().files) {
    if (matches_pattern(cat("optimizer-", stem, "*.safetensors"), file.name)) {
      readers.emplace_back(checkpoint.file(file.name));
    }
  }
  return readers;
}

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

void write_part(checkpoint::CheckpointPart& part, const model::ParameterStore& store, const at::Tensor& values,
                const OptimizerState& optimizer, const SaveRequest& request, SaveRank rank) {
  const bool divided = !optimizer.ranges.empty();
  for (const auto& [moment, stem] :
       {std::pair{&optimizer.first_moment, kFirstMoment}, {&optimizer.second_moment, kSecondMoment}}) {
    if (divided) {
      part.add_tensors(moment_file(stem, rank), export_slices(store, *moment, optimizer.ranges, cat(stem, ".")));
    } else if (rank.rank == 0) {
      part.add_tensors(moment_file(stem, {}), model::export_flat(store, *moment, cat(stem, ".")));
    }
  }
  if (rank.rank != 0) return;
  part.add_tensors("model.safetensors", model::export_flat(store, values, ""), {{"format", "pt"}});
  TrainingState state = request.state;
  state.processes = rank.size;
  part.add_file("training_state.json", to_json(state));
  part.add_file("config.yaml", request.config_yaml);
  if (!request.static_files) return;
  for (const auto& [name, content] : request.static_files->files) part.add_file(name, content);
}

void set_facts(checkpoint::CheckpointWriter& writer, const SaveRequest& request, SaveRank rank) {
  writer.set_fact("gato", version());
  writer.set_fact("attempt", std::to_string(request.attempt));
  writer.set_fact("config_digest", digest128(request.config_yaml));
  writer.set_fact("processes", std::to_string(rank.size));
}

uint64_t saved_bytes(const model::ParameterStore& store, const OptimizerState& optimizer, SaveRank rank) {
  const bool writes_part = !optimizer.ranges.empty();
  const int64_t all = 3 * store.num_elements(), part = writes_part ? 2 * optimizer.first_moment.numel() : 0;
  const int64_t elements = rank.rank == 0 ? all : part;
  return static_cast<uint64_t>(elements) * sizeof(float);
}

checkpoint::CheckpointInfo save_checkpoint(const Path& folder, const SaveRequest& request, const model::Model& model,
                                           const OptimizerState& optimizer) {
  checkpoint::check_free_space(folder, saved_bytes(model.store(), optimizer, {}));
  const std::string tag = checkpoint::process_tag();
  checkpoint::CheckpointWriter writer(folder, request.state.step, tag);
  checkpoint::CheckpointPart part(writer.unfinished_path());
  const OptimizerState host = {optimizer.first_moment.cpu(), optimizer.second_moment.cpu(), optimizer.ranges};
  write_part(part, model.store(), model.store().values().cpu(), host, request, {});
  writer.add_entries(part.entries());
  set_facts(writer, request, {});
  return writer.commit({request.verify});
}

TrainingState load_checkpoint(const Path& path, model::Model& model, const OptimizerState& optimizer) {
  const checkpoint::Checkpoint checkpoint(path);
  const TrainingState state =
      parse_training_state(checkpoint.read("training_state.json"), (path / "training_state.json").string());
  model.store().import_tensors(checkpoint::SafetensorsReader(checkpoint.file("model.safetensors")));
  for (const auto& [moment, stem] :
       {std::pair{&optimizer.first_moment, kFirstMoment}, {&optimizer.second_moment, kSecondMoment}}) {
    import_slices(model.store(), *moment, optimizer.ranges, cat(stem, "."), moment_readers(checkpoint, stem));
  }
  return state;
}

}  // namespace gato::train
