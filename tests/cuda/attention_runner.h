#pragma once
// Runs the attention kernels on an emulated device.
#include <optional>
#include <vector>

#include "cuda/attention_reference.h"
#include "kernels/cuda/attention.h"

namespace gato::kernel_tests {

/// What attention_forward and attention_backward wrote.
struct AttentionRun {
  std::vector<float> out, log_sum_exp;
  std::vector<float> query_gradient, key_gradient, value_gradient;
};

/// A problem's tensors on a device, packed [rows, tokens, 3, heads, head_dim] or three tensors by themselves.
class DeviceAttention {
 public:
  DeviceAttention(TestDevice& device, const AttentionProblem& problem, bool packed)
      : problem_(problem),
        packed_(packed),
        shape_{problem.rows, problem.tokens, problem.heads, problem.head_dim, problem.element},
        starts_(device.input("sequence_start", problem.starts)),
        cosine_(device.input("cosine", problem.cosine)),
        sine_(device.input("sine", problem.sine)),
        out_(device, problem.element, "out", static_cast<size_t>(problem.size())),
        out_gradient_(device, problem.element, "out_gradient", problem.out_gradient),
        log_sums_(
            device.buffer<float>("log_sum_exp", static_cast<size_t>(problem.rows * problem.heads * problem.tokens))),
        workspace_(device.buffer<uint8_t>("workspace", kernels::cuda::attention_backward_workspace(shape_))) {
    if (packed) {
      inputs_.emplace_back(device, problem.element, "qkv", pack());
      gradients_.emplace_back(device, problem.element, "qkv_gradient", static_cast<size_t>(3 * problem.size()));
      return;
    }
    for (const auto* values : {&problem.query, &problem.key, &problem.value}) {
      inputs_.emplace_back(device, problem.element, "query, key or value", *values);
      gradients_.emplace_back(device, problem.element, "gradient", static_cast<size_t>(problem.size()));
    }
  }

  [[nodiscard]] kernels::cuda::AttentionForward forward_call() const {
    kernels::cuda::AttentionForward call;
    call.shape = shape_;
    call.query = input(0);
    call.key = input(1);
    call.value = input(2);
    call.sequence_start = starts_.data();
    call.rotary = rotary();
    call.out = kernels::cuda::contiguous_heads(out_.data(), shape_);
    call.log_sum_exp = log_sums_.data();
    return call;
  }

  [[nodiscard]] kernels::cuda::AttentionBackward backward_call() const {
    kernels::cuda::AttentionBackward call;
    call.shape = shape_;
    call.query = input(0);
    call.key = input(1);
    call.value = input(2);
    call.sequence_start = starts_.data();
    call.rotary = rotary();
    call.out = kernels::cuda::contiguous_heads<const void*>(out_.data(), shape_);
    call.log_sum_exp = log_sums_.data();
    call.out_gradient = kernels::cuda::contiguous_heads<const void*>(out_gradient_.data(), shape_);
    call.query_gradient = gradient(0);
    call.key_gradient = gradient(1);
    call.value_gradient = gradient(2);
    call.workspace = workspace_.data();
    return call;
  }

  [[nodiscard]] AttentionRun download() const {
    AttentionRun run;
    run.out = out_.download();
    run.log_sum_exp = log_sums_.download();
    run.query_gradient = gradient_values(0);
    run.key_gradient = gradient_values(1);
    run.value_gradient = gradient_values(2);
    return run;
  }

 private:
  [[nodiscard]] std::vector<float> pack() const {
    const auto width = static_cast<size_t>(problem_.heads * problem_.head_dim);
    std::vector<float> all;
    for (size_t token = 0; token < static_cast<size_t>(problem_.rows * problem_.tokens); ++token) {
      for (const auto* values : {&problem_.query, &problem_.key, &problem_.value}) {
        const auto begin = values->begin() + static_cast<int64_t>(token * width);
        all.insert(all.end(), begin, begin + static_cast<int64_t>(width));
      }
    }
    return all;
  }
  [[nodiscard]] kernels::cuda::HeadsView input(size_t part) const {
    if (packed_) return kernels::cuda::packed_heads(const_cast<const void*>(inputs_[0].data()), shape_, int(part));
    return kernels::cuda::contiguous_heads<const void*>(inputs_[part].data(), shape_);
  }
  [[nodiscard]] kernels::cuda::MutableHeadsView gradient(size_t part) const {
    if (packed_) return kernels::cuda::packed_heads(gradients_[0].data(), shape_, int(part));
    return kernels::cuda::contiguous_heads(gradients_[part].data(), shape_);
  }
  [[nodiscard]] std::vector<float> gradient_values(size_t part) const {
    if (!packed_) return gradients_[part].download();
    const std::vector<float> all = gradients_[0].download();
    const auto width = static_cast<size_t>(problem_.heads * problem_.head_dim);
    std::vector<float> values;
    for (size_t i = 0; i < all.size(); ++i) {
      if (i / width % 3 == part) values.push_back(all[i]);
    }
    return values;
  }
  [[nodiscard]] kernels::cuda::RotaryView rotary() const {
    if (problem_.cosine.empty()) return {};
    return {cosine_.data(), sine_.data(), problem_.tokens};
  }

  const AttentionProblem& problem_;
  bool packed_;
  kernels::cuda::AttentionShape shape_;
  Buffer<int32_t> starts_;
  Buffer<float> cosine_, sine_;
  Typed out_, out_gradient_;
  Buffer<float> log_sums_;
  Buffer<uint8_t> workspace_;
  std::vector<Typed> inputs_, gradients_;
};

/// Forward, then backward.
inline AttentionRun run_attention(TestDevice& device, const AttentionProblem& problem, bool packed = true) {
  const DeviceAttention attention(device, problem, packed);
  kernels::cuda::attention_forward(attention.forward_call(), nullptr);
  kernels::cuda::attention_backward(attention.backward_call(), nullptr);
  return attention.download();
}

}  // namespace gato::kernel_tests
