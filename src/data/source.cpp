#include "gato/data/source.h"

#include <algorithm>
#include <map>
#include <set>

#include "gato/core/error.h"
#include "gato/core/threads.h"

namespace gato::data {

using episode::EpisodeIndexEntry;
using episode::Group;
using episode::Modality;
using episode::TaskSpec;

Source::Source(std::string dataset, std::vector<Shard> shards, const tokenizer::Vocabulary& vocabulary,
               const tokenizer::TextTokenizer* text, Split split, double validation_share)
    : shards_(std::move(shards)) {
  GATO_CHECK(!shards_.empty(), "a source needs a shard");
  const TaskSpec& spec = shards_[0].reader->tasks()[static_cast<size_t>(shards_[0].task)];
  id_ = dataset + ":" + spec.id;
  tokenizer_ = std::make_shared<tokenizer::TaskTokenizer>(spec, vocabulary, text);
  for (size_t i = 0; i < spec.observation.size(); ++i) {
    if (spec.observation[i].modality == Modality::kText)
      text_fields_.emplace_back(Group::kObservation, static_cast<int>(i));
  }
  for (size_t i = 0; i < spec.action.size(); ++i) {
    if (spec.action[i].modality == Modality::kText) text_fields_.emplace_back(Group::kAction, static_cast<int>(i));
  }
  for (size_t s = 0; s < shards_.size(); ++s) {
    shard_begin_.push_back(num_episodes());
    const auto index = shards_[s].reader->index();
    for (size_t e = 0; e < index.size(); ++e) {
      if (static_cast<int>(index[e].task) != shards_[s].task || index[e].num_steps == 0) continue;
      const bool validation = episode::in_validation(index[e].split_hash, validation_share);
      if (validation != (split == Split::kValidation)) continue;
      episodes_.push_back({static_cast<uint32_t>(s), static_cast<uint32_t>(e)});
    }
  }
  shard_begin_.push_back(num_episodes());
  count_tokens();
}

const EpisodeIndexEntry& Source::entry(int64_t episode) const {
  const EpisodeRef& ref = episodes_[static_cast<size_t>(episode)];
  return shards_[ref.shard].reader->index()[ref.episode];
}

int64_t Source::step_tokens(const Shard& shard, uint64_t column_step) const {
  int64_t text = 0;
  for (const auto& [group, field] : text_fields_) {
    text += static_cast<int64_t>(shard.tokens->tokens(shard.task, group, field, column_step).size());
  }
  return tokenizer_->step_tokens(text);
}

int64_t Source::length(int64_t episode) const {
  const EpisodeIndexEntry& found = entry(episode);
  if (!tokenizer_->is_document()) return found.num_steps;
  const Shard& shard = shards_[episodes_[static_cast<size_t>(episode)].shard];
  return static_cast<int64_t>(shard.tokens->tokens(shard.task, Group::kAction, 0, found.first_step).size()) + 1;
}

int64_t Source::window_tokens(const Window& window) const {
  if (tokenizer_->is_document()) return window.count;
  if (!tokenizer_->has_text()) return window.count * tokenizer_->fixed_tokens();
  const Shard& shard = shards_[episodes_[static_cast<size_t>(window.episode)].shard];
  const uint64_t first = entry(window.episode).first_step + static_cast<uint64_t>(window.first);
  int64_t tokens = 0;
  for (int64_t step = 0; step < window.count; ++step) tokens += step_tokens(shard, first + static_cast<uint64_t>(step));
  return tokens;
}

void Source::count_tokens() {
  if (tokenizer_->is_document()) {
    for (int64_t e = 0; e < num_episodes(); ++e) total_tokens_ += length(e);
    total_labels_ = std::max<int64_t>(1, total_tokens_ - num_episodes());
    max_step_tokens_ = 1;
    return;
  }
  max_step_tokens_ = tokenizer_->fixed_tokens();
  int64_t steps = 0, action_text = 0;
  for (int64_t e = 0; e < num_episodes(); ++e) {
    const EpisodeIndexEntry& found = entry(e);
    steps += found.num_steps;
    if (text_fields_.empty()) continue;
    const Shard& shard = shards_[episodes_[static_cast<size_t>(e)].shard];
    for (uint64_t step = found.first_step; step < found.first_step + found.num_steps; ++step) {
      const int64_t tokens = step_tokens(shard, step);
      total_tokens_ += tokens;
      max_step_tokens_ = std::max(max_step_tokens_, tokens);
      for (const auto& [group, field] : text_fields_) {
        if (group != Group::kAction) continue;
        action_text += static_cast<int64_t>(shard.tokens->tokens(shard.task, group, field, step).size());
      }
    }
  }
  if (text_fields_.empty()) total_tokens_ = steps * tokenizer_->fixed_tokens();
  total_labels_ = std::max<int64_t>(1, steps * tokenizer_->fixed_action_tokens() + action_text);
}

uint32_t Source::source_agent(int64_t episode) const { return entry(episode).source_agent; }

std::string Source::episode_name(int64_t episode) const {
  const EpisodeRef& ref = episodes_[static_cast<size_t>(episode)];
  return shards_[ref.shard].reader->episode_id(ref.episode);
}

episode::Episode Source::read(int64_t episode, int64_t first_step, int64_t num_steps) const {
  const EpisodeRef& ref = episodes_[static_cast<size_t>(episode)];
  return shards_[ref.shard].reader->read(ref.episode, first_step, num_steps);
}

namespace {

/// Views of the fields of one group at one step; `images` keeps decoded pictures alive.
void view_group(const Source::Shard& shard, const std::vector<episode::FieldSpec>& fields, Group group, uint64_t step,
                std::vector<tokenizer::FieldView>& views, std::vector<episode::Image>& images) {
  views.resize(fields.size());
  for (size_t f = 0; f < fields.size(); ++f) {
    const int field = static_cast<int>(f);
    switch (fields[f].modality) {
      case Modality::kContinuous:
        views[f].continuous = shard.reader->continuous(shard.task, group, field, step, 1);
        break;
      case Modality::kDiscrete:
        views[f].discrete = shard.reader->discrete(shard.task, group, field, step, 1);
        break;
      case Modality::kText:
        // Labels of text actions are the actions themselves: text is never disturbed.
        views[f].text = shard.tokens->tokens(shard.task, group == Group::kLabel ? Group::kAction : group, field, step);
        break;
      case Modality::kImage:
        images.push_back(
            episode::decode_image(shard.reader->encoded_image(shard.task, group, field, step),
                                  cat(shard.reader->path().string(), ", step ", step, ", field ", fields[f].name)));
        views[f].image = &images.back();
        break;
    }
  }
}

}  // namespace

void Source::append(const Window& window, const tokenizer::LossWeights& weights, tokenizer::TokenSequence& out) const {
  const Shard& shard = shards_[episodes_[static_cast<size_t>(window.episode)].shard];
  const EpisodeIndexEntry& found = entry(window.episode);
  if (tokenizer_->is_document()) {
    const auto text = shard.tokens->tokens(shard.task, Group::kAction, 0, found.first_step);
    tokenizer_->append_document(text, window.first, window.count, weights, out);
    return;
  }
  const TaskSpec& task = spec();
  std::vector<tokenizer::FieldView> observation, action, label;
  std::vector<episode::Image> images;
  for (int64_t s = 0; s < window.count; ++s) {
    const uint64_t step = found.first_step + static_cast<uint64_t>(window.first + s);
    images.clear();
    images.reserve(task.observation.size() + task.action.size());  // views point into it
    view_group(shard, task.observation, Group::kObservation, step, observation, images);
    view_group(shard, task.action, Group::kAction, step, action, images);
    if (shard.reader->has_labels(shard.task)) view_group(shard, task.action, Group::kLabel, step, label, images);
    tokenizer_->append_step({observation, action, label}, weights, out);
  }
}

std::vector<Path> find_shards(const DataConfig& config) {
  if (config.datasets.empty()) {
    throw ConfigError(
        "data.datasets names no data set; give folders that `gato-data collect` or `gato-data import` made");
  }
  std::vector<Path> found;
  for (const std::string& name : config.datasets) {
    const Path folder(name);
    std::error_code ignored;
    if (!std::filesystem::exists(folder, ignored)) {
      throw ConfigError(cat("data.datasets: ", name,
                            " does not exist; make it with `gato-data collect --suite demo --out ", name,
                            "` or name another folder"));
    }
    std::vector<Path> folders;
    if (std::filesystem::is_directory(folder)) {
      for (const auto& item : std::filesystem::directory_iterator(folder)) {
        if (item.is_directory()) folders.push_back(item.path());
      }
      std::sort(folders.begin(), folders.end());
    }
    bool any = false;
    folders.insert(folders.begin(), folder);
    for (const Path& inner : folders) {
      std::vector<Path> shards;
      try {
        shards = episode::list_shards(inner);
      } catch (const ConfigError&) {
        continue;  // a folder without shards may hold folders with them
      }
      any = any || !shards.empty();
      found.insert(found.end(), shards.begin(), shards.end());
    }
    if (!any) {
      throw ConfigError(cat("data.datasets: ", name,
                            " holds no shards (*.gato); make them with `gato-data collect --suite demo --out ", name,
                            "`"));
    }
  }
  return found;
}

namespace {

bool has_text(const TaskSpec& spec) {
  const auto is_text = [](const episode::FieldSpec& field) { return field.modality == Modality::kText; };
  return std::any_of(spec.observation.begin(), spec.observation.end(), is_text) ||
         std::any_of(spec.action.begin(), spec.action.end(), is_text);
}

std::shared_ptr<const episode::TokenColumnsReader> open_tokens(const episode::ShardReader& shard,
                                                               const tokenizer::TextTokenizer* text) {
  const Path path = episode::token_columns_path(shard.path());
  const std::string remedy =
      cat("; make it with `gato-data tokenize --tokenizer FILE ", shard.path().parent_path().string(), "`");
  if (text == nullptr) {
    throw ConfigError(cat(shard.path().string(), " holds text, but no text tokenizer was given; set tokenizer.model"));
  }
  if (!std::filesystem::exists(path)) throw DataError(cat(path.string(), " is missing", remedy));
  auto reader = std::make_shared<const episode::TokenColumnsReader>(path);
  if (reader->tokenizer_digest() != text->digest()) {
    throw DataError(cat(path.string(), " was made by another text tokenizer (", reader->tokenizer_digest(), ", not ",
                        text->digest(), ")", remedy));
  }
  if (reader->shard_fingerprint() != shard.fingerprint()) {
    throw DataError(cat(path.string(), " belongs to another version of its shard", remedy));
  }
  return reader;
}

}  // namespace

std::vector<std::shared_ptr<const Source>> open_sources(const DataConfig& config,
                                                        const tokenizer::Vocabulary& vocabulary,
                                                        const tokenizer::TextTokenizer* text, Split split) {
  return open_sources(find_shards(config), config, vocabulary, text, split);
}

std::vector<std::shared_ptr<const Source>> open_sources(const std::vector<Path>& paths, const DataConfig& config,
                                                        const tokenizer::Vocabulary& vocabulary,
                                                        const tokenizer::TextTokenizer* text, Split split) {
  std::vector<std::shared_ptr<const episode::ShardReader>> readers(paths.size());
  std::vector<std::shared_ptr<const episode::TokenColumnsReader>> tokens(paths.size());
  parallel_for(static_cast<int64_t>(paths.size()), [&](int64_t i) {
    const auto s = static_cast<size_t>(i);
    readers[s] = std::make_shared<const episode::ShardReader>(paths[s]);
    const auto& tasks = readers[s]->tasks();
    if (std::any_of(tasks.begin(), tasks.end(), has_text)) tokens[s] = open_tokens(*readers[s], text);
  });
  // One source per (data set, task), in the order of their names: independent of the order of folders.
  std::map<std::pair<std::string, std::string>, std::vector<Source::Shard>> groups;
  for (size_t s = 0; s < readers.size(); ++s) {
    const auto& tasks = readers[s]->tasks();
    for (size_t t = 0; t < tasks.size(); ++t) {
      auto& shards = groups[{readers[s]->info().name, tasks[t].id}];
      if (!shards.empty()) {
        const TaskSpec& first = shards[0].reader->tasks()[static_cast<size_t>(shards[0].task)];
        if (first.observation != tasks[t].observation || first.action != tasks[t].action) {
          throw DataError(cat(readers[s]->path().string(), ": task ", tasks[t].id, " has other fields than in ",
                              shards[0].reader->path().string(), "; give one of the two data sets another name"));
        }
      }
      shards.push_back({readers[s], has_text(tasks[t]) ? tokens[s] : nullptr, static_cast<int>(t)});
    }
  }
  std::vector<std::shared_ptr<const Source>> sources;
  for (auto& [key, shards] : groups) {
    auto source =
        std::make_shared<const Source>(key.first, std::move(shards), vocabulary, text, split, config.validation_share);
    if (source->num_episodes() > 0) sources.push_back(std::move(source));
  }
  return sources;
}

}  // namespace gato::data
