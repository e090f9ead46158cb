#include "kernels/cuda/tensor_ops.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#if !defined(GATO_CUDA_EMULATION)
#include <c10/cuda/CUDAStream.h>
#endif

#include <algorithm>
#include <cmath>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/kernels/layer_norm.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/geglu.h"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sampling.h"

namespace gato::kernels::cuda {
namespace {

/// The device of `x` made the current one, and its current stream.
class Place {
 public:
  explicit Place(const at::Tensor& x) : guard_(x.device()), stream_(stream_of(x)) {}
  [[nodiscard]] Stream stream() const { return stream_; }

 private:
  static Stream stream_of([[maybe_unused]] const at::Tensor& x) {
#if defined(GATO_CUDA_EMULATION)
    return nullptr;
#else
    return c10::cuda::getCurrentCUDAStream(x.device().index()).stream();
#endif
  }
  c10::DeviceGuard guard_;
  Stream stream_;
};

Element element_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return Element::kFloat32;
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kHalf:
      return Element::kFloat16;
    default:
      throw ContractError(cat("no kernel takes elements of type ", c10::toString(x.scalar_type())));
  }
}

const void* data(const at::Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }
void* mutable_data(const at::Tensor& x) { return x.defined() ? x.mutable_data_ptr() : nullptr; }
template <class T>
const T* data(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}
template <class T>
T* mutable_data(const at::Tensor& x) {
  return x.defined() ? x.mutable_data_ptr<T>() : nullptr;
}

at::Tensor scratch(size_t bytes, const at::Tensor& like) {
  return at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
}

int64_t rows_per_factor(const at::Tensor& factors, int64_t rows) {
  return factors.defined() && factors.size(0) > 0 ? rows / factors.size(0) : 1;
}

AttentionShape shape_of(const at::Tensor& qkv) {
  return {qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4), element_of(qkv)};
}

RotaryView view_of(const RotaryTable& rotary) {
  if (!rotary.defined()) return {};
  return {data<float>(rotary.cosine), data<float>(rotary.sine), rotary.cosine.size(0)};
}

Lookup lookup(const Parameter& table, const at::Tensor& index) {
  return {data<float>(table.value), table.defined() ? table.value.size(0) : 0, data<int32_t>(index)};
}

/// The bytes of host values on the device. From pageable memory, so the call returns only after they are read.
template <class T>
at::Tensor to_device_bytes(const T* values, int64_t count, const at::Tensor& like) {
  const at::Tensor host = at::from_blob(const_cast<T*>(values), {count * static_cast<int64_t>(sizeof(T))}, at::kByte);
  return host.to(like.device(), at::kByte, /*non_blocking=*/false, /*copy=*/true);
}

PreparedUpdate prepare_on_host(const AdamWStep& step) {
  const auto updates = static_cast<double>(step.step);
  PreparedUpdate prepared;
  prepared.grad_scale = static_cast<float>(step.grad_scale);
  prepared.keep = static_cast<float>(1 - step.learning_rate * step.weight_decay);
  prepared.step_size = static_cast<float>(step.learning_rate / (1 - std::pow(step.beta_1, updates)));
  prepared.inverse_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(step.beta_2, updates)));
  return prepared;
}

AdamWUpdate update_of(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                      const at::Tensor& second_moment, const at::Tensor& compute, const at::Tensor& prepared) {
  AdamWUpdate call;
  call.prepared = static_cast<const PreparedUpdate*>(data(prepared));
  call.values = mutable_data<float>(values);
  call.gradients = data<float>(gradients);
  call.first_moment = mutable_data<float>(first_moment);
  call.second_moment = mutable_data<float>(second_moment);
  call.compute = mutable_data(compute);
  return call;
}

bool same(std::span<const UpdateSpan> a, const std::vector<UpdateSpan>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const UpdateSpan& x, const UpdateSpan& y) {
    return x.offset == y.offset && x.size == y.size && x.decay == y.decay;
  });
}

}  // namespace

void TensorOps::fill_rows(const at::Tensor& row, const at::Tensor& y) const {
  const Place place(y);
  add_bias({.element = element_of(y),
            .rows = y.size(0),
            .width = y.size(1),
            .bias = data<float>(row),
            .y = mutable_data(y),
            .accumulate = false},
           place.stream());
}

void TensorOps::add_column_sums(const at::Tensor& x, const at::Tensor& totals) const {
  const Place place(x);
  const at::Tensor workspace = scratch(column_sums_workspace(x.size(0), x.size(1)), x);
  cuda::add_column_sums({.element = element_of(x),
                         .rows = x.size(0),
                         .width = x.size(1),
                         .x = data(x),
                         .totals = mutable_data<float>(totals),
                         .workspace = mutable_data(workspace)},
                        place.stream());
}

void TensorOps::norm_forward(const NormForward& call) const {
  const Place place(call.x);
  const int64_t rows = call.x.size(0);
  auto* mean = mutable_data<float>(call.statistics);
  layer_norm_forward({.element = element_of(call.y),
                      .rows = rows,
                      .width = call.x.size(1),
                      .x = data<float>(call.x),
                      .delta = data(call.delta),
                      .factors = data<float>(call.factors),
                      .rows_per_factor = rows_per_factor(call.factors, rows),
                      .gain = data<float>(call.gain),
                      .offset = data<float>(call.offset),
                      .epsilon = static_cast<float>(kLayerNormEpsilon),
                      .sum = mutable_data<float>(call.sum),
                      .y = mutable_data(call.y),
                      .mean = mean,
                      .inverse_deviation = mean + rows},
                     place.stream());
}

void TensorOps::norm_backward(const NormBackward& call) const {
  const Place place(call.sum);
  const int64_t rows = call.sum.size(0), width = call.sum.size(1);
  const auto* mean = data<float>(call.statistics);
  const at::Tensor workspace = scratch(layer_norm_backward_workspace(rows, width), call.sum);
  layer_norm_backward({.element = element_of(call.y_gradient),
                       .rows = rows,
                       .width = width,
                       .sum = data<float>(call.sum),
                       .mean = mean,
                       .inverse_deviation = mean + rows,
                       .gain = data<float>(call.gain),
                       .y_gradient = data(call.y_gradient),
                       .sum_gradient = data<float>(call.sum_gradient),
                       .factors = data<float>(call.factors),
                       .rows_per_factor = rows_per_factor(call.factors, rows),
                       .x_gradient = mutable_data<float>(call.x_gradient),
                       .delta_gradient = mutable_data(call.delta_gradient),
                       .gain_gradient = mutable_data<float>(call.gain_gradient),
                       .offset_gradient = mutable_data<float>(call.offset_gradient),
                       .workspace = mutable_data(workspace)},
                      place.stream());
}

void TensorOps::geglu_forward(const at::Tensor& x, const at::Tensor& y) const {
  const Place place(x);
  cuda::geglu_forward(
      {.element = element_of(x), .rows = y.size(0), .half = y.size(1), .x = data(x), .y = mutable_data(y)},
      place.stream());
}

void TensorOps::geglu_backward(const at::Tensor& x, const at::Tensor& y_gradient, const at::Tensor& x_gradient) const {
  const Place place(x);
  cuda::geglu_backward({.element = element_of(x),
                        .rows = y_gradient.size(0),
                        .half = y_gradient.size(1),
                        .x = data(x),
                        .y_gradient = data(y_gradient),
                        .x_gradient = mutable_data(x_gradient)},
                       place.stream());
}

bool TensorOps::takes_attention(const at::Tensor& qkv) const {
  const int64_t head_dim = qkv.size(4);
  return (qkv.scalar_type() == at::kBFloat16 || qkv.scalar_type() == at::kHalf) &&
         (head_dim == 32 || head_dim == 64 || head_dim == 128);
}

void TensorOps::attention_forward(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                                  const at::Tensor& out, const at::Tensor& log_sum) const {
  const Place place(qkv);
  const AttentionShape shape = shape_of(qkv);
  cuda::attention_forward({.shape = shape,
                           .query = packed_heads(data(qkv), shape, 0),
                           .key = packed_heads(data(qkv), shape, 1),
                           .value = packed_heads(data(qkv), shape, 2),
                           .sequence_start = data<int32_t>(starts),
                           .rotary = view_of(rotary),
                           .out = contiguous_heads(mutable_data(out), shape),
                           .log_sum_exp = mutable_data<float>(log_sum)},
                          place.stream());
}

void TensorOps::attention_backward(const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                                   const at::Tensor& out, const at::Tensor& log_sum, const at::Tensor& out_gradient,
                                   const at::Tensor& qkv_gradient) const {
  const Place place(qkv);
  const AttentionShape shape = shape_of(qkv);
  const at::Tensor workspace = scratch(attention_backward_workspace(shape), qkv);
  cuda::attention_backward({.shape = shape,
                            .query = packed_heads(data(qkv), shape, 0),
                            .key = packed_heads(data(qkv), shape, 1),
                            .value = packed_heads(data(qkv), shape, 2),
                            .sequence_start = data<int32_t>(starts),
                            .rotary = view_of(rotary),
                            .out = contiguous_heads(data(out), shape),
                            .log_sum_exp = data<float>(log_sum),
                            .out_gradient = contiguous_heads(data(out_gradient), shape),
                            .query_gradient = packed_heads(mutable_data(qkv_gradient), shape, 0),
                            .key_gradient = packed_heads(mutable_data(qkv_gradient), shape, 1),
                            .value_gradient = packed_heads(mutable_data(qkv_gradient), shape, 2),
                            .workspace = mutable_data(workspace)},
                           place.stream());
}

void TensorOps::cached_attention(const CachedAttentionCall& call) const {
  const Place place(call.qkv);
  static_assert(sizeof(SlotRun) == 4 * sizeof(int32_t), "the table of runs has a row for each");
  CachedAttention arguments;
  arguments.tokens = call.qkv.size(0);
  arguments.heads = call.qkv.size(2);
  arguments.head_dim = call.qkv.size(3);
  arguments.element = element_of(call.qkv);
  arguments.qkv = data(call.qkv);
  arguments.out = mutable_data(call.out);
  arguments.runs = reinterpret_cast<const SlotRun*>(data<int32_t>(call.runs));
  arguments.num_runs = call.runs.size(0);
  arguments.most_new = call.most_new;
  arguments.most_context = call.most_context;
  arguments.cache = {mutable_data(call.keys), mutable_data(call.values), call.keys.size(0), call.keys.size(2)};
  arguments.rotary = view_of(call.rotary);
  const at::Tensor workspace = scratch(cached_attention_workspace(arguments), call.qkv);
  arguments.workspace = mutable_data(workspace);
  cuda::cached_attention(arguments, place.stream());
}

void TensorOps::choose_tokens(const at::Tensor& logits, int64_t first_id, const ChoiceState& state) const {
  static_assert(kMostSampledIds == kMostSampledOnDevice);
  const Place place(logits);
  const at::Tensor workspace = scratch(sampling_workspace(state.size(), logits.size(1)), logits);
  const auto* requests = static_cast<const TokenChoice*>(data(state.choices));
  sample_ids({.element = element_of(logits),
              .slots = state.size(),
              .columns = logits.size(1),
              .stride = logits.stride(0),
              .first_id = first_id,
              .logits = data(logits),
              .requests = requests,
              .round = data<int32_t>(state.round),
              .ids = mutable_data<int32_t>(state.ids),
              .workspace = mutable_data(workspace)},
             place.stream());
  feed_back({.slots = state.size(),
             .rounds = state.rounds(),
             .requests = requests,
             .ids = data<int32_t>(state.ids),
             .round = mutable_data<int32_t>(state.round),
             .runs = reinterpret_cast<SlotRun*>(mutable_data<int32_t>(state.runs)),
             .local_positions = mutable_data<int32_t>(state.local_positions),
             .chosen = mutable_data<int32_t>(state.chosen)},
            place.stream());
}

void TensorOps::gather_rows(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& y) const {
  const Place place(x);
  cuda::gather_rows({.element = element_of(x),
                     .rows = x.size(0),
                     .width = x.size(1),
                     .count = positions.size(0),
                     .from = data(x),
                     .positions = data<int64_t>(positions),
                     .to = mutable_data(y)},
                    place.stream());
}

void TensorOps::spread_rows(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& y) const {
  const Place place(y);
  cuda::scatter_rows({.element = element_of(x),
                      .rows = y.size(0),
                      .width = y.size(1),
                      .count = positions.size(0),
                      .from = data(x),
                      .positions = data<int64_t>(positions),
                      .to = mutable_data(y)},
                     place.stream());
}

void TensorOps::embed_forward(const EmbeddingInput& input, const EmbeddingTables& tables, const at::Tensor& vectors,
                              const at::Tensor& out) const {
  const Place place(out);
  const int64_t patches = input.patch_index.defined() ? input.patch_index.numel() : 0;
  EmbeddingForward call;
  call.places = out.size(0);
  call.width = out.size(1);
  call.tokens = lookup(tables.tokens, input.ids);
  call.local_positions = lookup(tables.local_positions, input.local_positions);
  call.patches = patches;
  call.y = mutable_data<float>(out);
  if (patches > 0) {
    call.patch_index = data<int64_t>(input.patch_index);
    call.patch_vectors = data<float>(vectors);
    call.patch_rows = lookup(tables.patch_rows, input.patch_rows);
    call.patch_columns = lookup(tables.patch_columns, input.patch_columns);
  }
  embedding_forward(call, place.stream());
}

void TensorOps::scatter_rows(const at::Tensor& rows, const at::Tensor& places, const at::Tensor& gradient,
                             const at::Tensor& table_gradient) const {
  const Place place(gradient);
  const int64_t count = rows.numel(), width = gradient.size(1);
  const at::Tensor workspace = scratch(embedding_backward_workspace(count, width), gradient);
  embedding_backward({.count = count,
                      .width = width,
                      .index = data<int32_t>(rows),
                      .places = data<int64_t>(places),
                      .gradient_rows = gradient.size(0),
                      .gradient = data<float>(gradient),
                      .table_rows = table_gradient.size(0),
                      .table_gradient = mutable_data<float>(table_gradient),
                      .workspace = mutable_data(workspace)},
                     place.stream());
}

void TensorOps::cross_entropy(const HeadChunk& chunk) const {
  const Place place(chunk.logits);
  cuda::cross_entropy({.element = element_of(chunk.logits),
                       .positions = chunk.logits.size(0),
                       .vocabulary = chunk.logits.size(1),
                       .stride = chunk.logits.stride(0),
                       .logits = mutable_data(chunk.logits),
                       .targets = data<int64_t>(chunk.targets),
                       .weights = data<float>(chunk.weights),
                       .scale = data<float>(chunk.scale),
                       .first_id = chunk.soft.first_id,
                       .num_ids = chunk.soft.num_ids,
                       .sigma = static_cast<float>(chunk.soft.sigma),
                       .differentiate = chunk.differentiate,
                       .loss = mutable_data<float>(chunk.loss),
                       .nll = mutable_data<float>(chunk.nll)},
                      place.stream());
}

at::Tensor TensorOps::weighted_sum(const at::Tensor& losses, const at::Tensor& weights) const {
  const Place place(losses);
  const at::Tensor total = at::zeros({}, losses.options().dtype(at::kDouble));
  add_weighted_sum({.positions = losses.numel(),
                    .loss = data<float>(losses),
                    .weights = data<float>(weights),
                    .total = mutable_data<double>(total)},
                   place.stream());
  return total.to(at::kFloat);
}

void TensorOps::dropout(const at::Tensor& x, double probability, const DropoutStream& stream,
                        const at::Tensor& y) const {
  const Place place(x);
  static_assert(sizeof(DropoutKey) == 2 * sizeof(int64_t), "a key on the device is a tensor of two");
  cuda::dropout({.element = element_of(x),
                 .tokens = x.size(0),
                 .width = x.size(1),
                 .row_tokens = stream.row_tokens,
                 .x = data(x),
                 .y = mutable_data(y),
                 .probability = probability,
                 .key = {stream.key, stream.first_row},
                 .device_key = reinterpret_cast<const DropoutKey*>(data<int64_t>(stream.device_key))},
                place.stream());
}

void TensorOps::round_to_bf16(const at::Tensor& from, const at::Tensor& to) const {
  const Place place(from);
  convert({.count = from.numel(),
           .from_element = Element::kFloat32,
           .from = data(from),
           .to_element = Element::kBFloat16,
           .to = mutable_data(to)},
          place.stream());
}

void TensorOps::squared_norm(const at::Tensor& x, const at::Tensor& norm) const {
  const Place place(x);
  const at::Tensor workspace = scratch(squared_norm_workspace(x.numel()), x);
  cuda::squared_norm({.count = x.numel(),
                      .x = data<float>(x),
                      .norm = mutable_data<double>(norm),
                      .workspace = mutable_data(workspace)},
                     place.stream());
}

TensorOps::UpdateTable TensorOps::update_table(std::span<const UpdateSpan> spans, const at::Tensor& values) const {
  const std::lock_guard lock(mutex_);
  for (const UpdateTable& table : tables_) {
    if (table.blocks.device() == values.device() && same(spans, table.spans)) return table;
  }
  std::vector<FlatSpan> flat;
  for (const UpdateSpan& span : spans) flat.push_back({span.offset, span.size, span.decay});
  const std::vector<UpdateBlock> blocks = make_update_blocks(flat, values.numel());
  const auto count = static_cast<int64_t>(blocks.size());
  tables_.push_back({{spans.begin(), spans.end()}, to_device_bytes(blocks.data(), count, values), count});
  return tables_.back();
}

void TensorOps::adamw_step(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                           const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWStep& step,
                           const at::Tensor& compute) const {
  const Place place(values);
  const PreparedUpdate prepared = prepare_on_host(step);
  const at::Tensor on_device = to_device_bytes(&prepared, 1, values);
  AdamWUpdate call = update_of(values, gradients, first_moment, second_moment, compute, on_device);
  call.beta_1 = step.beta_1;
  call.beta_2 = step.beta_2;
  call.epsilon = step.epsilon;
  const UpdateTable table = update_table(spans, values);
  call.blocks = static_cast<const UpdateBlock*>(data(table.blocks));
  call.num_blocks = table.num_blocks;
  cuda::adamw_update(call, place.stream());
}

void TensorOps::adamw_update(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                             const at::Tensor& second_moment, std::span<const UpdateSpan> spans,
                             const AdamWSettings& settings, const StepNumbers& numbers,
                             const at::Tensor& compute) const {
  const Place place(values);
  const at::Tensor prepared = scratch(sizeof(PreparedUpdate), values);
  const auto* sums = data<double>(numbers.sums());
  const auto* rates = data<double>(numbers.rates());
  prepare_update({.squared_norm = sums,
                  .loss_sum = sums + 1,
                  .weight_sum = sums + 2,
                  .learning_rate = rates,
                  .updates = rates + 1,
                  .prepared = static_cast<PreparedUpdate*>(mutable_data(prepared)),
                  .outcome = mutable_data<double>(numbers.outcome()),
                  .beta_1 = settings.beta_1,
                  .beta_2 = settings.beta_2,
                  .weight_decay = settings.weight_decay,
                  .clip_norm = settings.clip_norm},
                 place.stream());
  AdamWUpdate call = update_of(values, gradients, first_moment, second_moment, compute, prepared);
  call.beta_1 = settings.beta_1;
  call.beta_2 = settings.beta_2;
  call.epsilon = settings.epsilon;
  const UpdateTable table = update_table(spans, values);
  call.blocks = static_cast<const UpdateBlock*>(data(table.blocks));
  call.num_blocks = table.num_blocks;
  cuda::adamw_update(call, place.stream());
}

}  // namespace gato::kernels::cuda
