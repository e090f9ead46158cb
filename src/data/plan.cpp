#include "gato/data/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {

// ---------------------------------------------------------------------------------------------- windows of one episode

int64_t num_windows(int64_t length, int64_t low, int64_t high) {
  if (high == 1) return length;
  if (low == high) {
    const int64_t needed = (length + high - 1) / high;
    // One window more where the length is a multiple, so that the cuts can move from epoch to epoch.
    return needed + (length % high == 0 && length > high ? 1 : 0);
  }
  const int64_t fewest = (length + high - 1) / high;
  const int64_t most = std::max<int64_t>(1, length / low);
  const int64_t wanted = (2 * length + (low + high) / 2) / (low + high);
  return std::max(fewest, std::min(wanted, most));
}

std::pair<int64_t, int64_t> window_at(int64_t length, int64_t low, int64_t high, uint64_t key, int64_t index) {
  const int64_t n = num_windows(length, low, high);
  GATO_DCHECK(index >= 0 && index < n, "window ", index, " of ", n);
  if (high == 1) return {index, 1};
  if (n == 1) return {0, length};
  Rng rng(key);
  if (low == high) {
    // n windows of `high` steps are `slack` too long: the first gives up r steps, the last the rest.
    const int64_t slack = n * high - length;
    const int64_t r_low = std::max<int64_t>(0, slack - high + 1), r_high = std::min(high - 1, slack);
    const int64_t first = high - (r_low + rng.below(r_high - r_low + 1));
    if (index == 0) return {0, first};
    const int64_t begin = first + (index - 1) * high;
    return {begin, std::min(high, length - begin)};
  }
  int64_t begin = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t left = length - begin, after = n - 1 - i;
    const int64_t shortest = std::max(std::min(low, left), left - after * high);
    const int64_t longest = std::max(shortest, std::min(high, left - after * low));
    const int64_t count = after == 0 ? left : shortest + rng.below(longest - shortest + 1);
    if (i == index) return {begin, count};
    begin += count;
  }
  return {begin, length - begin};
}

// ------------------------------------------------------------------------------------------------------------ sources

namespace {

constexpr size_t kCachedBlocks = 8;

/// The windows of one source under one window setting, numbered through an epoch in shard order.
struct WindowTable {
  int64_t low = 1, high = 1;
  std::vector<uint64_t> begin;  // episodes + 1: number of the first window of each episode
  [[nodiscard]] uint64_t size() const { return begin.back(); }
};

struct SourcePlan {
  int32_t source = 0;
  const MixtureEntry* entry = nullptr;
  std::shared_ptr<const WindowTable> windows;
  double share = 0;            // of tokens, in [0, 1]
  double tokens_per_item = 0;  // with prompts
  double items_per_block = 0;
  double label_weight = 1;
  int64_t prompt_tokens = 0;  // budget; 0: no prompts
  uint64_t key = 0;
};

struct Phase {
  int64_t first_block = 0;
  std::vector<SourcePlan> sources;
  std::vector<int> plan_of_source;  // index into `sources`, or -1
};

/// The order of one epoch of a source: shards shuffled, then windows shuffled inside groups of neighbouring shards, so
/// that reading stays inside a group.
class EpochOrder {
 public:
  EpochOrder(const Source& source, const WindowTable& windows, int64_t shuffle_shards, uint64_t key) : key_(key) {
    std::vector<int64_t> shards(static_cast<size_t>(source.num_shards()));
    std::iota(shards.begin(), shards.end(), int64_t{0});
    Rng rng(mix_seed(key, {1}));
    rng.shuffle(shards);
    uint64_t total = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
      if (i % static_cast<size_t>(shuffle_shards) == 0) group_begin_.push_back(total);
      const auto first = static_cast<size_t>(source.first_episode_of_shard(shards[i]));
      const auto end = static_cast<size_t>(source.first_episode_of_shard(shards[i] + 1));
      spans_.push_back({total, windows.begin[first]});
      total += windows.begin[end] - windows.begin[first];
    }
    group_begin_.push_back(total);
  }

  /// The number in the window table of item `position` of this epoch.
  [[nodiscard]] uint64_t window_number(uint64_t position) const {
    const auto after = std::upper_bound(group_begin_.begin(), group_begin_.end(), position);
    const auto group = static_cast<uint64_t>(after - group_begin_.begin() - 1);
    const uint64_t begin = group_begin_[group], size = *after - begin;
    const KeyedPermutation permutation(size, mix_seed(key_, {2, group}));
    const uint64_t shuffled = begin + permutation(position - begin);
    const auto span = std::prev(std::upper_bound(spans_.begin(), spans_.end(), shuffled,
                                                 [](uint64_t value, const Span& s) { return value < s.begin; }));
    return span->first_window + (shuffled - span->begin);
  }

 private:
  struct Span {
    uint64_t begin;         // position in the epoch before shuffling
    uint64_t first_window;  // its number in the window table
  };
  uint64_t key_;
  std::vector<uint64_t> group_begin_;
  std::vector<Span> spans_;
};

/// Drops items at random (by their keys) until what is left can fill the rows: packing alone would always drop the
/// shortest. Returns the tokens dropped.
int64_t drop_surplus(std::vector<PlannedSequence>& items, int64_t capacity) {
  if (items.empty()) return 0;
  std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  int64_t shortest = items[0].tokens, total = 0;
  for (const PlannedSequence& item : items) shortest = std::min<int64_t>(shortest, item.tokens);
  const int64_t limit = capacity - kBlockRows * (shortest - 1) / 2;  // half of what packing leaves empty at worst
  size_t kept = 0;
  int64_t dropped = 0;
  for (const PlannedSequence& item : items) {
    if (total + item.tokens > limit) {
      dropped += item.tokens;
      continue;
    }
    total += item.tokens;
    items[kept++] = item;
  }
  items.resize(kept);
  return dropped;
}

/// Puts items into rows, longest first: into the emptiest row while rows are far from full, so that every row gets its
/// part of every kind of item, then into the fullest row that has room, so that little room is left over. Returns the
/// tokens that fitted nowhere.
int64_t pack_rows(const std::vector<PlannedSequence>& items, int64_t row_tokens, std::vector<PlannedRow>& rows) {
  constexpr double kSpreadUntil = 0.85;  // of all tokens
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (items[a].tokens != items[b].tokens) return items[a].tokens > items[b].tokens;
    return items[a].key < items[b].key;
  });
  const auto spread = static_cast<int64_t>(kSpreadUntil * static_cast<double>(kBlockRows * row_tokens));
  std::vector<int64_t> free(rows.size(), row_tokens);
  int64_t placed = 0, dropped = 0;
  for (const size_t i : order) {
    const int64_t tokens = items[i].tokens;
    auto row = std::max_element(free.begin(), free.end());
    if (*row < tokens) {
      dropped += tokens;
      continue;
    }
    if (placed > spread) {
      for (auto other = free.begin(); other != free.end(); ++other) {
        if (*other >= tokens && *other < *row) row = other;
      }
    }
    *row -= tokens;
    placed += tokens;
    rows[static_cast<size_t>(row - free.begin())].sequences.push_back(items[i]);
  }
  return dropped;
}

}  // namespace

struct RowPlan::State {
  DataConfig config;
  std::vector<std::shared_ptr<const Source>> sources;
  uint64_t seed = 0;
  std::vector<Phase> phases;
  mutable std::mutex mutex;
  struct CachedBlock {
    std::shared_ptr<const PlannedBlock> block;
    uint64_t last_use = 0;
  };
  mutable std::map<int64_t, CachedBlock> cache;
  mutable uint64_t clock = 0;

  [[nodiscard]] const Phase& phase_of_block(int64_t block) const {
    size_t i = phases.size() - 1;
    while (i > 0 && phases[i].first_block > block) --i;
    return phases[i];
  }
  void add_phase(size_t index, bool allow_missing);
  [[nodiscard]] std::shared_ptr<const WindowTable> window_table(const Source& source, const MixtureEntry& entry,
                                                                int64_t prompt_tokens) const;
  void draw_prompt(const Source& source, const SourcePlan& plan, PlannedSequence& sequence) const;
  void draw_items(const Phase& phase, const SourcePlan& plan, int64_t block, std::vector<PlannedSequence>& out) const;
  [[nodiscard]] PlannedBlock plan_block(const Phase& phase, int64_t block) const;
  void fit_items_per_block(Phase& phase) const;
};

std::shared_ptr<const WindowTable> RowPlan::State::window_table(const Source& source, const MixtureEntry& entry,
                                                                int64_t prompt_tokens) const {
  auto table = std::make_shared<WindowTable>();
  const int64_t budget = config.row_tokens - prompt_tokens;
  const int64_t most = budget / source.max_step_tokens();
  if (most < 1) {
    throw ConfigError(cat("task ", source.spec().id, ": its longest step takes ", source.max_step_tokens(),
                          " tokens, but a row leaves ", budget, "; raise data.row_tokens",
                          prompt_tokens > 0 ? " or lower data.prompt_tokens_share" : ""));
  }
  const bool whole_row = entry.steps.row || source.tokenizer().is_document();
  table->low = whole_row ? most : std::min(entry.steps.low, most);
  table->high = whole_row ? most : std::min(entry.steps.high, most);
  table->begin.reserve(static_cast<size_t>(source.num_episodes()) + 1);
  table->begin.push_back(0);
  for (int64_t e = 0; e < source.num_episodes(); ++e) {
    table->begin.push_back(table->begin.back() +
                           static_cast<uint64_t>(num_windows(source.length(e), table->low, table->high)));
  }
  return table;
}

void RowPlan::State::add_phase(size_t index, bool allow_missing) {
  const MixturePhase& mixture = config.schedule[index];
  Phase phase;
  phase.first_block = (mixture.first_row + kBlockRows - 1) / kBlockRows;
  phase.plan_of_source.assign(sources.size(), -1);
  std::vector<int> owner(sources.size(), -1);
  for (size_t e = 0; e < mixture.mixture.size(); ++e) {
    bool any = false;
    for (size_t s = 0; s < sources.size(); ++s) {
      if (!matches_pattern(mixture.mixture[e].tasks, sources[s]->spec().id)) continue;
      owner[s] = static_cast<int>(e);
      any = true;
    }
    if (!any && !allow_missing) {
      std::vector<std::string> ids;
      for (const auto& source : sources) ids.push_back(source->spec().id);
      throw ConfigError(cat("data.schedule.[", index, "].mixture.[", e, "].tasks: ", mixture.mixture[e].tasks,
                            " matches none of the tasks in the data sets: ", join(ids, ", ")));
    }
  }
  double total_share = 0;
  for (size_t e = 0; e < mixture.mixture.size(); ++e) {
    const MixtureEntry& entry = mixture.mixture[e];
    const auto tasks = static_cast<double>(std::count(owner.begin(), owner.end(), static_cast<int>(e)));
    if (tasks == 0 || entry.share <= 0) continue;
    total_share += entry.share;
    for (size_t s = 0; s < sources.size(); ++s) {
      if (owner[s] != static_cast<int>(e)) continue;
      const Source& source = *sources[s];
      SourcePlan plan;
      plan.source = static_cast<int32_t>(s);
      plan.entry = &entry;
      const bool prompts =
          entry.prompt_probability > 0 && !source.spec().observation.empty() && source.num_episodes() > 1;
      if (prompts)
        plan.prompt_tokens = static_cast<int64_t>(config.prompt_tokens_share * static_cast<double>(config.row_tokens));
      plan.windows = window_table(source, entry, plan.prompt_tokens);
      plan.share = entry.share / tasks;
      plan.tokens_per_item = static_cast<double>(source.total_tokens()) / static_cast<double>(plan.windows->size());
      plan.label_weight = entry.loss_weight * std::pow(static_cast<double>(source.total_tokens()) /
                                                           static_cast<double>(source.total_labels()),
                                                       config.label_weight_power);
      plan.key = mix_seed(seed, {hash_name(source.id()), index});
      phase.plan_of_source[s] = static_cast<int>(phase.sources.size());
      phase.sources.push_back(std::move(plan));
    }
  }
  if (phase.sources.empty()) {
    throw ConfigError(cat("data.schedule.[", index, "].mixture selects no data: every share is 0 or no task matches"));
  }
  for (SourcePlan& plan : phase.sources) {
    plan.share /= total_share;
    if (plan.prompt_tokens == 0) continue;
    // The mean length of prompts has no closed form: measured on the first items.
    plan.items_per_block = 256;
    std::vector<PlannedSequence> sample;
    draw_items(phase, plan, phase.first_block, sample);
    GATO_CHECK(!sample.empty(), "no items of ", sources[static_cast<size_t>(plan.source)]->id());
    double prompt = 0;
    for (const PlannedSequence& item : sample)
      prompt +=
          item.tokens - static_cast<double>(sources[static_cast<size_t>(item.source)]->window_tokens(item.window));
    plan.tokens_per_item += prompt / static_cast<double>(sample.size());
  }
  fit_items_per_block(phase);
  phases.push_back(std::move(phase));
}

/// Asks for as many items as keeps what fits no row well below one percent, judged on the first blocks.
void RowPlan::State::fit_items_per_block(Phase& phase) const {
  const double capacity = static_cast<double>(kBlockRows * config.row_tokens);
  for (const double fill : {0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5}) {
    for (SourcePlan& plan : phase.sources) plan.items_per_block = fill * capacity * plan.share / plan.tokens_per_item;
    double planned = 0, dropped = 0;
    for (int64_t block = 0; block < 16; ++block) {
      const PlannedBlock trial = plan_block(phase, phase.first_block + block);
      planned += static_cast<double>(trial.planned_tokens);
      dropped += static_cast<double>(trial.dropped_tokens);
    }
    if (dropped <= 0.007 * planned) return;
  }
}

void RowPlan::State::draw_prompt(const Source& source, const SourcePlan& plan, PlannedSequence& sequence) const {
  Rng rng(mix_seed(sequence.key, {3}));
  if (rng.uniform() >= plan.entry->prompt_probability) return;
  const uint32_t agent = source.source_agent(sequence.window.episode);
  for (int attempt = 0; attempt < 16; ++attempt) {
    const int64_t other = rng.below(source.num_episodes());
    if (other == sequence.window.episode || source.source_agent(other) != agent) continue;
    const int64_t length = source.length(other);
    const int64_t steps = std::min(length, plan.prompt_tokens / source.max_step_tokens());
    if (steps < 1) return;
    const bool from_end = rng.uniform() < config.prompt_from_end;
    sequence.prompt = {other, from_end ? length - steps : rng.below(length - steps + 1), steps};
    sequence.has_prompt = true;
    sequence.tokens += static_cast<int32_t>(source.window_tokens(sequence.prompt));
    return;
  }
}

void RowPlan::State::draw_items(const Phase& phase, const SourcePlan& plan, int64_t block,
                                std::vector<PlannedSequence>& out) const {
  const Source& source = *sources[static_cast<size_t>(plan.source)];
  const WindowTable& table = *plan.windows;
  const auto number = static_cast<double>(block - phase.first_block);
  const auto first = static_cast<uint64_t>(std::floor(number * plan.items_per_block));
  const auto end = static_cast<uint64_t>(std::floor((number + 1) * plan.items_per_block));
  std::optional<EpochOrder> order;
  uint64_t order_epoch = 0;
  for (uint64_t item = first; item < end; ++item) {
    const uint64_t epoch = item / table.size();
    if (!order || epoch != order_epoch) {
      order.emplace(source, table, config.shuffle_shards, mix_seed(plan.key, {4, epoch}));
      order_epoch = epoch;
    }
    const uint64_t window_number = order->window_number(item % table.size());
    const auto after = std::upper_bound(table.begin.begin(), table.begin.end(), window_number);
    const int64_t episode = after - table.begin.begin() - 1;
    const auto index = static_cast<int64_t>(window_number - *std::prev(after));
    PlannedSequence sequence;
    sequence.source = plan.source;
    sequence.item = item;
    sequence.key = mix_seed(plan.key, {5, item});
    const uint64_t cut_key = mix_seed(plan.key, {6, epoch, static_cast<uint64_t>(episode)});
    const auto [begin, count] = window_at(source.length(episode), table.low, table.high, cut_key, index);
    sequence.window = {episode, begin, count};
    sequence.tokens = static_cast<int32_t>(source.window_tokens(sequence.window));
    if (plan.prompt_tokens > 0) draw_prompt(source, plan, sequence);
    out.push_back(sequence);
  }
}

PlannedBlock RowPlan::State::plan_block(const Phase& phase, int64_t block) const {
  std::vector<PlannedSequence> items;
  for (const SourcePlan& plan : phase.sources) draw_items(phase, plan, block, items);
  PlannedBlock planned;
  planned.rows.resize(static_cast<size_t>(kBlockRows));
  for (const PlannedSequence& item : items) planned.planned_tokens += item.tokens;
  planned.dropped_tokens = drop_surplus(items, kBlockRows * config.row_tokens);
  planned.dropped_tokens += pack_rows(items, config.row_tokens, planned.rows);
  Rng rng(mix_seed(seed, {7, static_cast<uint64_t>(block)}));
  rng.shuffle(planned.rows);
  for (PlannedRow& row : planned.rows) rng.shuffle(row.sequences);
  return planned;
}

RowPlan::RowPlan(DataConfig config, std::vector<std::shared_ptr<const Source>> sources, uint64_t seed,
                 bool allow_missing)
    : state_(std::make_unique<State>()) {
  state_->config = std::move(config);
  state_->sources = std::move(sources);
  state_->seed = seed;
  if (state_->config.schedule.empty())
    state_->config.schedule.push_back({0, {MixtureEntry{.tasks = "*", .steps = {1, 1, true}}}});
  for (size_t i = 0; i < state_->config.schedule.size(); ++i) state_->add_phase(i, allow_missing);
}

RowPlan::~RowPlan() = default;

std::shared_ptr<const PlannedBlock> RowPlan::block(int64_t index) const {
  GATO_CHECK(index >= 0, "block ", index);
  const std::lock_guard lock(state_->mutex);
  const uint64_t now = ++state_->clock;
  const auto found = state_->cache.find(index);
  if (found != state_->cache.end()) {
    found->second.last_use = now;
    return found->second.block;
  }
  auto planned = std::make_shared<const PlannedBlock>(state_->plan_block(state_->phase_of_block(index), index));
  state_->cache[index] = {planned, now};
  // Every loader thread is in a block of its own.
  if (state_->cache.size() > kCachedBlocks + 2 * static_cast<size_t>(state_->config.loader_threads)) {
    state_->cache.erase(std::min_element(state_->cache.begin(), state_->cache.end(), [](const auto& x, const auto& y) {
      return x.second.last_use < y.second.last_use;
    }));
  }
  return planned;
}

const std::vector<std::shared_ptr<const Source>>& RowPlan::sources() const { return state_->sources; }
const DataConfig& RowPlan::config() const { return state_->config; }
uint64_t RowPlan::seed() const { return state_->seed; }

double RowPlan::label_weight(int64_t row, int32_t source) const {
  const Phase& phase = state_->phase_of_block(row / kBlockRows);
  return phase.sources[static_cast<size_t>(phase.plan_of_source[static_cast<size_t>(source)])].label_weight;
}

const MixtureEntry& RowPlan::entry(int64_t row, int32_t source) const {
  const Phase& phase = state_->phase_of_block(row / kBlockRows);
  return *phase.sources[static_cast<size_t>(phase.plan_of_source[static_cast<size_t>(source)])].entry;
}

std::vector<SourceShare> RowPlan::shares(int64_t row) const {
  const Phase& phase = state_->phase_of_block(row / kBlockRows);
  std::vector<SourceShare> shares;
  double total = 0;
  for (const SourcePlan& plan : phase.sources) {
    const Source& source = *state_->sources[static_cast<size_t>(plan.source)];
    SourceShare share;
    share.source = source.id();
    share.task = source.spec().id;
    share.domain = source.spec().domain();
    share.asked_share = plan.share;
    share.tokens_per_item = plan.tokens_per_item;
    share.label_weight = plan.label_weight;
    share.loss_share = plan.share * plan.label_weight * static_cast<double>(source.total_labels()) /
                       static_cast<double>(source.total_tokens());
    share.epoch_rows =
        static_cast<double>(plan.windows->size()) / plan.items_per_block * static_cast<double>(kBlockRows);
    total += share.loss_share;
    shares.push_back(std::move(share));
  }
  for (SourceShare& share : shares) share.loss_share /= total;
  return shares;
}

}  // namespace gato::data
