#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace gato::data {

/// How many items of each source every block takes. Rates are not whole numbers, and rounding each source on its own
/// would let the tokens of blocks vary by as much as many sources' items; so counts are rounded together, such that
/// every block has nearly the same number of tokens and every source keeps its rate to within about an item.
/// A pure function of the rates: blocks are scheduled in periods of kPeriodBlocks, of which each begins at a closed
/// form. Thread-safe.
class ItemSchedule {
 public:
  struct Rate {
    double items_per_block = 0;
    double tokens_per_item = 1;
    uint64_t key = 0;  ///< Decides where between whole numbers the source begins.
  };
  explicit ItemSchedule(std::vector<Rate> rates);

  /// The number of items of each source before block `block` (>= 0).
  [[nodiscard]] std::vector<uint64_t> before(int64_t block) const;

 private:
  static constexpr int64_t kPeriodBlocks = 64;
  using Period = std::vector<uint64_t>;  // (kPeriodBlocks + 1) x sources: items before each block
  [[nodiscard]] std::shared_ptr<const Period> period(int64_t index) const;
  [[nodiscard]] Period make_period(int64_t index) const;
  [[nodiscard]] uint64_t before_period(size_t source, int64_t index) const;

  std::vector<Rate> rates_;
  std::vector<double> phases_;
  mutable std::mutex mutex_;
  mutable std::map<int64_t, std::shared_ptr<const Period>> periods_;
};

}  // namespace gato::data
