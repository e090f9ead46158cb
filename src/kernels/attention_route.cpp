#include "gato/kernels/attention_route.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
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

enum class Proof { kUnknown, kMissing, kThere };

/// What is known of the file for `device`: attention asks at every call.
std::atomic<Proof>& known_proof(at::Device device) {
  static std::array<std::atomic<Proof>, std::numeric_limits<at::DeviceIndex>::max() + 1> known{};
  return known[static_cast<size_t>(std::max<at::DeviceIndex>(device.index(), 0))];
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

/// The first row twice: with its own sequences, and as one.
struct CheckedRows {
  at::Tensor qkv, starts, up;
};

CheckedRows rows_to_check(const at::Tensor& qkv, const at::Tensor& starts) {
  CheckedRows rows;
  rows.qkv = at::cat({first_row(qkv), first_row(qkv)});
  rows.starts = at::cat({first_row(starts), at::zeros_like(first_row(starts))});
  const std::vector<int64_t> sizes{2, qkv.size(1), qkv.size(3), qkv.size(4)};
  rows.up = at::randn(sizes, qkv.options().dtype(at::kFloat)).to(qkv.scalar_type());
  return rows;
}

/// By the plain reference, whose scores are quadratic in a row, row by row.
Computed reference_of(const CheckedRows& rows, const RotaryTable& rotary) {
  std::vector<at::Tensor> outs, gradients;
  for (int64_t i = 0; i < 2; ++i) {
    const auto row = [&](const at::Tensor& x) { return x.slice(0, i, i + 1); };
    const Computed computed =
        compute(AttentionRoute::kReference, row(rows.qkv), row(rows.starts), rotary, {}, row(rows.up));
    outs.push_back(computed.out);
    gradients.push_back(computed.gradient);
  }
  return {at::cat(outs), at::cat(gradients)};
}

AttentionTrial check_route(AttentionRoute route, const CheckedRows& rows, const RotaryTable& rotary,
                           const Computed& expected) {
  AttentionTrial trial{route, "", 0, 0};
  if (route == AttentionRoute::kOwn && !own_takes(rows.qkv)) {
    trial.problem = cat("takes no ", c10::toString(rows.qkv.scalar_type()), " heads of ", rows.qkv.size(4), " on ",
                        rows.qkv.device().str());
    return trial;
  }
  try {
    const Computed computed = compute(route, rows.qkv, rows.starts, rotary, sequence_bounds(rows.starts), rows.up);
    const double out = share_of_largest(computed.out, expected.out);
    const double gradient = share_of_largest(computed.gradient, expected.gradient);
    trial.difference =
        out != out || gradient != gradient ? std::numeric_limits<double>::infinity() : std::max(out, gradient);
  } catch (const std::exception& error) {
    trial.problem = cat("fails: ", split(error.what(), '\n').front());
    return trial;
  }
  const double allowed = allowed_difference(rows.qkv);
  if (!(trial.difference <= allowed)) {
    trial.problem =
        cat("differs from the reference by ", trial.difference, " of its largest value, allowed is ", allowed);
  }
  return trial;
}

/// Milliseconds of forward and backward; the first time, which makes what is made once, does not count.
double median_time(AttentionRoute route, const at::Tensor& qkv, const std::vector<at::Tensor>& starts,
                   const RotaryTable& rotary) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kTimes = 5;
  const at::Tensor up = at::zeros({qkv.size(0), qkv.size(1), qkv.size(3), qkv.size(4)}, qkv.options());
  std::vector<double> times;
  for (size_t i = 0; i <= kTimes; ++i) {
    const at::Tensor& at_once = starts[i % starts.size()];
    const SequenceBounds bounds = sequence_bounds(at_once);
    synchronize(qkv.device());
    const auto begin = Clock::now();
    (void)compute(route, qkv, at_once, rotary, bounds, up);
    synchronize(qkv.device());
    if (i > 0) times.push_back(1e3 * std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::sort(times.begin(), times.end());
  return times[kTimes / 2];
}

void time_route(AttentionTrial& trial, const at::Tensor& qkv, const std::vector<at::Tensor>& starts,
                const RotaryTable& rotary) {
  try {
    if (trial.route == AttentionRoute::kReference) {
      std::vector<at::Tensor> first_rows;
      for (const at::Tensor& x : starts) first_rows.push_back(first_row(x));
      trial.milliseconds =
          median_time(trial.route, first_row(qkv), first_rows, rotary) * static_cast<double>(qkv.size(0));
    } else {
      trial.milliseconds = median_time(trial.route, qkv, starts, rotary);
    }
  } catch (const std::exception& error) {
    trial.problem = cat("fails: ", split(error.what(), '\n').front());
  }
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

AttentionTrial check_attention_route(AttentionRoute route, const at::Tensor& qkv, const at::Tensor& sequence_start,
                                     const RotaryTable& rotary) {
  const CheckedRows rows = rows_to_check(qkv, sequence_start);
  return check_route(route, rows, rotary, reference_of(rows, rotary));
}

std::vector<AttentionTrial> try_attention_routes(const at::Tensor& qkv, const std::vector<at::Tensor>& sequence_starts,
                                                 const RotaryTable& rotary, bool with_own) {
  GATO_CHECK(!sequence_starts.empty(), "attention is tried on the sequences of one micro-batch or more");
  std::vector<AttentionRoute> candidates;
  if (with_own) candidates.push_back(AttentionRoute::kOwn);
  if (qkv.is_cuda() && is_half(qkv)) {
    candidates.push_back(AttentionRoute::kFlash);
    candidates.push_back(AttentionRoute::kCudnn);
  }
  candidates.push_back(AttentionRoute::kReference);
  const CheckedRows rows = rows_to_check(qkv, sequence_starts[0]);
  const Computed expected = reference_of(rows, rotary);
  std::vector<AttentionTrial> trials;
  if (!with_own) {
    AttentionTrial& own = trials.emplace_back();
    own.route = AttentionRoute::kOwn;
    own.problem = "not proven on this kind of GPU, so not tried";
  }
  for (const AttentionRoute route : candidates) {
    AttentionTrial& trial = trials.emplace_back(check_route(route, rows, rotary, expected));
    if (trial.problem.empty()) time_route(trial, qkv, sequence_starts, rotary);
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

bool kernels_are_proven(at::Device device) {
  if (device.is_cpu()) return true;
  std::atomic<Proof>& known = known_proof(device);
  if (known == Proof::kUnknown) known = std::filesystem::exists(proof_path(device)) ? Proof::kThere : Proof::kMissing;
  return known == Proof::kThere;
}

void mark_kernels_as_proven(at::Device device) {
  if (device.is_cpu()) return;
  const std::filesystem::path path = proof_path(device);
  make_folders(path.parent_path());
  write_file_atomic(path, gpu_properties(device).name + "\n");
  known_proof(device) = Proof::kThere;
}

}  // namespace gato::kernels
