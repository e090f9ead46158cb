#include "gato/kernels/packed_linear.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/checks.h"
#include "kernels/cpu/packed_linear.h"
#include "kernels/cpu/rows.h"
#include "kernels/data.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

using cpu::kPanel;

/// Bytes of x that stay in a core's own cache while all panels pass by.
constexpr int64_t kChunkBytes = 384 << 10;

at::ScalarType storage_type(WeightType type) {
  switch (type) {
    case WeightType::kBf16:
      return at::kBFloat16;
    case WeightType::kInt8:
      return at::kChar;
    case WeightType::kFp32:
      break;
  }
  return at::kFloat;
}

/// Place in a panel of output `o` of the panel for input `i`.
int64_t place(WeightType type, int64_t o, int64_t i) {
  const int64_t pair = i / 2 * 2 * kPanel;
  return type == WeightType::kFp32 ? pair + i % 2 * kPanel + o : pair + 2 * o + i % 2;
}

float largest(const float* row, int64_t n) {
  float most = 0;
  for (int64_t i = 0; i < n; ++i) {
    GATO_CHECK(std::isfinite(row[i]), "a weight is ", row[i], ": int8 needs finite weights");
    most = std::max(most, std::abs(row[i]));
  }
  return most;
}

/// One output's weights into its panel.
void pack_row(const float* row, int64_t inputs, WeightType type, int64_t o, const at::Tensor& panels, int64_t panel,
              float* scale) {
  const int64_t begin = panel * panels.size(1) * 2 * kPanel;
  if (type == WeightType::kFp32) {
    float* to = panels.mutable_data_ptr<float>() + begin;
    for (int64_t i = 0; i < inputs; ++i) to[place(type, o, i)] = row[i];
  } else if (type == WeightType::kBf16) {
    auto* to = panels.mutable_data_ptr<at::BFloat16>() + begin;
    for (int64_t i = 0; i < inputs; ++i) to[place(type, o, i)] = at::BFloat16(row[i]);
  } else {
    *scale = largest(row, inputs) / 127;
    if (*scale == 0) return;  // all zeros, as the panel is
    auto* to = panels.mutable_data_ptr<int8_t>() + begin;
    for (int64_t i = 0; i < inputs; ++i) {
      to[place(type, o, i)] = static_cast<int8_t>(std::nearbyint(row[i] / *scale));
    }
  }
}

/// Chunks of much the same size, at most `most` rows, but no fewer than a tile wants.
Chunks even_chunks(int64_t rows, int64_t most) {
  most = std::max<int64_t>(most, 24);
  const int64_t number = (rows + most - 1) / most;
  const int64_t size = (rows + number - 1) / number;
  return {rows, size, (rows + size - 1) / size};
}

template <class W, class X, class Y>
void multiply(const at::Tensor& x, const PackedLinear& linear, const at::Tensor& y, int64_t first) {
  const W* panels = nullptr;
  if constexpr (std::is_same_v<W, int8_t>) {
    panels = linear.panels.const_data_ptr<int8_t>();
  } else {
    panels = data<W>(linear.panels);
  }
  const int64_t last = first + y.size(1);
  const cpu::PackedLinearTask<W, X, Y> task{panels,
                                            data_or_null<float>(linear.scales),
                                            data_or_null<float>(linear.bias),
                                            linear.inputs,
                                            data<X>(x),
                                            mutable_data<Y>(y),
                                            first,
                                            last};
  const int64_t first_panel = first / kPanel, num_panels = (last + kPanel - 1) / kPanel - first_panel;
  const Chunks rows = even_chunks(x.size(0), kChunkBytes / (linear.inputs * static_cast<int64_t>(sizeof(X))));
  // The panels of the first chunk of rows, those of the second, and so on.
  for_ranges(rows.number * num_panels, 2 * kPanel * linear.inputs, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t chunk = begin / num_panels, panel = begin % num_panels;
      const int64_t count = std::min(num_panels - panel, end - begin);
      cpu::packed_linear(task, rows.begin(chunk), rows.end(chunk), first_panel + panel, first_panel + panel + count);
      begin += count;
    }
  });
}

}  // namespace

const char* weight_type_name(WeightType type) {
  for (const auto& [name, value] : config_enum(static_cast<const WeightType*>(nullptr))) {
    if (value == type) return name;
  }
  return "unknown";
}

PackedLinear pack_linear(const Parameter& weight, const Parameter& bias, WeightType type) {
  check_parameter(weight, "weight", {-1, -1});
  GATO_CHECK(weight.value.is_cpu(), "linear maps are packed on the CPU, the weight is on ",
             weight.value.device().str());
  PackedLinear packed;
  packed.type = type;
  packed.outputs = weight.value.size(0);
  packed.inputs = weight.value.size(1);
  packed.name = weight.name;
  GATO_CHECK(packed.inputs > 0 && packed.outputs > 0, "a linear map of ", packed.inputs, " inputs and ", packed.outputs,
             " outputs cannot be packed");
  const int64_t num_panels = (packed.outputs + kPanel - 1) / kPanel;
  packed.panels = at::zeros({num_panels, (packed.inputs + 1) / 2, 2 * kPanel}, storage_type(type));
  if (type == WeightType::kInt8) packed.scales = at::zeros({num_panels * kPanel}, at::kFloat);
  if (bias.defined()) {
    check_parameter(bias, "bias", {packed.outputs});
    packed.bias = at::zeros({num_panels * kPanel}, at::kFloat);
    packed.bias.slice(0, 0, packed.outputs).copy_(bias.value);
  }
  const auto* from = weight.value.const_data_ptr<float>();
  auto* scales = packed.scales.defined() ? packed.scales.mutable_data_ptr<float>() : nullptr;
  for_ranges(packed.outputs, 4 * packed.inputs, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      pack_row(from + o * packed.inputs, packed.inputs, type, o % kPanel, packed.panels, o / kPanel,
               scales == nullptr ? nullptr : scales + o);
    }
  });
  return packed;
}

void packed_linear_into(const at::Tensor& x, const PackedLinear& linear, const at::Tensor& y, int64_t first) {
  GATO_CHECK(linear.panels.defined(), "the linear map was not packed");
  check_tensor(x, "x", activation_type(linear.type), {-1, linear.inputs});
  check_activation(y, "y", {x.size(0), -1});
  GATO_CHECK(x.is_cpu() && y.is_cpu(), "packed linear maps run on the CPU, x is on ", x.device().str());
  GATO_CHECK(y.scalar_type() == x.scalar_type() || y.scalar_type() == at::kFloat, "y must be of x's type or fp32, is ",
             c10::toString(y.scalar_type()));
  GATO_CHECK(first >= 0 && first + y.size(1) <= linear.outputs, "outputs [", first, ", ", first + y.size(1),
             ") lie outside of ", linear.outputs);
  GATO_CHECK(!c10::GradMode::is_enabled() || !x.requires_grad(), "packed linear maps have no gradients");
  if (y.numel() == 0) return;
  const profile::Scope scope(linear.name, " acting");
  const bool wide = y.scalar_type() == at::kFloat;
  if (linear.type == WeightType::kFp32) {
    multiply<float, float, float>(x, linear, y, first);
  } else if (linear.type == WeightType::kBf16) {
    wide ? multiply<cpu::Bf16, cpu::Bf16, float>(x, linear, y, first)
         : multiply<cpu::Bf16, cpu::Bf16, cpu::Bf16>(x, linear, y, first);
  } else {
    wide ? multiply<int8_t, cpu::Bf16, float>(x, linear, y, first)
         : multiply<int8_t, cpu::Bf16, cpu::Bf16>(x, linear, y, first);
  }
}

at::Tensor packed_linear(const at::Tensor& x, const PackedLinear& linear) {
  const at::Tensor y = at::empty({x.size(0), linear.outputs}, x.options());
  packed_linear_into(x, linear, y);
  return y;
}

}  // namespace gato::kernels
