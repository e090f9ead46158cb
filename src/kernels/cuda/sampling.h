#pragma once
#include <cstddef>
#include <cstdint>

#include "gato/kernels/token_choice.h"
#include "kernels/cuda/decode_attention.h"  // SlotRun
#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// The most ids that kSample may be among (kernels::kMostSampledOnDevice).
inline constexpr int32_t kMostSampledIds = 65536;

/// Chooses one id per slot among request.first_id .. + num_ids, the same as choose_token does on the CPU.
/// Probabilities are exp((logit - top) / temperature) in double, held as integers of 47 bits, so that sums are exact in
/// any order; the choice can differ from the CPU's only where `uniform` or `top_p` is within about 1e-11 of a border.
struct Sampling {
  Element element = Element::kFloat32;  ///< Of the logits; any.
  int64_t slots = 0;
  int64_t columns = 0;   ///< Logits per slot.
  int64_t stride = 0;    ///< Elements from one slot's logits to the next's; >= columns.
  int64_t first_id = 0;  ///< The id of column 0.
  const void* logits = nullptr;
  /// [rounds, slots] in device memory, so that a captured graph reads new ones.
  const TokenChoice* requests = nullptr;
  const int32_t* round = nullptr;  ///< [slots]: which of its requests a slot goes by; null: the first.
  /// [slots]: the ids. -1 where a request is impossible: ids outside the columns, none, more than kMostSampledIds to
  /// draw from, kMean over other than kNumValueBins ids, a temperature that is not positive.
  int32_t* ids = nullptr;
  void* workspace = nullptr;  ///< sampling_workspace() bytes, aligned to 16.
};
[[nodiscard]] size_t sampling_workspace(int64_t slots, int64_t columns);
void sample_ids(const Sampling& call, Stream stream);

/// Slots that choose one token after the other: after sample_ids() everything is made ready for appending what was
/// chosen. A slot whose run has 0 tokens takes no part. For the others, of round r, with id ids[slot]:
///
///   chosen[r, slot] = id;  local_positions[slot] = requests[r, slot].local_position
///   runs[slot].position += 1, of the token that was there before;  round[slot] = r + 1
///   runs[slot].count = 0 when id is the request's end_id, or -1
struct FeedBack {
  int64_t slots = 0, rounds = 0;
  const TokenChoice* requests = nullptr;  ///< [rounds, slots]
  const int32_t* ids = nullptr;           ///< [slots], as sample_ids gives them
  int32_t* round = nullptr;               ///< [slots]; a slot beyond its last round takes no part.
  SlotRun* runs = nullptr;                ///< [slots], of one token or none each
  int32_t* local_positions = nullptr;     ///< [slots]
  int32_t* chosen = nullptr;              ///< [rounds, slots]
};
void feed_back(const FeedBack& call, Stream stream);

}  // namespace gato::kernels::cuda
