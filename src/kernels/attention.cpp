#include "gato/kernels/attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/attention_libraries.h"
#include "kernels/check_rotary.h"
#include "kernels/checks.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/lanes.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

cpu::AttentionShape shape_of(const at::Tensor& qkv, const RotaryTable& rotary) {
  return {qkv.size(0),
          qkv.size(1),
          qkv.size(3),
          qkv.size(4),
          rotary.defined() ? rotary.cosine.const_data_ptr<float>() : nullptr,
          rotary.defined() ? rotary.sine.const_data_ptr<float>() : nullptr};
}

/// Checks that every row is cut into consecutive sequences; returns the length of the longest one.
/// Not on a device, whose values are not looked at; then every sequence may be as long as a row.
int64_t check_starts(const at::Tensor& sequence_start) {
  if (!sequence_start.is_cpu()) return sequence_start.size(1);
  const auto* starts = sequence_start.const_data_ptr<int32_t>();
  const int64_t tokens = sequence_start.size(1);
  int64_t longest = 0;
  for (int64_t row = 0; row < sequence_start.size(0); ++row) {
    int64_t begin = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const int32_t start = starts[row * tokens + t];
      if (start == t) begin = t;
      GATO_CHECK(start == begin, "sequence_start[", row, ", ", t, "] is ", start, ": expected ", begin,
                 " (the sequence goes on) or ", t, " (a new one starts)");
      longest = std::max(longest, t - begin + 1);
    }
  }
  return longest;
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv, const at::Tensor& starts,
                            const RotaryTable& rotary) {
    const profile::Scope scope("attention forward");
    const at::Tensor out = at::empty({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}, qkv.options());
    const at::Tensor log_sum = at::empty({qkv.size(0), qkv.size(3), qkv.size(1)}, qkv.options().dtype(at::kFloat));
    context->save_for_backward({qkv, starts, out, log_sum});
    context->saved_data["cosine"] = rotary.cosine;
    context->saved_data["sine"] = rotary.sine;
    if (const DeviceOps* ops = device_ops(qkv)) {
      ops->attention_forward(qkv, starts, rotary, out, log_sum);
    } else {
      forward_on_cpu(qkv, starts, rotary, out, log_sum);
    }
    return out;
  }

  static void forward_on_cpu(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                             const at::Tensor& out, const at::Tensor& log_sum) {
    const cpu::AttentionShape shape = shape_of(qkv, rotary);
    const auto* start = starts.const_data_ptr<int32_t>();
    auto* sums = log_sum.mutable_data_ptr<float>();
    with_type_of(qkv, [&]<class T>(T) {
      const T* from = data<T>(qkv);
      T* to = mutable_data<T>(out);
      for_ranges(shape.rows * shape.heads, 16 * shape.tokens * shape.head_dim, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          cpu::attention_forward(shape, i / shape.heads, i % shape.heads, from, start, to, sums);
        }
      });
    });
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const profile::Scope scope("attention backward");
    const variable_list saved = context->get_saved_variables();
    const RotaryTable rotary{context->saved_data["cosine"].toTensor(), context->saved_data["sine"].toTensor()};
    const at::Tensor& qkv = saved[0];
    const at::Tensor out_gradient = gradients[0].contiguous();
    const at::Tensor qkv_gradient = at::empty_like(qkv);
    if (const DeviceOps* ops = device_ops(qkv)) {
      ops->attention_backward(qkv, saved[1], rotary, saved[2], saved[3], out_gradient, qkv_gradient);
    } else {
      backward_on_cpu(qkv, saved[1], rotary, saved[3], out_gradient, qkv_gradient);
    }
    return {qkv_gradient, {}, {}};
  }

  static void backward_on_cpu(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                              const at::Tensor& log_sum, const at::Tensor& out_gradient,
                              const at::Tensor& qkv_gradient) {
    const cpu::AttentionShape shape = shape_of(qkv, rotary);
    const auto* start = starts.const_data_ptr<int32_t>();
    const auto* sums = log_sum.const_data_ptr<float>();
    with_type_of(qkv, [&]<class T>(T) {
      const T* from = data<T>(qkv);
      const T* up = data<T>(out_gradient);
      T* to = mutable_data<T>(qkv_gradient);
      for_ranges(shape.rows * shape.heads, 32 * shape.tokens * shape.head_dim, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          cpu::attention_backward(shape, i / shape.heads, i % shape.heads, from, start, sums, up, to);
        }
      });
    });
  }
};

}  // namespace

void check_rotary(const RotaryTable& rotary, int64_t head_dim, int64_t positions) {
  if (!rotary.defined()) return;
  GATO_CHECK(head_dim % 2 == 0, "rotary positions need an even head dimension, not ", head_dim);
  check_tensor(rotary.cosine, "rotary.cosine", at::kFloat, {-1, head_dim / 2});
  check_tensor(rotary.sine, "rotary.sine", at::kFloat, {rotary.cosine.size(0), head_dim / 2});
  GATO_CHECK(rotary.cosine.size(0) >= positions, "the rotary table has ", rotary.cosine.size(0),
             " positions, the longest sequence needs ", positions);
}

RotaryTable make_rotary_table(int64_t positions, int64_t head_dim, double base) {
  GATO_CHECK(positions >= 0 && head_dim > 0 && head_dim % 2 == 0 && base > 1, "a rotary table of ", positions,
             " positions for head dimension ", head_dim, " and base ", base, " makes no sense");
  const int64_t half = head_dim / 2;
  RotaryTable table{at::empty({positions, half}, at::kFloat), at::empty({positions, half}, at::kFloat)};
  auto* cosine = table.cosine.mutable_data_ptr<float>();
  auto* sine = table.sine.mutable_data_ptr<float>();
  for (int64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      cosine[p * half + i] = static_cast<float>(std::cos(angle));
      sine[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

at::Tensor document_attention(const at::Tensor& qkv, const at::Tensor& sequence_start, const RotaryTable& rotary,
                              const SequenceBounds& bounds) {
  check_activation(qkv, "qkv", {-1, -1, 3, -1, -1});
  check_tensor(sequence_start, "sequence_start", at::kInt, {qkv.size(0), qkv.size(1)});
  GATO_CHECK(qkv.size(4) > 0, "the head dimension must be positive");
  check_rotary(rotary, qkv.size(4), check_starts(sequence_start));
  check_same_device(qkv, {{"sequence_start", &sequence_start}, {"rotary", &rotary.cosine}});
  const AttentionRoute route = route_of(qkv);
  if (route == AttentionRoute::kOwn) return AttentionFunction::apply(qkv, sequence_start, rotary);
  return attend_by_library(route, qkv, sequence_start, rotary, bounds);
}

}  // namespace gato::kernels
