#include "phases.h"

#include <algorithm>
#include <cmath>

#include "block_plan.h"
#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {
namespace {

constexpr size_t kSampledItems = 1 << 17;  // of all sources together, from which the mean length of prompts is measured
constexpr int64_t kTrialBlocks = 12;       // on which the fill is judged
constexpr double kMostDropped = 0.007;     // of the tokens, in the trial blocks

bool same_shards(const Source& a, const Source& b) {
  if (&a == &b) return true;
  if (a.num_shards() != b.num_shards() || a.num_episodes() != b.num_episodes()) return false;
  for (int64_t s = 0; s < a.num_shards(); ++s) {
    if (a.first_episode_of_shard(s) != b.first_episode_of_shard(s) ||
        a.shard(s).reader->fingerprint() != b.shard(s).reader->fingerprint()) {
      return false;
    }
  }
  return true;
}

/// The weight of a task inside an entry.
double weight_within(const MixtureEntry& entry, const std::string& task) {
  double weight = 1;
  for (const TaskShare& share : entry.within) {
    if (matches_pattern(share.tasks, task)) weight = share.share;
  }
  return weight;
}

std::string task_list(const std::vector<std::shared_ptr<const Source>>& all, const std::vector<int32_t>& used) {
  std::vector<std::string> ids;
  for (const int32_t s : used) ids.push_back(all[static_cast<size_t>(s)]->spec().id);
  return join(ids, ", ");
}

}  // namespace

const SourcePlan& Phase::plan_of(int32_t source) const {
  const int index = plan_of_source.at(static_cast<size_t>(source));
  GATO_CHECK(index >= 0, "source ", source, " is not used in this phase of the schedule");
  return sources[static_cast<size_t>(index)];
}

Phase PhaseBuilder::build(size_t index, const std::vector<int32_t>& used, const Phase* before) {
  Phase phase;
  phase.first_block = (config_.schedule[index].first_row + kBlockRows - 1) / kBlockRows;
  phase.plan_of_source.assign(all_.size(), -1);
  if (before != nullptr) count_items(*before, phase.first_block);
  assign_shares(phase, index, used);
  if (phase.sources.empty()) {
    if (allow_missing_) return phase;
    throw ConfigError(cat("data.schedule.[", index, "].mixture selects no data: every share is 0 or no task matches"));
  }
  for (SourcePlan& plan : phase.sources) {
    cut(plan);
    if (plan.prompts) measure_prompts(plan, phase.sources.size());
  }
  fit_fill(phase);
  for (int pass = 0; pass < 2; ++pass) {
    correct_rates(phase);
    fit_fill(phase);
  }
  return phase;
}

/// The entry that each source belongs to. Patterns without data are an error, or go on the phase's list.
PhaseBuilder::Owners PhaseBuilder::find_owners(Phase& phase, size_t index, const std::vector<int32_t>& used) const {
  const MixturePhase& mixture = config_.schedule[index];
  const bool allow_missing = allow_missing_ || mixture.allow_missing;
  Owners owner;
  for (size_t e = 0; e < mixture.mixture.size(); ++e) {
    std::vector<std::string> patterns = {mixture.mixture[e].tasks};
    for (const TaskShare& share : mixture.mixture[e].within) patterns.push_back(share.tasks);
    for (size_t p = 0; p < patterns.size(); ++p) {
      bool any = false;
      for (const int32_t s : used) {
        const std::string& task = all_[static_cast<size_t>(s)]->spec().id;
        if (!matches_pattern(patterns[0], task) || !matches_pattern(patterns[p], task)) continue;
        any = true;
        if (p == 0) owner[s] = e;
      }
      if (any) continue;
      if (!allow_missing) {
        const std::string place = p == 0 ? "tasks" : cat("within.[", p - 1, "].tasks");
        throw ConfigError(cat("data.schedule.[", index, "].mixture.[", e, "].", place, ": ", patterns[p],
                              " matches none of the tasks in the data sets: ", task_list(all_, used),
                              "; correct the pattern, add the data, or set allow_missing: true in this phase"));
      }
      phase.missing.push_back(patterns[p]);
      if (p == 0) break;  // without tasks, the entry's other patterns have none either
    }
  }
  return owner;
}

/// Which sources the phase uses, and their shares: by entry, then by task, then by data set.
void PhaseBuilder::assign_shares(Phase& phase, size_t index, const std::vector<int32_t>& used) const {
  const MixturePhase& mixture = config_.schedule[index];
  const Owners owner = find_owners(phase, index, used);
  double total = 0;
  for (size_t e = 0; e < mixture.mixture.size(); ++e) {
    const MixtureEntry& entry = mixture.mixture[e];
    std::map<std::string, double> tokens_of_task;
    for (const auto& [s, of] : owner) {
      const Source& source = *all_[static_cast<size_t>(s)];
      if (of != e || weight_within(entry, source.spec().id) <= 0) continue;
      tokens_of_task[source.spec().id] += static_cast<double>(source.total_tokens());
    }
    if (tokens_of_task.empty() || entry.share <= 0) continue;
    double weights = 0;
    for (const auto& [task, tokens] : tokens_of_task) weights += weight_within(entry, task);
    total += entry.share;
    for (const auto& [s, of] : owner) {
      const Source& source = *all_[static_cast<size_t>(s)];
      const auto tokens = of == e ? tokens_of_task.find(source.spec().id) : tokens_of_task.end();
      if (tokens == tokens_of_task.end()) continue;
      SourcePlan& plan = phase.sources.emplace_back();
      plan.source = s;
      plan.data = &source;
      plan.entry = &entry;
      plan.share = entry.share * weight_within(entry, source.spec().id) / weights *
                   static_cast<double>(source.total_tokens()) / tokens->second;
      phase.plan_of_source[static_cast<size_t>(s)] = static_cast<int>(phase.sources.size()) - 1;
    }
  }
  for (SourcePlan& plan : phase.sources) plan.share /= total;
}

/// Window lengths in steps, cut down to what a row holds beside the longest prompt.
PhaseBuilder::Cutting PhaseBuilder::cutting_of(const SourcePlan& plan) const {
  const Source& source = *plan.data;
  const MixtureEntry& entry = *plan.entry;
  const int64_t room = config_.row_tokens - plan.prompt_tokens;
  const int64_t most = room / source.max_step_tokens();
  if (most < 1) {
    throw ConfigError(cat("task ", source.spec().id, ": its longest step takes ", source.max_step_tokens(),
                          " tokens, but a row leaves ", room, "; raise data.row_tokens",
                          plan.prompt_tokens > 0 ? " or lower data.prompt_tokens_share" : ""));
  }
  if (entry.steps.row || source.tokenizer().is_document()) {
    if (entry.group > 1) {
      throw ConfigError(cat("task ", source.spec().id, ": group: ", entry.group,
                            " joins windows of steps, but a document has none; give its tasks an entry without group"));
    }
    return {0, 0, 1};
  }
  return {std::min(entry.steps.low, most), std::min(entry.steps.high, most), entry.group};
}

void PhaseBuilder::cut(SourcePlan& plan) {
  const Source& source = *plan.data;
  const MixtureEntry& entry = *plan.entry;
  plan.key = mix_seed(seed_, {hash_name(source.id())});
  if (entry.prompt_probability > 0 && !source.spec().observation.empty() && source.num_episodes() > 1) {
    auto& index = prompt_indexes_[&source];
    if (!index) index = std::make_shared<const PromptIndex>(source);
    plan.prompts = index;
    plan.prompt_rate = entry.prompt_probability;
    plan.prompt_tokens = static_cast<int64_t>(config_.prompt_tokens_share * static_cast<double>(config_.row_tokens));
    if (!entry.prompt_steps.row) {
      plan.prompt_tokens = std::min(plan.prompt_tokens, entry.prompt_steps.high * source.max_step_tokens());
    }
  }
  const Cutting cutting = cutting_of(plan);
  auto& table = tables_[{&source, {cutting.low, cutting.high}}];
  if (!table) {
    table = std::make_shared<const WindowTable>(
        cutting.high == 0 ? WindowTable::stretches(source, config_.row_tokens, least_piece_tokens(config_.row_tokens))
                          : WindowTable::windows(source, cutting.low, cutting.high));
  }
  plan.windows = table;
  const auto group = static_cast<uint64_t>(cutting.group);
  plan.items_per_epoch = (table->size() + group - 1) / group;
  plan.tokens_per_item = static_cast<double>(source.total_tokens()) / static_cast<double>(plan.items_per_epoch);
  plan.label_weight = entry.loss_weight *
                      std::pow(static_cast<double>(source.total_tokens()) / static_cast<double>(source.total_labels()),
                               config_.label_weight_power);
  place_in_epochs(plan, cutting);
}

/// Goes on where the source stands when the same shards are cut in the same way; otherwise its next epoch begins.
void PhaseBuilder::place_in_epochs(SourcePlan& plan, const Cutting& cutting) {
  const auto [found, is_new] = progress_.try_emplace(plan.data->id());
  Progress& progress = found->second;
  if (!is_new) {
    if (progress.cutting == cutting && same_shards(*progress.data, *plan.data)) {
      plan.first_epoch = progress.first_epoch + progress.next_item / plan.items_per_epoch;
      plan.first_item = progress.next_item % plan.items_per_epoch;
    } else {
      plan.first_epoch =
          progress.first_epoch + (progress.next_item + progress.items_per_epoch - 1) / progress.items_per_epoch;
    }
  }
  progress = {plan.data, cutting, plan.first_epoch, plan.first_item, plan.items_per_epoch};
}

/// Moves the sources of a finished phase on by what it drew.
void PhaseBuilder::count_items(const Phase& before, int64_t end_block) {
  if (!before.items) return;
  const std::vector<uint64_t> drawn = before.items->before(std::max<int64_t>(0, end_block - before.first_block));
  for (size_t i = 0; i < before.sources.size(); ++i) {
    progress_.at(before.sources[i].data->id()).next_item = before.sources[i].first_item + drawn[i];
  }
}

/// The mean length of prompts, and how many sequences get one, have no closed form.
void PhaseBuilder::measure_prompts(SourcePlan& plan, size_t num_sources) const {
  std::vector<PlannedSequence> sample;
  const uint64_t items = std::clamp<uint64_t>(kSampledItems / num_sources, 256, 4096);
  const EpochOrders orders(config_.shuffle_shards);
  draw_sequences(config_, orders, plan, 0, items, mix_seed(plan.key, {12}), sample);
  double tokens = 0, prompts = 0;
  for (const PlannedSequence& sequence : sample) {
    if (!sequence.has_prompt) continue;
    prompts += 1;
    tokens += static_cast<double>(plan.data->window_tokens(sequence.prompt));
  }
  if (plan.prompt_share == 0) plan.prompt_share = prompts / std::max(1.0, static_cast<double>(sample.size()));
  plan.tokens_per_item += tokens / static_cast<double>(items) - plan.prompt_tokens_per_item;
  plan.prompt_tokens_per_item = tokens / static_cast<double>(items);
}

/// Holds what comes out of packing against what was asked, and corrects the rates: sequences that are cut to fill rows
/// become several, of which one keeps the prompt; prompts are shortened in crowded blocks; what is dropped is not the
/// same share of every source.
void PhaseBuilder::correct_rates(Phase& phase) const {
  const EpochOrders orders(config_.shuffle_shards);
  std::vector<double> tokens(phase.sources.size()), sequences(tokens.size()), prompts(tokens.size());
  double all = 0;
  for (int64_t b = 0; b < 2 * kTrialBlocks; ++b) {
    for (const PlannedRow& row : plan_block(config_, seed_, orders, phase, phase.first_block + b).rows) {
      for (const PlannedSequence& sequence : row.sequences) {
        const auto s = static_cast<size_t>(phase.plan_of_source[static_cast<size_t>(sequence.source)]);
        tokens[s] += sequence.tokens;
        all += sequence.tokens;
        sequences[s] += 1;
        prompts[s] += sequence.has_prompt ? 1 : 0;
      }
    }
  }
  for (size_t s = 0; s < phase.sources.size(); ++s) {
    SourcePlan& plan = phase.sources[s];
    if (prompts[s] > 0 && plan.windows->are_stretches()) {
      plan.prompt_rate = std::min(1.0, plan.prompt_rate * plan.prompt_share * sequences[s] / prompts[s]);
      measure_prompts(plan, phase.sources.size());
    }
    // Small shares are too rare in these blocks to be judged.
    if (sequences[s] < 200) continue;
    plan.tokens_per_item *= std::clamp(tokens[s] / all / plan.share, 0.95, 1.05);
  }
}

void PhaseBuilder::set_rates(Phase& phase, double fill) const {
  const double capacity = static_cast<double>(kBlockRows * config_.row_tokens);
  std::vector<ItemSchedule::Rate> rates;
  for (const SourcePlan& plan : phase.sources) {
    rates.push_back({fill * capacity * plan.share / plan.tokens_per_item, plan.tokens_per_item, plan.key});
  }
  phase.fill = fill;
  phase.items = std::make_unique<ItemSchedule>(std::move(rates));
}

/// Asks for as much as keeps what fits no row well below one percent, judged on the first blocks.
void PhaseBuilder::fit_fill(Phase& phase) const {
  const EpochOrders orders(config_.shuffle_shards);
  for (const double fill :
       {0.9975, 0.995, 0.9925, 0.99, 0.9875, 0.985, 0.98, 0.97, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5}) {
    set_rates(phase, fill);
    double planned = 0, dropped = 0;
    for (int64_t block = 0; block < kTrialBlocks; ++block) {
      const PlannedBlock trial = plan_block(config_, seed_, orders, phase, phase.first_block + block);
      planned += static_cast<double>(trial.planned_tokens);
      dropped += static_cast<double>(trial.dropped_tokens);
    }
    if (dropped <= kMostDropped * planned) return;
  }
}

}  // namespace gato::data
