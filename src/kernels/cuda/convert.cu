#include "kernels/cuda/convert.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <class From, class To, int kCount>
__global__ void __launch_bounds__(kThreads) convert_kernel(const From* from, To* to, int64_t count) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t vectors = count / kCount;
  if (thread < vectors) store_floats(to + thread * kCount, load_floats<kCount>(from + thread * kCount));
  const int64_t rest = vectors * kCount + thread;  // fewer than kCount elements
  if (rest < count) store_floats(to + rest, load_floats<1>(from + rest));
}

template <class From, class To>
void launch_convert(const Conversion& call, Stream stream) {
  if constexpr (!std::is_same_v<From, To>) {  // equal types are refused before
    constexpr int kCount = static_cast<int>(16 / std::max(sizeof(From), sizeof(To)));
    const auto* from = static_cast<const From*>(call.from);
    auto* to = static_cast<To*>(call.to);
    const bool vectors = is_aligned(from, kCount * sizeof(From)) && is_aligned(to, kCount * sizeof(To));
    launch({"convert", num_blocks(call.count, vectors ? kThreads * kCount : kThreads), kThreads, 0, stream},
           vectors ? convert_kernel<From, To, kCount> : convert_kernel<From, To, 1>, from, to, call.count);
  }
}

template <class From>
void launch_from(const Conversion& call, Stream stream) {
  switch (call.to_element) {
    case Element::kFloat32:
      return launch_convert<From, float>(call, stream);
    case Element::kBFloat16:
      return launch_convert<From, BFloat16>(call, stream);
    case Element::kFloat16:
      return launch_convert<From, Float16>(call, stream);
  }
}

}  // namespace

void convert(const Conversion& call, Stream stream) {
  check_range(call.count, 0, int64_t{1} << 38, "count");
  GATO_CHECK(call.from_element != call.to_element, "both arrays are ", element_name(call.from_element),
             ": copy instead of converting");
  if (call.count == 0) return;
  check_pointer(call.from, element_bytes(call.from_element), "from");
  check_pointer(call.to, element_bytes(call.to_element), "to");
  switch (call.from_element) {
    case Element::kFloat32:
      return launch_from<float>(call, stream);
    case Element::kBFloat16:
      return launch_from<BFloat16>(call, stream);
    case Element::kFloat16:
      return launch_from<Float16>(call, stream);
  }
}

}  // namespace gato::kernels::cuda
