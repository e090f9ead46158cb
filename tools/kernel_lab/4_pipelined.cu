// Rung 4: what src/kernels/cuda/attention_forward.cu does, without rotation, documents and other head dimensions. Three
// ideas more, all of them in its helpers (tile.h, attention_parts.h):
//
//   swizzle    chunk c of row r lies at c ^ (r % 8), so that the eight rows of an ldmatrix fall into eight bank groups
//   pipeline   cp.async copies the next tile past the registers while this one is being multiplied; two buffers, and
//   one
//              barrier per tile instead of two
//   edges      only the tile on the diagonal is masked, what a warp does not see at all it leaves out, and results
//   leave
//              through shared memory in 16-byte pieces
#include "kernel_lab/lab.h"
#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/device.h"

namespace gato::kernel_lab {
namespace {

using namespace kernels::cuda;

constexpr int kQueries = kAttentionWarps * 16;
constexpr int kKeys = 64;

__global__ void __launch_bounds__(kAttentionThreads)
    pipelined_kernel(const BFloat16* queries, const BFloat16* keys, const BFloat16* values, BFloat16* out, int tokens,
                     float scale_log2) {
  using QueryCopy = TileCopy<BFloat16, kHeadDim, kQueries, kAttentionThreads>;
  using KeyCopy = TileCopy<BFloat16, kHeadDim, kKeys, kAttentionThreads>;
  GATO_SHARED(BFloat16, query_tile, kQueries * kHeadDim);
  GATO_SHARED(BFloat16, key_tiles, 4 * kKeys * kHeadDim);                     // keys, then values; twice
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries;  // blocks with most keys go first
  const int end = min(first + kQueries, tokens);
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const auto copy_keys = [&](int key, int stage) {
    BFloat16* tile = key_tiles + stage * 2 * kKeys * kHeadDim;
    KeyCopy::start(tile, keys, kHeadDim, key, tokens);
    KeyCopy::start(tile + kKeys * kHeadDim, values, kHeadDim, key, tokens);
  };
  QueryCopy::start(query_tile, queries, kHeadDim, first, tokens);
  copy_keys(0, 0);
  cp_async_commit();
  QueryRows<1> rows;
  rows.set(first + warp_row, tokens - 1);
  OnlineSoftmax<BFloat16, kHeadDim, 1> softmax;
  softmax.clear();
  cp_async_wait<0>();
  attend<kKeys, kKeys>(softmax, rows, scale_log2, query_tile, warp_row, key_tiles, 0, 0, end, copy_keys,
                       [](int, int) {});
  write_rows(softmax, query_tile, warp_row, out, kHeadDim, nullptr, first + warp_row, tokens);
}

}  // namespace

void attend_pipelined(const Attention& call, Stream stream) {
  if (call.tokens == 0) return;
  const auto blocks = static_cast<unsigned>((call.tokens + kQueries - 1) / kQueries);
  launch({"pipelined", blocks, kAttentionThreads, 0, stream}, pipelined_kernel,
         static_cast<const BFloat16*>(call.query), static_cast<const BFloat16*>(call.key),
         static_cast<const BFloat16*>(call.value), static_cast<BFloat16*>(call.out), call.tokens, log2_scale(kHeadDim));
}

}  // namespace gato::kernel_lab
