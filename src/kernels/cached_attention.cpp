#include "gato/kernels/cached_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <sys/mman.h>

#include <limits>
#include <new>
#include <optional>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/attention_libraries.h"
#include "kernels/cached_attention_plain.h"
#include "kernels/check_rotary.h"
#include "kernels/checks.h"
#include "kernels/cpu/attention.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

/// Zeros that the system maps when they are touched, in huge pages: decoding walks through all of them for every token.
at::Tensor untouched_zeros(at::IntArrayRef sizes, at::ScalarType dtype) {
  auto bytes = static_cast<int64_t>(c10::elementSize(dtype));
  for (const int64_t size : sizes) {
    GATO_CHECK(size == 0 || bytes <= std::numeric_limits<int64_t>::max() / 2 / size, "a cache of sizes ", sizes,
               " is too large");
    bytes *= size;
  }
  if (bytes == 0) return at::zeros(sizes, dtype);
  const auto size = static_cast<size_t>(bytes);
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  static_cast<void>(madvise(memory, size, MADV_HUGEPAGE));  // a wish: failing changes nothing
  const auto unmap = [size](void* p) { static_cast<void>(munmap(p, size)); };
  return at::from_blob(memory, sizes, unmap, at::TensorOptions().dtype(dtype));
}

/// Checks runs against the cache and the number of tokens given; returns the largest number of tokens a slot will hold.
int64_t check_runs(std::span<const CacheRun> runs, const AttentionCache& cache, int64_t tokens) {
  int64_t given = 0, longest = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const CacheRun& run = runs[i];
    GATO_CHECK(run.slot >= 0 && run.slot < cache.keys.size(0) && run.position >= 0 && run.count > 0 &&
                   run.position + run.count <= cache.max_tokens,
               "run ", i, " of ", run.count, " tokens at position ", run.position, " of slot ", run.slot,
               " does not fit a cache of ", cache.keys.size(0), " slots and ", cache.max_tokens, " tokens");
    given += run.count;
    longest = std::max(longest, run.position + run.count);
  }
  GATO_CHECK(given == tokens, "the runs have ", given, " tokens, qkv has ", tokens);
  return longest;
}

/// All heads of all runs; T of qkv, C of the cache.
template <class T, class C>
void attend(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
            const cpu::AttentionShape& shape, const cpu::DistanceView* distances, int64_t longest,
            const at::Tensor& out) {
  const cpu::CacheView<C> view{mutable_data<C>(cache.keys), mutable_data<C>(cache.values), cache.values.size(2),
                               cache.values.size(3)};
  const int64_t width = shape.heads * shape.head_dim;
  std::vector<int64_t> first;
  int64_t tokens = 0;
  for (const CacheRun& run : runs) {
    first.push_back(tokens);
    tokens += run.count;
  }
  const T* from = data<T>(qkv);
  T* to = mutable_data<T>(out);
  for_ranges(static_cast<int64_t>(runs.size()) * shape.heads, 2 * longest * shape.head_dim,
             [&](int64_t begin, int64_t end) {
               for (int64_t i = begin; i < end; ++i) {
                 const auto r = static_cast<size_t>(i / shape.heads);
                 const CacheRun& run = runs[r];
                 cpu::attention_cached(shape, view, distances, run.slot, i % shape.heads, run.position, run.count,
                                       from + first[r] * 3 * width, to + first[r] * width);
               }
             });
}

at::Tensor attend_on_cpu(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
                         const RotaryTable& rotary, const CachedDistances* relative, int64_t longest) {
  const int64_t heads = cache.keys.size(1), head_dim = cache.keys.size(3);
  std::optional<cpu::DistanceView> view;
  if (relative != nullptr) {
    view = {relative->columns.const_data_ptr<float>(), relative->content_bias.const_data_ptr<float>(),
            relative->position_bias.const_data_ptr<float>(), relative->count, relative->columns.size(2)};
  }
  const cpu::DistanceView* distances = view ? &*view : nullptr;
  const at::Tensor out = at::empty({qkv.size(0), heads, head_dim}, qkv.options());
  const cpu::AttentionShape shape{1,
                                  qkv.size(0),
                                  heads,
                                  head_dim,
                                  rotary.defined() ? rotary.cosine.const_data_ptr<float>() : nullptr,
                                  rotary.defined() ? rotary.sine.const_data_ptr<float>() : nullptr};
  const bool narrow_cache = cache.keys.scalar_type() == at::kBFloat16;
  if (qkv.scalar_type() == at::kFloat) {
    attend<float, float>(qkv, runs, cache, shape, distances, longest, out);
  } else if (narrow_cache) {
    attend<cpu::Bf16, cpu::Bf16>(qkv, runs, cache, shape, distances, longest, out);
  } else {
    attend<cpu::Bf16, float>(qkv, runs, cache, shape, distances, longest, out);
  }
  return out;
}

/// Whether the cache is served by our kernels for such a call.
bool takes_own_kernels(const at::Tensor& qkv, const AttentionCache& cache, const CachedDistances* distances) {
  return distances == nullptr && cache.keys.scalar_type() == qkv.scalar_type() && cache.own_kernels;
}

at::Tensor attend_by_own_kernels(const DeviceOps& ops, const at::Tensor& qkv, const at::Tensor& table, int64_t most_new,
                                 int64_t most_context, const AttentionCache& cache, const RotaryTable& rotary) {
  CachedAttentionCall call;
  call.qkv = qkv;
  call.runs = table;
  call.most_new = most_new;
  call.most_context = most_context;
  call.keys = cache.keys;
  call.values = cache.values;
  call.rotary = rotary;
  call.out = at::empty({qkv.size(0), qkv.size(2), qkv.size(3)}, qkv.options());
  ops.cached_attention(call);
  return call.out;
}

at::Tensor attend_on_device(const DeviceOps& ops, const at::Tensor& qkv, std::span<const CacheRun> runs,
                            const AttentionCache& cache, const RotaryTable& rotary, const CachedDistances* distances,
                            const at::Tensor& given_table, int64_t longest) {
  if (runs.empty()) return at::empty({0, qkv.size(2), qkv.size(3)}, qkv.options());
  at::Tensor table = given_table;
  if (!table.defined()) {
    const at::Tensor host = at::empty({static_cast<int64_t>(runs.size()), kRunTableColumns}, at::kInt);
    write_run_table(runs, {host.mutable_data_ptr<int32_t>(), static_cast<size_t>(host.numel())});
    table = host.to(qkv.device());
  }
  check_tensor(table, "run_table", at::kInt, {static_cast<int64_t>(runs.size()), kRunTableColumns});
  check_same_device(qkv, {{"run_table", &table}});
  if (!takes_own_kernels(qkv, cache, distances)) {
    return attend_to_cache_plainly(qkv, runs, table, cache, rotary, distances);
  }
  int64_t most_new = 0;
  for (const CacheRun& run : runs) most_new = std::max(most_new, run.count);
  return attend_by_own_kernels(ops, qkv, table, most_new, longest, cache, rotary);
}

/// What every call must be, whatever its runs.
void check_call(const at::Tensor& qkv, const AttentionCache& cache, const RotaryTable& rotary) {
  GATO_CHECK(!c10::GradMode::is_enabled() || !qkv.requires_grad(), "cached attention has no gradients");
  GATO_CHECK(cache.keys.dim() == (device_ops(qkv) == nullptr ? 5 : 4), "the cache was made for another device than ",
             qkv.device().str());
  check_activation(qkv, "qkv", {-1, 3, cache.keys.size(1), cache.keys.size(3)});
  check_same_device(qkv, {{"the cache", &cache.keys}, {"rotary", &rotary.cosine}});
  GATO_CHECK(qkv.scalar_type() != at::kFloat || cache.keys.scalar_type() == at::kFloat, "qkv is fp32, the cache bf16");
}

/// That tables reach as far as `longest` tokens.
void check_reach(const AttentionCache& cache, const RotaryTable& rotary, const CachedDistances* distances,
                 int64_t longest) {
  check_rotary(rotary, cache.keys.size(3), longest);
  GATO_CHECK(distances == nullptr || distances->count >= longest, "there are ",
             distances == nullptr ? 0 : distances->count, " distances, the longest slot needs ", longest);
}

void check_distances(const at::Tensor& qkv, const AttentionCache& cache, const CachedDistances& distances) {
  const int64_t heads = cache.keys.size(1), head_dim = cache.keys.size(3);
  check_tensor(distances.columns, "distances", at::kFloat, {heads, head_dim, distances.count + cpu::kCacheTile});
  check_tensor(distances.content_bias, "content bias", at::kFloat, {heads, head_dim});
  check_tensor(distances.position_bias, "position bias", at::kFloat, {heads, head_dim});
  check_same_device(qkv, {{"distances", &distances.columns}});
}

at::Tensor attend(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
                  const RotaryTable& rotary, const CachedDistances* distances, const at::Tensor& run_table) {
  const profile::Scope scope("cached attention");
  check_call(qkv, cache, rotary);
  const int64_t longest = check_runs(runs, cache, qkv.size(0));
  check_reach(cache, rotary, distances, longest);
  const DeviceOps* ops = device_ops(qkv);
  return ops == nullptr ? attend_on_cpu(qkv, runs, cache, rotary, distances, longest)
                        : attend_on_device(*ops, qkv, runs, cache, rotary, distances, run_table, longest);
}

}  // namespace

AttentionCache make_attention_cache(int64_t slots, int64_t max_tokens, int64_t heads, int64_t head_dim,
                                    at::ScalarType dtype, at::Device device) {
  GATO_CHECK(slots >= 0 && max_tokens > 0 && heads > 0 && head_dim > 0, "a cache of ", slots, " slots, ", max_tokens,
             " tokens, ", heads, " heads of ", head_dim, " makes no sense");
  GATO_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "a cache is fp32 or bf16, not ", c10::toString(dtype));
  if (has_device_operations(device)) {
    // Zeros, not any memory: plain operations multiply what lies behind a context by 0.
    const auto options = at::TensorOptions().dtype(dtype).device(device);
    const at::Tensor activations = at::empty({1, 0, 3, heads, head_dim}, options);
    return {at::zeros({slots, heads, max_tokens, head_dim}, options),
            at::zeros({slots, heads, max_tokens, head_dim}, options), max_tokens, cache_by_own_kernels(activations)};
  }
  GATO_CHECK(device.is_cpu(), "a cache on ", device.str(), ", for which no operations are loaded");
  const int64_t tiles = (max_tokens + cpu::kCacheTile - 1) / cpu::kCacheTile;
  return {untouched_zeros({slots, heads, tiles, head_dim, cpu::kCacheTile}, dtype),
          untouched_zeros({slots, heads, tiles * cpu::kCacheTile, cpu::cache_lanes(head_dim, dtype == at::kBFloat16)},
                          dtype),
          max_tokens, false};
}

void write_run_table(std::span<const CacheRun> runs, std::span<int32_t> table) {
  GATO_CHECK(table.size() == runs.size() * kRunTableColumns, "a table of ", table.size(), " for ", runs.size(),
             " runs");
  int64_t first = 0;
  auto to = table.begin();
  for (const CacheRun& run : runs) {
    for (const int64_t value : {run.slot, run.position, run.count, first}) *to++ = static_cast<int32_t>(value);
    first += run.count;
  }
}

at::Tensor cached_attention(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
                            const RotaryTable& rotary, const at::Tensor& run_table) {
  return attend(qkv, runs, cache, rotary, nullptr, run_table);
}

CachedDistances make_cached_distances(const at::Tensor& distance_keys, const RelativeBiases& biases) {
  check_tensor(distance_keys, "distance_keys", at::kFloat, {-1, -1, -1});
  const int64_t count = distance_keys.size(0), heads = distance_keys.size(1), head_dim = distance_keys.size(2);
  check_parameter(biases.content, "content bias", {heads, head_dim});
  check_parameter(biases.position, "position bias", {heads, head_dim});
  check_same_device(distance_keys, {{"content bias", &biases.content.value}});
  CachedDistances distances{at::zeros({heads, head_dim, count + cpu::kCacheTile}, distance_keys.options()),
                            biases.content.value.clone(), biases.position.value.clone(), count};
  distances.columns.slice(2, 0, count).copy_(distance_keys.permute({1, 2, 0}));
  return distances;
}

at::Tensor cached_relative_attention(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
                                     const CachedDistances& distances, const at::Tensor& run_table) {
  check_distances(qkv, cache, distances);
  return attend(qkv, runs, cache, {}, &distances, run_table);
}

at::Tensor cached_attention_of_table(const at::Tensor& qkv, const at::Tensor& run_table, int64_t most_context,
                                     const AttentionCache& cache, const RotaryTable& rotary,
                                     const CachedDistances* distances) {
  const profile::Scope scope("cached attention");
  const DeviceOps* ops = device_ops(qkv);
  GATO_CHECK(ops != nullptr, "places of tokens are read on a device with operations of its own, not on ",
             qkv.device().str());
  check_call(qkv, cache, rotary);
  if (distances != nullptr) check_distances(qkv, cache, *distances);
  GATO_CHECK(most_context > 0 && most_context <= cache.max_tokens, "contexts of up to ", most_context,
             " tokens in a cache of ", cache.max_tokens);
  check_reach(cache, rotary, distances, most_context);
  check_tensor(run_table, "run_table", at::kInt, {qkv.size(0), kRunTableColumns});
  check_same_device(qkv, {{"run_table", &run_table}});
  return takes_own_kernels(qkv, cache, distances)
             ? attend_by_own_kernels(*ops, qkv, run_table, 1, most_context, cache, rotary)
             : attend_to_table_plainly(qkv, run_table, most_context, cache, rotary, distances);
}

}  // namespace gato::kernels
