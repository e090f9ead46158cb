// Our side of tools/bench/decode: a model that acts, on command from standard input, so that it can take turns with
// another program.
//
//   tokens N   N tokens of every slot, each chosen from the logits of the last and appended by a call of its own;
//              answers {"seconds": [per token of all]}
//   control N  N control steps of every slot: observation in, action tokens out; answers {"seconds": [per step of all]}
//   profile N  N control steps, recorded; answers {"table": "..."}
//   quit
//
// Every slot begins a command with the same context, and forgets afterwards what came. The first line describes the
// model. All answers are one line of JSON.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>
#include <map>
#include <numeric>

#include "commands.h"
#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "gato/core/random.h"
#include "gato/core/threads.h"
#include "gato/kernels/device.h"
#include "gato/model/token_loop.h"

namespace gato {
namespace {

using bench::Json;

/// The table of sizes: the same as in decode_peer.py.
struct Size {
  int64_t layers, width, heads, hidden, vocabulary;
};
const std::map<std::string, Size> kSizes = {{"small", {6, 256, 8, 1024, 4097}}, {"79m", {8, 768, 24, 3072, 33025}}};
const std::map<std::string, kernels::WeightType> kWeights = {
    {"fp32", kernels::WeightType::kFp32}, {"bf16", kernels::WeightType::kBf16}, {"int8", kernels::WeightType::kInt8}};
constexpr int64_t kRowTokens = 1024, kBins = 1024;

struct Options {
  std::string size = "79m", weights = "bf16", cache = "same", device = "cpu";
  bool cuda_graph = false;
  int64_t slots = 1, context = 456, observation = 30, action = 8;
  int threads = 2;
};

Options parse(int argc, char** argv) {
  Options options;
  const std::map<std::string, int64_t*> counts = {{"--slots", &options.slots},
                                                  {"--context", &options.context},
                                                  {"--observation", &options.observation},
                                                  {"--action", &options.action}};
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (key == "--cuda-graph") {
      options.cuda_graph = true;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    const auto count = counts.find(key);
    if (key == "--model" && kSizes.count(value) > 0) {
      options.size = value;
    } else if (key == "--weights" && kWeights.count(value) > 0) {
      options.weights = value;
    } else if (key == "--cache" && (value == "same" || value == "fp32")) {
      options.cache = value;
    } else if (key == "--device" && !value.empty()) {
      options.device = value;
    } else if (key == "--threads") {
      options.threads = std::stoi(value);
    } else if (count != counts.end()) {
      *count->second = std::stoll(value);
    } else {
      throw ConfigError(cat("cannot make sense of ", key, " ", value,
                            "; usage: bench_decode [--model small|79m] [--weights fp32|bf16|int8] [--cache same|fp32] "
                            "[--slots N] [--context N] [--observation N] [--action N] [--threads N] "
                            "[--device cpu|cuda|cuda:N] [--cuda-graph]"));
    }
  }
  return options;
}

model::ModelConfig config_of(const Size& size, const std::string& weights) {
  model::ModelConfig config;
  config.layers = size.layers;
  config.width = size.width;
  config.heads = size.heads;
  config.head_dim = size.width / size.heads;
  config.hidden = size.hidden;
  config.patch_channels = 8;
  config.precision = weights == "fp32" ? model::Precision::kFp32 : model::Precision::kBf16;
  return config;
}

class Player {
 public:
  explicit Player(const Options& options)
      : options_(options),
        size_(kSizes.at(options.size)),
        first_bin_(size_.vocabulary - 1 - kBins),
        model_(config_of(size_, options.weights), {size_.vocabulary, first_bin_, kBins}, 0,
               model::Model::Purpose::kInference, kernels::open_device(options.device)),
        weights_(std::make_shared<const model::ActingWeights>(model_, kWeights.at(options.weights))),
        decoder_(weights_, options.slots, kRowTokens,
                 options.cache == "fp32" ? std::optional(at::kFloat) : std::nullopt),
        loop_(decoder_, options.cuda_graph),
        slots_(static_cast<size_t>(options.slots)),
        chosen_(static_cast<size_t>(options.slots), 0) {
    std::iota(slots_.begin(), slots_.end(), int64_t{0});
    hidden_ = append_random(options_.context, 0);
  }

  [[nodiscard]] Json facts() const {
    return {{"parameters", model_.store().num_parameters()}, {"weight_bytes", weights_->bytes()}};
  }

  /// One more token in every slot.
  void token() {
    choose(1);
    hidden_ = append_chosen();
    kernels::synchronize(decoder_.device());
  }

  /// The last token of the step before comes with the observation; the last one of this step is not yet fed back.
  void control_step(int64_t step) {
    hidden_ = append_random(1 + options_.observation, static_cast<uint64_t>(step));
    choose(options_.action);
  }

  /// Back to the context.
  void forget() {
    for (const int64_t slot : slots_) decoder_.truncate(slot, options_.context);
  }

 private:
  /// The likeliest bins.
  void choose(int64_t rounds) {
    kernels::TokenChoice likeliest{static_cast<int32_t>(first_bin_), kBins};
    likeliest.local_position = model::kActionPositionRow;
    const std::vector<kernels::TokenChoice> choices(static_cast<size_t>(rounds) * slots_.size(), likeliest);
    const auto chosen = loop_.choose(slots_, hidden_, choices);
    for (size_t i = 0; i < chosen.size(); ++i) chosen_[i] = chosen[i].back();
  }

  at::Tensor append_chosen() {
    const int16_t action = model::kActionPositionRow;
    std::vector<model::DecoderInput> inputs;
    for (const int32_t& id : chosen_) inputs.push_back({{&id, 1}, {&action, 1}, {}, {}, {}});
    return decoder_.append(slots_, inputs);
  }

  at::Tensor append_random(int64_t count, uint64_t seed) {
    Rng rng(seed);
    std::vector<std::vector<int32_t>> ids(slots_.size());
    std::vector<int16_t> positions;
    for (int64_t i = 0; i < count; ++i) positions.push_back(static_cast<int16_t>(i % model::kActionPositionRow));
    std::vector<model::DecoderInput> inputs;
    for (std::vector<int32_t>& of_slot : ids) {
      for (int64_t i = 0; i < count; ++i) of_slot.push_back(static_cast<int32_t>(first_bin_ + rng.below(kBins)));
      inputs.push_back({of_slot, positions, {}, {}, {}});
    }
    return decoder_.append(slots_, inputs);
  }

  Options options_;
  Size size_;
  int64_t first_bin_;
  model::Model model_;
  std::shared_ptr<const model::ActingWeights> weights_;
  model::Decoder decoder_;
  model::TokenLoop loop_;
  std::vector<int64_t> slots_;
  std::vector<int32_t> chosen_;
  at::Tensor hidden_;
};

template <class Work>
Json timed(Player& player, int64_t count, bool forget_each, const Work& work) {
  Json answer;
  for (int64_t i = 0; i < count; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work(i);
    answer["seconds"].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    if (forget_each) player.forget();
  }
  player.forget();
  return answer;
}

void serve(const Options& options) {
  set_thread_budget(options.threads);
  at::set_num_threads(thread_budget());
  Player player(options);
  const auto control = [&](int64_t i) { player.control_step(i); };
  bench::serve_commands(
      player.facts(),
      {{"tokens",
        [&](std::istream& arguments) {
          return timed(player, bench::read_count(arguments), false, [&](int64_t /*i*/) { player.token(); });
        }},
       {"control", [&](std::istream& arguments) { return timed(player, bench::read_count(arguments), true, control); }},
       {"profile", [&](std::istream& arguments) {
          const int64_t count = bench::read_count(arguments);
          profile::start();
          timed(player, count, true, control);
          return Json{{"table", profile::table(profile::stop(), count)}};
        }}});
}

}  // namespace
}  // namespace gato

int main(int argc, char** argv) {
  return gato::bench::run_bench("bench_decode", [&] { gato::serve(gato::parse(argc, argv)); });
}
