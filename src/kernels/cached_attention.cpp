#include "gato/kernels/cached_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <sys/mman.h>

#include <limits>
#include <new>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/check_rotary.h"
#include "kernels/checks.h"
#include "kernels/cpu/attention.h"
#include "kernels/data.h"
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

at::Tensor attend(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
                  const RotaryTable& rotary, const cpu::DistanceView* distances) {
  GATO_CHECK(!c10::GradMode::is_enabled() || !qkv.requires_grad(), "cached attention has no gradients");
  const profile::Scope scope("cached attention");
  const int64_t heads = cache.keys.size(1), head_dim = cache.keys.size(3);
  check_activation(qkv, "qkv", {-1, 3, heads, head_dim});
  GATO_CHECK(qkv.is_cpu(), "cached attention runs on the CPU, qkv is on ", qkv.device().str());
  const int64_t longest = check_runs(runs, cache, qkv.size(0));
  check_rotary(rotary, head_dim, longest);
  GATO_CHECK(distances == nullptr || distances->count >= longest, "there are ",
             distances == nullptr ? 0 : distances->count, " distances, the longest slot needs ", longest);
  const at::Tensor out = at::empty({qkv.size(0), heads, head_dim}, qkv.options());
  const cpu::AttentionShape shape{1,
                                  qkv.size(0),
                                  heads,
                                  head_dim,
                                  rotary.defined() ? rotary.cosine.const_data_ptr<float>() : nullptr,
                                  rotary.defined() ? rotary.sine.const_data_ptr<float>() : nullptr};
  const bool narrow_cache = cache.keys.scalar_type() == at::kBFloat16;
  if (qkv.scalar_type() == at::kFloat) {
    GATO_CHECK(!narrow_cache, "qkv is fp32, the cache bf16");
    attend<float, float>(qkv, runs, cache, shape, distances, longest, out);
  } else if (narrow_cache) {
    attend<cpu::Bf16, cpu::Bf16>(qkv, runs, cache, shape, distances, longest, out);
  } else {
    attend<cpu::Bf16, float>(qkv, runs, cache, shape, distances, longest, out);
  }
  return out;
}

}  // namespace

AttentionCache make_attention_cache(int64_t slots, int64_t max_tokens, int64_t heads, int64_t head_dim,
                                    at::ScalarType dtype) {
  GATO_CHECK(slots >= 0 && max_tokens > 0 && heads > 0 && head_dim > 0, "a cache of ", slots, " slots, ", max_tokens,
             " tokens, ", heads, " heads of ", head_dim, " makes no sense");
  GATO_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "a cache is fp32 or bf16, not ", c10::toString(dtype));
  const int64_t tiles = (max_tokens + cpu::kCacheTile - 1) / cpu::kCacheTile;
  return {untouched_zeros({slots, heads, tiles, head_dim, cpu::kCacheTile}, dtype),
          untouched_zeros({slots, heads, tiles * cpu::kCacheTile, cpu::cache_lanes(head_dim, dtype == at::kBFloat16)},
                          dtype),
          max_tokens};
}

at::Tensor cached_attention(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
                            const RotaryTable& rotary) {
  return attend(qkv, runs, cache, rotary, nullptr);
}

CachedDistances make_cached_distances(const at::Tensor& distance_keys, const RelativeBiases& biases) {
  check_tensor(distance_keys, "distance_keys", at::kFloat, {-1, -1, -1});
  const int64_t count = distance_keys.size(0), heads = distance_keys.size(1), head_dim = distance_keys.size(2);
  check_parameter(biases.content, "content bias", {heads, head_dim});
  check_parameter(biases.position, "position bias", {heads, head_dim});
  CachedDistances distances{at::zeros({heads, head_dim, count + cpu::kCacheTile}, at::kFloat),
                            biases.content.value.clone(), biases.position.value.clone(), count};
  distances.columns.slice(2, 0, count).copy_(distance_keys.permute({1, 2, 0}));
  return distances;
}

at::Tensor cached_relative_attention(const at::Tensor& qkv, std::span<const CacheRun> runs, const AttentionCache& cache,
                                     const CachedDistances& distances) {
  const int64_t heads = cache.keys.size(1), head_dim = cache.keys.size(3);
  check_tensor(distances.columns, "distances", at::kFloat, {heads, head_dim, distances.count + cpu::kCacheTile});
  check_tensor(distances.content_bias, "content bias", at::kFloat, {heads, head_dim});
  check_tensor(distances.position_bias, "position bias", at::kFloat, {heads, head_dim});
  const cpu::DistanceView view{
      distances.columns.const_data_ptr<float>(), distances.content_bias.const_data_ptr<float>(),
      distances.position_bias.const_data_ptr<float>(), distances.count, distances.columns.size(2)};
  return attend(qkv, runs, cache, {}, &view);
}

}  // namespace gato::kernels
