// Our side of tools/bench/train_step: training steps of one model, on command from standard input, so that they can
// take turns with another program's.
//
//   run N      N steps, one after the other; answers {"seconds": [...], "cpu_seconds": ..., "page_faults": ...}
//   profile N  the same, recorded; answers {"table": "...", "parts": {name: seconds per step}}
//   quit
//
// The first line it prints describes the model. All answers are one line of JSON.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <map>
#include <optional>

#include "commands.h"
#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "gato/core/random.h"
#include "gato/core/threads.h"
#include "gato/kernels/attention_route.h"
#include "gato/kernels/device.h"
#include "gato/kernels/linear.h"
#include "gato/kernels/memory.h"
#include "gato/kernels/optimizer.h"
#include "gato/model/estimate.h"
#include "gato/model/model.h"

namespace gato {
namespace {

using bench::Json;

/// The table of sizes: the same as in train_step_peer.py.
struct Size {
  int64_t layers, width, heads, hidden, vocabulary, rows, row_tokens;
};
const std::map<std::string, Size> kSizes = {{"tiny", {4, 128, 4, 512, 2049, 8, 256}},
                                            {"small", {6, 256, 8, 1024, 4097, 4, 512}},
                                            {"79m", {8, 768, 24, 3072, 33025, 2, 1024}},
                                            {"364m", {12, 1536, 12, 6144, 33025, 1, 1024}}};

struct Options {
  std::string size = "tiny", precision = "fp32", route = "auto", memory = "cached", trace;
  std::string device = "cpu", attention = "auto";
  int64_t rows = 0;  // 0: the size's own
  int threads = 2;
  double loss_share = 0.25;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (key == "--model" && kSizes.count(value) > 0) {
      options.size = value;
    } else if (key == "--dtype" && (value == "fp32" || value == "bf16")) {
      options.precision = value;
    } else if (key == "--route" && (value == "auto" || value == "blas" || value == "onednn")) {
      options.route = value;
    } else if (key == "--memory" && (value == "cached" || value == "plain")) {
      options.memory = value;
    } else if (key == "--device" && !value.empty()) {
      options.device = value;
    } else if (key == "--attention" && (value == "auto" || value == "own" || value == "flash" || value == "cudnn")) {
      options.attention = value;
    } else if (key == "--rows") {
      options.rows = std::stoll(value);
    } else if (key == "--threads") {
      options.threads = std::stoi(value);
    } else if (key == "--loss-share") {
      options.loss_share = std::stod(value);
    } else if (key == "--trace") {
      options.trace = value;
    } else {
      throw ConfigError(cat("cannot make sense of ", key, " ", value,
                            "; usage: bench_train_step [--model tiny|small|79m|364m] [--dtype fp32|bf16] [--threads N] "
                            "[--route auto|blas|onednn] [--memory cached|plain] [--loss-share X] [--trace FILE] "
                            "[--device cpu|cuda|cuda:N] [--rows N] [--attention auto|own|flash|cudnn]"));
    }
  }
  return options;
}

/// A model with its optimizer and one batch of random tokens.
class Trainer {
 public:
  Trainer(const Size& size, const Options& options, at::Device device) : device_(device) {
    model::ModelConfig config;
    config.layers = size.layers;
    config.width = size.width;
    config.heads = size.heads;
    config.head_dim = size.width / size.heads;
    config.hidden = size.hidden;
    config.patch_channels = 8;
    config.stochastic_depth = 0;
    config.precision = options.precision == "bf16" ? model::Precision::kBf16 : model::Precision::kFp32;
    model_.emplace(config, model::ModelShape{size.vocabulary, size.vocabulary - 1025, 1024}, 0,
                   model::Model::Purpose::kTraining, device);
    first_ = at::zeros_like(model_->store().values());
    second_ = at::zeros_like(first_);
    for (const model::Segment& s : model_->store().segments()) spans_.push_back({s.offset, s.size, s.decay});
    make_batch(size, options.loss_share);
  }

  [[nodiscard]] int64_t parameters() const { return model_->store().num_parameters(); }

  /// Floating-point operations of a step that are of use: the head at the positions with loss, attention that is seen.
  [[nodiscard]] double flops() const {
    const model::StepShape step{input_.ids.size(0), input_.ids.size(1), where_.positions.numel()};
    return model::training_flops(model_->config(), model_->shape(), step, static_cast<double>(step.row_tokens));
  }

  double step() {
    model::ParameterStore& store = model_->store();
    {
      const profile::Scope scope("zero gradients");
      store.zero_gradients();
    }
    const model::LossResult result = model_->loss(input_, where_, {.training = true, .step = steps_});
    model_->backward(result.loss);
    const auto positions = static_cast<double>(where_.positions.numel());
    const double norm = std::sqrt(kernels::squared_norm(store.gradients())) / positions;
    kernels::AdamWStep update;
    update.learning_rate = 1e-4;
    update.weight_decay = 0.01;
    update.step = ++steps_;
    update.grad_scale = std::min(1.0, 1.0 / norm) / positions;
    store.update(first_, second_, spans_, update);
    return result.loss.item<double>() / positions;
  }

 private:
  void make_batch(const Size& size, double loss_share) {
    Rng rng(1);
    input_.ids = at::empty({size.rows, size.row_tokens}, at::kInt);
    input_.sequence_starts = at::zeros({size.rows, size.row_tokens}, at::kInt);
    input_.local_positions = at::full({size.rows, size.row_tokens}, -1, at::kInt);
    std::vector<int64_t> positions, targets;
    for (int64_t i = 0; i < input_.ids.numel(); ++i) {
      input_.ids.mutable_data_ptr<int32_t>()[i] = static_cast<int32_t>(rng.below(size.vocabulary));
      if (rng.uniform() >= loss_share) continue;
      positions.push_back(i);
      targets.push_back(rng.below(size.vocabulary));
    }
    where_ = {at::tensor(positions, at::kLong), at::tensor(targets, at::kLong),
              at::ones({static_cast<int64_t>(positions.size())})};
    if (!device_.is_cpu()) move_batch();
  }

  void move_batch() {
    for (at::Tensor* x : {&input_.ids, &input_.sequence_starts, &input_.local_positions, &where_.positions,
                          &where_.targets, &where_.weights}) {
      *x = x->to(device_);
    }
    input_.bounds = kernels::sequence_bounds(input_.sequence_starts);
  }

  at::Device device_;
  std::optional<model::Model> model_;
  at::Tensor first_, second_;
  std::vector<kernels::UpdateSpan> spans_;
  model::ModelInput input_;
  model::LossInput where_;
  int64_t steps_ = 0;
};

struct Usage {
  double cpu_seconds;
  int64_t page_faults;
};
Usage usage() {
  rusage now{};
  getrusage(RUSAGE_SELF, &now);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return {seconds(now.ru_utime) + seconds(now.ru_stime), now.ru_minflt};
}

Json run(Trainer& trainer, int64_t steps) {
  Json answer;
  const Usage before = usage();
  const int64_t blocks = kernels::memory_statistics().system_blocks;
  for (int64_t i = 0; i < steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    answer["loss"] = trainer.step();
    answer["seconds"].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  const Usage after = usage();
  answer["cpu_seconds"] = (after.cpu_seconds - before.cpu_seconds) / static_cast<double>(steps);
  answer["page_faults"] = static_cast<double>(after.page_faults - before.page_faults) / static_cast<double>(steps);
  answer["blocks_from_system"] = kernels::memory_statistics().system_blocks - blocks;
  return answer;
}

Json record(Trainer& trainer, int64_t steps, const std::string& trace) {
  profile::start();
  for (int64_t i = 0; i < steps; ++i) trainer.step();
  const profile::Recording recording = profile::stop();
  if (!trace.empty()) profile::write_chrome_trace(recording, trace);
  Json answer{{"table", profile::table(recording, steps)}, {"parts", Json::object()}};
  for (const profile::Part& part : recording.parts)
    answer["parts"][part.name] = part.seconds / static_cast<double>(steps);
  return answer;
}

void set_attention(const std::string& name) {
  using kernels::AttentionRoute;
  const std::map<std::string, AttentionRoute> routes{{"auto", AttentionRoute::kAuto},
                                                     {"own", AttentionRoute::kOwn},
                                                     {"flash", AttentionRoute::kFlash},
                                                     {"cudnn", AttentionRoute::kCudnn}};
  kernels::set_attention_route(routes.at(name));
}

void serve(const Options& options) {
  set_thread_budget(options.threads);
  at::set_num_threads(thread_budget());
  kernels::set_matmul_route(options.route == "auto"     ? kernels::MatmulRoute::kAuto
                            : options.route == "onednn" ? kernels::MatmulRoute::kOneDnn
                                                        : kernels::MatmulRoute::kBlas);
  std::optional<kernels::CachingMemory> memory;
  if (options.memory == "cached") memory.emplace();
  const at::Device device = kernels::open_device(options.device);
  set_attention(options.attention);
  Size size = kSizes.at(options.size);
  if (options.rows > 0) size.rows = options.rows;
  Trainer trainer(size, options, device);
  const Json facts{{"parameters", trainer.parameters()},
                   {"tokens_per_step", size.rows * size.row_tokens},
                   {"flops_per_step", trainer.flops()}};
  bench::serve_commands(
      facts, {{"run", [&](std::istream& arguments) { return run(trainer, bench::read_count(arguments)); }},
              {"profile",
               [&](std::istream& arguments) { return record(trainer, bench::read_count(arguments), options.trace); }}});
}

}  // namespace
}  // namespace gato

int main(int argc, char** argv) {
  return gato::bench::run_bench("bench_train_step", [&] { gato::serve(gato::parse(argc, argv)); });
}
