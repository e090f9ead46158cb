#include "gato/data/plan.h"

#include <algorithm>
#include <future>
#include <limits>
#include <map>
#include <mutex>

#include "block_plan.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/data/batch.h"
#include "phases.h"

namespace gato::data {

/// Batch::sources holds their numbers.
constexpr size_t kMostSources = std::numeric_limits<decltype(Batch::sources)::value_type>::max();

using BlockPointer = std::shared_ptr<const PlannedBlock>;

struct RowPlan::State {
  DataConfig config;
  std::vector<std::shared_ptr<const Source>> sources;
  uint64_t seed = 0;
  std::vector<Phase> phases;
  std::unique_ptr<EpochOrders> orders;

  struct CachedBlock {
    std::shared_future<BlockPointer> block;
    uint64_t last_use = 0;
  };
  mutable std::mutex mutex;
  mutable std::map<int64_t, CachedBlock> cache;
  mutable uint64_t clock = 0;

  void build(const std::vector<PhaseSources>& of_phases, bool allow_missing);
  [[nodiscard]] const Phase& phase_of_block(int64_t block) const {
    size_t i = phases.size() - 1;
    while (i > 0 && phases[i].first_block > block) --i;
    return phases[i];
  }
  [[nodiscard]] const Phase& phase_of_row(int64_t row) const {
    GATO_CHECK(row >= 0, "row ", row);
    return phase_of_block(row / kBlockRows);
  }
  void trim_cache();
};

void RowPlan::State::build(const std::vector<PhaseSources>& of_phases, bool allow_missing) {
  GATO_CHECK(of_phases.size() == config.schedule.size(), of_phases.size(), " lists of sources for ",
             config.schedule.size(), " phases");
  std::map<const Source*, int32_t> numbers;
  std::vector<std::vector<int32_t>> used(of_phases.size());
  for (size_t p = 0; p < of_phases.size(); ++p) {
    for (const auto& source : of_phases[p].sources) {
      const auto [found, is_new] = numbers.emplace(source.get(), static_cast<int32_t>(sources.size()));
      if (is_new) sources.push_back(source);
      used[p].push_back(found->second);
    }
  }
  if (sources.size() > kMostSources) {
    throw ConfigError(cat("data.datasets and data.schedule give ", sources.size(), " sources, at most ", kMostSources,
                          " can be told apart; a source is a task of a data set, and counts again in every phase that",
                          " has other shards of it"));
  }
  orders = std::make_unique<EpochOrders>(config.shuffle_shards);
  PhaseBuilder builder(config, seed, sources, allow_missing);
  for (size_t p = 0; p < of_phases.size(); ++p) {
    phases.push_back(builder.build(p, used[p], p == 0 ? nullptr : &phases.back()));
    if (!phases.back().missing.empty() && !allow_missing) {
      log::warning("data", "schedule phase ", p, " passes over tasks without data: ", join(phases.back().missing, ", "),
                   "; the other shares grow accordingly");
    }
  }
}

/// Keeps the blocks used last: every loader thread is in a block of its own.
void RowPlan::State::trim_cache() {
  constexpr size_t kCachedBlocks = 8;
  while (cache.size() > kCachedBlocks + 2 * static_cast<size_t>(config.loader_threads)) {
    cache.erase(std::min_element(cache.begin(), cache.end(),
                                 [](const auto& x, const auto& y) { return x.second.last_use < y.second.last_use; }));
  }
}

RowPlan::RowPlan(DataConfig config, std::vector<std::shared_ptr<const Source>> sources, uint64_t seed,
                 bool allow_missing)
    : RowPlan(config, std::vector<PhaseSources>(std::max<size_t>(1, config.schedule.size()), {std::move(sources)}),
              seed, allow_missing) {}

RowPlan::RowPlan(DataConfig config, std::vector<PhaseSources> phases, uint64_t seed, bool allow_missing)
    : state_(std::make_unique<State>()) {
  state_->config = std::move(config);
  state_->seed = seed;
  if (state_->config.schedule.empty()) state_->config.schedule = {default_phase()};
  expand_mixture_files(state_->config);
  state_->build(phases, allow_missing);
}

RowPlan::~RowPlan() = default;

BlockPointer RowPlan::block(int64_t index) const {
  GATO_CHECK(index >= 0, "block ", index);
  std::promise<BlockPointer> promise;
  std::shared_future<BlockPointer> result;
  {
    const std::lock_guard lock(state_->mutex);
    const uint64_t now = ++state_->clock;
    const auto found = state_->cache.find(index);
    if (found != state_->cache.end()) {
      found->second.last_use = now;
      result = found->second.block;
    } else {
      state_->cache[index] = {promise.get_future().share(), now};
      state_->trim_cache();
    }
  }
  if (result.valid()) return result.get();  // possibly after the thread that plans it
  try {
    auto planned = std::make_shared<const PlannedBlock>(
        plan_block(state_->config, state_->seed, *state_->orders, state_->phase_of_block(index), index));
    promise.set_value(planned);
    return planned;
  } catch (...) {
    promise.set_exception(std::current_exception());
    const std::lock_guard lock(state_->mutex);
    state_->cache.erase(index);
    throw;
  }
}

bool RowPlan::has_rows(int64_t row) const { return state_->phase_of_row(row).items != nullptr; }
int64_t RowPlan::first_row_of_phase(int64_t row) const { return state_->phase_of_row(row).first_block * kBlockRows; }
const std::vector<std::shared_ptr<const Source>>& RowPlan::sources() const { return state_->sources; }
const DataConfig& RowPlan::config() const { return state_->config; }
uint64_t RowPlan::seed() const { return state_->seed; }
const std::vector<std::string>& RowPlan::missing_patterns(int64_t row) const {
  return state_->phase_of_row(row).missing;
}
double RowPlan::label_weight(int64_t row, int32_t source) const {
  return state_->phase_of_row(row).plan_of(source).label_weight;
}
const MixtureEntry& RowPlan::entry(int64_t row, int32_t source) const {
  return *state_->phase_of_row(row).plan_of(source).entry;
}

std::vector<SourceShare> RowPlan::shares(int64_t row) const {
  const Phase& phase = state_->phase_of_row(row);
  const auto block_tokens = static_cast<double>(kBlockRows * state_->config.row_tokens);
  std::vector<SourceShare> shares;
  double loss = 0, labels = 0;
  for (const SourcePlan& plan : phase.sources) {
    SourceShare& share = shares.emplace_back();
    share.source = plan.data->id();
    share.task = plan.data->spec().id;
    share.domain = plan.data->spec().domain();
    share.asked_share = plan.share;
    share.tokens_per_item = plan.tokens_per_item;
    share.label_weight = plan.label_weight;
    share.prompt_share = plan.prompt_share;
    share.without_prompt = plan.prompts ? plan.prompts->lonely_share() : 0;
    share.prompt_tokens = plan.prompt_tokens_per_item / plan.tokens_per_item;
    share.items_per_epoch = static_cast<double>(plan.items_per_epoch);
    const double with_labels = state_->config.prompt_loss ? 1 : 1 - share.prompt_tokens;
    share.label_share = plan.share * with_labels * static_cast<double>(plan.data->total_labels()) /
                        static_cast<double>(plan.data->total_tokens());
    share.loss_share = share.label_share * plan.label_weight;
    const double items_per_block = phase.fill * block_tokens * plan.share / plan.tokens_per_item;
    share.epoch_rows = share.items_per_epoch / items_per_block * static_cast<double>(kBlockRows);
    labels += share.label_share;
    loss += share.loss_share;
  }
  for (SourceShare& share : shares) {
    share.label_share /= labels;
    share.loss_share /= std::max(loss, 1e-300);  // every loss weight may be 0
  }
  return shares;
}

}  // namespace gato::data
