#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// How a slot's next id is chosen from the ids it may take.
enum class Choice : int32_t {
  kGreedy,  ///< The likeliest; of equals the first.
  kSample,  ///< Drawn by the slot's uniform number.
  kMean,    ///< The bin of the expected action value, where the allowed ids are the value bins.
};

/// One slot's wish, in device memory: copied there in one piece before each step, so that a captured graph reads new
/// ones.
struct SamplingRequest {
  int32_t first_id = 0, num_ids = 0;  ///< The ids it may take.
  Choice choice = Choice::kGreedy;
  double temperature = 1;  ///< > 0. Not used by kGreedy.
  double top_p = 1;        ///< kSample: only the likeliest ids that together have this probability, in (0, 1].
  double uniform = 0;      ///< kSample: in [0, 1).
};

/// The most ids that a request may allow, and the value bins that kMean needs.
inline constexpr int32_t kMostSampledIds = 65536;
inline constexpr int32_t kNumValueBins = 1024;

/// Chooses one id per slot among request.first_id .. + num_ids, the same as the model's policy does on the CPU.
/// Probabilities are exp((logit - top) / temperature) in double, held as integers of 47 bits, so that sums are exact in
/// any order; the choice can differ from the CPU's only where `uniform` or `top_p` is within about 1e-11 of a border.
struct Sampling {
  Element element = Element::kFloat32;  ///< Of the logits; any.
  int64_t slots = 0;
  int64_t columns = 0;   ///< Logits per slot.
  int64_t stride = 0;    ///< Elements from one slot's logits to the next's; >= columns.
  int64_t first_id = 0;  ///< The id of column 0.
  const void* logits = nullptr;
  const SamplingRequest* requests = nullptr;  ///< [slots]
  /// [slots]: the ids. -1 where a request is impossible: ids outside the columns, none or more than kMostSampledIds,
  /// kMean over other than kNumValueBins ids, a temperature that is not positive.
  int32_t* ids = nullptr;
  void* workspace = nullptr;  ///< sampling_workspace() bytes, aligned to 16.
};
[[nodiscard]] size_t sampling_workspace(int64_t slots, int64_t columns);
void sample_ids(const Sampling& call, Stream stream);

}  // namespace gato::kernels::cuda
