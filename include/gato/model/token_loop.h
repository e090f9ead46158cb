#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "gato/kernels/capture.h"
#include "gato/kernels/token_choice.h"
#include "gato/model/decoder.h"

namespace gato::model {

/// Chooses tokens of several slots of a decoder, each from what the one before it leads to. On a GPU a chosen token is
/// fed back there: nothing waits for the CPU until all are chosen and read at once. One thread.
///
/// With CUDA graphs one token of all slots (embedding, blocks over the cache, head, choice, feeding back) is one
/// launch. A graph has fixed sizes: one is recorded for every power of two of slots, every power of two of context from
/// 256 on, and every range of ids that the head computes. Graphs share their scratch memory.
class TokenLoop {
 public:
  static constexpr int64_t kMostRounds = 64;
  static constexpr size_t kMostGraphs = 32;  ///< Beyond that the one that was not used for longest goes.

  /// The decoder must outlive it. Throws ConfigError for graphs where the model is on no GPU.
  TokenLoop(Decoder& decoder, bool cuda_graph);
  ~TokenLoop();
  TokenLoop(const TokenLoop&) = delete;
  TokenLoop& operator=(const TokenLoop&) = delete;

  /// Chooses a token of every one of `slots` (each at most once) from `hidden`, as Decoder::append gives it for them,
  /// appends it, chooses the next, and so on: `choices` [rounds, slots] says how, rounds in 1 .. kMostRounds. A slot
  /// that chooses its end_id takes part in no further round. Returns each slot's chosen ids. The last one of each is
  /// not appended: that is the caller's, with what follows it.
  ///
  /// What a slot chooses is what choose_token() does from its logits; on a GPU but where a number is within about 1e-11
  /// of a border. Throws ContractError when arrays disagree, for choices that make no sense, and when a slot would hold
  /// more than the decoder's max_tokens; then no slot has changed. Throws DeviceError when a graph cannot be recorded.
  [[nodiscard]] std::vector<std::vector<int32_t>> choose(std::span<const int64_t> slots, const at::Tensor& hidden,
                                                         std::span<const kernels::TokenChoice> choices);

  [[nodiscard]] size_t num_graphs() const;

 private:
  using Chosen = std::vector<std::vector<int32_t>>;
  struct Memory;
  struct Step;
  struct Graph;
  void check(std::span<const int64_t> slots, const at::Tensor& hidden,
             std::span<const kernels::TokenChoice> choices) const;
  [[nodiscard]] Chosen choose_on_cpu(std::span<const int64_t> slots, at::Tensor hidden,
                                     std::span<const kernels::TokenChoice> choices);
  [[nodiscard]] Chosen choose_on_device(std::span<const int64_t> slots, const at::Tensor& hidden,
                                        std::span<const kernels::TokenChoice> choices);
  /// On the CPU: the hidden states after the last chosen token of `slots[active]`, chosen in `round`.
  [[nodiscard]] at::Tensor append(std::span<const int64_t> slots, const std::vector<size_t>& active,
                                  const Chosen& chosen, std::span<const kernels::TokenChoice> round);
  /// Waits for the device, and tells the decoder what came.
  [[nodiscard]] Chosen read(const Memory& memory, std::span<const int64_t> slots,
                            std::span<const kernels::TokenChoice> choices);
  void run(const Step& step);
  void record(const Step& step);

  Decoder& decoder_;
  bool on_device_, cuda_graph_;
  std::map<int64_t, std::shared_ptr<Memory>> memories_;  // by number of rows
  std::vector<Graph> graphs_;                            // the one used last is last
};

}  // namespace gato::model
