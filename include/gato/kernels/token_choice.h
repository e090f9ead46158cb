#pragma once
#include <cstdint>
#include <span>

// How the next token of a sequence is chosen from logits. Without LibTorch: the CUDA kernels and their tests read it.
namespace gato::kernels {

enum class Choice : int32_t {
  kGreedy,  ///< The likeliest; of equals the first.
  kSample,  ///< Drawn by a uniform number.
  kMean,    ///< The bin of the expected value, where the allowed ids are the value bins.
};

/// The value bins that kMean chooses among: equal parts of [-1, 1] (gato/tokenizer/numbers.h, action_value and
/// action_bin, with which this agrees for every float; NaN gives bin 0 here).
inline constexpr int32_t kNumValueBins = 1024;
[[nodiscard]] float value_of_bin(int32_t bin);
[[nodiscard]] int32_t bin_of_value(float value);

/// What one token of one sequence may be, how it is chosen, and how it goes into the sequence. A device reads it as it
/// is in memory.
struct TokenChoice {
  int32_t first_id = 0, num_ids = 0;  ///< The ids it may take: [first_id, first_id + num_ids).
  Choice choice = Choice::kGreedy;
  double temperature = 1;       ///< > 0. Not used by kGreedy.
  double top_p = 1;             ///< kSample: only the likeliest ids that together have this probability; > 0.
  double uniform = 0;           ///< kSample: in [0, 1).
  int32_t local_position = -1;  ///< Row of the local position table beside the chosen token; -1: none.
  int32_t end_id = -1;          ///< The id after which the sequence takes no further tokens; -1: none.
};

/// The id chosen by the logits of the ids that are allowed, logits.size() == num_ids > 0. Probabilities are those of
/// logits / temperature, in fp64; kSample goes through the ids in their order. Throws ContractError for a choice that
/// makes no sense.
[[nodiscard]] int32_t choose_token(const TokenChoice& how, std::span<const float> logits);

}  // namespace gato::kernels
