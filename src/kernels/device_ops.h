#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "gato/core/profile.h"
#include "gato/kernels/attention.h"
#include "gato/kernels/capture.h"
#include "gato/kernels/choose_tokens.h"
#include "gato/kernels/cross_entropy.h"
#include "gato/kernels/device.h"
#include "gato/kernels/dropout.h"
#include "gato/kernels/embedding.h"
#include "gato/kernels/optimizer.h"

namespace gato::kernels {

/// LayerNorm's tensors as ResidualLayerNormFunction holds them: undefined where absent.
struct NormForward {
  at::Tensor x, delta, factors;  ///< [N, C], [N, C], [B]
  at::Tensor gain, offset;       ///< [C]
  at::Tensor sum, y;             ///< [N, C]; sum undefined without delta
  at::Tensor statistics;         ///< [2, N]: mean, inverse deviation
};
struct NormBackward {
  at::Tensor sum, statistics, gain, factors;
  at::Tensor y_gradient, sum_gradient;        ///< sum_gradient undefined: nothing flows in there
  at::Tensor x_gradient, delta_gradient;      ///< written; delta_gradient undefined: not wanted
  at::Tensor gain_gradient, offset_gradient;  ///< added to; undefined: not wanted
};

/// A chunk of the head's positions.
struct HeadChunk {
  at::Tensor logits;            ///< [p, V]
  at::Tensor targets, weights;  ///< int64 [p], fp32 [p]
  SoftTargets soft;
  at::Tensor loss, nll;        ///< fp32 [p], written
  bool differentiate = false;  ///< whether logits become the gradient of scale x weight x loss in place
  at::Tensor scale;            ///< fp32 []; undefined: 1
};

/// New tokens over the keys and values that slots hold.
struct CachedAttentionCall {
  at::Tensor qkv;            ///< [n, 3, H, D], bf16 or fp16
  at::Tensor runs;           ///< int32 [R, 4], as kernels::write_run_table gives them, inside the cache
  int64_t most_new = 0;      ///< not less than any run's count
  int64_t most_context = 0;  ///< not less than any run's position + count
  at::Tensor keys, values;   ///< [slots, H, max_tokens, D] of qkv's type
  RotaryTable rotary;
  at::Tensor out;  ///< [n, H, D], written
};

/// What operations ask of an accelerator. The operation has checked its arguments; results are put on the current
/// stream of the tensors' device. Throws DeviceError when a launch is refused.
class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  /// y[i, :] = row for every i; `y` fp32 or bf16.
  virtual void fill_rows(const at::Tensor& row, const at::Tensor& y) const = 0;
  /// totals += column sums of `x`, fp32 or bf16.
  virtual void add_column_sums(const at::Tensor& x, const at::Tensor& totals) const = 0;
  virtual void norm_forward(const NormForward& call) const = 0;
  virtual void norm_backward(const NormBackward& call) const = 0;
  virtual void geglu_forward(const at::Tensor& x, const at::Tensor& y) const = 0;
  virtual void geglu_backward(const at::Tensor& x, const at::Tensor& y_gradient,
                              const at::Tensor& x_gradient) const = 0;
  /// Whether attention can be computed for head dimension and type of `qkv` by own kernels.
  [[nodiscard]] virtual bool takes_attention(const at::Tensor& qkv) const = 0;
  virtual void attention_forward(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                                 const at::Tensor& out, const at::Tensor& log_sum) const = 0;
  virtual void attention_backward(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                                  const at::Tensor& out, const at::Tensor& log_sum, const at::Tensor& out_gradient,
                                  const at::Tensor& qkv_gradient) const = 0;
  virtual void cached_attention(const CachedAttentionCall& call) const = 0;
  /// As kernels::choose_tokens.
  virtual void choose_tokens(const at::Tensor& logits, int64_t first_id, const ChoiceState& state) const = 0;
  /// y[i, :] = x[positions[i], :]
  virtual void gather_rows(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& y) const = 0;
  /// y[positions[i], :] = x[i, :], zero elsewhere; positions ascend.
  virtual void spread_rows(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& y) const = 0;
  virtual void embed_forward(const EmbeddingInput& input, const EmbeddingTables& tables, const at::Tensor& vectors,
                             const at::Tensor& out) const = 0;
  /// table_gradient[rows[i], :] += gradient[places[i], :] (places undefined: i), in ascending order of places.
  virtual void scatter_rows(const at::Tensor& rows, const at::Tensor& places, const at::Tensor& gradient,
                            const at::Tensor& table_gradient) const = 0;
  virtual void cross_entropy(const HeadChunk& chunk) const = 0;
  /// sum of losses x weights, fp32 [], summed in fp64.
  [[nodiscard]] virtual at::Tensor weighted_sum(const at::Tensor& losses, const at::Tensor& weights) const = 0;
  virtual void dropout(const at::Tensor& x, double probability, const DropoutStream& stream,
                       const at::Tensor& y) const = 0;
  virtual void round_to_bf16(const at::Tensor& from, const at::Tensor& to) const = 0;
  /// `norm`: double [1] on the device, written.
  virtual void squared_norm(const at::Tensor& x, const at::Tensor& norm) const = 0;
  virtual void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                          const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWStep& step,
                          const at::Tensor& compute) const = 0;
  virtual void adamw_update(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                            const at::Tensor& second_moment, std::span<const UpdateSpan> spans,
                            const AdamWSettings& settings, const StepNumbers& numbers,
                            const at::Tensor& compute) const = 0;

  // The device itself.
  [[nodiscard]] virtual int num_devices() const = 0;
  [[nodiscard]] virtual GpuProperties properties(int index) const = 0;
  /// A checksum of the kernels' sources: what was proven of others says nothing of these.
  [[nodiscard]] virtual std::string identity() const = 0;
  /// See gato/kernels/capture.h.
  [[nodiscard]] virtual std::unique_ptr<CapturedWork> capture(at::Device device, std::function<void()> work,
                                                              const CapturedWork* beside) const = 0;
  /// How the device's profiler is told of scopes; null functions when none is attached.
  [[nodiscard]] virtual profile::RangeHooks range_hooks() const { return {}; }
};

/// DeviceOps::identity of the CUDA half. Throws DeviceError where there is none.
[[nodiscard]] std::string kernels_identity();

/// Operations for tensors on `device`; null: the CPU's own.
[[nodiscard]] const DeviceOps* device_ops(at::Device device);
[[nodiscard]] inline const DeviceOps* device_ops(const at::Tensor& x) { return device_ops(x.device()); }

/// While it lives, tensors on `type` go to `ops`: how the CUDA half comes in, and how tests put tensors of the CPU
/// through emulated kernels.
class ScopedDeviceOps {
 public:
  ScopedDeviceOps(at::DeviceType type, const DeviceOps& ops);
  ~ScopedDeviceOps();
  ScopedDeviceOps(const ScopedDeviceOps&) = delete;
  ScopedDeviceOps& operator=(const ScopedDeviceOps&) = delete;

 private:
  at::DeviceType type_;
  const DeviceOps* before_;
};

/// What libgato_cuda.so exports as `gato_cuda_device_ops`: its operations, which live as long as the process; and as
/// `gato_cuda_device_interface` a checksum of the headers that it was built with.
using DeviceOpsEntry = const DeviceOps* (*)();
using DeviceInterfaceEntry = const char* (*)();

}  // namespace gato::kernels
