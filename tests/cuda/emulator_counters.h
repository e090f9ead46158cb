#pragma once
#include <cstdint>

namespace gato::emulator_tests {

/// Lane i of one warp reads `bytes` (4, 8 or 16) bytes at in + offset + i * stride (counted in floats) and keeps their
/// sum in out[i]. Lanes from `lanes` on read nothing.
void read_global(const float* in, float* out, int stride, int offset, int bytes, int lanes);

/// Lane i of one warp writes, then reads `bytes` (2, 4, 8 or 16) bytes of shared memory at i * stride of such units.
void touch_shared(float* out, int stride, int bytes);

/// Lane i of one warp reads shared float 0.
void read_shared_broadcast(float* out);

/// A warp loads 32 rows of `columns` 16-bit elements (a multiple of 64, or 32) by ldmatrix, one 16-byte column after
/// the other; with `swizzled`, column c of row r lies at place c ^ (r % 8).
void load_tile(float* out, int columns, bool swizzled);

/// Even lanes of one warp read in[lane] in one place, odd lanes in another, then lane i reads in[0] i + 1 times in a
/// loop.
void diverge(const float* in, float* out);

/// 3 blocks of 64 threads: 5 mma, 2 barriers, 1 __syncwarp, 1 atomic per thread.
void instruction_mix(float* out, int* counter);

}  // namespace gato::emulator_tests
