#include "gato/data/source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/threads.h"
#include "gato/episode/resident.h"

namespace gato::data {

using episode::EpisodeIndexEntry;
using episode::Group;
using episode::Modality;
using episode::TaskSpec;

Source::Source(std::string dataset, std::vector<Shard> shards, const tokenizer::Vocabulary& vocabulary,
               const tokenizer::TextTokenizer* text, Split split, double validation_share,
               const std::vector<std::vector<bool>>* keep)
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
    add_episodes(s, split, validation_share, keep == nullptr ? nullptr : &(*keep)[s]);
  }
  shard_begin_.push_back(num_episodes());
  count_tokens();
}

void Source::add_episodes(size_t shard, Split split, double validation_share, const std::vector<bool>* keep) {
  const auto index = shards_[shard].reader->index();
  GATO_CHECK(keep == nullptr || keep->size() == index.size(), "a filter of ", keep == nullptr ? 0 : keep->size(),
             " episodes for ", index.size());
  for (size_t e = 0; e < index.size(); ++e) {
    if (static_cast<int>(index[e].task) != shards_[shard].task || index[e].num_steps == 0) continue;
    if (keep != nullptr && !(*keep)[e]) continue;
    const bool validation = episode::in_validation(index[e].split_hash, validation_share);
    if (validation != (split == Split::kValidation)) continue;
    episodes_.push_back({static_cast<uint32_t>(shard), static_cast<uint32_t>(e)});
    lengths_.push_back(index[e].num_steps);
  }
}

const EpisodeIndexEntry& Source::entry(int64_t episode) const {
  const EpisodeRef& ref = episodes_[static_cast<size_t>(episode)];
  return shards_[ref.shard].reader->index()[ref.episode];
}

int64_t Source::text_tokens(const Shard& shard, uint64_t first_step, uint64_t steps) const {
  uint64_t tokens = 0;
  for (const auto& [group, field] : text_fields_) {
    const auto ends = shard.tokens->offsets(shard.task, group, field, first_step, steps);
    tokens += ends.back() - ends.front();
  }
  return static_cast<int64_t>(tokens);
}

int64_t Source::window_tokens(const Window& window) const {
  if (tokenizer_->is_document()) return window.count;
  const int64_t fixed = window.count * tokenizer_->fixed_tokens();
  if (text_fields_.empty()) return fixed;
  const Shard& shard = shards_[episodes_[static_cast<size_t>(window.episode)].shard];
  const uint64_t first = entry(window.episode).first_step + static_cast<uint64_t>(window.first);
  return fixed + text_tokens(shard, first, static_cast<uint64_t>(window.count));
}

void Source::count_tokens() {
  if (tokenizer_->is_document()) return count_documents();
  max_step_tokens_ = tokenizer_->fixed_tokens();
  int64_t steps = 0;
  for (const uint32_t length : lengths_) steps += length;
  total_tokens_ = steps * tokenizer_->fixed_tokens();
  total_labels_ = steps * tokenizer_->fixed_action_tokens();
  if (!text_fields_.empty()) count_text_steps();
  total_labels_ = std::max<int64_t>(1, total_labels_);
}

/// A document's length is its tokens with the `</s>`; all but its first can be predicted.
void Source::count_documents() {
  max_step_tokens_ = 1;
  for (size_t e = 0; e < episodes_.size(); ++e) {
    const Shard& shard = shards_[episodes_[e].shard];
    const int64_t length = text_tokens(shard, entry(static_cast<int64_t>(e)).first_step, 1) + 1;
    if (length > INT32_MAX) {
      throw DataError(cat(shard.reader->path().string(), ": document ", episode_name(static_cast<int64_t>(e)), " has ",
                          length, " tokens, more than 2^31 - 1; cut it into several"));
    }
    lengths_[e] = static_cast<uint32_t>(length);
    total_tokens_ += length;
  }
  total_labels_ = std::max<int64_t>(1, total_tokens_ - num_episodes());
}

void Source::count_text_steps() {
  std::vector<std::span<const uint64_t>> ends(text_fields_.size());
  for (int64_t e = 0; e < num_episodes(); ++e) {
    const EpisodeIndexEntry& found = entry(e);
    const Shard& shard = shards_[episodes_[static_cast<size_t>(e)].shard];
    for (size_t f = 0; f < ends.size(); ++f) {
      const auto& [group, field] = text_fields_[f];
      ends[f] = shard.tokens->offsets(shard.task, group, field, found.first_step, found.num_steps);
      const auto tokens = static_cast<int64_t>(ends[f].back() - ends[f].front());
      total_tokens_ += tokens;
      if (group == Group::kAction) total_labels_ += tokens;
    }
    for (size_t step = 0; step < found.num_steps; ++step) {
      uint64_t tokens = 0;
      for (const auto& of_field : ends) tokens += of_field[step + 1] - of_field[step];
      max_step_tokens_ = std::max(max_step_tokens_, tokenizer_->step_tokens(static_cast<int64_t>(tokens)));
    }
  }
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

Source::Place Source::place(int64_t episode) const {
  const EpisodeRef& ref = episodes_[static_cast<size_t>(episode)];
  return {&shards_[ref.shard], ref.episode};
}

void StageSeconds::add(const StageSeconds& other) {
  plan += other.plan;
  read += other.read;
  decode += other.decode;
  pack += other.pack;
}

namespace {

/// Adds the time since it was made, or since the last lap, to a sum; without a sum to add to it costs nothing.
class StageTimer {
 public:
  using Clock = std::chrono::steady_clock;
  explicit StageTimer(StageSeconds* seconds) : seconds_(seconds) {
    if (seconds_ != nullptr) last_ = Clock::now();
  }
  void lap(double StageSeconds::*stage) {
    if (seconds_ == nullptr) return;
    const auto now = Clock::now();
    seconds_->*stage += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  StageSeconds* seconds_;
  Clock::time_point last_;
};

/// The buffers of Source::append, kept by each thread: windows are often a single step.
struct WindowBuffers {
  std::vector<tokenizer::FieldSpan> observation, action, label;
  std::deque<std::vector<episode::Image>> images;  // Spans point into it.
};

/// Spans of the fields of one group over consecutive steps of a shard's columns; images are decoded.
void span_group(const Source::Shard& shard, const std::vector<episode::FieldSpec>& fields, Group group, uint64_t first,
                uint64_t steps, std::vector<tokenizer::FieldSpan>& spans, WindowBuffers& buffers, StageTimer& timer) {
  spans.assign(fields.size(), {});
  for (size_t f = 0; f < fields.size(); ++f) {
    const int field = static_cast<int>(f);
    switch (fields[f].modality) {
      case Modality::kContinuous:
        spans[f].continuous = shard.reader->continuous(shard.task, group, field, first, steps);
        break;
      case Modality::kDiscrete:
        spans[f].discrete = shard.reader->discrete(shard.task, group, field, first, steps);
        break;
      case Modality::kText: {
        // Labels of text actions are the actions themselves: text is never disturbed.
        const auto run =
            shard.tokens->run(shard.task, group == Group::kLabel ? Group::kAction : group, field, first, steps);
        spans[f].text = run.tokens;
        spans[f].text_ends = run.ends;
        break;
      }
      case Modality::kImage: {
        timer.lap(&StageSeconds::read);
        std::vector<episode::Image>& images = buffers.images.emplace_back();
        for (uint64_t s = 0; s < steps; ++s) {
          images.push_back(shard.reader->image(shard.task, group, field, first + s));
        }
        spans[f].images = images;
        timer.lap(&StageSeconds::decode);
        break;
      }
    }
  }
}

}  // namespace

void Source::append(const Window& window, const tokenizer::LossWeights& weights, tokenizer::TokenSequence& out,
                    StageSeconds* seconds) const {
  StageTimer timer(seconds);
  const Shard& shard = shards_[episodes_[static_cast<size_t>(window.episode)].shard];
  const EpisodeIndexEntry& found = entry(window.episode);
  if (tokenizer_->is_document()) {
    const auto text = shard.tokens->tokens(shard.task, Group::kAction, 0, found.first_step);
    timer.lap(&StageSeconds::read);
    tokenizer_->append_document(text, window.first, window.count, weights, out);
    return timer.lap(&StageSeconds::pack);
  }
  thread_local WindowBuffers buffers;
  const TaskSpec& task = spec();
  const uint64_t first = found.first_step + static_cast<uint64_t>(window.first);
  const auto steps = static_cast<uint64_t>(window.count);
  buffers.label.clear();
  buffers.images.clear();
  span_group(shard, task.observation, Group::kObservation, first, steps, buffers.observation, buffers, timer);
  span_group(shard, task.action, Group::kAction, first, steps, buffers.action, buffers, timer);
  if (shard.reader->has_labels(shard.task)) {
    span_group(shard, task.action, Group::kLabel, first, steps, buffers.label, buffers, timer);
  }
  timer.lap(&StageSeconds::read);
  tokenizer_->append_steps({window.count, buffers.observation, buffers.action, buffers.label}, weights, out);
  buffers.images.clear();
  timer.lap(&StageSeconds::pack);
}

std::vector<Path> find_shards(const DataConfig& config) {
  if (config.datasets.empty()) {
    throw ConfigError(
        "data.datasets names no data set; give folders that `gato-data collect` or `gato-data import` made");
  }
  std::vector<Path> found;
  std::set<Path> known;  // where folders overlap, a shard still counts once: its episodes must not come twice an epoch
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
      for (Path& shard : shards) {
        Path place = std::filesystem::canonical(shard, ignored);
        if (known.insert(place.empty() ? shard : std::move(place)).second) found.push_back(std::move(shard));
      }
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

/// The readers of some shards, as sources: one per (data set, task).
struct OpenedShards {
  std::map<std::pair<std::string, std::string>, std::vector<Source::Shard>> groups;
  int64_t num_episodes = 0;
};

/// What the system could not read is tried again: network disks come back.
template <class Function>
auto with_retries(const Function& function) {
  constexpr std::array<int, 3> kMilliseconds = {100, 300, 1000};
  for (size_t attempt = 0;; ++attempt) {
    try {
      return function();
    } catch (const IoError& error) {
      const int number = error.error_number();
      if (attempt == kMilliseconds.size() || number == ENOENT || number == EACCES) throw;
      log::warning("data", error.what(), "; trying again");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kMilliseconds[attempt]));
  }
}

OpenedShards group_shards(const ShardReaders& readers, const tokenizer::TextTokenizer* text) {
  std::vector<std::shared_ptr<const episode::TokenColumnsReader>> tokens(readers.size());
  parallel_for(static_cast<int64_t>(readers.size()), [&](int64_t i) {
    const auto s = static_cast<size_t>(i);
    const auto& tasks = readers[s]->tasks();
    if (std::any_of(tasks.begin(), tasks.end(), has_text)) {
      tokens[s] = with_retries([&] { return open_tokens(*readers[s], text); });
    }
  });
  // In the order of names: independent of the order of folders.
  OpenedShards opened;
  for (size_t s = 0; s < readers.size(); ++s) {
    opened.num_episodes += static_cast<int64_t>(readers[s]->index().size());
    const auto& tasks = readers[s]->tasks();
    for (size_t t = 0; t < tasks.size(); ++t) {
      auto& shards = opened.groups[{readers[s]->info().name, tasks[t].id}];
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
  return opened;
}

}  // namespace

ShardReaders open_readers(const std::vector<Path>& paths) {
  ShardReaders readers(paths.size());
  parallel_for(static_cast<int64_t>(paths.size()), [&](int64_t i) {
    const auto s = static_cast<size_t>(i);
    readers[s] = with_retries([&] { return std::make_shared<const episode::ShardReader>(paths[s]); });
  });
  return readers;
}

OpenedSources open_splits(const std::vector<Path>& paths, const DataConfig& config,
                          const tokenizer::Vocabulary& vocabulary, const tokenizer::TextTokenizer* text) {
  return open_splits(open_readers(paths), config, vocabulary, text);
}

OpenedSources open_splits(const ShardReaders& readers, const DataConfig& config,
                          const tokenizer::Vocabulary& vocabulary, const tokenizer::TextTokenizer* text) {
  episode::set_resident_cap(static_cast<uint64_t>(config.cache_mib) << 20);
  const OpenedShards shards = group_shards(readers, text);
  OpenedSources opened;
  opened.num_episodes = shards.num_episodes;
  for (const auto& [key, of_source] : shards.groups) {
    const auto& [dataset, task] = key;
    std::optional<FilteredEpisodes> filtered;
    if (const FilterEntry* filter = filter_of(config.filters, task)) {
      std::vector<TaskShard> task_shards;
      for (const Source::Shard& shard : of_source) task_shards.push_back({shard.reader, shard.task});
      filtered = filter_episodes(*filter, dataset + ":" + task, task_shards);
      opened.filters.push_back(filtered->report);
    }
    for (const Split split : {Split::kTraining, Split::kValidation}) {
      auto source = std::make_shared<const Source>(dataset, of_source, vocabulary, text, split, config.validation_share,
                                                   filtered ? &filtered->keep : nullptr);
      auto& side = split == Split::kTraining ? opened.training : opened.validation;
      if (source->num_episodes() > 0) side.push_back(std::move(source));
    }
  }
  return opened;
}

std::vector<std::shared_ptr<const Source>> open_sources(const std::vector<Path>& paths, const DataConfig& config,
                                                        const tokenizer::Vocabulary& vocabulary,
                                                        const tokenizer::TextTokenizer* text, Split split) {
  OpenedSources opened = open_splits(paths, config, vocabulary, text);
  return split == Split::kTraining ? std::move(opened.training) : std::move(opened.validation);
}

std::vector<std::shared_ptr<const Source>> open_sources(const DataConfig& config,
                                                        const tokenizer::Vocabulary& vocabulary,
                                                        const tokenizer::TextTokenizer* text, Split split) {
  return open_sources(find_shards(config), config, vocabulary, text, split);
}

}  // namespace gato::data
