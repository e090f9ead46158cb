#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gato/train/communicator.h"

/// All processes of a run hold the same parameters, bit for bit: they made the same updates of the same numbers. Memory
/// or a processor that errs breaks this without a sign (docs/reliability.md).
namespace gato::train {

/// XXH3-128 of the values' bytes, as 32 hex digits. From a GPU they are copied in pieces.
[[nodiscard]] std::string digest_of(const at::Tensor& values);

/// The ranks whose digest is not that of the majority; all of them when there is none. Empty when all are the same.
[[nodiscard]] std::vector<int64_t> odd_ranks(const std::vector<std::string>& digests);

/// To be called by all processes at once. Throws DivergedError at every one of them, naming the odd ranks, when their
/// parameters differ.
void check_replicas(Communicator& communicator, const std::vector<at::Tensor>& parameters, int64_t step);

}  // namespace gato::train
