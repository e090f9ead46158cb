#include "gato/kernels/dropout.h"

#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "kernels/checks.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

/// y = x times the factors of row `row` of the batch, tokens [begin, end).
void drop_tokens(const DropoutStream& stream, double probability, int64_t row, int64_t begin, int64_t end,
                 int64_t width, const float* x, float* y) {
  const uint64_t key = mix_seed(stream.key, {static_cast<uint64_t>(stream.first_row + row)});
  const std::array<uint32_t, 2> words{static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
  const auto threshold = static_cast<uint32_t>(probability * 0x1p32);
  const auto factor = static_cast<float>(1 / (1 - probability));
  const auto blocks = static_cast<uint32_t>((width + 3) / 4);
  for (int64_t t = begin; t < end; ++t) {
    const float* from = x + (row * stream.row_tokens + t) * width;
    float* to = y + (row * stream.row_tokens + t) * width;
    for (uint32_t block = 0; block < blocks; ++block) {
      const auto bits = philox4x32({block, static_cast<uint32_t>(t), 0, 0}, words);
      const int64_t first = 4 * static_cast<int64_t>(block);
      for (int64_t i = 0; i < std::min<int64_t>(4, width - first); ++i) {
        to[first + i] = bits[static_cast<size_t>(i)] < threshold ? 0.0f : from[first + i] * factor;
      }
    }
  }
}

at::Tensor apply_mask(const at::Tensor& x, double probability, const DropoutStream& stream) {
  const at::Tensor y = at::empty_like(x);
  if (const DeviceOps* ops = device_ops(x)) {
    ops->dropout(x, probability, stream, y);
    return y;
  }
  const auto* from = x.const_data_ptr<float>();
  auto* to = y.mutable_data_ptr<float>();
  for_ranges(x.size(0), 8 * x.size(1), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t row = begin / stream.row_tokens;
      const int64_t next = std::min(end, (row + 1) * stream.row_tokens);
      const int64_t origin = row * stream.row_tokens;
      drop_tokens(stream, probability, row, begin - origin, next - origin, x.size(1), from, to);
      begin = next;
    }
  });
  return y;
}

struct DropoutFunction : torch::autograd::Function<DropoutFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double probability,
                            const DropoutStream& stream) {
    context->saved_data["probability"] = probability;
    context->saved_data["key"] = static_cast<int64_t>(stream.key);
    context->saved_data["first_row"] = stream.first_row;
    context->saved_data["row_tokens"] = stream.row_tokens;
    context->saved_data["device_key"] = stream.device_key;
    return apply_mask(x, probability, stream);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const DropoutStream stream{static_cast<uint64_t>(context->saved_data["key"].toInt()),
                               context->saved_data["first_row"].toInt(), context->saved_data["row_tokens"].toInt(),
                               context->saved_data["device_key"].toTensor()};
    return {apply_mask(gradients[0].contiguous(), context->saved_data["probability"].toDouble(), stream), {}, {}};
  }
};

}  // namespace

at::Tensor dropout(const at::Tensor& x, double probability, const DropoutStream& stream) {
  check_tensor(x, "x", at::kFloat, {-1, -1});
  GATO_CHECK(probability >= 0 && probability < 1, "the probability must be in [0, 1), is ", probability);
  GATO_CHECK(stream.row_tokens > 0 && x.size(0) % stream.row_tokens == 0, "x has ", x.size(0),
             " tokens, which rows of ", stream.row_tokens, " do not divide");
  if (stream.device_key.defined()) {
    GATO_CHECK(device_ops(x) != nullptr, "dropout on the CPU takes its key by value");
    check_tensor(stream.device_key, "device_key", at::kLong, {2});
    check_same_device(x, {{"device_key", &stream.device_key}});
  }
  if (probability == 0) return x;
  return DropoutFunction::apply(x, probability, stream);
}

}  // namespace gato::kernels
