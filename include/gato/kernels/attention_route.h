#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/core/config.h"
#include "gato/kernels/attention.h"

namespace gato::kernels {

/// Who computes document_attention.
enum class AttentionRoute {
  kAuto,       ///< Measured when a run begins (try_attention_routes); without that see default_attention_route().
  kOwn,        ///< Loops of ours on the CPU; kernels of ours on a GPU (bf16, head dimension 32, 64 or 128).
  kFlash,      ///< LibTorch's flash attention for sequences of different lengths: GPU, bf16.
  kCudnn,      ///< cuDNN's attention through LibTorch: GPU, bf16.
  kReference,  ///< Plain tensor operations, quadratic in the row: anywhere, slow.
};
GATO_CONFIG_ENUM(AttentionRoute, 5, {"auto", AttentionRoute::kAuto}, {"own", AttentionRoute::kOwn},
                 {"flash", AttentionRoute::kFlash}, {"cudnn", AttentionRoute::kCudnn},
                 {"reference", AttentionRoute::kReference})
[[nodiscard]] std::string route_name(AttentionRoute route);

/// Choices among equal results (`kernels` in a config file).
struct KernelsConfig {
  AttentionRoute attention = AttentionRoute::kAuto;
};
GATO_CONFIG(KernelsConfig,
            GATO_FIELD(attention,
                       "auto (measured on the run's own shape), own, flash (LibTorch's, GPU), cudnn (GPU) or "
                       "reference (plain operations, slow)."))

/// The route of the process from now on; not while another thread computes. kAuto: default_attention_route().
void set_attention_route(AttentionRoute route);

/// What `qkv`'s attention goes by while nothing was measured: the CPU's loops; on a GPU LibTorch's flash attention, or
/// our kernels where they are proven on this kind of GPU (kernels_are_proven), or the reference where neither takes it.
[[nodiscard]] AttentionRoute default_attention_route(const at::Tensor& qkv);

/// The route that `qkv` takes: never kAuto.
[[nodiscard]] AttentionRoute route_of(const at::Tensor& qkv);

/// Whether attention by `route` can be part of a CUDA graph (gato/kernels/capture.h): not cuDNN's, which plans anew for
/// the lengths that it meets. kAuto: true, as one that can be is always among the candidates.
[[nodiscard]] bool can_be_captured(AttentionRoute route);

/// One candidate's result.
struct AttentionTrial {
  AttentionRoute route = AttentionRoute::kAuto;
  std::string problem;      ///< Why it cannot be used; "" when it can.
  double milliseconds = 0;  ///< Forward and backward together, the median of several.
  double difference = 0;  ///< Largest difference of result and gradient from the reference, as a share of its largest.
};

/// Whether `route` computes what the plain reference does: forward and backward of the first row of `qkv` [B, T, 3, H,
/// D], with that row's sequences and as one sequence, since libraries go wrong at certain lengths only. The result has
/// a difference, and a problem where the route fails or differs by more than its type's rounding allows; nothing is
/// timed.
[[nodiscard]] AttentionTrial check_attention_route(AttentionRoute route, const at::Tensor& qkv,
                                                   const at::Tensor& sequence_start, const RotaryTable& rotary);

/// Checks every route and times those without a problem on all rows (the reference, whose memory is quadratic, on row
/// 0, times B), with the sequences of each of `sequence_starts` (int32 [B, T], one or more) in turn; the median counts.
/// Give micro-batches of the run: cuDNN plans anew for every number and length of sequences that it has not met, and
/// whether that is worth it depends on how often they come again. Without `with_own` our kernels are not run at all:
/// what they do wrong on a GPU nobody has tried them on could harm more than their own results.
[[nodiscard]] std::vector<AttentionTrial> try_attention_routes(const at::Tensor& qkv,
                                                               const std::vector<at::Tensor>& sequence_starts,
                                                               const RotaryTable& rotary, bool with_own = true);

/// The fastest trial without a problem; own kernels on a GPU only where they are proven. Throws DeviceError when every
/// route has a problem.
[[nodiscard]] AttentionRoute choose_attention_route(const std::vector<AttentionTrial>& trials, bool own_is_proven);

/// Whether `tools/test --gpu` has passed with these kernels on a GPU of the name of `device`: a file in the user's
/// cache
/// ($XDG_CACHE_HOME/gato or ~/.cache/gato) says so, which is looked for once per process. The CPU's loops always are.
[[nodiscard]] bool kernels_are_proven(at::Device device);
/// Writes that file. IoError when it cannot.
void mark_kernels_as_proven(at::Device device);

}  // namespace gato::kernels
