#pragma once
#include <cstddef>
#include <cstdint>

namespace gato::emulator_tests {

/// out [4, 32]: lane i's result of __shfl_sync(7 - i), __shfl_xor_sync, __shfl_down_sync, __shfl_up_sync by `argument`
/// in segments of `width` (the first takes `argument` itself as source lane); values are the lanes' numbers.
void shuffle_int(int argument, int width, int* out);
/// out [32]: lane i's double i + 0.5 moved by xor.
void shuffle_double(int distance, double* out);
/// out [3, 32]: ballot, any, all of "bit i of `bits`".
void vote(unsigned bits, unsigned* out);
/// out [2, 32]: lanes 0..19 sum their neighbours' numbers with the mask of 20 lanes; a block of 20 threads votes.
void partial_warp(unsigned* out);

/// 7 words per type (int, unsigned, unsigned long long as pairs of words): add, min, max, exchange, or, and, compare
/// and swap, by 4 blocks of 64 threads.
void integer_atomics(int* signed_words, unsigned* unsigned_words, unsigned long long* long_words);

/// out [grid * block]: blockIdx and threadIdx of each thread, packed one byte each: bx by bz tx ty tz.
void indices(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned long long* out);

/// out [words of Bytes]: `bytes` (4, 8, 16) bytes of shared memory filled by cp.async with `source_bytes` of in.
void copy_with_zero_fill(int bytes, int source_bytes, const uint32_t* in, uint32_t* out);

/// out [64 * 8]: blocks of 64 threads sum in [64 * 8] by a tree; the same bits in any order of blocks.
void block_sums(const float* in, float* out, int num_blocks);
/// order [num_blocks]: order[n] = the block that came n-th.
void block_order(int* counter, int* order, int num_blocks);

/// out [10]: results of integer and bit functions; see the kernel.
void integer_functions(unsigned* out);

/// A launch of that shape of a kernel that does nothing.
void launch_shape(unsigned grid_x, unsigned grid_y, unsigned threads, size_t shared_bytes);
int multiprocessors();
size_t shared_limit();

}  // namespace gato::emulator_tests
