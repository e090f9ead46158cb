#include "gato/kernels/reference.h"

#include <ATen/ATen.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/kernels/layer_norm.h"

namespace gato::kernels::reference {
namespace {

/// x1, x2 -> x1 cos - x2 sin, x2 cos + x1 sin by the index inside the sequence; `x` [B, T, H, D].
at::Tensor rotate(const at::Tensor& x, const at::Tensor& index, const RotaryTable& rotary) {
  if (!rotary.defined()) return x;
  const at::Tensor cosine = rotary.cosine.index({index}).unsqueeze(2).to(x.scalar_type());
  const at::Tensor sine = rotary.sine.index({index}).unsqueeze(2).to(x.scalar_type());
  const std::vector<at::Tensor> halves = x.chunk(2, -1);
  return at::cat({halves[0] * cosine - halves[1] * sine, halves[1] * cosine + halves[0] * sine}, -1);
}

at::Tensor rows_or_zero(const at::Tensor& table, const at::Tensor& index) {
  const at::Tensor rows = table.index_select(0, index.clamp_min(0).to(at::kLong));
  return rows * (index >= 0).unsqueeze(1).to(table.scalar_type());
}

/// Softmax of the scores [B, H, T, T], divided by D^1/2, over the keys of each query's sequence up to itself, times the
/// values [B, H, T, D]; returns [B, T, H, D].
at::Tensor mix_values(const at::Tensor& scores, const at::Tensor& v, const at::Tensor& sequence_start) {
  const at::Tensor start = sequence_start.to(at::kLong).unsqueeze(2);
  const at::Tensor place = at::arange(v.size(2), start.options());
  const at::Tensor allowed = (place <= place.unsqueeze(1)).logical_and(place >= start).unsqueeze(1);  // [B, 1, T, T]
  const at::Tensor scaled = scores / std::sqrt(static_cast<double>(v.size(3)));
  return scaled.masked_fill(allowed.logical_not(), -INFINITY).softmax(-1).matmul(v).transpose(1, 2).contiguous();
}

/// [P, V] of what is expected at each position.
at::Tensor expected(const at::Tensor& targets, int64_t vocabulary, const SoftTargets& soft, at::ScalarType dtype) {
  at::Tensor shares = at::one_hot(targets, vocabulary).to(dtype);
  if (!(soft.sigma > 0)) return shares;
  const at::Tensor ids = at::arange(vocabulary, targets.options());
  const at::Tensor inside = (ids >= soft.first_id).logical_and(ids < soft.first_id + soft.num_ids);
  const at::Tensor distance = (ids.unsqueeze(0) - targets.unsqueeze(1)).to(at::kDouble) / soft.sigma;
  at::Tensor density = at::exp(distance.square() * -0.5) * inside.to(at::kDouble).unsqueeze(0);
  density = (density / density.sum(1, true)).to(dtype);
  const at::Tensor is_soft = inside.index_select(0, targets).unsqueeze(1);
  return at::where(is_soft, density, shares);
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor y = x.matmul(weight.t());
  return bias.defined() ? y + bias : y;
}

at::Tensor document_attention(const at::Tensor& qkv, const at::Tensor& sequence_start, const RotaryTable& rotary) {
  const at::Tensor start = sequence_start.to(at::kLong);
  const at::Tensor index = at::arange(qkv.size(1), start.options()).unsqueeze(0) - start;
  const at::Tensor q = rotate(qkv.select(2, 0), index, rotary).transpose(1, 2);
  const at::Tensor k = rotate(qkv.select(2, 1), index, rotary).transpose(1, 2);
  return mix_values(q.matmul(k.transpose(2, 3)), qkv.select(2, 2).transpose(1, 2), sequence_start);
}

at::Tensor relative_attention(const at::Tensor& qkv, const at::Tensor& sequence_start, const at::Tensor& distance_keys,
                              const at::Tensor& content_bias, const at::Tensor& position_bias) {
  const int64_t tokens = qkv.size(1);
  const at::Tensor q = qkv.select(2, 0), k = qkv.select(2, 1).transpose(1, 2);
  const at::Tensor place = at::arange(tokens, at::kLong);
  const at::Tensor distance = (place.unsqueeze(1) - place.unsqueeze(0)).clamp_min(0);  // [T, T]
  const at::Tensor row = distance_keys.size(0) - 1 - distance.clamp_max(distance_keys.size(0) - 1);
  const at::Tensor r = distance_keys.index_select(0, row.view(-1)).view({tokens, tokens, q.size(2), q.size(3)});
  const at::Tensor content = (q + content_bias).transpose(1, 2).matmul(k.transpose(2, 3));
  const at::Tensor position = at::einsum("bihd,ijhd->bhij", {q + position_bias, r});
  return mix_values(content + position, qkv.select(2, 2).transpose(1, 2), sequence_start);
}

std::pair<at::Tensor, at::Tensor> residual_layer_norm(const at::Tensor& x, const at::Tensor& delta,
                                                      const at::Tensor& scale, const at::Tensor& gain,
                                                      const at::Tensor& offset) {
  at::Tensor sum = x;
  if (delta.defined() && scale.defined()) {
    sum = x + delta * scale.repeat_interleave(x.size(0) / std::max<int64_t>(1, scale.size(0))).unsqueeze(1);
  } else if (delta.defined()) {
    sum = x + delta;
  }
  const at::Tensor centred = sum - sum.mean(1, true);
  const at::Tensor variance = centred.square().mean(1, true);
  return {sum, centred / (variance + kLayerNormEpsilon).sqrt() * gain + offset};
}

at::Tensor geglu(const at::Tensor& x) {
  const std::vector<at::Tensor> halves = x.chunk(2, 1);
  return halves[0] * 0.5 * (1 + (halves[0] * std::sqrt(0.5)).erf()) * halves[1];
}

at::Tensor embed(const EmbeddingInput& input, const Tables& tables, const at::Tensor& patch_vectors) {
  at::Tensor y = rows_or_zero(tables.tokens, input.ids) + rows_or_zero(tables.local_positions, input.local_positions);
  if (!input.patch_index.defined() || input.patch_index.numel() == 0) return y;
  const at::Tensor vectors = patch_vectors + rows_or_zero(tables.patch_rows, input.patch_rows) +
                             rows_or_zero(tables.patch_columns, input.patch_columns);
  return y.index_add(0, input.patch_index, vectors);
}

CrossEntropyResult head_cross_entropy(const at::Tensor& hidden, const at::Tensor& table, const at::Tensor& positions,
                                      const at::Tensor& targets, const at::Tensor& weights, const SoftTargets& soft) {
  const at::Tensor logits = hidden.index_select(0, positions).matmul(table.t());
  const at::Tensor log_p = logits.log_softmax(1);
  const at::Tensor shares = expected(targets, table.size(0), soft, hidden.scalar_type());
  const at::Tensor loss = -(shares * log_p).sum(1);
  return {(loss * weights.to(hidden.scalar_type())).sum(), -log_p.gather(1, targets.unsqueeze(1)).squeeze(1).detach()};
}

at::Tensor embed_patches(const at::Tensor& patches, const std::vector<at::Tensor>& parameters, int64_t groups,
                         int64_t stride) {
  GATO_CHECK(parameters.size() == 12, "the patch embedder has 12 parameters, got ", parameters.size());
  const auto& p = parameters;
  const at::ScalarType dtype = p[0].scalar_type();
  const at::Tensor x = (patches.permute({0, 3, 1, 2}).to(dtype) / 127.5 - 1) / 4;
  const auto act = [&](const at::Tensor& features, const at::Tensor& gain, const at::Tensor& offset) {
    return at::gelu(at::group_norm(features.contiguous(), groups, gain, offset, 1e-5));
  };
  const at::Tensor stem = at::conv2d(x, p[0], p[1], {stride, stride}, {1, 1});
  const at::Tensor middle = at::conv2d(act(stem, p[2], p[3]), p[4], p[5], {1, 1}, {1, 1});
  const at::Tensor last = at::conv2d(act(middle, p[6], p[7]), p[8], p[9], {1, 1}, {1, 1});
  const int64_t span = kPatchSide / stride / kPatchCells;
  const at::Tensor cells = at::avg_pool2d(stem + last, {span, span});
  return linear(cells.permute({0, 2, 3, 1}).flatten(1), p[10], p[11]);
}

void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWStep& step) {
  for (const UpdateSpan& span : spans) {
    const auto part = [&](const at::Tensor& x) { return x.slice(0, span.offset, span.offset + span.size); };
    at::Tensor w = part(values), m = part(first_moment), v = part(second_moment);
    const at::Tensor g = part(gradients) * step.grad_scale;
    if (span.decay) w.mul_(1 - step.learning_rate * step.weight_decay);
    m.mul_(step.beta_1).add_(g, 1 - step.beta_1);
    v.mul_(step.beta_2).add_(g * g, 1 - step.beta_2);
    const double steps = static_cast<double>(step.step);
    const at::Tensor denominator = (v / (1 - std::pow(step.beta_2, steps))).sqrt().add_(step.epsilon);
    w.add_(m / denominator, -step.learning_rate / (1 - std::pow(step.beta_1, steps)));
  }
}

}  // namespace gato::kernels::reference
