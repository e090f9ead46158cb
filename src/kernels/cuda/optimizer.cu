#include "kernels/cuda/optimizer.h"

#include <algorithm>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlockElements = 4096;

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }

/// One thread.
__global__ void prepare_update_kernel(PrepareUpdate call) {
  const double weight_sum = *call.weight_sum;
  const double loss = *call.loss_sum / weight_sum;
  const double gradient_norm = sqrt(*call.squared_norm) / weight_sum;
  PreparedUpdate prepared;
  prepared.refused = !(weight_sum > 0 && is_finite(loss) && is_finite(gradient_norm));
  if (prepared.refused == 0) {
    const double learning_rate = *call.learning_rate;
    const double number = *call.updates + 1;
    const bool clip = call.clip_norm > 0 && gradient_norm > call.clip_norm;
    prepared.grad_scale = static_cast<float>((clip ? call.clip_norm / gradient_norm : 1.0) / weight_sum);
    prepared.keep = static_cast<float>(1 - learning_rate * call.weight_decay);
    prepared.step_size = static_cast<float>(learning_rate / (1 - pow(call.beta_1, number)));
    prepared.inverse_correction = static_cast<float>(1 / sqrt(1 - pow(call.beta_2, number)));
  }
  *call.prepared = prepared;
  call.outcome[0] = loss;
  call.outcome[1] = gradient_norm;
  call.outcome[2] = weight_sum;
  call.outcome[3] = prepared.refused;
}

/// The device's form of AdamWUpdate.
struct Buffers {
  float* values;
  const float* gradients;
  float* first;
  float* second;
  BFloat16* compute;
};

struct Factors {
  float grad_scale, beta_1, beta_2, keep, step_size, inverse_correction, epsilon;
};

template <int kCount>
__device__ __forceinline__ void update_elements(const Buffers& buffers, const Factors& f, int64_t at) {
  const Floats<kCount> gradient = load_floats<kCount>(buffers.gradients + at);
  Floats<kCount> value = load_floats<kCount>(buffers.values + at);
  Floats<kCount> m = load_floats<kCount>(buffers.first + at);
  Floats<kCount> v = load_floats<kCount>(buffers.second + at);
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float g = gradient.v[k] * f.grad_scale;
    m.v[k] = f.beta_1 * m.v[k] + (1 - f.beta_1) * g;
    v.v[k] = f.beta_2 * v.v[k] + (1 - f.beta_2) * g * g;
    value.v[k] = value.v[k] * f.keep - f.step_size * m.v[k] / (sqrtf(v.v[k]) * f.inverse_correction + f.epsilon);
  }
  store_floats(buffers.first + at, m);
  store_floats(buffers.second + at, v);
  store_floats(buffers.values + at, value);
  if (buffers.compute != nullptr) store_floats(buffers.compute + at, value);
}

/// kCount 4: all buffers start at a place aligned for four elements. The vectors of a block begin where the values have
/// a sector if the buffers do.
template <int kCount>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(Buffers buffers, const UpdateBlock* blocks, const PreparedUpdate* prepared, float beta_1, float beta_2,
                 float epsilon) {
  if (prepared->refused != 0) return;
  const UpdateBlock block = blocks[blockIdx.x];
  const Factors factors{
      prepared->grad_scale,         beta_1, beta_2, block.decay != 0 ? prepared->keep : 1.0f, prepared->step_size,
      prepared->inverse_correction, epsilon};
  for_elements<kCount>(static_cast<int>(block.offset % kBoundary<kCount>), block.size, [&](int64_t i, auto count) {
    update_elements<decltype(count)::kValue>(buffers, factors, block.offset + i);
  });
}

void check_spans(std::span<const FlatSpan> spans, int64_t elements) {
  std::vector<FlatSpan> ordered(spans.begin(), spans.end());
  std::sort(ordered.begin(), ordered.end(), [](const FlatSpan& a, const FlatSpan& b) { return a.offset < b.offset; });
  int64_t end = 0;
  for (const FlatSpan& span : ordered) {
    GATO_CHECK(span.offset >= 0 && span.size >= 0 && span.offset <= elements && span.size <= elements - span.offset,
               "span of ", span.size, " elements from ", span.offset, " reaches out of the buffer of ", elements,
               " elements");
    GATO_CHECK(span.offset >= end, "spans overlap at element ", span.offset, ": it would be updated twice");
    end = std::max(end, span.offset + span.size);
  }
}

}  // namespace

std::vector<UpdateBlock> make_update_blocks(std::span<const FlatSpan> spans, int64_t elements) {
  check_spans(spans, elements);
  std::vector<UpdateBlock> blocks;
  for (const FlatSpan& span : spans) {
    const int64_t end = span.offset + span.size;
    for (int64_t at = span.offset; at < end;) {
      // Blocks end at multiples of their size, so that only a span's own ends are ragged.
      const int64_t size = std::min(kBlockElements - at % kBlockElements, end - at);
      blocks.push_back({at, static_cast<int32_t>(size), span.decay ? 1 : 0});
      at += size;
    }
  }
  return blocks;
}

void prepare_update(const PrepareUpdate& call, Stream stream) {
  check_pointer(call.squared_norm, "squared_norm");
  check_pointer(call.loss_sum, "loss_sum");
  check_pointer(call.weight_sum, "weight_sum");
  check_pointer(call.learning_rate, "learning_rate");
  check_pointer(call.updates, "updates");
  check_pointer(call.prepared, "prepared");
  check_pointer(call.outcome, "outcome");
  GATO_CHECK(call.beta_1 >= 0 && call.beta_1 < 1 && call.beta_2 >= 0 && call.beta_2 < 1,
             "betas must be in [0, 1), are ", call.beta_1, " and ", call.beta_2);
  launch({"prepare_update", 1, 1, 0, stream}, prepare_update_kernel, call);
}

void adamw_update(const AdamWUpdate& call, Stream stream) {
  check_range(call.num_blocks, 0, std::numeric_limits<int32_t>::max(), "num_blocks");
  if (call.num_blocks == 0) return;
  check_pointer(call.blocks, "blocks");
  check_pointer(call.values, "values");
  check_pointer(call.gradients, "gradients");
  check_pointer(call.first_moment, "first_moment");
  check_pointer(call.second_moment, "second_moment");
  check_optional(call.compute, 2, "compute");
  check_pointer(call.prepared, "prepared");
  const bool vectors = all_aligned(16, call.values, call.gradients, call.first_moment, call.second_moment) &&
                       is_aligned(call.compute, 8);
  const Buffers buffers{call.values, call.gradients, call.first_moment, call.second_moment,
                        static_cast<BFloat16*>(call.compute)};
  launch({"adamw", num_blocks(call.num_blocks, 1), kThreads, 0, stream}, vectors ? adamw_kernel<4> : adamw_kernel<1>,
         buffers, call.blocks, call.prepared, static_cast<float>(call.beta_1), static_cast<float>(call.beta_2),
         static_cast<float>(call.epsilon));
}

}  // namespace gato::kernels::cuda
