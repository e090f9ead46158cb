#pragma once
#include <atomic>

namespace gato::kernels {

/// For which instructions the loops of src/kernels/cpu were compiled. Every path gives the same results up to rounding;
/// on one path results are the same bits every time.
enum class CpuPath {
  kPlain,   ///< What the compiler takes for granted (SSE2 on x86-64).
  kAvx2,    ///< x86-64-v3.
  kAvx512,  ///< x86-64-v4.
};

namespace detail {
inline std::atomic<int> g_cpu_path{-1};  // -1: not chosen yet
CpuPath choose_cpu_path();
}  // namespace detail

/// The path in use: the best the processor has, or what GATO_CPU_PATH says (plain, avx2, avx512; throws ConfigError for
/// anything else and for what the processor lacks). Matrix products go through LibTorch and choose for themselves.
[[nodiscard]] inline CpuPath cpu_path() {
  const int path = detail::g_cpu_path.load(std::memory_order_relaxed);
  return path >= 0 ? static_cast<CpuPath>(path) : detail::choose_cpu_path();
}

/// Whether the processor has what `path` needs.
[[nodiscard]] bool has_cpu_path(CpuPath path);

/// Forces a path for the whole process, for tests and measurements; not while another thread computes. Throws
/// ContractError when the processor lacks it.
void set_cpu_path(CpuPath path);

}  // namespace gato::kernels
