#include "cuda/emulator_layouts.h"
#include "kernels/cuda/device.h"

namespace gato::emulator_tests {
namespace {

using namespace gato::kernels::cuda;

template <class T>
__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, float* d) {
  const unsigned lane = threadIdx.x;
  uint32_t fragment[4];
  float sum[4];
  for (unsigned i = 0; i < 4; ++i) fragment[i] = a[lane * 4 + i];
  for (unsigned i = 0; i < 4; ++i) sum[i] = d[lane * 4 + i];
  mma_m16n8k16<T>(sum, fragment, b[lane * 2], b[lane * 2 + 1]);
  for (unsigned i = 0; i < 4; ++i) d[lane * 4 + i] = sum[i];
}

template <int Count, bool Transposed>
__global__ void ldmatrix_kernel(const uint16_t* rows, uint32_t* result) {
  GATO_SHARED(uint4, tile, 32);
  const unsigned lane = threadIdx.x;
  store16(&tile[lane], load16(rows + lane * 8));
  __syncwarp();
  uint32_t fragment[Count];
  if constexpr (Transposed) {
    ldmatrix_trans<Count>(fragment, &tile[lane]);
  } else {
    ldmatrix<Count>(fragment, &tile[lane]);
  }
  for (unsigned i = 0; i < Count; ++i) result[lane * Count + i] = fragment[i];
}

template <class T>
__global__ void round_kernel(const float* in, float* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = to_float(from_float<T>(in[i]));
}

template <int Count>
void launch_ldmatrix(bool transposed, const uint16_t* rows, uint32_t* result) {
  const Launch shape{"ldmatrix", 1, 32};
  transposed ? launch(shape, ldmatrix_kernel<Count, true>, rows, result)
             : launch(shape, ldmatrix_kernel<Count, false>, rows, result);
}

}  // namespace

void run_mma(Element element, const uint32_t* a, const uint32_t* b, float* d) {
  launch({"mma", 1, 32}, element == Element::kBFloat16 ? mma_kernel<BFloat16> : mma_kernel<Float16>, a, b, d);
}

void run_ldmatrix(int count, bool transposed, const uint16_t* rows, uint32_t* result) {
  if (count == 1) return launch_ldmatrix<1>(transposed, rows, result);
  if (count == 2) return launch_ldmatrix<2>(transposed, rows, result);
  launch_ldmatrix<4>(transposed, rows, result);
}

void run_round(Element element, const float* in, float* out, int n) {
  launch({"round", static_cast<unsigned>(n + 127) / 128, 128},
         element == Element::kBFloat16 ? round_kernel<BFloat16> : round_kernel<Float16>, in, out, n);
}

}  // namespace gato::emulator_tests
