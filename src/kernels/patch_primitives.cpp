#include "kernels/patch_primitives.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

namespace gato::kernels::device {
namespace {

at::Tensor channels_last(const at::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

/// What LibTorch's GroupNorm takes on a GPU: its forward refuses features that are channels last, and its backward
/// reads them as if they were not. (On the CPU both orders are fine, so that emulation does not show it.)
at::Tensor channels_first(const at::Tensor& x) { return x.contiguous(at::MemoryFormat::Contiguous); }

/// (x - mean) / deviation x gain + offset, from the statistics.
at::Tensor normalised(const at::Tensor& x, const at::Tensor& statistics, const at::Tensor& gain,
                      const at::Tensor& offset, int64_t groups) {
  const int64_t patches = x.size(0), channels = x.size(1), per_group = channels / groups;
  const auto by_channel = [&](const at::Tensor& of_groups) {
    return of_groups.repeat_interleave(per_group, 1).view({patches, channels, 1, 1});
  };
  const at::Tensor scale = by_channel(statistics.select(0, 1)) * gain.view({1, channels, 1, 1});
  return at::addcmul(offset.view({1, channels, 1, 1}) - by_channel(statistics.select(0, 0)) * scale, x, scale);
}

}  // namespace

void make_convolutions_repeatable() { at::globalContext().setDeterministicCuDNN(true); }

at::Tensor pixels(const at::Tensor& patches) {
  return patches.to(at::kFloat).mul_(1 / (4 * 127.5)).sub_(0.25).permute({0, 3, 1, 2});
}

std::pair<at::Tensor, at::Tensor> normalise(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& offset,
                                            int64_t groups, double epsilon) {
  const auto [y, mean, inverse] = at::native_group_norm(channels_first(x), gain, offset, x.size(0), x.size(1),
                                                        x.size(2) * x.size(3), groups, epsilon);
  return {channels_last(at::gelu(y)), at::stack({mean, inverse})};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> normalise_backward(const at::Tensor& dy, const at::Tensor& x,
                                                                  const at::Tensor& statistics, const at::Tensor& gain,
                                                                  const at::Tensor& offset, int64_t groups) {
  const at::Tensor d_norm = at::gelu_backward(dy, normalised(x, statistics, gain, offset, groups));
  auto [dx, d_gain, d_offset] =
      at::native_group_norm_backward(channels_first(d_norm), channels_first(x), statistics.select(0, 0).contiguous(),
                                     statistics.select(0, 1).contiguous(), gain, x.size(0), x.size(1),
                                     x.size(2) * x.size(3), groups, {true, true, true});
  return {channels_last(dx), d_gain, d_offset};
}

at::Tensor pool(const at::Tensor& a, const at::Tensor& b, int64_t cells) {
  const at::Tensor pooled = at::adaptive_avg_pool2d(a + b, {cells, cells});
  return pooled.permute({0, 2, 3, 1}).reshape({a.size(0), cells * cells * a.size(1)});
}

at::Tensor pool_backward(const at::Tensor& dy, int64_t channels, int64_t side, int64_t cells) {
  const int64_t patches = dy.size(0), reach = side / cells;
  const at::Tensor of_cells = dy.view({patches, cells, 1, cells, 1, channels}) / static_cast<double>(reach * reach);
  return of_cells.expand({patches, cells, reach, cells, reach, channels})
      .reshape({patches, side, side, channels})
      .permute({0, 3, 1, 2});
}

}  // namespace gato::kernels::device
