#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gato/kernels/attention.h"
#include "gato/kernels/cross_entropy.h"
#include "gato/kernels/embedding.h"
#include "gato/kernels/patch_embedder.h"
#include "gato/kernels/relative_attention.h"
#include "gato/model/config.h"
#include "gato/model/parameter_store.h"

namespace gato::model {

/// B rows of T tokens. Tensors may be views of the loader's arrays (at::from_blob): they are only read, and must live
/// until backward is done.
struct ModelInput {
  at::Tensor ids;              ///< int32 [B, T]; -1 at patches and padding.
  at::Tensor sequence_starts;  ///< int32 [B, T]: row offset where the token's sequence starts.
  at::Tensor local_positions;  ///< int32 [B, T]: -1 none, 0 .. 511, 512 for actions.
  at::Tensor patch_index;  ///< int64 [M]: flat place b x T + t of every patch, ascending. Undefined: no patches (so for
                           ///< the rest).
  at::Tensor patches;      ///< uint8 [M, 16, 16, 3].
  at::Tensor patch_rows;   ///< int32 [M], 0 .. 127, already drawn (training) or the middle (evaluation).
  at::Tensor patch_columns;  ///< int32 [M].
  /// Of sequence_starts, for attention by LibTorch on a GPU; found there if undefined.
  kernels::SequenceBounds bounds = {};
};

/// Told where forward and backward are. The flat buffers are laid out for that: forward reads them from their end to
/// their beginning, backward finishes their gradients from the beginning to the end. Calls come from the threads in
/// which forward and backward run.
class PassListener {
 public:
  virtual ~PassListener() = default;
  /// Forward is about to read the values of elements [first, end of the buffer).
  virtual void before_values(int64_t first) = 0;
  /// Backward has added all there is to the gradients of elements [0, end); on a GPU, put that on its stream.
  virtual void after_gradients(int64_t end) = 0;
};

/// What a forward pass depends on besides weights and input.
struct ForwardOptions {
  bool training = false;   ///< Whether stochastic depth and dropout are on.
  uint64_t seed = 0;       ///< Of the run.
  int64_t step = 0;        ///< Number of the update.
  int64_t first_row = 0;   ///< Number of the input's row 0 in the run's stream: which layers row r skips and what
                           ///< dropout drops of it depends on (seed, step, layer, r).
  bool recompute = false;  ///< Whether backward computes the blocks again instead of keeping what is inside them:
                           ///< the same bits for a third more time and much less memory.
  PassListener* listener = nullptr;  ///< Null: nobody is told. Must live until backward is done.
  at::Tensor* hidden = nullptr;      ///< Receives the hidden states that the loss is computed from.
};

/// What the blocks take besides embedded vectors, on the model's device.
struct BlockInput {
  at::Tensor sequence_starts;      ///< int32 [B, T], as in ModelInput; of relative positions on the CPU.
  kernels::SequenceBounds bounds;  ///< As in ModelInput.
  at::Tensor branch_factors;       ///< fp32 [2 x layers, B] of stochastic depth; undefined: no branch is skipped.
  at::Tensor dropout_keys;      ///< int64 [2 x layers, 2] of dropout (DropoutStream::device_key); undefined: none, or
                                ///< on the CPU.
  kernels::RotaryTable rotary;  ///< Of T positions or more; undefined where the model has none.
};

/// Where the loss is and what is expected there.
struct LossInput {
  at::Tensor
      positions;       ///< int64 [P], ascending: flat places whose hidden state predicts (the token before the target).
  at::Tensor targets;  ///< int64 [P], in [0, V).
  at::Tensor weights;  ///< fp32 [P].
};

using LossResult = kernels::CrossEntropyResult;  ///< `loss`: weighted sum; `nll`: per position, unweighted, detached.

/// The decoder-only transformer of docs/design.md, section "Model".
///
/// A training step: store().zero_gradients(); once or more { loss(...), backward(result.loss) }; then the optimizer
/// reads store().gradients(), which hold the gradient of the summed loss. A graph is recorded when LibTorch's gradient
/// mode is on and the store has gradients; evaluation wraps calls in at::NoGradGuard. Const functions may be called
/// from several threads at once, backward not.
class Model {
 public:
  enum class Purpose { kTraining, kInference };  ///< Inference holds no gradients.

  /// Draws the parameters from `seed`, the same ones on every device. Inputs must be on `device`. Throws ConfigError
  /// for a config that validate_config refuses, ContractError for a bad shape.
  Model(const ModelConfig& config, const ModelShape& shape, uint64_t seed, Purpose purpose = Purpose::kTraining,
        at::Device device = at::kCPU, const BucketLayout& layout = {});
  ~Model();

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const ModelShape& shape() const { return shape_; }
  [[nodiscard]] ParameterStore& store() { return *store_; }
  [[nodiscard]] const ParameterStore& store() const { return *store_; }

  /// Hidden states [B x T, C] after the final LayerNorm; bf16 where config().precision says so, else fp32.
  [[nodiscard]] at::Tensor forward(const ModelInput& input, const ForwardOptions& options = {}) const;

  /// Forward and the loss at its positions. Targets inside the value bins become Gaussians of `soft_sigma` bins; 0:
  /// hard.
  [[nodiscard]] LossResult loss(const ModelInput& input, const LossInput& where, const ForwardOptions& options = {},
                                double soft_sigma = 0) const;

  // The parts of forward() and loss(), for callers who want to come in between:
  // loss(input, where, options, sigma) = head_loss(transform(embed(input), block_input(input, options), options), ...).

  /// Embedded vectors [B x T, C], fp32.
  [[nodiscard]] at::Tensor embed(const ModelInput& input) const;
  [[nodiscard]] BlockInput block_input(const ModelInput& input, const ForwardOptions& options) const;
  /// Hidden states, as of forward(), from embedded vectors `x`.
  [[nodiscard]] at::Tensor transform(const at::Tensor& x, const BlockInput& input, const ForwardOptions& options) const;
  [[nodiscard]] LossResult head_loss(const at::Tensor& hidden, const LossInput& where, double soft_sigma) const;

  /// Adds the gradient of `loss` (a LossResult's) to store().gradients() and frees the graph.
  void backward(const at::Tensor& loss) const;

  /// Logits [n, num_ids], fp32, of ids [first_id, first_id + num_ids) for hidden states [n, C] of forward() or a
  /// Decoder. No gradients.
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden, int64_t first_id, int64_t num_ids) const;

 private:
  friend class Decoder;
  struct Block {
    kernels::Parameter attention_gain, attention_offset, qkv, qkv_bias, out, out_bias;
    kernels::Parameter feed_gain, feed_offset, up, up_bias, down, down_bias;
    kernels::Parameter distance;  // relative positions only
  };
  /// What training and evaluation do differently inside the blocks.
  struct BlockHooks {
    std::function<at::Tensor(int64_t layer, const at::Tensor& qkv)> attend;  // [N, 3 H D] -> [N, H D]
    std::function<at::Tensor(int64_t layer, int64_t branch)> scale;          // factors of a residual branch
    std::function<at::Tensor(int64_t layer, int64_t branch, const at::Tensor& delta)> drop;  // dropout; empty: none
    bool recompute = false;  // then the functions are called after forward() has returned
    PassListener* listener = nullptr;
  };
  class PositionCache;
  struct Range {
    int64_t begin = 0, end = 0;  // elements, with padding
  };

  [[nodiscard]] at::ScalarType compute_type() const;

  void bind_parameters();
  void find_block_ranges();
  void tell_of_gradients(const at::Tensor& input, int64_t layer, PassListener* listener) const;
  [[nodiscard]] at::Tensor embed(kernels::EmbeddingInput input, const at::Tensor& patches) const;
  [[nodiscard]] at::Tensor run_blocks(at::Tensor x, const BlockHooks& hooks) const;
  /// One block, from (residual stream, what is to be added to it) to the same behind it.
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> run_block(int64_t layer, at::Tensor x, at::Tensor delta,
                                                            const BlockHooks& hooks) const;
  [[nodiscard]] kernels::RotaryTable rotary(int64_t positions) const;
  /// Projected sinusoids [distances, H, D] of a layer, as kernels::relative_attention takes them.
  [[nodiscard]] at::Tensor distance_keys(int64_t layer, int64_t distances) const;
  [[nodiscard]] bool relative() const { return config_.position == PositionEncoding::kRelative; }

  ModelConfig config_;
  ModelShape shape_;
  std::unique_ptr<ParameterStore> store_;
  std::unique_ptr<PositionCache> positions_;
  kernels::EmbeddingTables tables_;
  kernels::PatchEmbedderParameters patch_embedder_;
  std::vector<Block> blocks_;
  std::vector<Range> block_ranges_;  // in the flat buffers, by layer; the last layer's block comes first
  kernels::RelativeBiases biases_;   // relative positions only
  kernels::Parameter final_gain_, final_offset_, head_;
};

}  // namespace gato::model
