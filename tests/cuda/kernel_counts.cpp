// Counts what the kernels do, under emulation: the numbers behind docs/kernels.md. tools/bench/kernel_counts runs it
// and makes the tables.
//
//   cuda_kernel_counts [--tokens N]     default 1024
//
// Prints tab-separated lines with a line of names first. Attention: one head of one row, bf16, with rotary positions,
// as one sequence and as four; everything else: a row of `tokens` tokens at the widths of the paper's shapes.
// `elements` is what bytes are counted per. Exits 1 where the emulator finds a fault.
#include <functional>
#include <iostream>

#include "cuda/attention_runner.h"
#include "gato/core/error.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/geglu.h"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/rows.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;
using cuda_emulation::Counters;
using cuda_emulation::Device;

constexpr int64_t kVocabulary = 33025;
constexpr int64_t kTableRows = 8192;  // of the embedding: fewer than ids, for the emulator's memory

void print_names() {
  std::cout << "group\toperation\tkernel\telements\tmma\tldmatrix\tshared_phases\tshared_cycles\tglobal_requests\t"
               "sectors\tideal_sectors\tatomics\tbarriers\twarp_operations\n";
}

void print(const std::string& group, const std::string& operation, const std::string& kernel, int64_t elements,
           const Counters& c) {
  std::cout << group << '\t' << operation << '\t' << kernel << '\t' << elements << '\t' << c.mma << '\t' << c.ldmatrix
            << '\t' << c.shared_phases << '\t' << c.shared_cycles << '\t' << c.global_requests << '\t'
            << c.global_sectors << '\t' << c.global_ideal_sectors << '\t' << c.atomics << '\t' << c.block_barriers
            << '\t' << c.warp_operations << std::endl;
}

/// Throws DeviceError naming the first fault, so that nobody reads numbers of a broken kernel.
void check(const Device& device, const std::string& what) {
  if (device.num_faults() > 0) throw DeviceError(cat(what, ": ", device.faults().front().message));
}

/// `sequences` of equal length in one row, for one head.
void count_attention(int64_t head_dim, int64_t tokens, int64_t sequences) {
  AttentionProblem problem;
  problem.tokens = tokens;
  problem.head_dim = head_dim;
  fill(problem, Documents::kOne, /*rotary=*/true, 1);
  const int64_t length = (tokens + sequences - 1) / sequences;
  for (int64_t t = 0; t < tokens; ++t) {
    problem.starts[static_cast<size_t>(t)] = static_cast<int32_t>(t / length * length);
  }
  TestDevice device({.host_threads = 2});
  run_attention(device, problem);
  const std::string group = cat("attention/", head_dim, "/", sequences);
  check(device, group);
  const int64_t pairs = sequences * length * (length + 1) / 2;
  for (const auto& [operation, kernel] :
       {std::pair("forward", "attention_forward"), std::pair("backward", "attention_query_numbers"),
        std::pair("backward", "attention_keys_backward"), std::pair("backward", "attention_queries_backward")}) {
    print(group, operation, kernel, pairs, device.counters(kernel));
  }
}

/// The streaming kernels of one row of tokens at one model's sizes.
class Streaming {
 public:
  Streaming(int64_t tokens, int64_t width, int64_t hidden) : n_(tokens), c_(width), half_(hidden / 2) {}

  void count() {
    norm();
    feed_forward();
    loss();
    rows();
    embedding();
    sums();
    drop();
    optimizer();
  }

 private:
  static constexpr Element kHalf = Element::kBFloat16;

  [[nodiscard]] Typed half(const char* name, int64_t size) {
    return {device_, kHalf, name, normal_values(size, 1, 0.5)};
  }
  [[nodiscard]] Buffer<float> floats(const char* name, int64_t size) {
    return device_.buffer(name, normal_values(size, 2, 0.5));
  }
  [[nodiscard]] Buffer<float> zeros(const char* name, int64_t size) {
    return device_.buffer(name, std::vector<float>(static_cast<size_t>(size), 0.0f));
  }
  [[nodiscard]] Buffer<uint8_t> scratch(size_t bytes) { return device_.buffer<uint8_t>("workspace", bytes); }
  /// `count` of the `bound` table rows or ids, repeats included.
  template <class T>
  [[nodiscard]] Buffer<T> indices(const char* name, int64_t count, int64_t bound) {
    Rng rng(3);
    std::vector<T> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<T>(rng.below(bound)));
    return device_.buffer(name, values);
  }

  void measure(const std::string& name, int64_t elements, const std::function<void()>& work) {
    device_.reset_counters();
    work();
    check(device_, name);
    print(cat("streaming/", c_), name, "", elements, device_.counters());
  }

  void norm() {
    const auto x = floats("x", n_ * c_), gain = floats("gain", c_), offset = floats("offset", c_);
    const auto sum = zeros("sum", n_ * c_), mean = zeros("mean", n_), deviation = zeros("deviation", n_);
    const Typed delta = half("delta", n_ * c_), y = half("y", n_ * c_), delta_gradient = half("ddelta", n_ * c_);
    measure("layer_norm_forward", n_ * c_, [&] {
      LayerNormForward call;
      call.element = kHalf;
      call.rows = n_;
      call.width = c_;
      call.x = x.data();
      call.delta = delta.data();
      call.gain = gain.data();
      call.offset = offset.data();
      call.sum = sum.data();
      call.y = y.data();
      call.mean = mean.data();
      call.inverse_deviation = deviation.data();
      layer_norm_forward(call, nullptr);
    });
    const auto x_gradient = zeros("dx", n_ * c_), gain_gradient = zeros("dgain", c_), offset_gradient = zeros("do", c_);
    const auto workspace =
        device_.buffer<float>("workspace", layer_norm_backward_workspace(n_, c_) / sizeof(float) + 1);
    measure("layer_norm_backward", n_ * c_, [&] {
      LayerNormBackward call;
      call.element = kHalf;
      call.rows = n_;
      call.width = c_;
      call.sum = sum.data();
      call.mean = mean.data();
      call.inverse_deviation = deviation.data();
      call.gain = gain.data();
      call.y_gradient = y.data();
      call.sum_gradient = x.data();
      call.x_gradient = x_gradient.data();
      call.delta_gradient = delta_gradient.data();
      call.gain_gradient = gain_gradient.data();
      call.offset_gradient = offset_gradient.data();
      call.workspace = workspace.data();
      layer_norm_backward(call, nullptr);
    });
  }

  void feed_forward() {
    const Typed x = half("x", 2 * n_ * half_), y = half("y", n_ * half_), x_gradient = half("dx", 2 * n_ * half_);
    measure("geglu_forward", n_ * half_, [&] { geglu_forward({kHalf, n_, half_, x.data(), y.data()}, nullptr); });
    measure("geglu_backward", n_ * half_, [&] {
      geglu_backward({kHalf, n_, half_, x.data(), y.data(), x_gradient.data()}, nullptr);
    });
  }

  void loss() {
    const int64_t positions = std::max<int64_t>(1, n_ / 32);
    const Typed logits = half("logits", positions * kVocabulary);
    const auto targets = indices<int64_t>("targets", positions, kVocabulary);
    const auto weights = floats("weights", positions), loss = zeros("loss", positions), nll = zeros("nll", positions);
    measure("cross_entropy", positions * kVocabulary, [&] {
      CrossEntropy call;
      call.element = kHalf;
      call.positions = positions;
      call.vocabulary = kVocabulary;
      call.stride = kVocabulary;
      call.logits = logits.data();
      call.targets = targets.data();
      call.weights = weights.data();
      call.loss = loss.data();
      call.nll = nll.data();
      cross_entropy(call, nullptr);
    });
  }

  void rows() {
    const int64_t count = std::max<int64_t>(1, n_ / 4);
    std::vector<int64_t> places;
    for (int64_t i = 0; i < count; ++i) places.push_back(i * n_ / count);
    const auto positions = device_.input("positions", places);
    const Typed all = half("hidden", n_ * c_), some = half("labels", count * c_), y = half("y", 3 * n_ * c_);
    const auto bias = floats("bias", 3 * c_);
    measure("gather_rows", count * c_, [&] {
      gather_rows({kHalf, n_, c_, count, all.data(), positions.data(), some.data()}, nullptr);
    });
    measure("scatter_rows", n_ * c_, [&] {
      scatter_rows({kHalf, n_, c_, count, some.data(), positions.data(), all.data()}, nullptr);
    });
    measure("add_bias", 3 * n_ * c_, [&] { add_bias({kHalf, n_, 3 * c_, bias.data(), y.data(), true}, nullptr); });
  }

  void embedding() {
    const auto table = floats("table", kTableRows * c_), y = zeros("y", n_ * c_);
    const auto local = floats("local positions", 513 * c_), table_gradient = zeros("dtable", kTableRows * c_);
    const auto ids = indices<int32_t>("ids", n_, kTableRows), places = indices<int32_t>("places", n_, 513);
    measure("embedding_forward", n_ * c_, [&] {
      EmbeddingForward call;
      call.places = n_;
      call.width = c_;
      call.tokens = {table.data(), kTableRows, ids.data()};
      call.local_positions = {local.data(), 513, places.data()};
      call.y = y.data();
      embedding_forward(call, nullptr);
    });
    const auto workspace = scratch(embedding_backward_workspace(n_, c_));
    measure("embedding_backward", n_ * c_, [&] {
      EmbeddingBackward call;
      call.count = n_;
      call.width = c_;
      call.index = ids.data();
      call.gradient_rows = n_;
      call.gradient = y.data();
      call.table_rows = kTableRows;
      call.table_gradient = table_gradient.data();
      call.workspace = workspace.data();
      embedding_backward(call, nullptr);
    });
  }

  void sums() {
    const Typed x = half("x", 3 * n_ * c_);
    const auto totals = zeros("totals", 3 * c_);
    const auto workspace = device_.buffer<float>("workspace", column_sums_workspace(n_, 3 * c_) / sizeof(float) + 1);
    measure("add_column_sums", 3 * n_ * c_, [&] {
      add_column_sums({kHalf, n_, 3 * c_, x.data(), totals.data(), workspace.data()}, nullptr);
    });
  }

  void drop() {
    const auto x = floats("x", n_ * c_), y = zeros("y", n_ * c_);
    measure("dropout", n_ * c_, [&] {
      Dropout call;
      call.tokens = n_;
      call.width = c_;
      call.row_tokens = n_;
      call.x = x.data();
      call.y = y.data();
      call.probability = 0.1;
      call.key = {7, 0};
      dropout(call, nullptr);
    });
  }

  void optimizer() {
    const int64_t size = n_ * c_;  // as many parameters: their number matters to nothing but the total
    const auto values = floats("values", size), gradients = floats("gradients", size);
    const auto first = zeros("first", size), second = zeros("second", size);
    const Typed copy = half("copy", size);
    const auto norm = device_.buffer<double>("norm", 1);
    const auto workspace = device_.buffer<double>("workspace", squared_norm_workspace(size) / sizeof(double) + 1);
    measure("squared_norm", size, [&] {
      squared_norm({size, gradients.data(), norm.data(), workspace.data()}, nullptr);
    });
    const std::vector<FlatSpan> spans{{0, size, true}};
    const auto blocks = device_.input("blocks", make_update_blocks(spans, size));
    const auto prepared = device_.input(
        "prepared",
        std::vector<PreparedUpdate>{{.grad_scale = 1, .keep = 1, .step_size = 1e-3f, .inverse_correction = 1}});
    measure("adamw_update", size, [&] {
      AdamWUpdate call;
      call.blocks = blocks.data();
      call.num_blocks = static_cast<int64_t>(blocks.size());
      call.values = values.data();
      call.gradients = gradients.data();
      call.first_moment = first.data();
      call.second_moment = second.data();
      call.compute = copy.data();
      call.prepared = prepared.data();
      adamw_update(call, nullptr);
    });
    measure("round_to_bf16", size, [&] {
      convert({size, Element::kFloat32, values.data(), Element::kBFloat16, copy.data()}, nullptr);
    });
  }

  TestDevice device_{cuda_emulation::Options{.host_threads = 2}};
  int64_t n_, c_, half_;
};

int run(int argc, char** argv) {
  int64_t tokens = 1024;
  if (argc == 3 && std::string(argv[1]) == "--tokens") {
    tokens = std::stoll(argv[2]);
  } else if (argc != 1) {
    throw ConfigError("usage: cuda_kernel_counts [--tokens N]");
  }
  if (tokens < 4 || tokens % 4 != 0) throw ConfigError(cat("--tokens must be a multiple of 4, not ", tokens));
  print_names();
  for (const int64_t head_dim : {32, 128}) {
    for (const int64_t sequences : {1, 4}) count_attention(head_dim, tokens, sequences);
  }
  Streaming(tokens, 768, 3072).count();
  Streaming(tokens, 1536, 6144).count();
  Streaming(tokens, 2048, 8192).count();
  return 0;
}

}  // namespace
}  // namespace gato::kernel_tests

int main(int argc, char** argv) {
  try {
    return gato::kernel_tests::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "cuda_kernel_counts: " << error.what() << "\n";
    return 1;
  }
}
