#include "episode/import/tfds_survey.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "gato/core/error.h"
#include "gato/core/progress.h"
#include "gato/core/random.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"

namespace gato::episode {
namespace {

constexpr size_t kMaxSampledRows = 131072;
constexpr size_t kMaxTasks = 10000;

/// What one file adds to the survey.
void survey_record(const TfdsPlan& plan, const std::vector<TfdsColumn*>& columns, bool keep_last_step, uint64_t key,
                   const std::string& origin, std::string_view payload, TfdsSurvey& survey) {
  const TfExample example = parse_tf_example(payload, origin);
  const TfdsRecord record(plan, example, origin);
  const int64_t steps = record.num_steps(keep_last_step);
  if (steps == 0) return;
  // Everything is read before anything is counted: a record counts as a whole or not at all.
  std::vector<std::vector<float>> values;
  for (const TfdsColumn* column : columns) values.push_back(record.numbers(*column, steps));
  if (plan.task) survey.tasks.insert(record.text_of(*plan.task));
  for (size_t c = 0; c < columns.size(); ++c) {
    const auto elements = static_cast<size_t>(columns[c]->elements());
    for (size_t step = 0; step < static_cast<size_t>(steps); ++step) {
      survey.bounds[c].add(mix_seed(key, {step}), std::span(values[c]).subspan(step * elements, elements));
    }
  }
}

TfdsSurvey empty_survey(const std::vector<TfdsColumn*>& columns) {
  TfdsSurvey survey;
  for (const TfdsColumn* column : columns) survey.bounds.emplace_back(column->elements());
  return survey;
}

void merge_survey(TfdsSurvey& all, const TfdsSurvey& part) {
  for (size_t c = 0; c < all.bounds.size(); ++c) all.bounds[c].merge(part.bounds[c]);
  all.tasks.insert(part.tasks.begin(), part.tasks.end());
  all.records += part.records;
  all.damaged += part.damaged;
}

}  // namespace

BoundsSampler::BoundsSampler(int64_t elements)
    : elements_(static_cast<size_t>(elements)),
      low_(elements_, std::numeric_limits<float>::infinity()),
      high_(elements_, -std::numeric_limits<float>::infinity()) {}

void BoundsSampler::add(uint64_t key, std::span<const float> row) {
  ++rows_;
  for (size_t i = 0; i < elements_; ++i) {
    if (!std::isfinite(row[i])) continue;
    low_[i] = std::min(low_[i], row[i]);
    high_[i] = std::max(high_[i], row[i]);
  }
  if (key > most_) return;
  keys_.push_back(key);
  sample_.insert(sample_.end(), row.begin(), row.end());
  shrink();
}

/// Halves the range of keys while there are too many rows: what is left is what any other order would have left.
void BoundsSampler::shrink() {
  while (keys_.size() > kMaxSampledRows) {
    most_ /= 2;
    size_t kept = 0;
    for (size_t i = 0; i < keys_.size(); ++i) {
      if (keys_[i] > most_) continue;
      keys_[kept] = keys_[i];
      std::copy_n(sample_.begin() + static_cast<ptrdiff_t>(i * elements_), elements_,
                  sample_.begin() + static_cast<ptrdiff_t>(kept * elements_));
      ++kept;
    }
    keys_.resize(kept);
    sample_.resize(kept * elements_);
  }
}

void BoundsSampler::merge(const BoundsSampler& other) {
  GATO_CHECK(other.elements_ == elements_, "bounds of ", other.elements_, " elements into ", elements_);
  rows_ += other.rows_;
  for (size_t i = 0; i < elements_; ++i) {
    low_[i] = std::min(low_[i], other.low_[i]);
    high_[i] = std::max(high_[i], other.high_[i]);
  }
  most_ = std::min(most_, other.most_);
  keys_.insert(keys_.end(), other.keys_.begin(), other.keys_.end());
  sample_.insert(sample_.end(), other.sample_.begin(), other.sample_.end());
  std::vector<uint64_t> keys;
  std::vector<float> sample;
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i] > most_) continue;
    keys.push_back(keys_[i]);
    const auto begin = sample_.begin() + static_cast<ptrdiff_t>(i * elements_);
    sample.insert(sample.end(), begin, begin + static_cast<ptrdiff_t>(elements_));
  }
  keys_ = std::move(keys);
  sample_ = std::move(sample);
  shrink();
}

BoundsSampler::Bounds BoundsSampler::bounds(double tail) const {
  Bounds bounds;
  for (size_t i = 0; i < elements_; ++i) {
    float low = low_[i], high = high_[i];
    if (low > high) low = -1, high = 1;
    if (tail > 0) {
      std::vector<float> values;
      for (size_t row = 0; row < keys_.size(); ++row) {
        if (const float value = sample_[row * elements_ + i]; std::isfinite(value)) values.push_back(value);
      }
      std::sort(values.begin(), values.end());
      if (!values.empty()) {
        const auto skip = static_cast<size_t>(tail * static_cast<double>(values.size() - 1));
        low = values[skip];
        high = values[values.size() - 1 - skip];
      }
    }
    if (!(low < high)) {
      // A float has room for one more or less, or is so large that the next one up and down must do.
      low = std::min(low - 1, std::nextafter(low, -std::numeric_limits<float>::max()));
      high = std::max(high + 1, std::nextafter(high, std::numeric_limits<float>::max()));
      ++bounds.widened;
    }
    bounds.low.push_back(low);
    bounds.high.push_back(high);
  }
  return bounds;
}

TfdsSurvey survey_tfds(const TfdsPlan& plan, const std::vector<TfdsColumn*>& columns, bool keep_last_step,
                       size_t num_files, const ForEachRecord& for_each_record) {
  TfdsSurvey all = empty_survey(columns);
  std::mutex mutex;
  Progress progress("reading all data once", 0, "records");
  parallel_for(static_cast<int64_t>(num_files), [&](int64_t file) {
    TfdsSurvey part = empty_survey(columns);
    for_each_record(static_cast<size_t>(file), [&](int64_t record, const std::string& origin,
                                                   std::string_view payload) {
      throw_if_stopped("reading all data once for bounds and tasks");
      const uint64_t key = mix_seed(static_cast<uint64_t>(file), {static_cast<uint64_t>(record)});
      ++part.records;
      try {
        survey_record(plan, columns, keep_last_step, key, origin, payload, part);
      } catch (const DataError&) {  // The import comes to it again, and stops or counts it as the user says.
        ++part.damaged;
      }
      if (part.tasks.size() > kMaxTasks) {
        throw DataError(cat(origin, ": '", plan.task->path, "' has more than ", kMaxTasks,
                            " values so far; a task is what many episodes share, choose another leaf for --task-from"));
      }
      progress.add();
    });
    const std::lock_guard lock(mutex);
    merge_survey(all, part);
  });
  progress.finish();
  if (all.tasks.size() > kMaxTasks) {
    throw DataError(cat("'", plan.task->path, "' has ", all.tasks.size(), " values, at most ", kMaxTasks,
                        " tasks are made; choose another leaf for --task-from"));
  }
  return all;
}

}  // namespace gato::episode
