#include "kernels/cuda/dropout.h"

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 128;

/// gato/core/random.h in device code: the finalizer of mix_seed, mix_seed(seed, {part}), and Philox 4x32-10.
__device__ __forceinline__ uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

__device__ __forceinline__ uint64_t mix_seed(uint64_t seed, uint64_t part) {
  constexpr uint64_t kGoldenRatio = 0x9E3779B97F4A7C15u;
  constexpr uint64_t kPosition = 2;
  const uint64_t state = mix64(mix64(seed + kGoldenRatio) ^ mix64(part + kPosition * kGoldenRatio)) + kGoldenRatio;
  return mix64(state ^ (kPosition * kGoldenRatio));
}

__device__ __forceinline__ uint4 philox4x32(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.x;
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.z;
    counter = make_uint4(static_cast<uint32_t>(product1 >> 32) ^ counter.y ^ key.x, static_cast<uint32_t>(product1),
                         static_cast<uint32_t>(product0 >> 32) ^ counter.w ^ key.y, static_cast<uint32_t>(product0));
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}

/// A block per token; a thread draws for four columns at a time. kCount 4: they are one access.
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads) dropout_kernel(Dropout call, uint32_t threshold, float factor) {
  const int64_t token = blockIdx.x;
  const DropoutKey key = call.device_key == nullptr ? call.key : *call.device_key;
  const int64_t row = token / call.row_tokens;
  const auto place = static_cast<uint32_t>(token % call.row_tokens);
  const uint64_t stream = mix_seed(key.key, static_cast<uint64_t>(key.first_row + row));
  const uint2 words = make_uint2(static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32));
  const T* from = static_cast<const T*>(call.x) + token * call.width;
  T* to = static_cast<T*>(call.y) + token * call.width;
  const auto groups = static_cast<uint32_t>((call.width + 3) / 4);
  for (uint32_t group = threadIdx.x; group < groups; group += kThreads) {
    const uint4 bits = philox4x32(make_uint4(group, place, 0, 0), words);
    const float factors[4] = {bits.x < threshold ? 0.0f : factor, bits.y < threshold ? 0.0f : factor,
                              bits.z < threshold ? 0.0f : factor, bits.w < threshold ? 0.0f : factor};
    const int64_t first = int64_t{4} * group;
#pragma unroll
    for (int i = 0; i < 4; i += kCount) {
      if (first + i >= call.width) continue;
      Floats<kCount> x = load_floats<kCount>(from + first + i);
#pragma unroll
      for (int k = 0; k < kCount; ++k) x.v[k] = factors[i + k] == 0.0f ? 0.0f : x.v[k] * factors[i + k];
      store_floats(to + first + i, x);
    }
  }
}

template <class T>
void launch_dropout(const Dropout& call, Stream stream) {
  const auto threshold = static_cast<uint32_t>(call.probability * 0x1p32);
  const auto factor = static_cast<float>(1 / (1 - call.probability));
  const bool vectors = call.width % 4 == 0 && all_aligned(4 * sizeof(T), call.x, call.y);
  launch({"dropout", num_blocks(call.tokens, 1), kThreads, 0, stream},
         vectors ? dropout_kernel<T, 4> : dropout_kernel<T, 1>, call, threshold, factor);
}

}  // namespace

void dropout(const Dropout& call, Stream stream) {
  check_element(call.element, "dropout");
  check_range(call.tokens, 0, int64_t{1} << 31, "tokens");
  check_range(call.width, 0, int64_t{1} << 32, "width");
  GATO_CHECK(call.probability >= 0 && call.probability < 1, "the probability must be in [0, 1), is ", call.probability);
  GATO_CHECK(call.row_tokens > 0 && call.tokens % call.row_tokens == 0, "there are ", call.tokens,
             " tokens, which rows of ", call.row_tokens, " do not divide");
  if (call.tokens == 0 || call.width == 0) return;
  check_pointer(call.x, element_bytes(call.element), "x");
  check_pointer(call.y, element_bytes(call.element), "y");
  check_optional(call.device_key, "device_key");
  if (call.element == Element::kBFloat16) {
    launch_dropout<BFloat16>(call, stream);
  } else {
    launch_dropout<float>(call, stream);
  }
}

}  // namespace gato::kernels::cuda
