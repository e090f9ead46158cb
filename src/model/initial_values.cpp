#include <ATen/Parallel.h>

#include <cmath>
#include <numbers>
#include <string_view>
#include <vector>

#include "gato/core/random.h"
#include "model/layout.h"

// The scales are those with which the demonstration model learned (a width of 128; ablations found nothing that
// mattered but the bins): tables 0.1 at that width and proportional to width^-1/2, so that tied logits start at order 1
// in any width; linear maps fan_in^-1/2; those that write to the residual stream divided by the root of its 2 x layers
// contributions, so that the stream keeps its scale in depth.
namespace gato::model {
namespace {

constexpr double kUntiedHeadDeviation = 0.02;
constexpr double kPatchOutputGain = 0.5;

double table_deviation(int64_t width) { return 0.1 * std::sqrt(128.0 / static_cast<double>(width)); }

bool ends_with(std::string_view text, std::string_view ending) {
  return text.size() >= ending.size() && text.substr(text.size() - ending.size()) == ending;
}

/// Normal numbers of the given standard deviation. Each row of the first dimension has its own stream.
void fill_normal(float* values, const Segment& segment, double deviation, uint64_t seed) {
  const int64_t rows = segment.shape.empty() ? 1 : segment.shape[0];
  const int64_t width = rows > 0 ? segment.size / rows : 0;
  const uint64_t name = hash_name(segment.name);
  at::parallel_for(0, rows, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, width)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      Rng rng(mix_seed(seed, {name, static_cast<uint64_t>(row)}));
      for (int64_t i = 0; i < width; ++i) values[row * width + i] = static_cast<float>(deviation * rng.normal());
    }
  });
}

/// Smooth features of a number in [-1, 1]: itself, and sines and cosines of six octaves, higher ones weaker.
std::vector<double> smooth_features(double u) {
  std::vector<double> features{u};
  for (int k = 0; k < 6; ++k) {
    const double angle = u * std::numbers::pi * 0.5 * std::exp2(k);
    const double weight = 1 / (1 + 0.3 * k);
    features.push_back(std::sin(angle) * weight);
    features.push_back(std::cos(angle) * weight);
  }
  return features;
}

/// Rows of the value bins: a random linear map of smooth features of the bin's value, so that neighbours start as
/// neighbours. With independent rows the demonstration's control tasks stay at score 0 in the same budget.
void fill_bins(float* values, int64_t width, const ModelShape& shape, double deviation, uint64_t seed) {
  Rng rng(mix_seed(seed, {hash_name("bins")}));
  const size_t count = smooth_features(0).size();
  std::vector<double> map(count * static_cast<size_t>(width));
  for (double& m : map) m = rng.normal() * deviation;
  for (int64_t bin = 0; bin < shape.num_bins; ++bin) {
    const double u =
        shape.num_bins > 1 ? 2.0 * static_cast<double>(bin) / static_cast<double>(shape.num_bins - 1) - 1 : 0;
    const std::vector<double> features = smooth_features(u);
    float* row = values + (shape.first_bin + bin) * width;
    for (int64_t i = 0; i < width; ++i) {
      double total = 0;
      for (size_t f = 0; f < count; ++f)
        total += features[f] * map[f * static_cast<size_t>(width) + static_cast<size_t>(i)];
      row[i] = static_cast<float>(total);
    }
  }
}

/// Standard deviation of a linear map's or convolution's weights; shape [out, in...].
double weight_deviation(const ModelConfig& config, const Segment& segment) {
  const double fan_in = static_cast<double>(segment.size) / static_cast<double>(segment.shape[0]);
  const double base = 1 / std::sqrt(fan_in);
  if (ends_with(segment.name, "attention.out.weight") || ends_with(segment.name, "feed.down.weight")) {
    return base / std::sqrt(2.0 * static_cast<double>(config.layers));
  }
  if (segment.name == "patch.output.weight") return base * kPatchOutputGain;
  if (segment.shape.size() == 4) return base / std::sqrt(3.0);  // as of the uniform law usual for convolutions
  return base;
}

}  // namespace

void initialise_parameters(const ModelConfig& config, const ModelShape& shape, uint64_t seed, ParameterStore& store) {
  const at::Tensor host = store.values().cpu();  // the very same memory on the CPU
  auto* values = host.mutable_data_ptr<float>();
  for (const Segment& segment : store.segments()) {
    float* at = values + segment.offset;
    if (segment.name == "token_table" || segment.name == "head.weight") {
      // A bin's features have a norm of about 1.7, which 1 / 1.5 undoes for the tied table.
      const bool head = segment.name != "token_table";
      const double deviation = head ? kUntiedHeadDeviation : table_deviation(config.width);
      fill_normal(at, segment, deviation, seed);
      fill_bins(at, config.width, shape, head ? deviation : deviation / 1.5, mix_seed(seed, {hash_name(segment.name)}));
    } else if (ends_with(segment.name, "_table")) {
      fill_normal(at, segment, table_deviation(config.width), seed);
    } else if (ends_with(segment.name, ".weight")) {
      fill_normal(at, segment, weight_deviation(config, segment), seed);
    } else {
      std::fill_n(at, segment.size, ends_with(segment.name, ".gain") ? 1.0f : 0.0f);
    }
  }
  if (store.device() != at::kCPU) store.values().copy_(host);
}

}  // namespace gato::model
