#include "gato/kernels/patch_embedder.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <tuple>
#include <vector>

#include "gato/core/error.h"
#include "gato/kernels/linear.h"
#include "kernels/checks.h"
#include "kernels/cpu/patch_embedder.h"
#include "kernels/cpu/rows.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"
#include "kernels/patch_primitives.h"

// Features are held channels last, [M, side, side, Ch] in memory, and shown to LibTorch's convolutions as [M, Ch, side,
// side].
namespace gato::kernels {
namespace {

constexpr double kEpsilon = 1e-5;

at::Tensor empty_features(int64_t patches, int64_t channels, int64_t side) {
  return at::empty({patches, side, side, channels}, at::kFloat).permute({0, 3, 1, 2});
}

at::Tensor channels_last(const at::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

at::Tensor convolve(const at::Tensor& x, const Parameter& weight, const Parameter& bias, int64_t stride) {
  return channels_last(
      at::convolution(x, channels_last(weight.value), bias.value, {stride, stride}, {1, 1}, {1, 1}, false, {0, 0}, 1));
}

/// Adds the gradients of the parameters; returns that of `x`, when wanted.
at::Tensor convolve_backward(const at::Tensor& dy, const at::Tensor& x, const Parameter& weight, const Parameter& bias,
                             int64_t stride, bool wants_input) {
  const bool wants_weight = weight.gradient.defined();
  const bool wants_bias = bias.gradient.defined();
  if (!wants_input && !wants_weight && !wants_bias) return {};
  const auto [dx, dw, db] =
      at::convolution_backward(dy, x, channels_last(weight.value), bias.value.sizes(), {stride, stride}, {1, 1}, {1, 1},
                               false, {0, 0}, 1, {wants_input, wants_weight, wants_bias});
  if (wants_weight) weight.gradient.add_(dw);
  if (wants_bias) bias.gradient.add_(db);
  return wants_input ? channels_last(dx) : at::Tensor();
}

/// GroupNorm and GELU of features, with what backward needs.
struct Normalised {
  at::Tensor y, statistics;  // statistics [2, M, groups]
};

cpu::GroupNormShape norm_shape(const at::Tensor& x, int64_t groups) {
  return {x.size(2) * x.size(3), x.size(1), groups, static_cast<float>(kEpsilon)};
}

Normalised normalise(const at::Tensor& x, const Parameter& gain, const Parameter& offset, int64_t groups) {
  if (device_ops(x) != nullptr) {
    auto [y, statistics] = device::normalise(x, gain.value, offset.value, groups, kEpsilon);
    return {std::move(y), std::move(statistics)};
  }
  const cpu::GroupNormShape shape = norm_shape(x, groups);
  const int64_t patches = x.size(0);
  const int64_t size = shape.places * shape.channels;
  Normalised result{empty_features(patches, shape.channels, x.size(2)), at::empty({2, patches, groups}, at::kFloat)};
  const auto* from = x.const_data_ptr<float>();
  auto* to = result.y.mutable_data_ptr<float>();
  auto* mean = result.statistics.mutable_data_ptr<float>();
  float* inverse = mean + patches * groups;
  for_ranges(patches, 8 * size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      cpu::group_norm_gelu_forward(shape, from + i * size, gain.value.const_data_ptr<float>(),
                                   offset.value.const_data_ptr<float>(), to + i * size, mean + i * groups,
                                   inverse + i * groups);
    }
  });
  return result;
}

at::Tensor normalise_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& statistics,
                              const Parameter& gain, const Parameter& offset, int64_t groups) {
  if (device_ops(x) != nullptr) {
    auto [dx, d_gain, d_offset] = device::normalise_backward(dy, x, statistics, gain.value, offset.value, groups);
    if (gain.gradient.defined()) gain.gradient.add_(d_gain);
    if (offset.gradient.defined()) offset.gradient.add_(d_offset);
    return std::move(dx);
  }
  const cpu::GroupNormShape shape = norm_shape(x, groups);
  const int64_t patches = x.size(0);
  const int64_t size = shape.places * shape.channels;
  const at::Tensor dx = empty_features(patches, shape.channels, x.size(2));
  const auto* from = x.const_data_ptr<float>();
  const auto* up = dy.const_data_ptr<float>();
  auto* to = dx.mutable_data_ptr<float>();
  const auto* mean = statistics.const_data_ptr<float>();
  const float* inverse = mean + patches * groups;
  const Chunks chunks = make_chunks(patches, 2, 16);
  std::vector<float> partial(static_cast<size_t>(2 * chunks.number * shape.channels), 0.0f);
  for_chunks(chunks, [&](int64_t chunk) {
    std::vector<float> scratch(static_cast<size_t>(size + 5 * shape.channels));
    float* gain_part = partial.data() + 2 * chunk * shape.channels;
    for (int64_t i = chunks.begin(chunk); i < chunks.end(chunk); ++i) {
      cpu::group_norm_gelu_backward(shape, from + i * size, gain.value.const_data_ptr<float>(),
                                    offset.value.const_data_ptr<float>(), mean + i * groups, inverse + i * groups,
                                    up + i * size, to + i * size, gain_part, gain_part + shape.channels,
                                    scratch.data());
    }
  });
  for (int64_t chunk = 0; chunk < chunks.number; ++chunk) {
    const float* gain_part = partial.data() + 2 * chunk * shape.channels;
    if (gain.gradient.defined()) cpu::add(gain_part, gain.gradient.mutable_data_ptr<float>(), shape.channels);
    if (offset.gradient.defined()) {
      cpu::add(gain_part + shape.channels, offset.gradient.mutable_data_ptr<float>(), shape.channels);
    }
  }
  return dx;
}

/// Average of a + b over the cells: [M, cells x cells x Ch].
at::Tensor pool(const at::Tensor& a, const at::Tensor& b) {
  if (device_ops(a) != nullptr) return device::pool(a, b, kPatchCells);
  const int64_t channels = a.size(1);
  const int64_t side = a.size(2);
  const int64_t out_size = kPatchCells * kPatchCells * channels;
  const int64_t size = side * side * channels;
  const at::Tensor y = at::empty({a.size(0), out_size}, at::kFloat);
  const auto* first = a.const_data_ptr<float>();
  const auto* second = b.const_data_ptr<float>();
  auto* to = y.mutable_data_ptr<float>();
  for_ranges(a.size(0), size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      cpu::add_and_pool(first + i * size, second + i * size, to + i * out_size, side, kPatchCells, channels);
    }
  });
  return y;
}

at::Tensor pool_backward(const at::Tensor& dy, int64_t channels, int64_t side) {
  if (device_ops(dy) != nullptr) return device::pool_backward(dy, channels, side, kPatchCells);
  const int64_t size = side * side * channels;
  const at::Tensor dx = empty_features(dy.size(0), channels, side);
  const auto* from = dy.const_data_ptr<float>();
  auto* to = dx.mutable_data_ptr<float>();
  for_ranges(dy.size(0), size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      cpu::pool_backward(from + i * dy.size(1), to + i * size, side, kPatchCells, channels);
    }
  });
  return dx;
}

at::Tensor pixels(const at::Tensor& patches) {
  if (device_ops(patches) != nullptr) return device::pixels(patches);
  const at::Tensor x = empty_features(patches.size(0), 3, kPatchSide);
  const auto* from = patches.const_data_ptr<uint8_t>();
  auto* to = x.mutable_data_ptr<float>();
  cpu::normalise_pixels(from, to, patches.numel());
  return x;
}

/// Number of patches that a device computes: cuDNN plans a convolution for every number that it meets.
int64_t padded_patches(int64_t patches) {
  constexpr int64_t kStep = 64;
  return (patches + kStep - 1) / kStep * kStep;
}

/// `x` [M, ...] with zeros behind on a device, where the numbers of patches shall come again; `x` itself on the CPU.
/// Gradients that come into the added patches are zero, and so is what they add to parameters.
at::Tensor padded(const at::Tensor& x) {
  const int64_t extra = device_ops(x) == nullptr ? 0 : padded_patches(x.size(0)) - x.size(0);
  if (extra == 0) return x;
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes[0] = extra;
  return at::cat({x, at::zeros(sizes, x.options())});
}

constexpr const char* kNames[] = {"stem",   "stem_bias", "gain_1",   "offset_1",      "convolution_1",
                                  "bias_1", "gain_2",    "offset_2", "convolution_2", "bias_2"};

/// The features before the linear map, pooled.
struct PatchFeaturesFunction : torch::autograd::Function<PatchFeaturesFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& patches,
                            const std::optional<at::Tensor>& /*anchor*/, const std::vector<Parameter>& parameters,
                            int64_t groups, int64_t stride) {
    if (device_ops(patches) != nullptr) device::make_convolutions_repeatable();
    const at::Tensor x = pixels(padded(patches));
    const at::Tensor stem = convolve(x, parameters[0], parameters[1], stride);
    const Normalised first = normalise(stem, parameters[2], parameters[3], groups);
    const at::Tensor middle = convolve(first.y, parameters[4], parameters[5], 1);
    const Normalised second = normalise(middle, parameters[6], parameters[7], groups);
    const at::Tensor last = convolve(second.y, parameters[8], parameters[9], 1);
    context->save_for_backward({x, stem, first.y, first.statistics, middle, second.y, second.statistics});
    for (size_t i = 0; i < std::size(kNames); ++i) save_parameter(context, kNames[i], parameters[i]);
    context->saved_data["groups"] = groups;
    context->saved_data["stride"] = stride;
    return pool(stem, last).slice(0, 0, patches.size(0));
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    std::vector<Parameter> parameters;
    for (const char* name : kNames) parameters.push_back(saved_parameter(context, name));
    const int64_t groups = context->saved_data["groups"].toInt();
    const int64_t stride = context->saved_data["stride"].toInt();
    const at::Tensor& stem = saved[1];
    const at::Tensor d_sum = pool_backward(padded(gradients[0].contiguous()), stem.size(1), stem.size(2));
    at::Tensor d = convolve_backward(d_sum, saved[5], parameters[8], parameters[9], 1, true);
    d = normalise_backward(d, saved[4], saved[6], parameters[6], parameters[7], groups);
    d = convolve_backward(d, saved[2], parameters[4], parameters[5], 1, true);
    d = normalise_backward(d, stem, saved[3], parameters[2], parameters[3], groups);
    d.add_(d_sum);
    convolve_backward(d, saved[0], parameters[0], parameters[1], stride, false);
    return {{}, {}, {}, {}, {}};
  }
};

void check_parameters(const PatchEmbedderParameters& p, int64_t groups, int64_t stride) {
  check_parameter(p.stem, "stem", {-1, 3, 3, 3});
  const int64_t channels = p.stem.value.size(0);
  GATO_CHECK(channels >= 1 && channels <= 1024, "the patch embedder has ", channels,
             " channels: 1 to 1024 are allowed");
  GATO_CHECK(groups >= 1 && channels % groups == 0, groups, " groups do not divide ", channels, " channels");
  GATO_CHECK(stride == 1 || stride == 2, "the stride must be 1 or 2, is ", stride);
  check_parameter(p.stem_bias, "stem_bias", {channels});
  for (const Parameter* x : {&p.gain_1, &p.offset_1, &p.bias_1, &p.gain_2, &p.offset_2, &p.bias_2}) {
    check_parameter(*x, "per-channel parameter", {channels});
  }
  check_parameter(p.convolution_1, "convolution_1", {channels, channels, 3, 3});
  check_parameter(p.convolution_2, "convolution_2", {channels, channels, 3, 3});
  check_parameter(p.output, "output", {-1, channels * kPatchCells * kPatchCells});
}

}  // namespace

at::Tensor embed_patches(const at::Tensor& patches, const PatchEmbedderParameters& p, int64_t groups, int64_t stride) {
  check_parameters(p, groups, stride);
  check_tensor(patches, "patches", at::kByte, {-1, kPatchSide, kPatchSide, 3});
  check_same_device(p.stem.value, {{"patches", &patches}, {"output", &p.output.value}});
  if (patches.size(0) == 0) return at::empty({0, p.output.value.size(0)}, p.output.value.options());
  const std::vector<Parameter> parameters{p.stem,   p.stem_bias, p.gain_1,   p.offset_1,      p.convolution_1,
                                          p.bias_1, p.gain_2,    p.offset_2, p.convolution_2, p.bias_2};
  const std::optional<at::Tensor> anchor =
      graph_anchor({&p.stem, &p.stem_bias, &p.gain_1, &p.offset_1, &p.convolution_1, &p.bias_1, &p.gain_2, &p.offset_2,
                    &p.convolution_2, &p.bias_2});
  const at::Tensor pooled = PatchFeaturesFunction::apply(patches, anchor, parameters, groups, stride);
  return linear(pooled, p.output, p.output_bias);
}

}  // namespace gato::kernels
