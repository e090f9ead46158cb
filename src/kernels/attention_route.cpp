#include "gato/kernels/attention_route.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/kernels/device.h"
#include "kernels/attention_libraries.h"
#include "kernels/device_ops.h"

namespace gato::kernels {
namespace {

std::atomic<AttentionRoute>& setting() {
  static std::atomic<AttentionRoute> route{AttentionRoute::kAuto};
  return route;
}

bool is_half(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf; }

/// Whether our own code takes it.
bool own_takes(const at::Tensor& qkv) {
  const DeviceOps* ops = device_ops(qkv);
  return ops == nullptr ? qkv.is_cpu() : ops->takes_attention(qkv);
}

/// The file that says that the kernels are proven on the GPU `name`; its name holds what they were made of.
std::filesystem::path proof_path(const std::string& name, const std::string& kernels) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path folder = cache != nullptr && *cache != '\0' ? cache
                                 : home != nullptr                  ? std::filesystem::path(home) / ".cache"
                                                                    : std::filesystem::temp_directory_path();
  std::string file = name + "-" + kernels;
  std::replace_if(
      file.begin(), file.end(), [](unsigned char c) { return std::isalnum(c) == 0 && c != '-'; }, '_');
  return folder / "gato" / "proven-kernels" / file;
}

std::filesystem::path proof_path(at::Device device) {
  return proof_path(gpu_properties(device).name, kernels_identity());
}

/// Result and gradient of one route.
struct Computed {
  at::Tensor out, gradient;
};

Computed compute(AttentionRoute route, const at::Tensor& qkv, const at::Tensor& starts, const RotaryTable& rotary,
                 const SequenceBounds& bounds, const at::Tensor& up) {
  const c10::AutoGradMode on(true);
  const at::Tensor leaf = qkv.detach().requires_grad_(true);
  const AttentionRoute before = setting().exchange(route);
  Computed result;
  try {
    result.out = document_attention(leaf, starts, rotary, bounds);
  } catch (...) {
    setting() = before;
    throw;
  }
  setting() = before;
  torch::autograd::backward({result.out}, {up});
  return {result.out.detach(), leaf.grad()};
}

double share_of_largest(const at::Tensor& x, const at::Tensor& expected) {
  const at::Tensor reference = expected.to(at::kFloat);
  const double largest = std::max(1e-30, reference.abs().max().item<double>());
  return (x.to(at::kFloat) - reference).abs().max().item<double>() / largest;
}

/// Tolerance on the difference: of the type in which scores, weights and gradients are rounded on the way.
double allowed_difference(const at::Tensor& qkv) { return is_half(qkv) ? 3e-2 : 1e-3; }

at::Tensor first_row(const at::Tensor& x) { return x.slice(0, 0, 1); }

AttentionTrial try_route(AttentionRoute route, const at::Tensor& qkv, const at::Tensor& starts,
                         const RotaryTable& rotary, const at::Tensor& up, const Computed& expected) {
  if (route == AttentionRoute::kReference && qkv.size(0) > 1) {
    AttentionTrial row = try_route(route, first_row(qkv), first_row(starts), rotary, first_row(up), expected);
    row.milliseconds *= static_cast<double>(qkv.size(0));
    return row;
  }
  using Clock = std::chrono::steady_clock;
  AttentionTrial trial{route, "", std::numeric_limits<double>::infinity(), 0};
  if (route == AttentionRoute::kOwn && !own_takes(qkv)) {
    trial.problem =
        cat("takes no ", c10::toString(qkv.scalar_type()), " heads of ", qkv.size(4), " on ", qkv.device().str());
    return trial;
  }
  try {
    const SequenceBounds bounds = sequence_bounds(starts);
    constexpr int kTimes = 5;
    for (int i = 0; i < kTimes; ++i) {
      synchronize(qkv.device());
      const auto begin = Clock::now();
      const Computed computed = compute(route, qkv, starts, rotary, bounds, up);
      synchronize(qkv.device());
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      trial.milliseconds = std::min(trial.milliseconds, 1e3 * seconds);
      if (i > 0) continue;
      const double out = share_of_largest(first_row(computed.out), expected.out);
      const double gradient = share_of_largest(first_row(computed.gradient), expected.gradient);
      trial.difference =
          out != out || gradient != gradient ? std::numeric_limits<double>::infinity() : std::max(out, gradient);
    }
  } catch (const std::exception& error) {
    trial.problem = cat("fails: ", split(error.what(), '\n').front());
    return trial;
  }
  if (!(trial.difference <= allowed_difference(qkv))) {
    trial.problem = cat("differs from the reference by ", trial.difference, " of its largest value");
  }
  return trial;
}

}  // namespace

std::string route_name(AttentionRoute route) {
  for (const auto& [name, value] : config_enum(static_cast<const AttentionRoute*>(nullptr))) {
    if (value == route) return name;
  }
  return "unknown";
}

void set_attention_route(AttentionRoute route) { setting() = route; }

AttentionRoute default_attention_route(const at::Tensor& qkv) {
  if (qkv.is_cpu()) return own_takes(qkv) ? AttentionRoute::kOwn : AttentionRoute::kReference;
  if (own_takes(qkv) && kernels_are_proven(qkv.device())) return AttentionRoute::kOwn;
  return is_half(qkv) ? AttentionRoute::kFlash : AttentionRoute::kReference;
}

AttentionRoute route_of(const at::Tensor& qkv) {
  const AttentionRoute route = setting();
  if (route == AttentionRoute::kAuto) return default_attention_route(qkv);
  if (route == AttentionRoute::kOwn && !own_takes(qkv)) return AttentionRoute::kReference;
  return route;
}

bool cache_by_own_kernels(const at::Tensor& qkv) {
  const AttentionRoute route = setting();
  const bool wanted =
      route == AttentionRoute::kOwn || (route == AttentionRoute::kAuto && kernels_are_proven(qkv.device()));
  return wanted && own_takes(qkv);
}

bool can_be_captured(AttentionRoute route) { return route != AttentionRoute::kCudnn; }

std::vector<AttentionTrial> try_attention_routes(const at::Tensor& qkv, const at::Tensor& sequence_start,
                                                 const RotaryTable& rotary, bool with_own) {
  std::vector<AttentionRoute> candidates;
  if (with_own) candidates.push_back(AttentionRoute::kOwn);
  if (qkv.is_cuda() && is_half(qkv)) {
    candidates.push_back(AttentionRoute::kFlash);
    candidates.push_back(AttentionRoute::kCudnn);
  }
  candidates.push_back(AttentionRoute::kReference);
  const at::Tensor up = at::randn({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}, qkv.options().dtype(at::kFloat))
                            .to(qkv.scalar_type());
  const Computed expected =
      compute(AttentionRoute::kReference, first_row(qkv), first_row(sequence_start), rotary, {}, first_row(up));
  std::vector<AttentionTrial> trials;
  if (!with_own) {
    AttentionTrial& own = trials.emplace_back();
    own.route = AttentionRoute::kOwn;
    own.problem = "not proven on this kind of GPU, so not tried";
  }
  for (const AttentionRoute route : candidates) {
    trials.push_back(try_route(route, qkv, sequence_start, rotary, up, expected));
  }
  return trials;
}

AttentionRoute choose_attention_route(const std::vector<AttentionTrial>& trials, bool own_is_proven) {
  const AttentionTrial* best = nullptr;
  std::vector<std::string> problems;
  for (const AttentionTrial& trial : trials) {
    if (!trial.problem.empty()) {
      problems.push_back(cat(route_name(trial.route), " ", trial.problem));
      continue;
    }
    if (trial.route == AttentionRoute::kOwn && !own_is_proven) continue;
    if (best == nullptr || trial.milliseconds < best->milliseconds) best = &trial;
  }
  if (best == nullptr) throw DeviceError(cat("no way to compute attention works: ", join(problems, "; ")));
  return best->route;
}

bool kernels_are_proven(at::Device device) { return device.is_cpu() || std::filesystem::exists(proof_path(device)); }

void mark_kernels_as_proven(at::Device device) {
  if (device.is_cpu()) return;
  const std::filesystem::path path = proof_path(device);
  make_folders(path.parent_path());
  write_file_atomic(path, gpu_properties(device).name + "\n");
}

}  // namespace gato::kernels
