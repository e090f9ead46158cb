#pragma once
#include <array>
#include <cstdint>

#include "kernels/cuda/types.h"

/// The ladder: one operation, causal attention of one head, written four times, each rung with one idea more. README.md
/// tells what to look at.
namespace gato::kernel_lab {

using kernels::cuda::Stream;

inline constexpr int kHeadDim = 64;

/// out_t = sum over j <= t of softmax_j(<query_t, key_j> / 8) value_j. All are bfloat16 [tokens, kHeadDim] in device
/// memory, row after row from a multiple of 16 bytes.
struct Attention {
  int tokens = 0;
  const void* query = nullptr;
  const void* key = nullptr;
  const void* value = nullptr;
  void* out = nullptr;
};

void attend_plain(const Attention& call, Stream stream);
void attend_tiled(const Attention& call, Stream stream);
void attend_with_tensor_cores(const Attention& call, Stream stream);
void attend_pipelined(const Attention& call, Stream stream);

struct Rung {
  const char* name;  ///< Also of its kernel's launches.
  void (*attend)(const Attention& call, Stream stream);
};
inline constexpr std::array<Rung, 4> kLadder{{{"plain", attend_plain},
                                              {"tiled", attend_tiled},
                                              {"tensor_cores", attend_with_tensor_cores},
                                              {"pipelined", attend_pipelined}}};

}  // namespace gato::kernel_lab
