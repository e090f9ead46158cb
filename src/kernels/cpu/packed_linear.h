#pragma once
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace gato::kernels::cpu {

constexpr int64_t kPanel = 2 * kLanes;  ///< Outputs of a panel.

/// y = x weight^T + bias for weights W in panels: [panels, pairs of inputs, 64], where 64 stands for [2, 32 outputs]
/// with float weights and [32 outputs, 2] with Bf16 and int8_t. Places that pad outputs and inputs hold zeros. X is
/// float beside float weights, else Bf16; Y is X or float. Sums are of floats, in the order of the inputs.
template <class W, class X, class Y>
struct PackedLinearTask {
  const W* panels;
  const float* scales;  ///< One per output, padded to whole panels; null: 1.
  const float* bias;    ///< The same; null: 0.
  int64_t inputs;
  const X* x;  ///< [rows, inputs].
  Y* y;        ///< [rows, outputs last - first].
  int64_t first, last;
};

/// Rows [row_begin, row_end) and outputs of panels [panel_begin, panel_end), as far as they lie in [first, last).
void packed_linear(const PackedLinearTask<float, float, float>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end);
void packed_linear(const PackedLinearTask<Bf16, Bf16, Bf16>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end);
void packed_linear(const PackedLinearTask<Bf16, Bf16, float>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end);
void packed_linear(const PackedLinearTask<int8_t, Bf16, Bf16>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end);
void packed_linear(const PackedLinearTask<int8_t, Bf16, float>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end);

}  // namespace gato::kernels::cpu
