#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gato/data/plan.h"
#include "item_schedule.h"
#include "prompts.h"
#include "windows.h"

/// The phases of a row plan: which sources they use, how those are cut, and where in their epochs they stand.
namespace gato::data {

/// One source in one phase.
struct SourcePlan {
  int32_t source = 0;  ///< Index into all sources.
  const Source* data = nullptr;
  const MixtureEntry* entry = nullptr;
  std::shared_ptr<const WindowTable> windows;
  std::shared_ptr<const PromptIndex> prompts;  ///< Null: none.
  int64_t prompt_tokens = 0;                   ///< Of the longest prompt.
  uint64_t key = 0;                            ///< Of the source, the same in all phases.
  uint64_t items_per_epoch = 1;
  uint64_t first_epoch = 0, first_item = 0;  ///< Where the phase begins; items are counted from the start of the epoch.
  double share = 0;                          ///< Of tokens, in [0, 1].
  double tokens_per_item = 1;                ///< With prompts.
  double prompt_tokens_per_item = 0;
  double prompt_share = 0;  ///< Of sequences.
  double prompt_rate = 0;   ///< Of sequences when they are drawn, before some are cut to fill rows.
  double label_weight = 1;
};

struct Phase {
  int64_t first_block = 0;
  std::vector<SourcePlan> sources;
  std::vector<int> plan_of_source;      ///< Index into `sources`, or -1.
  std::vector<std::string> missing;     ///< Patterns without data.
  std::unique_ptr<ItemSchedule> items;  ///< Null in a phase without sources.
  double fill = 0;                      ///< Tokens drawn per block, as a share of the block.

  /// Of a source that the phase uses.
  [[nodiscard]] const SourcePlan& plan_of(int32_t source) const;
};

/// Builds the phases of a schedule one after another; each depends on those before it alone. Errors as RowPlan's
/// constructor.
class PhaseBuilder {
 public:
  /// All arguments are kept by reference and outlive the builder and the phases.
  PhaseBuilder(const DataConfig& config, uint64_t seed, const std::vector<std::shared_ptr<const Source>>& all,
               bool allow_missing)
      : config_(config), seed_(seed), all_(all), allow_missing_(allow_missing) {}

  /// Phase `index` of the schedule, using the sources `used` (indices into all). `before`: the phase before it, or
  /// null.
  [[nodiscard]] Phase build(size_t index, const std::vector<int32_t>& used, const Phase* before);

 private:
  /// How a source is cut: what must be equal for an epoch to go on in a later phase.
  struct Cutting {
    int64_t low = 0, high = 0;  // 0: stretches
    int64_t group = 1;
    bool operator==(const Cutting&) const = default;
  };
  struct Progress {
    const Source* data = nullptr;
    Cutting cutting;
    uint64_t first_epoch = 0, next_item = 0, items_per_epoch = 1;
  };

  using Owners = std::map<int32_t, size_t>;  // entry of the mixture by source
  [[nodiscard]] Owners find_owners(Phase& phase, size_t index, const std::vector<int32_t>& used) const;
  void assign_shares(Phase& phase, size_t index, const std::vector<int32_t>& used) const;
  [[nodiscard]] Cutting cutting_of(const SourcePlan& plan) const;
  void cut(SourcePlan& plan);
  void place_in_epochs(SourcePlan& plan, const Cutting& cutting);
  void count_items(const Phase& before, int64_t end_block);
  void measure_prompts(SourcePlan& plan, size_t num_sources) const;
  void correct_rates(Phase& phase) const;
  void fit_fill(Phase& phase) const;
  void set_rates(Phase& phase, double fill) const;

  const DataConfig& config_;
  uint64_t seed_;
  const std::vector<std::shared_ptr<const Source>>& all_;
  bool allow_missing_;
  std::map<std::pair<const Source*, std::pair<int64_t, int64_t>>, std::shared_ptr<const WindowTable>> tables_;
  std::map<const Source*, std::shared_ptr<const PromptIndex>> prompt_indexes_;
  std::map<std::string, Progress> progress_;  // by id of the source
};

}  // namespace gato::data
