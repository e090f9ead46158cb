#pragma once
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace gato::kernels {

/// Work below this many elementary operations is not worth a second thread.
constexpr int64_t kParallelGrain = 1 << 14;

/// Calls body(begin, end) for ranges that cover [0, count), each item costing about `cost` operations.
template <class Body>
void for_ranges(int64_t count, int64_t cost, const Body& body) {
  if (count <= 0) return;
  at::parallel_for(0, count, std::max<int64_t>(1, kParallelGrain / std::max<int64_t>(1, cost)), body);
}

/// A division of [0, count) that does not depend on the number of threads, for sums whose order must be fixed.
struct Chunks {
  int64_t count = 0, size = 0, number = 0;
  [[nodiscard]] int64_t begin(int64_t chunk) const { return chunk * size; }
  [[nodiscard]] int64_t end(int64_t chunk) const { return std::min(count, (chunk + 1) * size); }
};
inline Chunks make_chunks(int64_t count, int64_t smallest, int64_t most) {
  const int64_t size = std::max(smallest, (count + most - 1) / most);
  return {count, size, (count + size - 1) / size};
}

/// Calls body(chunk) for all chunks in parallel.
template <class Body>
void for_chunks(const Chunks& chunks, const Body& body) {
  if (chunks.number <= 0) return;
  at::parallel_for(0, chunks.number, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) body(chunk);
  });
}

}  // namespace gato::kernels
