#pragma once
#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// Where the vectors of a batch come from. Indices of -1 add nothing.
struct EmbeddingInput {
  at::Tensor ids;              ///< int32 [N], rows of the token table.
  at::Tensor local_positions;  ///< int32 [N], rows of the local position table.
  at::Tensor patch_index;      ///< int64 [M], place in [0, N) of every patch, ascending; M may be 0.
  at::Tensor patch_rows;       ///< int32 [M], rows of the patch row table.
  at::Tensor patch_columns;    ///< int32 [M], rows of the patch column table.
};

struct EmbeddingTables {
  Parameter tokens, local_positions, patch_rows, patch_columns;  ///< [entries, C] each.
};

/// The sum of a token's rows of the tables, and at patches of `patch_vectors` [M, C] (undefined when M is 0). Returns
/// [N, C]. Gradients of the tables are summed in the order of the batch, whatever the number of threads. Throws
/// ContractError naming the first index outside its table.
[[nodiscard]] at::Tensor embed(const EmbeddingInput& input, const EmbeddingTables& tables,
                               const at::Tensor& patch_vectors);

}  // namespace gato::kernels
