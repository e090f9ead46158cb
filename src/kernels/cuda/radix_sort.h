#pragma once
#include <cstdint>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// Memory of a sort of `count` keys: divide_radix_sort_memory() takes it from a workspace.
struct RadixSortMemory {
  uint32_t* keys[2];
  uint32_t* items[2];
  uint32_t* counts;
};
[[nodiscard]] RadixSortMemory divide_radix_sort_memory(Workspace& workspace, int64_t count);

/// Where a sort left its result.
struct SortedItems {
  const uint32_t* keys;   ///< [count], ascending.
  const uint32_t* items;  ///< [count]: item[i] had keys[i]; ascending where keys are equal.
};

/// Sorts items 0 .. count - 1 by index[item]; those outside [0, limit) come last, with key `limit`. Stable. 0 < `count`
/// < 2^31, 0 < `limit` < 2^31. Three launches for every eight bits of `limit`; nothing is read back.
[[nodiscard]] SortedItems radix_sort(const int32_t* index, int64_t count, uint32_t limit, const RadixSortMemory& memory,
                                     Stream stream);

}  // namespace gato::kernels::cuda
