#include "gato/data/statistics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <mutex>
#include <optional>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/tokenizer/numbers.h"

namespace gato::data {
namespace {

using episode::FieldSpec;
using episode::Group;
using episode::Modality;
using episode::ShardReader;
using episode::TaskSpec;
using episode::TokenColumnsReader;

constexpr uint64_t kStepsAtOnce = 4096;

/// Sums of one field, kept exactly enough for millions of values: by pieces, each around its own mean.
class FieldCounter {
 public:
  FieldCounter(const FieldSpec& spec, Group group, std::string unit) : spec_(spec) {
    field_.group = group;
    field_.name = spec.name;
    field_.modality = spec.modality;
    field_.unit = std::move(unit);
    if (spec.modality == Modality::kContinuous) field_.counts.resize(static_cast<size_t>(tokenizer::kNumBins));
    if (spec.modality == Modality::kDiscrete) field_.counts.resize(static_cast<size_t>(spec.num_values));
  }

  void add_numbers(std::span<const float> values, bool is_action) {
    const auto elements = static_cast<size_t>(spec_.num_elements());
    bins_.resize(values.size());
    const int64_t nan = tokenizer::observation_ids(values, 0, bins_);
    if (nan >= 0) throw DataError(cat("field ", field_.name, " holds NaN"));
    for (size_t i = 0; i < values.size(); ++i) {
      const auto element = static_cast<int64_t>(i % elements);
      if (!spec_.low.empty()) {
        const float low = spec_.low_of(element), high = spec_.high_of(element);
        if (values[i] < low || values[i] > high) ++field_.outside;
        if (is_action) bins_[i] = tokenizer::action_bin(tokenizer::normalize_action(values[i], low, high));
      }
      ++field_.counts[static_cast<size_t>(bins_[i])];
    }
    add_piece(values);
  }

  void add_discrete(std::span<const uint16_t> values) {
    for (const uint16_t value : values) ++field_.counts[value];
    add_piece(values);
  }

  void add_lengths(std::span<const uint64_t> lengths) {
    for (const uint64_t length : lengths) {
      const auto bucket = static_cast<size_t>(std::bit_width(length));
      if (bucket >= field_.counts.size()) field_.counts.resize(bucket + 1);
      ++field_.counts[bucket];
    }
    add_piece(lengths);
  }

  [[nodiscard]] FieldStatistics take() { return std::move(field_); }

 private:
  template <class T>
  void add_piece(std::span<const T> values);

  const FieldSpec& spec_;
  FieldStatistics field_;
  std::vector<int32_t> bins_;
};

/// Count, range, mean and squares of two sets of values as of one (Chan, Golub, LeVeque 1979).
void merge_moments(FieldStatistics& into, const FieldStatistics& other) {
  if (other.count == 0) return;
  into.minimum = into.count == 0 ? other.minimum : std::min(into.minimum, other.minimum);
  into.maximum = into.count == 0 ? other.maximum : std::max(into.maximum, other.maximum);
  const auto a = static_cast<double>(into.count), b = static_cast<double>(other.count);
  const double distance = other.mean - into.mean;
  into.mean += distance * b / (a + b);
  into.squares += other.squares + distance * distance * a * b / (a + b);
  into.count += other.count;
}

template <class T>
void FieldCounter::add_piece(std::span<const T> values) {
  if (values.empty()) return;
  FieldStatistics piece;
  piece.count = static_cast<int64_t>(values.size());
  const auto [lowest, highest] = std::minmax_element(values.begin(), values.end());
  // JSON has no infinities; they clip as the tokenizer clips them.
  const auto finite = [](T value) {
    const double wide = static_cast<double>(value), limit = std::numeric_limits<float>::max();
    if constexpr (std::is_floating_point_v<T>) return std::clamp(wide, -limit, limit);
    return wide;
  };
  piece.minimum = finite(*lowest);
  piece.maximum = finite(*highest);
  double sum = 0;
  for (const T value : values) sum += finite(value);
  piece.mean = sum / static_cast<double>(values.size());
  for (const T value : values) piece.squares += (finite(value) - piece.mean) * (finite(value) - piece.mean);
  merge_moments(field_, piece);
}

struct ShardPass {
  const ShardReader& shard;
  const TokenColumnsReader* tokens;
  int64_t* left_out;  // Counts the steps of fields that cannot be read; null: they are errors.

  [[nodiscard]] FieldStatistics count_field(int task, Group group, int field, const FieldSpec& spec) const;
  void count_lengths(int task, Group group, int field, Modality modality, uint64_t first, uint64_t steps,
                     std::vector<uint64_t>& lengths) const;
};

void ShardPass::count_lengths(int task, Group group, int field, Modality modality, uint64_t first, uint64_t steps,
                              std::vector<uint64_t>& lengths) const {
  lengths.clear();
  if (modality == Modality::kText && tokens != nullptr) {
    const auto ends = tokens->offsets(task, group == Group::kLabel ? Group::kAction : group, field, first, steps);
    for (size_t i = 0; i < steps; ++i) lengths.push_back(ends[i + 1] - ends[i]);
    return;
  }
  for (uint64_t step = first; step < first + steps; ++step) {
    lengths.push_back(modality == Modality::kText ? shard.text(task, group, field, step).size()
                                                  : shard.encoded_image(task, group, field, step).size());
  }
}

FieldStatistics ShardPass::count_field(int task, Group group, int field, const FieldSpec& spec) const {
  const bool is_length = spec.modality == Modality::kText || spec.modality == Modality::kImage;
  const bool in_tokens = spec.modality == Modality::kText && tokens != nullptr;
  FieldCounter counter(spec, group, in_tokens ? "tokens" : is_length ? "bytes" : "value");
  std::vector<uint64_t> lengths;
  const auto add = [&](uint64_t first, uint64_t steps) {
    if (spec.modality == Modality::kContinuous) {
      counter.add_numbers(shard.continuous(task, group, field, first, steps), group != Group::kObservation);
    } else if (spec.modality == Modality::kDiscrete) {
      counter.add_discrete(shard.discrete(task, group, field, first, steps));
    } else {
      count_lengths(task, group, field, spec.modality, first, steps, lengths);
      counter.add_lengths(lengths);
    }
  };
  const auto add_if_readable = [&](uint64_t first, uint64_t steps) {
    try {
      add(first, steps);  // All of them or, when it throws, none.
      return true;
    } catch (const DataError&) {
      if (left_out == nullptr) throw;
      return false;
    }
  };
  const uint64_t total = shard.num_steps(task);
  for (uint64_t first = 0; first < total; first += kStepsAtOnce) {
    const uint64_t end = std::min(first + kStepsAtOnce, total);
    if (add_if_readable(first, end - first)) continue;
    for (uint64_t step = first; step < end; ++step) *left_out += add_if_readable(step, 1) ? 0 : 1;
  }
  return counter.take();
}

std::string_view group_label(Group group) {
  constexpr std::array<std::string_view, 3> kNames = {"observation", "action", "label"};
  return kNames[static_cast<size_t>(group)];
}

/// The token columns beside a shard, if they are of this version of it.
std::optional<TokenColumnsReader> tokens_beside(const Path& path, const ShardReader& shard) {
  std::error_code ignored;
  const Path columns = episode::token_columns_path(path);
  if (!std::filesystem::exists(columns, ignored)) return std::nullopt;
  TokenColumnsReader reader(columns);
  if (reader.shard_fingerprint() != shard.fingerprint()) return std::nullopt;
  return reader;
}

}  // namespace

double FieldStatistics::deviation() const { return count == 0 ? 0 : std::sqrt(squares / static_cast<double>(count)); }

double FieldStatistics::outside_share() const {
  return count == 0 ? 0 : static_cast<double>(outside) / static_cast<double>(count);
}

void merge_statistics(TaskStatistics& into, const TaskStatistics& other) {
  const auto fail = [&](const auto&... problem) {
    throw DataError(cat("statistics of task ", into.task, " and ", other.task, " cannot be merged: ", problem...));
  };
  if (into.task != other.task) fail("they are of different tasks");
  if (into.fields.size() != other.fields.size()) {
    fail(into.fields.size(), " and ", other.fields.size(), " fields; do all shards of the data set have labels?");
  }
  for (size_t f = 0; f < into.fields.size(); ++f) {
    FieldStatistics& field = into.fields[f];
    const FieldStatistics& added = other.fields[f];
    if (field.group != added.group || field.name != added.name || field.modality != added.modality) {
      fail("field ", field.name, " is ", added.name, " in the other");
    }
    if (field.unit != added.unit) {
      fail("field ", field.name, " is counted in ", field.unit, " and in ", added.unit,
           "; run gato-data tokenize on all shards");
    }
    merge_moments(field, added);
    field.outside += added.outside;
    field.counts.resize(std::max(field.counts.size(), added.counts.size()));
    for (size_t i = 0; i < added.counts.size(); ++i) field.counts[i] += added.counts[i];
  }
  into.episodes += other.episodes;
  into.steps += other.steps;
}

namespace {

ShardStatistics count_shard(const ShardReader& shard, const TokenColumnsReader* tokens, int64_t* left_out) {
  ShardStatistics statistics;
  statistics.fingerprint = shard.fingerprint();
  if (tokens != nullptr) statistics.tokenizer = tokens->tokenizer_digest();
  const ShardPass pass{shard, tokens, left_out};
  for (size_t t = 0; t < shard.tasks().size(); ++t) {
    const TaskSpec& spec = shard.tasks()[t];
    const int task = static_cast<int>(t);
    TaskStatistics counted;
    counted.task = spec.id;
    counted.steps = static_cast<int64_t>(shard.num_steps(task));
    counted.episodes = std::count_if(shard.index().begin(), shard.index().end(),
                                     [&](const auto& entry) { return static_cast<int>(entry.task) == task; });
    for (const Group group : {Group::kObservation, Group::kAction, Group::kLabel}) {
      if (group == Group::kLabel && !shard.has_labels(task)) continue;
      const auto& fields = group == Group::kObservation ? spec.observation : spec.action;
      for (size_t f = 0; f < fields.size(); ++f) {
        try {
          counted.fields.push_back(pass.count_field(task, group, static_cast<int>(f), fields[f]));
        } catch (const episode::DamageError&) {
          throw;
        } catch (const DataError& error) {
          throw DataError(cat(shard.path().string(), ", task ", spec.id, ": ", error.what()));
        }
      }
    }
    statistics.tasks.push_back(std::move(counted));
  }
  return statistics;
}

/// Of what can be read of a damaged shard; not stored.
ShardStatistics count_what_is_whole(const Path& path, const DataError& damage) {
  const ShardReader shard(path);
  const std::optional<TokenColumnsReader> tokens = tokens_beside(path, shard);
  int64_t left_out = 0;
  ShardStatistics statistics = count_shard(shard, tokens ? &*tokens : nullptr, &left_out);
  log::warning("data", damage.what(), "; statistics are without ", left_out, " values of fields that cannot be read");
  return statistics;
}

}  // namespace

ShardStatistics compute_statistics(const ShardReader& shard, const TokenColumnsReader* tokens) {
  return count_shard(shard, tokens, nullptr);
}

Path statistics_path(const Path& shard) { return Path(shard.string() + ".stats"); }

StoredStatistics statistics_of(const Path& path) {
  const ShardReader shard(path);
  const std::optional<TokenColumnsReader> tokens = tokens_beside(path, shard);
  const Path stored = statistics_path(path);
  std::error_code ignored;
  if (std::filesystem::exists(stored, ignored)) {
    try {
      ShardStatistics found = parse_shard_statistics(read_file(stored, uint64_t{64} << 20), stored.string());
      const bool fits = found.fingerprint == shard.fingerprint() &&
                        found.tokenizer == (tokens ? tokens->tokenizer_digest() : std::string());
      if (fits) return {std::move(found), true};
    } catch (const DataError&) {
      // Damaged or of another version: made again.
    }
  }
  StoredStatistics made{compute_statistics(shard, tokens ? &*tokens : nullptr), false};
  try {
    write_file_atomic(stored, shard_statistics_json(made.statistics));
  } catch (const IoError& error) {
    log::warning("data", error.what(), "; the statistics are counted again the next time");  // a read-only data set
  }
  return made;
}

StatisticsByTask statistics_of_shards(const std::vector<Path>& shards) {
  std::vector<ShardStatistics> parts(shards.size());
  parallel_for(static_cast<int64_t>(shards.size()), [&](int64_t i) {
    const Path& path = shards[static_cast<size_t>(i)];
    try {
      parts[static_cast<size_t>(i)] = statistics_of(path).statistics;
    } catch (const DataError& damage) {
      parts[static_cast<size_t>(i)] = count_what_is_whole(path, damage);
    }
  });
  StatisticsByTask merged;
  for (const ShardStatistics& part : parts) {
    for (const TaskStatistics& task : part.tasks) {
      const auto [found, is_new] = merged.try_emplace(task.task, task);
      if (!is_new) merge_statistics(found->second, task);
    }
  }
  return merged;
}

std::string histogram_bars(const std::vector<int64_t>& counts, int64_t width) {
  static constexpr std::array<const char*, 9> kBars = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const auto columns = std::min(static_cast<size_t>(std::max<int64_t>(width, 1)), counts.size());
  std::vector<int64_t> sums(columns);
  for (size_t i = 0; i < counts.size(); ++i) sums[i * columns / counts.size()] += counts[i];
  const int64_t highest = sums.empty() ? 0 : *std::max_element(sums.begin(), sums.end());
  std::string text;
  for (const int64_t sum : sums) {
    // Whatever is there at all is seen.
    const double height = highest == 0 ? 0 : std::ceil(8.0 * static_cast<double>(sum) / static_cast<double>(highest));
    text += kBars[static_cast<size_t>(height)];
  }
  return text;
}

std::string describe_statistics(const TaskStatistics& statistics) {
  constexpr int64_t kWidth = 32;
  const auto number = [](double value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.4g", value);
    return std::string(text);
  };
  std::string text =
      cat("statistics of ", statistics.task, ": ", statistics.episodes, " episodes, ", statistics.steps, " steps\n");
  for (const FieldStatistics& field : statistics.fields) {
    text += cat("  ", group_label(field.group), " ", field.name, ": ", field.count, " ",
                field.unit == "value" ? "values" : cat("with ", field.unit), ", ", number(field.minimum), " to ",
                number(field.maximum), ", mean ", number(field.mean), ", deviation ", number(field.deviation()));
    if (field.outside > 0) {
      text += cat(", ", format_fixed(100 * field.outside_share(), 3), " % outside the declared bounds");
    }
    text += cat("\n    |", histogram_bars(field.counts, kWidth), "|\n");
  }
  return text;
}

}  // namespace gato::data
