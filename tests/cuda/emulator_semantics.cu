#include "cuda/emulator_semantics.h"
#include "kernels/cuda/device.h"

namespace gato::emulator_tests {
namespace {

using namespace gato::kernels::cuda;

__global__ void shuffle_kernel(int argument, int width, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  out[lane] = __shfl_sync(kFullMask, lane, argument, width);
  out[32 + lane] = __shfl_xor_sync(kFullMask, lane, argument, width);
  out[64 + lane] = __shfl_down_sync(kFullMask, lane, argument, width);
  out[96 + lane] = __shfl_up_sync(kFullMask, lane, argument, width);
}

__global__ void shuffle_double_kernel(int distance, double* out) {
  out[threadIdx.x] = __shfl_xor_sync(kFullMask, static_cast<double>(threadIdx.x) + 0.5, distance);
}

__global__ void vote_kernel(unsigned bits, unsigned* out) {
  const unsigned lane = threadIdx.x;
  const int mine = static_cast<int>(bits >> lane & 1);
  out[lane] = __ballot_sync(kFullMask, mine);
  out[32 + lane] = static_cast<unsigned>(__any_sync(kFullMask, mine));
  out[64 + lane] = static_cast<unsigned>(__all_sync(kFullMask, mine));
}

__global__ void partial_warp_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[20 + lane] = __ballot_sync(kFullMask, 1);  // a full mask means the lanes there are
  constexpr unsigned kFirstTwenty = (1u << 20) - 1;
  out[lane] = lane + __shfl_down_sync(kFirstTwenty, lane, 1, 4);
}

template <class T>
__device__ __forceinline__ void all_atomics(T* words, T value) {
  atomicAdd(&words[0], value);
  atomicMin(&words[1], value);
  atomicMax(&words[2], value);
  atomicExch(&words[3], static_cast<T>(9));
  atomicOr(&words[4], static_cast<T>(value & 0xff));
  atomicAnd(&words[5], static_cast<T>(0xf0));
  T seen = 0;
  T assumed = 0;
  do {  // a counter by compare and swap
    assumed = seen;
    seen = atomicCAS(&words[6], assumed, static_cast<T>(assumed + 1));
  } while (seen != assumed);
}

__global__ void atomics_kernel(int* signed_words, unsigned* unsigned_words, unsigned long long* long_words) {
  const int value = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) - 100;
  all_atomics(signed_words, value);
  all_atomics(unsigned_words, static_cast<unsigned>(value));
  all_atomics(long_words, static_cast<unsigned long long>(value + 100) << 32);
}

__global__ void indices_kernel(unsigned long long* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned parts[6] = {blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z};
  unsigned long long packed = 0;
  for (const unsigned part : parts) packed = packed << 8 | part;
  out[block * (blockDim.x * blockDim.y * blockDim.z) + thread] = packed;
}

template <int Bytes>
__global__ void copy_kernel(int source_bytes, const uint32_t* in, uint32_t* out) {
  GATO_SHARED(uint32_t, words, 4);
  cp_async<Bytes>(words, in, source_bytes);
  cp_async_commit();
  cp_async_wait<0>();
  for (unsigned i = 0; i < Bytes / 4; ++i) out[i] = words[i];
}

__global__ void block_sums_kernel(const float* in, float* out) {
  GATO_SHARED(float, values, 64);
  const unsigned thread = threadIdx.x;
  values[thread] = in[blockIdx.x * 64 + thread];
  for (unsigned half = 32; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) values[thread] += values[thread + half];
  }
  if (thread == 0) out[blockIdx.x] = values[0];
}

__global__ void block_order_kernel(int* counter, int* order) {
  order[atomicAdd(counter, 1)] = static_cast<int>(blockIdx.x);
}

__global__ void integer_kernel(unsigned* out) {
  out[0] = static_cast<unsigned>(__popc(0xf0f0u));
  out[1] = static_cast<unsigned>(__clz(0));
  out[2] = static_cast<unsigned>(__clz(1));
  out[3] = static_cast<unsigned>(__ffs(8));
  out[4] = static_cast<unsigned>(__ffs(0));
  out[5] = __umulhi(0x80000000u, 6u);
  out[6] = __float_as_uint(1.0f);
  out[7] = __float_as_uint(rsqrtf(4.0f));
  out[8] = static_cast<unsigned>(min(3, 5) * 10 + max(3, 5));
  out[9] = __float_as_uint(exp2_approx(-INFINITY));
}

__global__ void nothing_kernel() {}

}  // namespace

void shuffle_int(int argument, int width, int* out) {
  launch({"shuffle", 1, 32}, shuffle_kernel, argument, width, out);
}
void shuffle_double(int distance, double* out) {
  launch({"shuffle_double", 1, 32}, shuffle_double_kernel, distance, out);
}
void vote(unsigned bits, unsigned* out) { launch({"vote", 1, 32}, vote_kernel, bits, out); }
void partial_warp(unsigned* out) { launch({"partial_warp", 1, 20}, partial_warp_kernel, out); }
void integer_atomics(int* signed_words, unsigned* unsigned_words, unsigned long long* long_words) {
  launch({"atomics", 4, 64}, atomics_kernel, signed_words, unsigned_words, long_words);
}
void indices(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned long long* out) {
  launch({"indices", dim3(gx, gy, gz), dim3(bx, by, bz)}, indices_kernel, out);
}
void copy_with_zero_fill(int bytes, int source_bytes, const uint32_t* in, uint32_t* out) {
  const auto kernel = bytes == 4 ? copy_kernel<4> : bytes == 8 ? copy_kernel<8> : copy_kernel<16>;
  launch({"copy", 1, 1}, kernel, source_bytes, in, out);
}
void block_sums(const float* in, float* out, int num_blocks) {
  launch({"block_sums", static_cast<unsigned>(num_blocks), 64}, block_sums_kernel, in, out);
}
void block_order(int* counter, int* order, int num_blocks) {
  launch({"block_order", static_cast<unsigned>(num_blocks), 1}, block_order_kernel, counter, order);
}
void integer_functions(unsigned* out) { launch({"integers", 1, 1}, integer_kernel, out); }
void launch_shape(unsigned grid_x, unsigned grid_y, unsigned threads, size_t shared_bytes) {
  launch({"nothing", dim3(grid_x, grid_y), threads, shared_bytes}, nothing_kernel);
}
int multiprocessors() { return num_multiprocessors(); }
size_t shared_limit() { return max_shared_bytes(); }

}  // namespace gato::emulator_tests
