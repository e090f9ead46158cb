#include "kernels/attention_libraries.h"

#include <ATen/ATen.h>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "gato/kernels/reference.h"
#include "kernels/graph.h"

// Attention by others' code. LibTorch's flash attention and cuDNN take the tokens of all sequences one after the other,
// [N, H, D], already rotated, with the places where sequences start.
namespace gato::kernels {
namespace {

/// Sines and cosines of every token's place in its sequence, [N, 1, D / 2].
struct Rotation {
  at::Tensor cosine, sine;
};

Rotation rotation_of(const at::Tensor& sequence_start, const RotaryTable& rotary) {
  if (!rotary.defined()) return {};
  const at::Tensor place = at::arange(sequence_start.size(1), sequence_start.options());
  const at::Tensor index = (place.unsqueeze(0) - sequence_start).view({-1});
  return {rotary.cosine.index_select(0, index).unsqueeze(1), rotary.sine.index_select(0, index).unsqueeze(1)};
}

/// `x` [N, H, D] rotated; by minus the angle with sign -1, as gradients are.
at::Tensor rotate(const at::Tensor& x, const Rotation& by, double sign) {
  if (!by.cosine.defined()) return x.contiguous();
  const std::vector<at::Tensor> halves = x.to(at::kFloat).chunk(2, -1);
  const at::Tensor sine = by.sine * sign;
  return at::cat({halves[0] * by.cosine - halves[1] * sine, halves[1] * by.cosine + halves[0] * sine}, -1)
      .to(x.scalar_type());
}

/// What a library's forward leaves for its backward.
struct Attended {
  at::Tensor out, log_sum, random_seed, random_offset;
};

Attended attend(AttentionRoute route, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                const SequenceBounds& bounds) {
  const at::Tensor& ends = bounds.boundaries;
  if (route == AttentionRoute::kFlash) {
    auto [out, log_sum, seed, unused, mask] =
        at::_flash_attention_forward(q, k, v, ends, ends, bounds.longest, bounds.longest, 0.0, true, false);
    return {out, log_sum, seed, unused};
  }
  auto [out, log_sum, ends_q, ends_k, longest_q, longest_k, seed, offset, mask] =
      at::_cudnn_attention_forward(q, k, v, {}, ends, ends, bounds.longest, bounds.longest, true, 0.0, true, false);
  return {out, log_sum, seed, offset};
}

struct LibraryAttentionFunction : torch::autograd::Function<LibraryAttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv, const at::Tensor& starts,
                            const RotaryTable& rotary, const SequenceBounds& bounds, AttentionRoute route) {
    const profile::Scope scope("attention forward");
    const int64_t tokens = qkv.size(0) * qkv.size(1), heads = qkv.size(3), head_dim = qkv.size(4);
    const at::Tensor split = qkv.view({tokens, 3, heads, head_dim});
    const Rotation rotation = rotation_of(starts, rotary);
    const at::Tensor q = rotate(split.select(1, 0), rotation, 1), k = rotate(split.select(1, 1), rotation, 1);
    const at::Tensor v = split.select(1, 2).contiguous();
    const Attended result = attend(route, q, k, v, bounds);
    context->save_for_backward({q, k, v, result.out, result.log_sum, result.random_seed, result.random_offset,
                                bounds.boundaries, rotation.cosine, rotation.sine});
    context->saved_data["longest"] = bounds.longest;
    context->saved_data["route"] = static_cast<int64_t>(route);
    context->saved_data["rows"] = qkv.size(0);
    return result.out.view({qkv.size(0), qkv.size(1), heads, head_dim});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const profile::Scope scope("attention backward");
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &ends = saved[7];
    const int64_t longest = context->saved_data["longest"].toInt(), rows = context->saved_data["rows"].toInt();
    const at::Tensor up = gradients[0].contiguous().view(q.sizes());
    const bool flash = context->saved_data["route"].toInt() == static_cast<int64_t>(AttentionRoute::kFlash);
    const auto [dq, dk, dv] =
        flash ? at::_flash_attention_backward(up, q, saved[1], saved[2], saved[3], saved[4], ends, ends, longest,
                                              longest, 0.0, true, saved[5], saved[6])
              : at::_cudnn_attention_backward(up, q, saved[1], saved[2], saved[3], saved[4], saved[5], saved[6],
                                              at::Tensor(), ends, ends, longest, longest, 0.0, true);
    const Rotation rotation{saved[8], saved[9]};
    const at::Tensor gradient = at::stack({rotate(dq, rotation, -1), rotate(dk, rotation, -1), dv}, 1);
    return {gradient.view({rows, q.size(0) / rows, 3, q.size(1), q.size(2)}), {}, {}, {}, {}};
  }
};

}  // namespace

SequenceBounds sequence_bounds(const at::Tensor& sequence_start) {
  const int64_t rows = sequence_start.size(0), tokens = sequence_start.size(1);
  const at::Tensor place = at::arange(tokens, sequence_start.options());
  const at::Tensor begins = sequence_start.eq(place.unsqueeze(0)).view({-1}).nonzero().view({-1}).to(at::kInt);
  SequenceBounds bounds;
  bounds.boundaries = at::cat({begins, at::full({1}, rows * tokens, begins.options())});
  bounds.longest = rows * tokens == 0 ? 0 : bounds.boundaries.diff().max().item<int64_t>();
  return bounds;
}

at::Tensor attend_by_library(AttentionRoute route, const at::Tensor& qkv, const at::Tensor& sequence_start,
                             const RotaryTable& rotary, const SequenceBounds& bounds) {
  if (route == AttentionRoute::kReference) {
    return reference::document_attention(qkv.to(at::kFloat), sequence_start, rotary).to(qkv.scalar_type());
  }
  if (qkv.numel() == 0) return at::zeros({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}, qkv.options());
  return LibraryAttentionFunction::apply(qkv, sequence_start, rotary,
                                         bounds.defined() ? bounds : sequence_bounds(sequence_start), route);
}

}  // namespace gato::kernels
