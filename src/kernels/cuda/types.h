#pragma once
#include <cstddef>
#include <cstdint>

struct CUstream_st;  // what cudaStream_t points at: lets interfaces name streams without CUDA's headers

namespace gato::kernels::cuda {

/// The stream that work is put on: a `cudaStream_t`. Null is the default stream, and the only one under emulation.
using Stream = CUstream_st*;

/// Element type of a buffer that an interface takes as `void*`.
enum class Element : uint8_t { kFloat32, kBFloat16, kFloat16 };

/// Bytes of one element.
[[nodiscard]] constexpr size_t element_bytes(Element element) { return element == Element::kFloat32 ? 4 : 2; }

/// "float32", "bfloat16" or "float16": for messages.
[[nodiscard]] constexpr const char* element_name(Element element) {
  switch (element) {
    case Element::kFloat32:
      return "float32";
    case Element::kBFloat16:
      return "bfloat16";
    case Element::kFloat16:
      return "float16";
  }
  return "unknown";
}

}  // namespace gato::kernels::cuda
