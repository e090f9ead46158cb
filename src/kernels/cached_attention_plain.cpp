#include "kernels/cached_attention_plain.h"

#include <ATen/ATen.h>
#include <ATen/TensorIndexing.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

// G runs of a group, m queries of each at a time, c keys: the longest context of the group.
namespace gato::kernels {
namespace {

/// Floats of the largest tensor made on the way, where one run at a time allows it: 256 MiB.
constexpr int64_t kMostFloats = int64_t{1} << 26;

/// Where the tokens of a call belong: int64 [n] each.
struct Places {
  at::Tensor run, offset;  // the token's run, and its number in it
  at::Tensor slot, position;
};

Places places_of(const at::Tensor& runs, int64_t tokens) {
  Places places;
  places.run = at::repeat_interleave(runs.select(1, 2), std::optional(tokens));
  const at::Tensor of_token = runs.index_select(0, places.run);
  places.offset = at::arange(tokens, runs.options()) - of_token.select(1, 3);
  places.slot = of_token.select(1, 0);
  places.position = of_token.select(1, 1) + places.offset;
  return places;
}

/// Queries or keys `x` fp32 [n, H, D] rotated by their positions.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& rotary) {
  if (!rotary.defined()) return x;
  const at::Tensor cosine = rotary.cosine.index_select(0, positions).unsqueeze(1);
  const at::Tensor sine = rotary.sine.index_select(0, positions).unsqueeze(1);
  const std::vector<at::Tensor> halves = x.chunk(2, -1);
  return at::cat({halves[0] * cosine - halves[1] * sine, halves[1] * cosine + halves[0] * sine}, -1);
}

/// Puts `x` [n, H, D] into its slots; where `kept`, bool [n], is given, its rows say where nothing changes.
void store(const at::Tensor& x, const Places& places, const at::Tensor& cache, const at::Tensor& kept = {}) {
  at::Tensor by_place = cache.permute({0, 2, 1, 3});  // [slots, max_tokens, H, D]
  at::Tensor values = x.to(cache.scalar_type());
  if (kept.defined()) {
    values = at::where(kept.view({-1, 1, 1}), by_place.index({places.slot, places.position}), values);
  }
  by_place.index_put_({places.slot, places.position}, values);
}

/// Scores of distances, [G, H, m, c], for queries [G, H, m, D] at `positions` [G, m].
at::Tensor distance_scores(const at::Tensor& queries, const at::Tensor& positions, int64_t context,
                           const CachedDistances& distances) {
  const at::Tensor nearest = distances.columns.slice(2, distances.count - context, distances.count);  // [H, D, c]
  const at::Tensor all = at::matmul(queries + distances.position_bias.unsqueeze(1), nearest);
  const at::Tensor key = at::arange(context, positions.options());
  const at::Tensor column = (context - 1 - (positions.unsqueeze(2) - key)).clamp(0, context - 1);  // [G, m, c]
  return all.gather(3, column.unsqueeze(1).expand(all.sizes()));
}

/// Consecutive runs that are computed at once.
struct Group {
  int64_t begin = 0, end = 0;  // runs
  int64_t first_token = 0, tokens = 0;
  int64_t most_new = 0, context = 0;
};

/// What a group of so many runs needs at once.
int64_t floats_of(const Group& group, int64_t heads, int64_t head_dim) {
  return (group.end - group.begin) * heads * group.context * std::max(group.most_new, head_dim);
}

/// As many runs in a group as memory allows, at least one.
std::vector<Group> groups_of(std::span<const CacheRun> runs, int64_t heads, int64_t head_dim) {
  std::vector<Group> groups;
  for (int64_t r = 0; r < static_cast<int64_t>(runs.size()); ++r) {
    const CacheRun& run = runs[static_cast<size_t>(r)];
    const int64_t context = run.position + run.count;
    const Group alone{r,         r + 1,     groups.empty() ? 0 : groups.back().first_token + groups.back().tokens,
                      run.count, run.count, context};
    if (!groups.empty()) {
      Group with = groups.back();
      with.end = r + 1;
      with.tokens += run.count;
      with.most_new = std::max(with.most_new, run.count);
      with.context = std::max(with.context, context);
      if (floats_of(with, heads, head_dim) <= kMostFloats) {
        groups.back() = with;
        continue;
      }
    }
    groups.push_back(alone);
  }
  return groups;
}

/// The attention of a call's queries.
class Attention {
 public:
  Attention(at::Tensor queries, at::Tensor runs, Places places, const AttentionCache& cache,
            const CachedDistances* distances)
      : queries_(std::move(queries)),
        runs_(std::move(runs)),
        places_(std::move(places)),
        cache_(cache),
        distances_(distances) {}

  /// Results of the group's tokens into their rows of `out` [n, H, D]. Only a group of one run is computed in parts.
  void compute(const Group& group, const at::Tensor& out) const {
    const at::Tensor runs = runs_.slice(0, group.begin, group.end);
    const auto contexts = [&](const at::Tensor& kept) {
      return kept.slice(2, 0, group.context).index_select(0, runs.select(1, 0)).to(at::kFloat);
    };
    const at::Tensor keys = contexts(cache_.keys).transpose(2, 3), values = contexts(cache_.values);
    const bool alone = group.end - group.begin == 1;
    const int64_t at_once =
        alone ? std::max<int64_t>(1, kMostFloats / (queries_.size(1) * group.context)) : group.most_new;
    for (int64_t first = 0; first < group.most_new; first += at_once) {
      const int64_t count = std::min(at_once, group.most_new - first);
      const at::Tensor mixed = mix(runs, first, count, keys, values);
      const int64_t begin = group.first_token + first;
      const int64_t end = alone ? begin + count : group.first_token + group.tokens;
      const at::Tensor place =
          (places_.run.slice(0, begin, end) - group.begin) * count + (places_.offset.slice(0, begin, end) - first);
      out.slice(0, begin, end).copy_(mixed.index_select(0, place));
    }
  }

 private:
  /// [G x m, H, D] for queries [first, first + m) of each run; those behind a run's end are its last one again.
  [[nodiscard]] at::Tensor mix(const at::Tensor& runs, int64_t first, int64_t count, const at::Tensor& keys,
                               const at::Tensor& values) const {
    const int64_t heads = queries_.size(1), head_dim = queries_.size(2), context = values.size(2);
    const at::Tensor offset = at::minimum(at::arange(first, first + count, runs.options()).unsqueeze(0),
                                          runs.select(1, 2).unsqueeze(1) - 1);  // [G, m]
    const at::Tensor position = runs.select(1, 1).unsqueeze(1) + offset;
    const at::Tensor queries = queries_.index_select(0, (runs.select(1, 3).unsqueeze(1) + offset).view(-1))
                                   .view({-1, count, heads, head_dim})
                                   .transpose(1, 2);  // [G, H, m, D]
    at::Tensor scores =
        at::matmul(distances_ == nullptr ? queries : queries + distances_->content_bias.unsqueeze(1), keys);
    if (distances_ != nullptr) scores += distance_scores(queries, position, context, *distances_);
    const at::Tensor later = at::arange(context, runs.options()) > position.unsqueeze(2);  // [G, m, c]
    scores.div_(std::sqrt(static_cast<double>(head_dim)))
        .masked_fill_(later.unsqueeze(1), -std::numeric_limits<double>::infinity());
    return at::matmul(scores.softmax(-1), values).transpose(1, 2).reshape({-1, heads, head_dim});
  }

  at::Tensor queries_, runs_;
  Places places_;
  const AttentionCache& cache_;
  const CachedDistances* distances_;
};

/// Stores the call's keys and values, then attends.
at::Tensor store_and_attend(const at::Tensor& qkv, std::span<const CacheRun> runs, const at::Tensor& table,
                            Places places, const at::Tensor& kept, const AttentionCache& cache,
                            const RotaryTable& rotary, const CachedDistances* distances) {
  const auto part = [&](int64_t which) { return qkv.select(1, which).to(at::kFloat); };
  store(rotate(part(1), places.position, rotary), places, cache.keys, kept);
  store(part(2), places, cache.values, kept);
  const at::Tensor out = at::empty({qkv.size(0), qkv.size(2), qkv.size(3)}, qkv.options());
  const at::Tensor queries = rotate(part(0), places.position, rotary);
  const Attention attention(queries, table, std::move(places), cache, distances);
  for (const Group& group : groups_of(runs, qkv.size(2), qkv.size(3))) attention.compute(group, out);
  return out;
}

}  // namespace

at::Tensor attend_to_cache_plainly(const at::Tensor& qkv, std::span<const CacheRun> runs, const at::Tensor& run_table,
                                   const AttentionCache& cache, const RotaryTable& rotary,
                                   const CachedDistances* distances) {
  const at::Tensor table = run_table.to(at::kLong);
  return store_and_attend(qkv, runs, table, places_of(table, qkv.size(0)), {}, cache, rotary, distances);
}

at::Tensor attend_to_table_plainly(const at::Tensor& qkv, const at::Tensor& run_table, int64_t most_context,
                                   const AttentionCache& cache, const RotaryTable& rotary,
                                   const CachedDistances* distances) {
  // A token that is none attends to what is there, so that all rows have the same form.
  const at::Tensor given = run_table.to(at::kLong);
  const at::Tensor row = at::arange(qkv.size(0), given.options()), one = at::ones_like(row);
  const at::Tensor slot = given.select(1, 0), position = given.select(1, 1).clamp(0, most_context - 1);
  const at::Tensor table = at::stack({slot, position, one, row}, 1);
  const std::vector<CacheRun> runs(static_cast<size_t>(qkv.size(0)), {0, most_context - 1, 1});
  return store_and_attend(qkv, runs, table, {row, at::zeros_like(row), slot, position}, given.select(1, 2) == 0, cache,
                          rotary, distances);
}

}  // namespace gato::kernels
