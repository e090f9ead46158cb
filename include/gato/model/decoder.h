#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "gato/model/model.h"

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
/// computed once. Gives what Model::forward gives on the whole sequence, up to rounding. The model must outlive it and
/// keep its weights; any number of decoders may share one. One thread.
class Decoder {
 public:
  /// `max_tokens`: longest sequence of a slot. Memory: 8 x layers x heads x head_dim bytes per slot and token, and half
  /// of that once per token with relative positions.
  Decoder(const Model& model, int64_t slots, int64_t max_tokens);

  [[nodiscard]] int64_t slots() const { return static_cast<int64_t>(lengths_.size()); }
  [[nodiscard]] int64_t max_tokens() const { return max_tokens_; }
  [[nodiscard]] int64_t length(int64_t slot) const;  ///< Tokens the slot holds.
  void reset(int64_t slot) { truncate(slot, 0); }    ///< Empties a slot.
  void truncate(int64_t slot, int64_t length);       ///< Forgets all tokens of the slot behind the first `length`.

  /// Appends inputs[i] to slots[i] (each slot at most once), all in one batch; returns the hidden states [n, C] of
  /// their last tokens. Throws ContractError when arrays disagree, or a slot would hold more than max_tokens: callers
  /// keep the window. Then no slot has changed.
  [[nodiscard]] at::Tensor append(std::span<const int64_t> slots, std::span<const DecoderInput> inputs);

  /// Model::logits.
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden, int64_t first_id, int64_t num_ids) const;

 private:
  const Model* model_;
  int64_t max_tokens_;
  std::vector<int64_t> lengths_;
  std::vector<kernels::AttentionCache> caches_;  // one per layer
  kernels::RotaryTable rotary_;
  std::vector<at::Tensor> distance_keys_;  // one per layer; relative positions only
};

}  // namespace gato::model
