#include "item_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gato/core/random.h"

namespace gato::data {
namespace {

constexpr size_t kCachedPeriods = 4;

}  // namespace

ItemSchedule::ItemSchedule(std::vector<Rate> rates) : rates_(std::move(rates)) {
  for (const Rate& rate : rates_) phases_.push_back(Rng(mix_seed(rate.key, {10})).uniform());
}

uint64_t ItemSchedule::before_period(size_t source, int64_t index) const {
  const double blocks = static_cast<double>(index) * static_cast<double>(kPeriodBlocks);
  return static_cast<uint64_t>(std::floor(blocks * rates_[source].items_per_block + phases_[source]));
}

ItemSchedule::Period ItemSchedule::make_period(int64_t index) const {
  const size_t sources = rates_.size();
  Period items(sources * static_cast<size_t>(kPeriodBlocks + 1));
  std::vector<double> of_period(sources), lag(sources);
  double all_tokens = 0, given_tokens = 0;
  for (size_t s = 0; s < sources; ++s) {
    items[s] = before_period(s, index);
    of_period[s] = static_cast<double>(before_period(s, index + 1) - items[s]);
    all_tokens += of_period[s] * rates_[s].tokens_per_item;
  }
  std::vector<size_t> order(sources);
  for (int64_t block = 1; block <= kPeriodBlocks; ++block) {
    const uint64_t* old = items.data() + static_cast<size_t>(block - 1) * sources;
    uint64_t* now = items.data() + static_cast<size_t>(block) * sources;
    const double part = static_cast<double>(block) / static_cast<double>(kPeriodBlocks);
    for (size_t s = 0; s < sources; ++s) {
      const double due = of_period[s] * part - static_cast<double>(old[s] - items[s]);
      // At the end of the period everything is due; products of fractions must not leave an item behind.
      const double whole = std::max(0.0, block == kPeriodBlocks ? std::round(due) : std::floor(due + 1e-9));
      now[s] = old[s] + static_cast<uint64_t>(whole);
      lag[s] = due - whole;
      given_tokens += whole * rates_[s].tokens_per_item;
    }
    if (block == kPeriodBlocks) break;
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return lag[a] != lag[b] ? lag[a] > lag[b] : a < b; });
    for (const size_t s : order) {
      if (lag[s] <= 0) break;
      if (given_tokens + 0.5 * rates_[s].tokens_per_item > all_tokens * part) continue;
      now[s] += 1;
      given_tokens += rates_[s].tokens_per_item;
    }
  }
  return items;
}

std::shared_ptr<const ItemSchedule::Period> ItemSchedule::period(int64_t index) const {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const Period>& found = periods_[index];
  if (!found) found = std::make_shared<const Period>(make_period(index));
  const std::shared_ptr<const Period> kept = found;
  // Loader threads are in neighbouring periods at most: those far away go first.
  while (periods_.size() > kCachedPeriods) {
    const bool first_is_farther = index - periods_.begin()->first >= periods_.rbegin()->first - index;
    periods_.erase(first_is_farther ? periods_.begin() : std::prev(periods_.end()));
  }
  return kept;
}

std::vector<uint64_t> ItemSchedule::before(int64_t block) const {
  const auto items = period(block / kPeriodBlocks);
  const auto begin = items->begin() + (block % kPeriodBlocks) * static_cast<int64_t>(rates_.size());
  return {begin, begin + static_cast<int64_t>(rates_.size())};
}

}  // namespace gato::data
