#pragma once
#include <cstdint>

#include "gato/core/config.h"
#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// How the weights of a linear map are held for acting.
enum class WeightType {
  kFp32,
  kBf16,  ///< Rounded; half the memory, which is what a token's time goes to when few are computed at once.
  kInt8,  ///< Per output a scale, the largest weight / 127, times an integer in [-127, 127]: rounding moves a weight by
          ///< at most half a scale, so an output by at most scale / 2 x sum |x|. A quarter of the memory.
};

GATO_CONFIG_ENUM(WeightType, 3, {"fp32", WeightType::kFp32}, {"bf16", WeightType::kBf16}, {"int8", WeightType::kInt8})
[[nodiscard]] const char* weight_type_name(WeightType type);

/// The type of activations beside such weights: fp32, or bf16 for bf16 and int8.
[[nodiscard]] constexpr at::ScalarType activation_type(WeightType type) {
  return type == WeightType::kFp32 ? at::kFloat : at::kBFloat16;
}

/// A linear map y = x weight^T + bias laid out for acting: weights in panels of 32 outputs, the inputs of a panel one
/// after the other, so that memory is read in one stream however few rows `x` has. Made by pack_linear; a copy, which
/// later changes of the weight do not reach.
struct PackedLinear {
  WeightType type = WeightType::kFp32;
  int64_t inputs = 0, outputs = 0;
  at::Tensor panels;      ///< [outputs / 32, inputs / 2, 64], both rounded up, of `type`.
  at::Tensor scales;      ///< fp32 [outputs rounded up to 32]; int8 only.
  at::Tensor bias;        ///< fp32 [outputs rounded up to 32]; undefined for none.
  const char* name = "";  ///< Parameter::name of the weight.
};

/// `weight` [O, I] and `bias` [O] (may be undefined), of which the fp32 values are read. Throws ContractError for wrong
/// shapes, and for a weight that is not finite where int8 is asked.
[[nodiscard]] PackedLinear pack_linear(const Parameter& weight, const Parameter& bias, WeightType type);

/// Outputs [first, first + y.size(1)) of the map for the rows of `x` [N, I], which has activation_type(linear.type),
/// into `y` [N, any], of x's type or fp32. A row's results are the same bits whatever other rows come with it and
/// however many threads compute. No gradients. Throws ContractError for shapes and types that do not fit.
void packed_linear_into(const at::Tensor& x, const PackedLinear& linear, const at::Tensor& y, int64_t first = 0);

/// All outputs, of x's type.
[[nodiscard]] at::Tensor packed_linear(const at::Tensor& x, const PackedLinear& linear);

}  // namespace gato::kernels
