#pragma once
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/device_ops.h"

namespace gato::kernels::cuda {

/// The operations of src/kernels/cuda on LibTorch's tensors. Scratch memory comes from LibTorch's allocator, work goes
/// on the current stream of the tensors' device.
class TensorOps : public DeviceOps {
 public:
  void fill_rows(const at::Tensor& row, const at::Tensor& y) const override;
  void add_column_sums(const at::Tensor& x, const at::Tensor& totals) const override;
  void norm_forward(const NormForward& call) const override;
  void norm_backward(const NormBackward& call) const override;
  void geglu_forward(const at::Tensor& x, const at::Tensor& y) const override;
  void geglu_backward(const at::Tensor& x, const at::Tensor& y_gradient, const at::Tensor& x_gradient) const override;
  [[nodiscard]] bool takes_attention(const at::Tensor& qkv) const override;
  void attention_forward(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                         const at::Tensor& out, const at::Tensor& log_sum) const override;
  void attention_backward(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                          const at::Tensor& out, const at::Tensor& log_sum, const at::Tensor& out_gradient,
                          const at::Tensor& qkv_gradient) const override;
  void cached_attention(const CachedAttentionCall& call) const override;
  void choose_tokens(const at::Tensor& logits, int64_t first_id, const ChoiceState& state) const override;
  void gather_rows(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& y) const override;
  void spread_rows(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& y) const override;
  void embed_forward(const EmbeddingInput& input, const EmbeddingTables& tables, const at::Tensor& vectors,
                     const at::Tensor& out) const override;
  void scatter_rows(const at::Tensor& rows, const at::Tensor& places, const at::Tensor& gradient,
                    const at::Tensor& table_gradient) const override;
  void cross_entropy(const HeadChunk& chunk) const override;
  [[nodiscard]] at::Tensor weighted_sum(const at::Tensor& losses, const at::Tensor& weights) const override;
  void dropout(const at::Tensor& x, double probability, const DropoutStream& stream,
               const at::Tensor& y) const override;
  void round_to_bf16(const at::Tensor& from, const at::Tensor& to) const override;
  void squared_norm(const at::Tensor& x, const at::Tensor& norm) const override;
  void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                  const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWStep& step,
                  const at::Tensor& compute) const override;
  void adamw_update(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                    const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWSettings& settings,
                    const StepNumbers& numbers, const at::Tensor& compute) const override;

 private:
  /// The device's table of what to update, made once per set of spans and kept: captured updates read it.
  struct UpdateTable {
    std::vector<UpdateSpan> spans;
    at::Tensor blocks;  // bytes
    int64_t num_blocks = 0;
  };
  UpdateTable update_table(std::span<const UpdateSpan> spans, const at::Tensor& values) const;

  mutable std::mutex mutex_;
  mutable std::vector<UpdateTable> tables_;
};

}  // namespace gato::kernels::cuda
