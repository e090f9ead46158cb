#pragma once
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// The loss of a chunk of positions from their logits, and in the same pass its gradient in the logits' place. Position
/// p has nll = -log softmax(logits)[target] and, with sigma 0, loss = nll. With sigma > 0 a target inside
/// [first_id, first_id + num_ids) becomes a Gaussian of `sigma` ids over that range, cut off at six sigmas and
/// normalised, and loss the cross entropy with it (gato/kernels/cross_entropy.h).
struct CrossEntropy {
  Element element = Element::kFloat32;  ///< Of the logits: kFloat32 or kBFloat16.
  int64_t positions = 0;
  int64_t vocabulary = 0;  ///< Logits of a position; > 0.
  int64_t stride = 0;      ///< Elements from one position's logits to the next's; >= vocabulary. Any alignment.
  void* logits = nullptr;  ///< Becomes scale x weight x (softmax - target) where `differentiate`.
  /// [positions]. Outside [0, vocabulary): that position's loss, nll and gradient are NaN, so the update is refused.
  const int64_t* targets = nullptr;
  const float* weights = nullptr;  ///< [positions]
  const float* scale = nullptr;    ///< One float on the device that multiplies every gradient; null: 1.
  int64_t first_id = 0, num_ids = 0;
  float sigma = 0;
  bool differentiate = true;  ///< Else the logits stay as they are.
  float* loss = nullptr;      ///< [positions], unweighted.
  float* nll = nullptr;       ///< [positions]
};
void cross_entropy(const CrossEntropy& call, Stream stream);

}  // namespace gato::kernels::cuda
