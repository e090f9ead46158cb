#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gato/kernels/cached_attention.h"
#include "gato/model/acting_weights.h"

namespace gato::model {

/// Tokens to append to a slot, as parallel arrays (those of tokenizer::TokenSequence fit).
struct DecoderInput {
  std::span<const int32_t> ids;              ///< -1 at image patches. At least one token.
  std::span<const int16_t> local_positions;  ///< One per token; -1 none.
  std::span<const uint8_t> patches;          ///< 768 bytes per token whose id is -1, in order.
  std::span<const uint8_t> patch_rows;       ///< One per patch, 0 .. 127: the middle of its interval.
  std::span<const uint8_t> patch_columns;
};

/// Acting with a model: many slots, each one growing sequence whose keys and values are kept, so that a token is
/// computed once. Gives what Model::forward gives on the whole sequence, up to the rounding of the weights' type. On
/// the CPU, what a slot gives is the same bits however its tokens are cut into calls, whatever other slots hold, and
/// however many threads compute; only image patches round otherwise in batches of other sizes. On a GPU (where the
/// model is) matrix products round otherwise in batches of other sizes too. One thread.
class Decoder {
 public:
  /// `max_tokens`: longest sequence of a slot. `cache_type`: of kept keys and values, fp32 or (unless the weights are
  /// fp32) bf16; by default that of activations. Memory: 2 x layers x heads x head_dim of it per slot and token, taken
  /// as slots grow, on a GPU at once; with relative positions half of that in fp32 once per token.
  Decoder(std::shared_ptr<const ActingWeights> weights, int64_t slots, int64_t max_tokens,
          std::optional<at::ScalarType> cache_type = std::nullopt);
  /// With weights of its own. The model must outlive it.
  Decoder(const Model& model, int64_t slots, int64_t max_tokens)
      : Decoder(std::make_shared<const ActingWeights>(model), slots, max_tokens) {}

  [[nodiscard]] int64_t slots() const { return static_cast<int64_t>(lengths_.size()); }
  [[nodiscard]] int64_t max_tokens() const { return max_tokens_; }
  [[nodiscard]] at::Device device() const { return weights_->model().store().device(); }  ///< Where the model is.
  [[nodiscard]] int64_t vocabulary_size() const { return weights_->model().shape().vocabulary_size; }
  [[nodiscard]] int64_t length(int64_t slot) const;  ///< Tokens the slot holds.
  void reset(int64_t slot) { truncate(slot, 0); }    ///< Empties a slot.
  void truncate(int64_t slot, int64_t length);       ///< Forgets all tokens of the slot behind the first `length`.

  /// Appends inputs[i] to slots[i] (each slot at most once), all in one batch; returns the hidden states [n, C] of
  /// their last tokens, of the type of activations. Throws ContractError when arrays disagree, or a slot would hold
  /// more than max_tokens (callers keep the window), or an id or position has no row in its table. Then no slot has
  /// changed. On a GPU all arrays go there in one copy from pinned memory, and the call returns before the work is
  /// done.
  [[nodiscard]] at::Tensor append(std::span<const int64_t> slots, std::span<const DecoderInput> inputs);

  /// On a device with operations of its own: hidden states [n, C] of one more token of each of n slots that only the
  /// device knows (int32 [n] `ids` and `local_positions`, `runs` and `most_context` as cached_attention_of_table takes
  /// them). Keeps the tokens' keys and values, but length() stays: extend() says afterwards what came. Waits for
  /// nothing, and may be captured.
  [[nodiscard]] at::Tensor step(const at::Tensor& ids, const at::Tensor& local_positions, const at::Tensor& runs,
                                int64_t most_context) const;
  void extend(int64_t slot, int64_t count);  ///< By tokens of step().

  /// Logits [n, num_ids], fp32, on the model's device, of ids [first_id, first_id + num_ids) for hidden states of
  /// append().
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden, int64_t first_id, int64_t num_ids) const;

 private:
  [[nodiscard]] std::vector<kernels::CacheRun> plan(std::span<const int64_t> slots,
                                                    std::span<const DecoderInput> inputs) const;
  struct Runs {
    std::span<const kernels::CacheRun> runs;
    at::Tensor table;          // the same on the model's device; unused on the CPU
    int64_t most_context = 0;  // of step(), where there is only the table; else 0
  };
  [[nodiscard]] at::Tensor attend(int64_t layer, const at::Tensor& qkv, const Runs& runs) const;
  /// Hidden states of rows `kept` (undefined: all) of the vectors `x` [N, C].
  [[nodiscard]] at::Tensor run_blocks(at::Tensor x, const Runs& runs, const at::Tensor& kept) const;

  std::shared_ptr<const ActingWeights> weights_;
  int64_t max_tokens_;
  std::vector<int64_t> lengths_;
  std::vector<kernels::AttentionCache> caches_;  // one per layer
  kernels::RotaryTable rotary_;
  std::vector<kernels::CachedDistances> distances_;  // one per layer; relative positions only
};

}  // namespace gato::model
