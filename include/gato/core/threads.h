#pragma once
#include <cstdint>
#include <functional>

/// One thread budget for the whole process: whoever starts threads asks here how many.
namespace gato {

/// Number of threads this process may use: GATO_NUM_THREADS, else what set_thread_budget said, else the processors the
/// process is allowed to run on (affinity), at least 1.
[[nodiscard]] int thread_budget();

/// Sets the budget; 0 restores the default. GATO_NUM_THREADS wins over it.
void set_thread_budget(int threads);

/// Calls body(i) for i in [0, count) on up to `threads` threads (0: the budget), in no order. The first exception ends
/// the rest (indices not yet begun are skipped) and is rethrown.
void parallel_for(int64_t count, const std::function<void(int64_t)>& body, int threads = 0);

}  // namespace gato
