// One small kernel per fault, and neighbours of them without fault. The line that a report must name is marked with
// "<-- name of the kernel"; emulator_faults_test.cpp reads the marks.
#include "cuda/emulator_faults.h"

#include <map>

#include "gato/core/error.h"
#include "kernels/cuda/device.h"

namespace gato::emulator_tests {
namespace {

using namespace gato::kernels::cuda;

__device__ __forceinline__ int global_thread() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// ------------------------------------------------------------------------------------------ outside a buffer

__global__ void past_the_end(FaultArguments k) {
  k.data[global_thread() + 1] = 1.0f;  // <-- past_the_end
}

__global__ void in_front(FaultArguments k) {
  k.output[global_thread()] = k.data[global_thread() - 1];  // <-- in_front
}

__global__ void vector_past_the_end(FaultArguments k) {
  if (global_thread() != k.n - 1) return;
  store16(k.data + k.n - 4, make_uint4(0, 0, 0, 0));
  store16(k.data + k.n, make_uint4(0, 0, 0, 0));  // <-- vector_past_the_end
}

struct Chunk {
  float values[40];
};

__global__ void structure_past_the_end(FaultArguments k) {
  const Chunk* chunks = reinterpret_cast<const Chunk*>(k.data);
  if (global_thread() == 0) *reinterpret_cast<Chunk*>(k.output) = chunks[3];  // <-- structure_past_the_end
}

__global__ void memcpy_past_the_end(FaultArguments k) {
  if (global_thread() == 0) memcpy(k.output, k.data + 100, 40 * sizeof(float));  // <-- memcpy_past_the_end
}

__global__ void host_memory(FaultArguments k, const float* host) {
  k.output[global_thread()] = *host;  // <-- host_memory
}

__global__ void other_threads_local(FaultArguments k) {
  GATO_SHARED(float*, pointer, 1);
  float local = static_cast<float>(threadIdx.x);
  if (threadIdx.x == 0) pointer[0] = &local;
  __syncthreads();
  k.output[global_thread()] = *pointer[0];  // <-- other_threads_local
}

__global__ void past_static_shared(FaultArguments k) {
  GATO_SHARED(float, first, 64);
  GATO_SHARED(float, second, 64);
  first[threadIdx.x] = 1.0f;
  second[threadIdx.x] = 2.0f;
  __syncthreads();
  float* view = first;
  k.output[global_thread()] = view[threadIdx.x + 1] + second[threadIdx.x];  // <-- past_static_shared
}

__global__ void past_dynamic_shared(FaultArguments k) {
  GATO_DYNAMIC_SHARED(float, values);
  values[threadIdx.x + 1] = k.data[global_thread()];  // <-- past_dynamic_shared
}

__global__ void write_to_input(FaultArguments k) {
  const_cast<float*>(k.input)[global_thread()] = 1.0f;  // <-- write_to_input
}

__global__ void atomic_outside(FaultArguments k) {
  atomicAdd(k.counter + 1, 1);  // <-- atomic_outside
}

// ------------------------------------------------------------------------------------------ never written

__global__ void unwritten_shared(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  if (threadIdx.x < 63) values[threadIdx.x] = 1.0f;
  __syncthreads();
  k.output[global_thread()] = values[threadIdx.x];  // <-- unwritten_shared
}

__global__ void unwritten_shared_update(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  values[threadIdx.x] += 1.0f;  // <-- unwritten_shared_update
  __syncthreads();
  k.output[global_thread()] = values[threadIdx.x];
}

__global__ void shared_of_last_block(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  if (blockIdx.x == 0) values[threadIdx.x] = 1.0f;
  __syncthreads();
  k.output[global_thread()] = values[threadIdx.x];  // <-- shared_of_last_block
}

__global__ void unwritten_global(FaultArguments k) {
  k.data[global_thread()] = k.output[global_thread()];  // <-- unwritten_global
}

// ------------------------------------------------------------------------------------------ races

__global__ void missing_barrier(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  values[threadIdx.x] = 0.0f;
  __syncthreads();
  values[threadIdx.x] = 1.0f;                            // <-- missing_barrier
  k.output[global_thread()] = values[63 - threadIdx.x];  // <-- missing_barrier
}

__global__ void missing_barrier_before_write(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  values[threadIdx.x] = 1.0f;
  __syncthreads();
  k.output[global_thread()] = values[63 - threadIdx.x];
  values[threadIdx.x] = 2.0f;  // <-- missing_barrier_before_write
}

__global__ void warp_barrier_for_block(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  values[threadIdx.x] = 0.0f;
  __syncthreads();
  values[threadIdx.x] = 1.0f;  // <-- warp_barrier_for_block
  __syncwarp();
  k.output[global_thread()] = values[63 - threadIdx.x];  // <-- warp_barrier_for_block
}

__global__ void missing_warp_barrier(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  values[threadIdx.x] = 0.0f;
  __syncwarp();
  values[threadIdx.x] = 1.0f;                            // <-- missing_warp_barrier
  k.output[global_thread()] = values[threadIdx.x ^ 31];  // <-- missing_warp_barrier
}

// A shuffle brings lanes together but orders no memory.
__global__ void shuffle_for_barrier(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  values[threadIdx.x] = 0.0f;
  __syncwarp();
  values[threadIdx.x] = 1.0f;  // <-- shuffle_for_barrier
  const float sum = warp_sum(1.0f);
  k.output[global_thread()] = sum + values[threadIdx.x ^ 31];  // <-- shuffle_for_barrier
}

__global__ void ldmatrix_without_barrier(FaultArguments k) {
  GATO_SHARED(uint4, rows, 64);
  store16(&rows[threadIdx.x], make_uint4(0, 0, 0, 0));
  uint32_t fragment[4];
  ldmatrix<4>(fragment, &rows[threadIdx.x]);  // <-- ldmatrix_without_barrier
  k.output[global_thread()] = __uint_as_float(fragment[0]);
}

__global__ void two_writers(FaultArguments k) {
  GATO_SHARED(float, values, 32);
  values[threadIdx.x % 32] = 1.0f;  // <-- two_writers
  __syncthreads();
  k.output[global_thread()] = values[threadIdx.x % 32];
}

__global__ void global_race_in_block(FaultArguments k) {
  const unsigned neighbour = (threadIdx.x + 1) % blockDim.x;
  k.data[global_thread()] = 2.0f * k.data[blockIdx.x * blockDim.x + neighbour];  // <-- global_race_in_block
}

__global__ void global_race_of_writers(FaultArguments k) {
  k.output[threadIdx.x] = static_cast<float>(blockIdx.x);  // <-- global_race_of_writers
}

__global__ void global_race_of_reader(FaultArguments k) {
  if (blockIdx.x == 0) k.data[threadIdx.x] = 1.0f;                   // <-- global_race_of_reader
  if (blockIdx.x == 1) k.output[threadIdx.x] = k.data[threadIdx.x];  // <-- global_race_of_reader
}

__global__ void plain_beside_atomic(FaultArguments k) {
  if (threadIdx.x != 0) return;
  atomicAdd(k.counter, 1);                              // <-- plain_beside_atomic
  k.data[blockIdx.x] = static_cast<float>(*k.counter);  // <-- plain_beside_atomic
  atomicAdd(k.counter, 1);                              // <-- plain_beside_atomic
}

// ------------------------------------------------------------------------------------------ barriers

__global__ void barrier_in_one_warp(FaultArguments k) {
  k.output[global_thread()] = 0.0f;
  if (threadIdx.x < 32) {
    __syncthreads();  // <-- barrier_in_one_warp
  }
}

__global__ void two_barriers(FaultArguments k) {
  k.output[global_thread()] = 0.0f;
  if (threadIdx.x < 32) {
    __syncthreads();  // <-- two_barriers
  } else {
    __syncthreads();  // <-- two_barriers
  }
}

__global__ void exit_before_barrier(FaultArguments k) {
  k.output[global_thread()] = 0.0f;
  if (threadIdx.x >= 32) return;
  __syncthreads();  // <-- exit_before_barrier
}

__global__ void barrier_and_shuffle(FaultArguments k) {
  if (threadIdx.x % 32 < 16) {
    __syncthreads();  // <-- barrier_and_shuffle
  }
  k.output[global_thread()] = warp_sum(1.0f);  // <-- barrier_and_shuffle
}

__global__ void warp_barrier_of_half(FaultArguments k) {
  k.output[global_thread()] = 0.0f;
  if (threadIdx.x % 32 < 16) {
    __syncwarp();  // <-- warp_barrier_of_half
  }
}

__global__ void shuffle_under_divergence(FaultArguments k) {
  float value = 1.0f;
  if (threadIdx.x % 2 == 0) {
    value += __shfl_xor_sync(kFullMask, value, 2);  // <-- shuffle_under_divergence
  } else {
    value += __shfl_xor_sync(kFullMask, value, 4);  // <-- shuffle_under_divergence
  }
  k.output[global_thread()] = value;
}

__global__ void shuffle_of_absent_lane(FaultArguments k) {
  const unsigned lower = 0xffffu;
  float value = 1.0f;
  if (threadIdx.x % 32 < 16) value = __shfl_sync(lower, value, 20);  // <-- shuffle_of_absent_lane
  k.output[global_thread()] = value;
}

__global__ void caller_outside_mask(FaultArguments k) {
  const unsigned votes = __ballot_sync(0xffffu, 1);  // <-- caller_outside_mask
  k.output[global_thread()] = static_cast<float>(votes);
}

__global__ void mma_of_half_a_warp(FaultArguments k) {
  float d[4] = {};
  const uint32_t a[4] = {};
  mma_m16n8k16<BFloat16>(d, a, 0, 0);  // <-- mma_of_half_a_warp
  k.output[threadIdx.x] = d[0];
}

// ------------------------------------------------------------------------------------------ addresses and operands

__global__ void misaligned_global(FaultArguments k) {
  k.output[global_thread()] = *reinterpret_cast<const float*>(k.bytes + 2);  // <-- misaligned_global
}

__global__ void misaligned_shared(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  values[threadIdx.x] = 1.0f;
  __syncthreads();
  const char* view = reinterpret_cast<const char*>(values) + 2;
  if (threadIdx.x == 0) k.output[blockIdx.x] = *reinterpret_cast<const float*>(view);  // <-- misaligned_shared
}

__global__ void misaligned_vector(FaultArguments k) {
  if (global_thread() == 0) store16(k.output + 4, load16(k.data + 1));  // <-- misaligned_vector
}

__global__ void misaligned_plain_vector(FaultArguments k) {
  if (global_thread() == 0)
    *reinterpret_cast<uint4*>(k.output + 1) = make_uint4(1, 2, 3, 4);  // <-- misaligned_plain_vector
}

__global__ void misaligned_ldmatrix(FaultArguments k) {
  GATO_SHARED(float, values, 32 * 4 + 1);
  for (unsigned i = threadIdx.x; i < 32 * 4 + 1; i += 64) values[i] = 0.0f;
  __syncthreads();
  uint32_t fragment[4];
  ldmatrix<4>(fragment, values + threadIdx.x % 32 * 4 + 1);  // <-- misaligned_ldmatrix
  k.output[global_thread()] = __uint_as_float(fragment[0]);
}

__global__ void ldmatrix_of_global(FaultArguments k) {
  uint32_t fragment[4];
  ldmatrix<4>(fragment, k.data + threadIdx.x % 16 * 4);  // <-- ldmatrix_of_global
  k.output[global_thread()] = __uint_as_float(fragment[0]);
}

__global__ void shuffle_width(FaultArguments k) {
  k.output[global_thread()] = __shfl_xor_sync(kFullMask, 1.0f, 1, 24);  // <-- shuffle_width
}

#if defined(GATO_CUDA_EMULATION)  // nvcc does not compile it
__global__ void too_much_static_shared(FaultArguments k) {
  GATO_SHARED(float, values, 12 * 1024 + 1);
  values[threadIdx.x] = 1.0f;
  k.output[global_thread()] = values[threadIdx.x];
}
#else
__global__ void too_much_static_shared(FaultArguments) {}
#endif

// ------------------------------------------------------------------------------------------ asynchronous copies

__global__ void copy_read_early(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  cp_async<4>(values + threadIdx.x, k.data + global_thread());
  cp_async_commit();
  k.output[global_thread()] = values[threadIdx.x];  // <-- copy_read_early
  cp_async_wait<0>();
}

__global__ void copy_of_newest_group(FaultArguments k) {
  GATO_SHARED(float, values, 128);
  cp_async<4>(values + threadIdx.x, k.data + global_thread());
  cp_async_commit();
  cp_async<4>(values + 64 + threadIdx.x, k.data + global_thread());
  cp_async_commit();
  cp_async_wait<1>();
  k.output[global_thread()] = values[threadIdx.x] + values[64 + threadIdx.x];  // <-- copy_of_newest_group
  cp_async_wait<0>();
}

__global__ void copy_not_committed(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  cp_async<4>(values + threadIdx.x, k.data + global_thread());
  cp_async_wait<0>();
  k.output[global_thread()] = values[threadIdx.x];  // <-- copy_not_committed
  cp_async_commit();
  cp_async_wait<0>();
}

__global__ void copy_without_barrier(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  cp_async<4>(values + threadIdx.x, k.data + global_thread());
  cp_async_commit();
  cp_async_wait<0>();
  k.output[global_thread()] = values[63 - threadIdx.x];  // <-- copy_without_barrier
}

// The barrier before the wait orders nothing that the wait completes.
__global__ void copy_barrier_before_wait(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  cp_async<4>(values + threadIdx.x, k.data + global_thread());
  cp_async_commit();
  __syncthreads();
  cp_async_wait<0>();
  const float other = values[63 - threadIdx.x];  // <-- copy_barrier_before_wait
  k.output[global_thread()] = other;
}

__global__ void copy_overwritten(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  cp_async<4>(values + threadIdx.x, k.data + global_thread());
  cp_async_commit();
  values[threadIdx.x] = 1.0f;  // <-- copy_overwritten
  cp_async_wait<0>();
  k.output[global_thread()] = values[threadIdx.x];
}

__global__ void copy_at_exit(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  cp_async<4>(values + threadIdx.x, k.data + global_thread());  // <-- copy_at_exit
  cp_async_commit();
  k.output[global_thread()] = 0.0f;
}

__global__ void copy_misaligned(FaultArguments k) {
  GATO_SHARED(float, values, 68);
  cp_async_16(values + 1, k.data);  // <-- copy_misaligned
  cp_async_commit();
  cp_async_wait<0>();
  k.output[global_thread()] = 0.0f;
}

__global__ void copy_past_the_end(FaultArguments k) {
  GATO_SHARED(uint4, values, 64);
  cp_async_16(&values[threadIdx.x], k.data + k.n, 2);  // <-- copy_past_the_end
  cp_async_commit();
  cp_async_wait<0>();
  k.output[global_thread()] = 0.0f;
}

__global__ void copy_of_shared(FaultArguments k) {
  GATO_SHARED(float, values, 128);
  values[threadIdx.x] = 1.0f;
  cp_async<4>(values + 64 + threadIdx.x, values + threadIdx.x);  // <-- copy_of_shared
  cp_async_commit();
  cp_async_wait<0>();
  k.output[global_thread()] = values[64 + threadIdx.x];
}

__global__ void copy_too_long(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  cp_async<4>(values + threadIdx.x, k.data + global_thread(), 8);  // <-- copy_too_long
  cp_async_commit();
  cp_async_wait<0>();
  k.output[global_thread()] = values[threadIdx.x];
}

// ------------------------------------------------------------------------------------------ undefined behaviour

__global__ void local_array_overrun(FaultArguments k) {
  float local[8];
  for (int i = 0; i < 8; ++i) local[i] = k.data[i];
  const int index = static_cast<int>(k.data[3]) + static_cast<int>(threadIdx.x);  // 3 + thread
  k.output[global_thread()] = local[index];                                       // <-- local_array_overrun
}

__global__ void shift_too_far(FaultArguments k) {
  k.output[global_thread()] = static_cast<float>(1u << (threadIdx.x / 2 + 1));  // <-- shift_too_far
}

__global__ void division_by_zero(FaultArguments k) {
  k.output[global_thread()] = static_cast<float>(100 / (static_cast<int>(threadIdx.x) - 7));  // <-- division_by_zero
}

__global__ void signed_overflow(FaultArguments k) {
  k.output[global_thread()] =
      static_cast<float>(0x7fffffff - 20 + static_cast<int>(threadIdx.x));  // <-- signed_overflow
}

// ------------------------------------------------------------------------------------------ without fault

__global__ void clean_block_exchange(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  for (int round = 0; round < 3; ++round) {
    values[threadIdx.x] = k.data[global_thread()] + static_cast<float>(round);
    __syncthreads();
    k.output[global_thread()] = values[63 - threadIdx.x];
    __syncthreads();
  }
}

__global__ void clean_warp_exchange(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  for (int round = 0; round < 3; ++round) {
    values[threadIdx.x] = k.data[global_thread()] + static_cast<float>(round);
    __syncwarp();
    k.output[global_thread()] = values[threadIdx.x ^ 31];
    __syncwarp();
  }
}

__global__ void clean_halves(FaultArguments k) {
  GATO_SHARED(BFloat16, values, 64);
  values[threadIdx.x] = from_float<BFloat16>(k.data[global_thread()]);
  __syncthreads();
  k.output[global_thread()] = to_float(values[threadIdx.x ^ 1]);
}

__global__ void clean_structures(FaultArguments k) {
  GATO_SHARED(uint4, values, 64);
  values[threadIdx.x] = make_uint4(1, 2, 3, threadIdx.x);
  __syncthreads();
  const uint4 other = values[threadIdx.x ^ 1];
  if (threadIdx.x < 16) reinterpret_cast<uint4*>(k.output)[blockIdx.x * 16 + threadIdx.x] = other;
}

__global__ void clean_lambda(FaultArguments k) {
  GATO_SHARED(float, values, 64);
  const auto put = [&](unsigned i) { values[i] = 2.0f * static_cast<float>(i); };
  put(threadIdx.x);
  __syncthreads();
  const auto get = [&](float x) { return x + values[threadIdx.x ^ 1]; };
  k.output[global_thread()] = get(1.0f);
}

__constant__ float table[4] = {1.0f, 2.0f, 3.0f, 4.0f};

__global__ void clean_table(FaultArguments k) {
  float local[4];
  for (unsigned i = 0; i < 4; ++i) local[i] = table[(threadIdx.x + i) % 4];
  k.output[global_thread()] = local[threadIdx.x % 4];
}

__global__ void clean_pipeline(FaultArguments k) {
  GATO_SHARED(float, stages, 128);
  cp_async<4>(stages + threadIdx.x, k.data + global_thread());
  cp_async_commit();
  float sum = 0.0f;
  for (unsigned step = 0; step < 4; ++step) {
    if (step < 3) cp_async<4>(stages + (step + 1) % 2 * 64 + threadIdx.x, k.data + global_thread());
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    sum += stages[step % 2 * 64 + 63 - threadIdx.x];
    __syncthreads();
  }
  cp_async_wait<0>();
  k.output[global_thread()] = sum;
}

__global__ void clean_atomics(FaultArguments k) {
  GATO_SHARED(int, histogram, 4);
  if (threadIdx.x < 4) histogram[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&histogram[threadIdx.x % 4], 1);
  __syncthreads();
  k.output[global_thread()] = static_cast<float>(histogram[threadIdx.x % 4]);
  atomicAdd(k.counter, 1);
}

__global__ void clean_early_exit(FaultArguments k) {
  if (threadIdx.x >= 40) return;
  k.output[global_thread()] = 1.0f;
}

// Vectors whole, halves of words, several arrays in one dynamic memory.
__global__ void clean_dynamic(FaultArguments k) {
  GATO_DYNAMIC_SHARED(unsigned char, memory);
  uint4* vectors = reinterpret_cast<uint4*>(memory);
  BFloat16* halves = reinterpret_cast<BFloat16*>(memory + 128);
  if (threadIdx.x < 8) store16(&vectors[threadIdx.x], load16(k.data + threadIdx.x * 4));
  halves[threadIdx.x] = from_float<BFloat16>(1.0f);
  __syncthreads();
  k.output[global_thread()] =
      __uint_as_float(load8(memory + threadIdx.x % 16 * 8).y) + to_float(halves[63 - threadIdx.x]);
}

using Kernel = void (*)(FaultArguments);

const std::map<std::string, Kernel>& kernels() {
  static const std::map<std::string, Kernel> all = {
#define GATO_KERNEL(name) {#name, name}
      GATO_KERNEL(past_the_end),
      GATO_KERNEL(in_front),
      GATO_KERNEL(vector_past_the_end),
      GATO_KERNEL(structure_past_the_end),
      GATO_KERNEL(memcpy_past_the_end),
      GATO_KERNEL(other_threads_local),
      GATO_KERNEL(past_static_shared),
      GATO_KERNEL(past_dynamic_shared),
      GATO_KERNEL(write_to_input),
      GATO_KERNEL(atomic_outside),
      GATO_KERNEL(unwritten_shared),
      GATO_KERNEL(unwritten_shared_update),
      GATO_KERNEL(shared_of_last_block),
      GATO_KERNEL(unwritten_global),
      GATO_KERNEL(missing_barrier),
      GATO_KERNEL(missing_barrier_before_write),
      GATO_KERNEL(warp_barrier_for_block),
      GATO_KERNEL(missing_warp_barrier),
      GATO_KERNEL(shuffle_for_barrier),
      GATO_KERNEL(ldmatrix_without_barrier),
      GATO_KERNEL(two_writers),
      GATO_KERNEL(global_race_in_block),
      GATO_KERNEL(global_race_of_writers),
      GATO_KERNEL(global_race_of_reader),
      GATO_KERNEL(plain_beside_atomic),
      GATO_KERNEL(barrier_in_one_warp),
      GATO_KERNEL(two_barriers),
      GATO_KERNEL(exit_before_barrier),
      GATO_KERNEL(barrier_and_shuffle),
      GATO_KERNEL(warp_barrier_of_half),
      GATO_KERNEL(shuffle_under_divergence),
      GATO_KERNEL(shuffle_of_absent_lane),
      GATO_KERNEL(caller_outside_mask),
      GATO_KERNEL(mma_of_half_a_warp),
      GATO_KERNEL(misaligned_global),
      GATO_KERNEL(misaligned_shared),
      GATO_KERNEL(misaligned_vector),
      GATO_KERNEL(misaligned_plain_vector),
      GATO_KERNEL(misaligned_ldmatrix),
      GATO_KERNEL(ldmatrix_of_global),
      GATO_KERNEL(shuffle_width),
      GATO_KERNEL(too_much_static_shared),
      GATO_KERNEL(copy_read_early),
      GATO_KERNEL(copy_of_newest_group),
      GATO_KERNEL(copy_not_committed),
      GATO_KERNEL(copy_without_barrier),
      GATO_KERNEL(copy_barrier_before_wait),
      GATO_KERNEL(copy_overwritten),
      GATO_KERNEL(copy_at_exit),
      GATO_KERNEL(copy_misaligned),
      GATO_KERNEL(copy_past_the_end),
      GATO_KERNEL(copy_of_shared),
      GATO_KERNEL(copy_too_long),
      GATO_KERNEL(local_array_overrun),
      GATO_KERNEL(shift_too_far),
      GATO_KERNEL(division_by_zero),
      GATO_KERNEL(signed_overflow),
      GATO_KERNEL(clean_block_exchange),
      GATO_KERNEL(clean_warp_exchange),
      GATO_KERNEL(clean_halves),
      GATO_KERNEL(clean_structures),
      GATO_KERNEL(clean_lambda),
      GATO_KERNEL(clean_table),
      GATO_KERNEL(clean_pipeline),
      GATO_KERNEL(clean_atomics),
      GATO_KERNEL(clean_early_exit),
      GATO_KERNEL(clean_dynamic)
#undef GATO_KERNEL
  };
  return all;
}

std::vector<std::string> names(bool clean) {
  std::vector<std::string> found;
  for (const auto& [name, kernel] : kernels()) {
    if (name.starts_with("clean_") == clean) found.push_back(name);
  }
  if (!clean) found.push_back("host_memory");
  return found;
}

}  // namespace

void run_planted(const std::string& name, const FaultArguments& arguments) {
  Launch shape{.name = name.c_str(), .grid = 2, .block = 64, .shared_bytes = 256};
  if (name == "host_memory") {
    const std::vector<float> host(1);
    return launch(shape, host_memory, arguments, host.data());
  }
  if (name == "mma_of_half_a_warp") shape.block = 16;
  const auto kernel = kernels().find(name);
  if (kernel == kernels().end()) throw ContractError("no kernel '" + name + "'");
  launch(shape, kernel->second, arguments);
}

std::vector<std::string> planted_names() { return names(false); }
std::vector<std::string> clean_names() { return names(true); }

}  // namespace gato::emulator_tests
