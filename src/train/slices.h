#pragma once
#include <span>
#include <string>
#include <vector>

#include "checkpointing.h"

/// Flat buffers divided among processes, as tensors of a file: an element belongs to a tensor and a place in it, so
/// that any other division can read it back.
namespace gato::train {

/// The elements of `ranges` as slices of the parameters they belong to, "<prefix><name>[<begin>:<end>]", which point
/// into `flat` (fp32 on the CPU, the ranges one after the other). Padding between parameters is left out.
[[nodiscard]] std::vector<checkpoint::TensorView> export_slices(const model::ParameterStore& store,
                                                                const at::Tensor& flat,
                                                                const std::vector<FlatRange>& ranges,
                                                                const std::string& prefix);

/// Fills `flat` (fp32 on any device), which holds the elements of `ranges` one after the other, or all of the store's
/// when there are none, from the whole tensors and slices of all files together; padding becomes 0. CheckpointError
/// that lists every parameter that is missing, unexpected, not fp32, of another shape, or not covered exactly once.
void import_slices(const model::ParameterStore& store, const at::Tensor& flat, const std::vector<FlatRange>& ranges,
                   const std::string& prefix, std::span<const checkpoint::SafetensorsReader> readers);

}  // namespace gato::train
