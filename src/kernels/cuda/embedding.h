#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// A table of vectors and the rows that a batch takes from it. An index of -1 takes nothing.
struct Lookup {
  const float* table = nullptr;  ///< [table_rows, width]
  int64_t table_rows = 0;
  const int32_t* index = nullptr;  ///< One per place, or per patch.
};

/// y[place, :] = the sum, in this order, of the place's token and local position, and where a patch stands of its
/// vector, row and column. Any other index outside its table (a caller's fault that would cost a synchronisation to
/// report) makes the place NaN, which reaches the loss.
struct EmbeddingForward {
  int64_t places = 0, width = 0;
  Lookup tokens = {}, local_positions = {};
  int64_t patches = 0;                   ///< May be 0; then what follows may be empty.
  const int64_t* patch_index = nullptr;  ///< [patches], strictly ascending: the place of each.
  const float* patch_vectors = nullptr;  ///< [patches, width]
  Lookup patch_rows = {}, patch_columns = {};
  float* y = nullptr;  ///< [places, width]
};
void embedding_forward(const EmbeddingForward& call, Stream stream);

/// table_gradient[index[i], :] += gradient[place of i, :], for all i in an order that depends on `index` alone. Entries
/// outside the table or the gradient's rows add nothing.
struct EmbeddingBackward {
  int64_t count = 0, width = 0;
  const int32_t* index = nullptr;   ///< [count]
  const int64_t* places = nullptr;  ///< [count]; null: the place of i is i.
  int64_t gradient_rows = 0;
  const float* gradient = nullptr;  ///< [gradient_rows, width]
  int64_t table_rows = 0;
  float* table_gradient = nullptr;  ///< [table_rows, width]
  void* workspace = nullptr;        ///< embedding_backward_workspace() bytes, aligned to 16.
};
[[nodiscard]] size_t embedding_backward_workspace(int64_t count, int64_t width);

/// Sorts the entries by row on the device (stable radix sort), sums runs of equal rows in pieces of fixed length and
/// adds the pieces of a run in order. `count` < 2^31.
void embedding_backward(const EmbeddingBackward& call, Stream stream);

}  // namespace gato::kernels::cuda
