// Our side of tools/bench/gpu: measures operations on a GPU, on command from standard input.
//
//   attention ROWS TOKENS HEADS HEAD_DIM MEAN_DOCUMENT   every route, forward and backward; 0: one document per row
//   streaming TOKENS WIDTH HIDDEN VOCABULARY LOSS_POSITIONS PARAMETERS COPY_BYTES
//   head TOKENS WIDTH VOCABULARY SHARE
//   quit
//
// The first line it prints describes the device, or says under "problem" why there is none, and then it ends with
// code 0. All answers are one line of JSON, times in seconds.
#include <ATen/ATen.h>

#include <array>
#include <iostream>

#include "commands.h"
#include "gato/core/error.h"
#include "gato/kernels/device.h"
#include "gpu_cases.h"

namespace gato::bench {
namespace {

std::string parse(int argc, char** argv) {
  std::string device = "cuda";
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (key != "--device" || value.rfind("cuda", 0) != 0) {
      throw ConfigError(cat("cannot make sense of ", key, " ", value,
                            "; usage: bench_gpu [--device cuda|cuda:N]. Times of anything but a GPU say nothing here"));
    }
    device = value;
  }
  return device;
}

/// The numbers of a command; throws unless there are as many as asked.
template <class T, size_t kCount>
std::array<T, kCount> numbers(std::istream& arguments) {
  std::array<T, kCount> values{};
  for (size_t i = 0; i < kCount; ++i) {
    if (!(arguments >> values[i])) throw ConfigError(cat("expected ", kCount, " numbers, number ", i + 1, " is none"));
  }
  return values;
}

Json attention(const AttentionCase& sizes, at::Device device) {
  Json answer{{"pairs", visible_pairs(make_sequence_starts(sizes))}, {"routes", Json::array()}};
  for (const AttentionFigure& figure : measure_attention(sizes, device, {})) {
    answer["routes"].push_back({{"route", kernels::route_name(figure.route)},
                                {"problem", figure.problem},
                                {"forward", figure.forward_seconds},
                                {"backward", figure.backward_seconds},
                                {"difference", figure.difference}});
  }
  return answer;
}

Json streaming(const StreamingCase& sizes, at::Device device) {
  Json answer{{"kernels", Json::array()}};
  for (const StreamingFigure& figure : measure_streaming(sizes, device, {})) {
    answer["kernels"].push_back({{"name", figure.name}, {"bytes", figure.bytes}, {"seconds", figure.seconds}});
  }
  return answer;
}

Commands commands_on(at::Device device) {
  return {{"attention",
           [=](std::istream& arguments) {
             const auto [rows, tokens, heads, head_dim, mean] = numbers<int64_t, 5>(arguments);
             return attention({rows, tokens, heads, head_dim, mean}, device);
           }},
          {"streaming",
           [=](std::istream& arguments) {
             const auto [tokens, width, hidden, vocabulary, positions, parameters, bytes] =
                 numbers<int64_t, 7>(arguments);
             return streaming({tokens, width, hidden, vocabulary, positions, parameters, bytes}, device);
           }},
          {"head", [=](std::istream& arguments) {
             const auto [tokens, width, vocabulary] = numbers<int64_t, 3>(arguments);
             const auto [share] = numbers<double, 1>(arguments);
             return Json{{"seconds", measure_head(tokens, width, vocabulary, share, device, {})}};
           }}};
}

void serve(const std::string& name) {
  if (const std::string problem = kernels::why_no_gpu(); !problem.empty()) {
    std::cout << Json{{"problem", problem}} << std::endl;
    return;
  }
  const at::Device device = kernels::open_device(name);
  const kernels::GpuProperties properties = kernels::gpu_properties(device);
  const Json facts{{"name", properties.name},
                   {"capability", properties.capability},
                   {"multiprocessors", properties.multiprocessors},
                   {"memory_bytes", properties.memory_bytes},
                   {"proven", kernels::kernels_are_proven(device)}};
  serve_commands(facts, commands_on(device));
}

}  // namespace
}  // namespace gato::bench

int main(int argc, char** argv) {
  return gato::bench::run_bench("bench_gpu", [&] { gato::bench::serve(gato::bench::parse(argc, argv)); });
}
