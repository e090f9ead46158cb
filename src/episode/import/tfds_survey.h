#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "episode/import/tfds_episode.h"

/// What must be known about all records before the first can be imported.
namespace gato::episode {

/// Lowest and highest value of every element, or quantiles of them, over any number of rows. The result depends on the
/// set of rows and their keys alone, not on their order.
class BoundsSampler {
 public:
  explicit BoundsSampler(int64_t elements);

  /// `row` has one value per element; values that are not finite are left out. `key` is a number that no other row has,
  /// evenly spread over 64 bits: it decides whether the row is in the sample that quantiles are taken from.
  void add(uint64_t key, std::span<const float> row);
  void merge(const BoundsSampler& other);

  struct Bounds {
    std::vector<double> low, high;
    int64_t widened = 0;  ///< Elements that were constant: bounds one below and one above.
  };
  /// The bounds that leave out `tail` (in [0, 0.5)) of the values at each end; 0: lowest and highest value. Elements
  /// without any finite value get -1 and 1. Quantiles come from an even sample of at most 131072 rows.
  [[nodiscard]] Bounds bounds(double tail) const;
  [[nodiscard]] int64_t rows() const { return rows_; }

 private:
  void shrink();
  size_t elements_;
  int64_t rows_ = 0;
  std::vector<float> low_, high_;
  uint64_t most_ = UINT64_MAX;  ///< Rows with larger keys are not in the sample.
  std::vector<uint64_t> keys_;
  std::vector<float> sample_;  ///< keys_.size() x elements.
};

/// Reads the records of one file: calls its argument with (number of the record, origin, payload) for each.
using ForEachRecord =
    std::function<void(size_t file, const std::function<void(int64_t, const std::string&, std::string_view)>&)>;

struct TfdsSurvey {
  std::vector<BoundsSampler> bounds;  ///< Aligned with the columns that were asked for.
  std::set<std::string> tasks;        ///< Values of plan.task.
  int64_t records = 0;
  int64_t damaged = 0;  ///< Records that could not be read; the import will refuse them.
};

/// Reads all records of `num_files` files on several threads: bounds of `columns` (over the steps that will be
/// imported) and values of plan.task. Throws DataError for broken framing and more than 10000 tasks, Interrupted on
/// request.
[[nodiscard]] TfdsSurvey survey_tfds(const TfdsPlan& plan, const std::vector<TfdsColumn*>& columns, bool keep_last_step,
                                     size_t num_files, const ForEachRecord& for_each_record);

}  // namespace gato::episode
