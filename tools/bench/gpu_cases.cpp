#include "gpu_cases.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/kernels/cross_entropy.h"
#include "gato/kernels/device.h"
#include "kernels/device_ops.h"

namespace gato::bench {
namespace {

using kernels::AttentionRoute;

/// Median seconds of one call of `work`, which puts its work on the device's current stream.
double median_seconds(at::Device device, const Timing& timing, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_of = [&](int64_t calls) {
    kernels::synchronize(device);
    const auto begin = Clock::now();
    for (int64_t i = 0; i < calls; ++i) work();
    kernels::synchronize(device);
    return std::chrono::duration<double>(Clock::now() - begin).count() / static_cast<double>(calls);
  };
  seconds_of(1);  // allocates, loads code
  const double once = std::max(1e-6, seconds_of(1));
  const auto calls = std::max(int64_t{1}, static_cast<int64_t>(timing.seconds_per_sample / once));
  std::vector<double> samples;
  for (int i = 0; i < std::max(1, timing.samples); ++i) samples.push_back(seconds_of(calls));
  const auto middle = samples.begin() + static_cast<int64_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

void check_sizes(std::initializer_list<int64_t> sizes, const char* what) {
  for (const int64_t size : sizes) {
    if (size <= 0) throw ConfigError(cat(what, ": every size must be positive, one is ", size));
  }
}

at::Tensor normal(at::IntArrayRef sizes, at::ScalarType type, at::Device device) {
  return at::randn(sizes, at::TensorOptions().dtype(at::kFloat).device(device)).to(type);
}

class ScopedRoute {
 public:
  explicit ScopedRoute(AttentionRoute route) { kernels::set_attention_route(route); }
  ~ScopedRoute() { kernels::set_attention_route(AttentionRoute::kAuto); }
  ScopedRoute(const ScopedRoute&) = delete;
  ScopedRoute& operator=(const ScopedRoute&) = delete;
};

/// Forward without a graph; backward over and over on one graph.
void time_attention(const at::Tensor& qkv, const at::Tensor& starts, const kernels::RotaryTable& rotary,
                    const Timing& timing, AttentionFigure& figure) {
  const ScopedRoute route(figure.route);
  const kernels::SequenceBounds bounds = kernels::sequence_bounds(starts);
  {
    const c10::AutoGradMode off(false);
    figure.forward_seconds = median_seconds(
        qkv.device(), timing, [&] { static_cast<void>(kernels::document_attention(qkv, starts, rotary, bounds)); });
  }
  const c10::AutoGradMode on(true);
  const at::Tensor leaf = qkv.detach().requires_grad_(true);
  const at::Tensor out = kernels::document_attention(leaf, starts, rotary, bounds);
  const at::Tensor up = normal(out.sizes(), qkv.scalar_type(), qkv.device());
  figure.backward_seconds =
      median_seconds(qkv.device(), timing, [&] { torch::autograd::grad({out}, {leaf}, {up}, /*retain_graph=*/true); });
}

/// Rows of the table that a batch of random ids touches: each is read and written.
int64_t count_different(const at::Tensor& rows) { return std::get<0>(at::_unique(rows.cpu())).numel(); }

/// The streaming operations of one device, with the tensors they work on made one after the other.
class Streaming {
 public:
  Streaming(const StreamingCase& sizes, const kernels::DeviceOps& ops, at::Device device, const Timing& timing)
      : sizes_(sizes), ops_(ops), device_(device), timing_(timing) {}

  [[nodiscard]] std::vector<StreamingFigure> measure() {
    copy();
    norm();
    geglu();
    loss();
    scatter();
    sums();
    optimizer();
    return std::move(figures_);
  }

 private:
  [[nodiscard]] at::Tensor floats(at::IntArrayRef shape) const { return normal(shape, at::kFloat, device_); }
  [[nodiscard]] at::Tensor halves(at::IntArrayRef shape) const { return normal(shape, at::kBFloat16, device_); }

  void add(const char* name, double bytes, const std::function<void()>& work) {
    figures_.push_back({name, bytes, median_seconds(device_, timing_, work)});
  }

  void copy() {
    const at::Tensor from = floats({sizes_.copy_bytes / 4}), to = at::empty_like(from);
    add("copy", 8.0 * static_cast<double>(from.numel()), [&] { to.copy_(from); });
  }

  void norm() {
    const int64_t n = sizes_.tokens, c = sizes_.width;
    const auto elements = static_cast<double>(n * c);
    const at::Tensor x = floats({n, c}), delta = halves({n, c}), gain = floats({c}), offset = floats({c});
    const at::Tensor sum = at::empty_like(x), y = at::empty_like(delta), statistics = floats({2, n});
    add("norm_forward", 12 * elements, [&] { ops_.norm_forward({x, delta, {}, gain, offset, sum, y, statistics}); });
    const at::Tensor dx = at::empty_like(x), ddelta = at::empty_like(delta);
    const at::Tensor dgain = at::zeros_like(gain), doffset = at::zeros_like(offset);
    add("norm_backward", 16 * elements, [&] {
      ops_.norm_backward({sum, statistics, gain, {}, y, x, dx, ddelta, dgain, doffset});
    });
  }

  void geglu() {
    const int64_t n = sizes_.tokens, half = sizes_.hidden / 2;
    const auto elements = static_cast<double>(n * half);
    const at::Tensor x = halves({n, 2 * half}), y = halves({n, half}), dx = at::empty_like(x);
    add("geglu_forward", 6 * elements, [&] { ops_.geglu_forward(x, y); });
    add("geglu_backward", 10 * elements, [&] { ops_.geglu_backward(x, y, dx); });
  }

  void loss() {
    const int64_t p = sizes_.loss_positions, v = sizes_.vocabulary;
    kernels::HeadChunk chunk;
    chunk.logits = halves({p, v});
    chunk.targets = at::randint(v, {p}, at::TensorOptions().dtype(at::kLong).device(device_));
    chunk.weights = at::ones({p}, at::TensorOptions().dtype(at::kFloat).device(device_));
    chunk.loss = at::empty_like(chunk.weights);
    chunk.nll = at::empty_like(chunk.weights);
    chunk.differentiate = true;
    add("cross_entropy", 4 * static_cast<double>(p * v), [&] { ops_.cross_entropy(chunk); });
  }

  void scatter() {
    const int64_t n = sizes_.tokens, c = sizes_.width, v = sizes_.vocabulary;
    const at::Tensor rows = at::randint(v, {n}, at::TensorOptions().dtype(at::kInt).device(device_));
    const at::Tensor gradient = floats({n, c}), table = at::zeros({v, c}, gradient.options());
    const double bytes = static_cast<double>(c) * static_cast<double>(4 * n + 8 * count_different(rows));
    add("embedding_scatter", bytes, [&] { ops_.scatter_rows(rows, {}, gradient, table); });
  }

  void sums() {
    const int64_t n = sizes_.tokens, width = 3 * sizes_.width;
    const at::Tensor x = halves({n, width});
    const at::Tensor totals = at::zeros({width}, at::TensorOptions().dtype(at::kFloat).device(device_));
    add("column_sums", 2 * static_cast<double>(n * width), [&] { ops_.add_column_sums(x, totals); });
  }

  void optimizer() {
    const int64_t size = sizes_.parameters / 16 * 16;
    const auto elements = static_cast<double>(size);
    const at::Tensor values = floats({size}), gradients = floats({size});
    const at::Tensor first = at::zeros_like(values), second = at::zeros_like(values);
    const at::Tensor copy = at::empty({size}, values.options().dtype(at::kBFloat16));
    const at::Tensor norm = at::empty({1}, values.options().dtype(at::kDouble));
    add("squared_norm", 4 * elements, [&] { ops_.squared_norm(gradients, norm); });
    const std::vector<kernels::UpdateSpan> spans{{0, size, true}};
    kernels::AdamWStep step;
    step.learning_rate = 1e-6;
    add("adamw", 30 * elements, [&] {
      ops_.adamw_step(values, gradients, first, second, spans, step, copy);
      ++step.step;
    });
  }

  const StreamingCase& sizes_;
  const kernels::DeviceOps& ops_;
  at::Device device_;
  const Timing& timing_;
  std::vector<StreamingFigure> figures_;
};

}  // namespace

at::Tensor make_sequence_starts(const AttentionCase& sizes) {
  check_sizes({sizes.rows, sizes.tokens}, "sequence starts");
  if (sizes.mean_document < 0) throw ConfigError(cat("documents of ", sizes.mean_document, " tokens make no sense"));
  at::Tensor starts = at::zeros({sizes.rows, sizes.tokens}, at::kInt);
  if (sizes.mean_document == 0) return starts;
  Rng rng(1);
  auto* start = starts.mutable_data_ptr<int32_t>();
  for (int64_t row = 0; row < sizes.rows; ++row) {
    int64_t begin = 0;
    while (begin < sizes.tokens) {
      const int64_t end = std::min(sizes.tokens, begin + 1 + rng.below(2 * sizes.mean_document - 1));
      std::fill(start + row * sizes.tokens + begin, start + row * sizes.tokens + end, static_cast<int32_t>(begin));
      begin = end;
    }
  }
  return starts;
}

double visible_pairs(const at::Tensor& sequence_starts) {
  const at::Tensor place = at::arange(sequence_starts.size(1), at::kLong).unsqueeze(0);
  return (place - sequence_starts.cpu() + 1).clamp_min(0).sum().item<double>();
}

std::vector<AttentionFigure> measure_attention(const AttentionCase& sizes, at::Device device, const Timing& timing) {
  check_sizes({sizes.rows, sizes.tokens, sizes.heads, sizes.head_dim}, "attention");
  const at::Tensor starts = make_sequence_starts(sizes).to(device);
  const at::Tensor qkv = normal({sizes.rows, sizes.tokens, 3, sizes.heads, sizes.head_dim}, at::kBFloat16, device);
  kernels::RotaryTable rotary = kernels::make_rotary_table(sizes.tokens, sizes.head_dim, 10000);
  rotary = {rotary.cosine.to(device), rotary.sine.to(device)};
  std::vector<AttentionFigure> figures;
  for (const kernels::AttentionTrial& trial : kernels::try_attention_routes(qkv, {starts}, rotary)) {
    AttentionFigure figure{trial.route, trial.problem, 0, 0, trial.difference};
    if (figure.problem.empty()) {
      try {
        time_attention(qkv, starts, rotary, timing, figure);
      } catch (const c10::Error& error) {  // the plain reference may not fit into memory with all rows
        figure.problem = cat("fails: ", split(error.what_without_backtrace(), '\n').front());
      }
    }
    figures.push_back(figure);
  }
  return figures;
}

std::vector<StreamingFigure> measure_streaming(const StreamingCase& sizes, at::Device device, const Timing& timing) {
  check_sizes({sizes.tokens, sizes.width, sizes.hidden, sizes.vocabulary, sizes.loss_positions, sizes.parameters,
               sizes.copy_bytes},
              "streaming kernels");
  const kernels::DeviceOps* ops = kernels::device_ops(at::empty({1}, at::TensorOptions().device(device)));
  GATO_CHECK(ops != nullptr, device.str(), " has no operations of its own to measure");
  return Streaming(sizes, *ops, device, timing).measure();
}

double measure_head(int64_t tokens, int64_t width, int64_t vocabulary, double share, at::Device device,
                    const Timing& timing) {
  check_sizes({tokens, width, vocabulary}, "head");
  if (!(share > 0 && share <= 1)) throw ConfigError(cat("a share of ", share, " of the positions makes no sense"));
  const c10::AutoGradMode on(true);
  const at::Tensor value = normal({vocabulary, width}, at::kFloat, device).mul_(0.02);
  const kernels::Parameter table{value, at::zeros_like(value), value.to(at::kBFloat16)};
  const at::Tensor hidden = normal({tokens, width}, at::kBFloat16, device).requires_grad_(true);
  const auto count = std::max(int64_t{1}, static_cast<int64_t>(static_cast<double>(tokens) * share));
  const auto longs = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor positions = at::arange(count, longs).mul(tokens).floor_divide(count);
  const at::Tensor targets = at::randint(vocabulary, {count}, longs);
  const at::Tensor weights = at::ones({count}, longs.dtype(at::kFloat));
  return median_seconds(device, timing, [&] {
    const kernels::CrossEntropyResult result = kernels::head_cross_entropy(hidden, table, positions, targets, weights);
    torch::autograd::grad({result.loss}, {hidden});
  });
}

}  // namespace gato::bench
