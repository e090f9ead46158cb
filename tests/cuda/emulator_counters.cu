#include "cuda/emulator_counters.h"
#include "kernels/cuda/device.h"

namespace gato::emulator_tests {
namespace {

using namespace gato::kernels::cuda;

__global__ void read_global_kernel(const float* in, float* out, int stride, int offset, int bytes, int lanes) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane >= lanes) return;
  const float* place = in + offset + lane * stride;
  float sum = 0.0f;
  if (bytes == 4) sum = *place;  // the 4-byte read
  if (bytes == 8) sum = __uint_as_float(load8(place).x);
  if (bytes == 16) sum = __uint_as_float(load16(place).x);
  out[lane] = sum;
}

__global__ void touch_shared_kernel(float* out, int stride, int bytes) {
  GATO_DYNAMIC_SHARED(unsigned char, memory);
  const int lane = static_cast<int>(threadIdx.x);
  unsigned char* place = memory + lane * stride * bytes;
  if (bytes == 2) {
    *reinterpret_cast<BFloat16*>(place) = from_float<BFloat16>(1.0f);
    __syncwarp();  // or the compiler keeps the value, and nothing is read
    out[lane] = to_float(*reinterpret_cast<const BFloat16*>(place));
  } else if (bytes == 4) {
    *reinterpret_cast<float*>(place) = 1.0f;
    __syncwarp();
    out[lane] = *reinterpret_cast<const float*>(place);
  } else if (bytes == 8) {
    store8(place, make_uint2(1, 2));
    out[lane] = __uint_as_float(load8(place).x);
  } else {
    store16(place, make_uint4(1, 2, 3, 4));
    out[lane] = __uint_as_float(load16(place).x);
  }
}

__global__ void broadcast_kernel(float* out) {
  GATO_SHARED(float, value, 1);
  if (threadIdx.x == 0) value[0] = 1.0f;
  __syncwarp();
  out[threadIdx.x] = value[0];  // the broadcast
}

__global__ void load_tile_kernel(float* out, int columns, bool swizzled) {
  GATO_DYNAMIC_SHARED(unsigned char, memory);
  const int lane = static_cast<int>(threadIdx.x);
  const int chunks = columns / 8;
  for (int c = 0; c < chunks; ++c) {
    for (int r = 0; r < 32; r += 4) {  // 8 lanes fill a row's neighbours: no conflicts of its own
      const int row = r + lane / 8;
      if (c % 8 == 0 && lane % 8 < chunks) {
        store16(memory + (row * chunks + c + lane % 8) * 16, make_uint4(0, 0, 0, 0));
      }
    }
  }
  __syncwarp();
  uint32_t sum = 0;
  for (int c = 0; c < chunks; ++c) {
    const int place = swizzled ? c ^ (lane % 8) : c;
    uint32_t fragment[4];
    ldmatrix<4>(fragment, memory + (lane * chunks + place) * 16);  // the tile's load
    sum += fragment[0];
  }
  out[lane] = static_cast<float>(sum);
}

__global__ void diverge_kernel(const float* in, float* out) {
  const int lane = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  if (lane % 2 == 0) {
    sum += in[lane];  // even lanes
  } else {
    sum += 2.0f * in[lane];  // odd lanes
  }
  const volatile float* first = in;
  for (int i = 0; i <= lane; ++i) sum += *first;  // the loop
  out[lane] = sum;
}

__global__ void instruction_mix_kernel(float* out, int* counter) {
  float d[4] = {};
  const uint32_t a[4] = {};
  for (int i = 0; i < 5; ++i) mma_m16n8k16<Float16>(d, a, 0, 0);
  __syncthreads();
  __syncwarp();
  __syncthreads();
  atomicAdd(counter, 1);
  out[blockIdx.x * 64 + threadIdx.x] = d[0];
}

}  // namespace

void read_global(const float* in, float* out, int stride, int offset, int bytes, int lanes) {
  launch({"read_global", 1, 32}, read_global_kernel, in, out, stride, offset, bytes, lanes);
}
void touch_shared(float* out, int stride, int bytes) {
  launch({"touch_shared", 1, 32, static_cast<size_t>(32 * stride * bytes)}, touch_shared_kernel, out, stride, bytes);
}
void read_shared_broadcast(float* out) { launch({"broadcast", 1, 32}, broadcast_kernel, out); }
void load_tile(float* out, int columns, bool swizzled) {
  launch({"load_tile", 1, 32, static_cast<size_t>(32 * columns * 2)}, load_tile_kernel, out, columns, swizzled);
}
void diverge(const float* in, float* out) { launch({"diverge", 1, 32}, diverge_kernel, in, out); }
void instruction_mix(float* out, int* counter) {
  launch({"instruction_mix", 3, 64}, instruction_mix_kernel, out, counter);
}

}  // namespace gato::emulator_tests
