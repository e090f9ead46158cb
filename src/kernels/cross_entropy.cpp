#include "gato/kernels/cross_entropy.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <c10/util/BFloat16.h>

#include <cmath>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "gato/kernels/linear.h"
#include "gato/kernels/rows.h"
#include "kernels/checks.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

/// What a position should predict: ids [first, first + share.size()) with these shares, which sum to 1.
struct TargetShares {
  int64_t first = 0;
  std::vector<float> shares;
};

/// Beyond this many sigmas a Gaussian's density is below the rounding error of its peak.
constexpr double kReach = 6;

TargetShares target_shares(int64_t target, const SoftTargets& soft) {
  if (!(soft.sigma > 0) || target < soft.first_id || target >= soft.first_id + soft.num_ids) return {target, {1.0f}};
  const auto reach = static_cast<int64_t>(std::ceil(kReach * soft.sigma));
  const int64_t low = std::max(soft.first_id, target - reach);
  const int64_t high = std::min(soft.first_id + soft.num_ids - 1, target + reach);
  std::vector<double> density;
  double total = 0;
  for (int64_t id = low; id <= high; ++id) {
    const double distance = static_cast<double>(id - target) / soft.sigma;
    density.push_back(std::exp(-0.5 * distance * distance));
    total += density.back();
  }
  TargetShares result{low, {}};
  for (const double d : density) result.shares.push_back(static_cast<float>(d / total));
  return result;
}

float as_float(float x) { return x; }
float as_float(cpu::Bf16 x) { return c10::detail::f32_from_bits(x.bits); }
void assign(float& to, float x) { to = x; }
void assign(cpu::Bf16& to, float x) { to.bits = c10::detail::round_to_nearest_even(x); }

/// The loss at P positions, worked off in chunks of positions whose logits fit `max_logits`.
struct HeadTask {
  at::Tensor gathered;  // [P, C]
  at::Tensor targets;   // int64 [P]
  at::Tensor weights;   // fp32 [P]
  Parameter table;
  SoftTargets soft;
  int64_t chunk = 0;  // positions per chunk

  [[nodiscard]] int64_t positions() const { return gathered.size(0); }
  [[nodiscard]] int64_t vocabulary() const { return table.value.size(0); }

  /// The table in the type of the hidden states.
  [[nodiscard]] const at::Tensor& operand() const {
    return gathered.scalar_type() == at::kBFloat16 ? table.compute : table.value;
  }

  /// Memory for logits. On a device every row begins at a multiple of 16 bytes, without which cuBLAS takes its slow
  /// kernels and ours go by single elements: vocabularies have odd sizes (32 000 + 1024 + 1).
  [[nodiscard]] at::Tensor rows_of_logits(int64_t rows) const {
    if (device_ops(gathered) == nullptr) return at::empty({rows, vocabulary()}, gathered.options());
    constexpr int64_t kElements = 8;  // of bf16
    const int64_t padded = (vocabulary() + kElements - 1) / kElements * kElements;
    return at::empty({rows, padded}, gathered.options()).slice(1, 0, vocabulary());
  }

  [[nodiscard]] at::Tensor logits(int64_t begin, int64_t end) const {
    const at::Tensor out = rows_of_logits(end - begin);
    matmul_into(gathered.slice(0, begin, end), operand().t(), out, 0);
    return out;
  }

  [[nodiscard]] HeadChunk on_device(const at::Tensor& logits, int64_t begin, const at::Tensor& losses) const {
    const int64_t end = begin + logits.size(0);
    return {.logits = logits,
            .targets = targets.slice(0, begin, end),
            .weights = weights.slice(0, begin, end),
            .soft = soft,
            .loss = losses.select(0, 0).slice(0, begin, end),
            .nll = losses.select(0, 1).slice(0, begin, end),
            .differentiate = false,
            .scale = {}};
  }

  /// Loss (unweighted), nll and log-sum-exp, rows of `losses` [3, P], of the positions from `begin` on, from their
  /// logits. A device turns logits that are `kept` into their gradient in the same pass.
  void measure(const at::Tensor& logits, int64_t begin, const at::Tensor& losses, bool kept) const {
    if (const DeviceOps* ops = device_ops(logits)) {
      HeadChunk call = on_device(logits, begin, losses);
      call.differentiate = kept;
      return ops->cross_entropy(call);
    }
    auto* loss = losses.mutable_data_ptr<float>();
    float* nll = loss + positions();
    float* log_sum = nll + positions();
    with_type_of(logits, [&]<class T>(T) { measure(data<T>(logits), logits.size(0), begin, loss, nll, log_sum); });
  }

  /// Turns logits of the positions from `begin` on, of which measure() has left `losses`, into the gradient of scale x
  /// loss in place. On a device, kept ones are gradients already, of a scale of 1.
  void differentiate(const at::Tensor& logits, int64_t begin, const at::Tensor& losses, const at::Tensor& scale) const {
    if (const DeviceOps* ops = device_ops(logits)) {
      HeadChunk call = on_device(logits, begin, at::empty_like(losses));
      call.differentiate = true;
      call.scale = scale;
      return ops->cross_entropy(call);
    }
    const float* log_sum = losses.const_data_ptr<float>() + 2 * positions();
    with_type_of(logits, [&]<class T>(T) {
      differentiate(mutable_data<T>(logits), logits.size(0), begin, log_sum, scale.item<float>());
    });
  }

  template <class T>
  void measure(const T* data, int64_t rows, int64_t begin, float* loss, float* nll, float* log_sum) const {
    const auto* target = targets.const_data_ptr<int64_t>();
    const int64_t size = vocabulary();
    for_ranges(rows, 8 * size, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const T* row = data + i * size;
        const int64_t p = begin + i;
        log_sum[p] = cpu::log_sum_exp(row, size);
        nll[p] = log_sum[p] - as_float(row[target[p]]);
        const TargetShares wanted = target_shares(target[p], soft);
        double expected = 0;
        for (size_t k = 0; k < wanted.shares.size(); ++k) {
          expected += static_cast<double>(wanted.shares[k]) *
                      static_cast<double>(as_float(row[wanted.first + static_cast<int64_t>(k)]));
        }
        loss[p] = static_cast<float>(static_cast<double>(log_sum[p]) - expected);
      }
    });
  }

  template <class T>
  void differentiate(T* data, int64_t rows, int64_t begin, const float* log_sum, float scale) const {
    const auto* target = targets.const_data_ptr<int64_t>();
    const auto* weight = weights.const_data_ptr<float>();
    const int64_t size = vocabulary();
    for_ranges(rows, 8 * size, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        T* row = data + i * size;
        const int64_t p = begin + i;
        const float factor = weight[p] * scale;
        cpu::softmax_times(row, size, log_sum[p], factor);
        const TargetShares wanted = target_shares(target[p], soft);
        for (size_t k = 0; k < wanted.shares.size(); ++k) {
          T& place = row[wanted.first + static_cast<int64_t>(k)];
          assign(place, as_float(place) - factor * wanted.shares[k]);
        }
      }
    });
  }
};

at::Tensor weighted_sum(const at::Tensor& losses, const at::Tensor& weights) {
  if (const DeviceOps* ops = device_ops(losses)) return ops->weighted_sum(losses, weights);
  double total = 0;
  for (int64_t p = 0; p < losses.numel(); ++p) {
    total += static_cast<double>(losses.const_data_ptr<float>()[p]) *
             static_cast<double>(weights.const_data_ptr<float>()[p]);
  }
  const at::Tensor result = at::empty({}, losses.options());
  *result.mutable_data_ptr<float>() = static_cast<float>(total);
  return result;
}

void save_task(AutogradContext* context, const HeadTask& task) {
  save_parameter(context, "table", task.table);
  context->saved_data["first_id"] = task.soft.first_id;
  context->saved_data["num_ids"] = task.soft.num_ids;
  context->saved_data["sigma"] = task.soft.sigma;
  context->saved_data["chunk"] = task.chunk;
}

HeadTask load_task(AutogradContext* context, const variable_list& saved) {
  auto& data = context->saved_data;
  return {saved[0],
          saved[1],
          saved[2],
          saved_parameter(context, "table"),
          {data["first_id"].toInt(), data["num_ids"].toInt(), data["sigma"].toDouble()},
          data["chunk"].toInt()};
}

struct HeadFunction : torch::autograd::Function<HeadFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& hidden,
                               const std::optional<at::Tensor>& /*anchor*/, const at::Tensor& positions, HeadTask task,
                               bool keep_logits) {
    const profile::Scope scope("head forward");
    task.gathered = gather_rows(hidden, positions);
    const at::Tensor losses = at::empty({3, task.positions()}, hidden.options().dtype(at::kFloat));
    at::Tensor kept;
    for (int64_t begin = 0; begin < task.positions(); begin += task.chunk) {
      const at::Tensor logits = task.logits(begin, std::min(task.positions(), begin + task.chunk));
      const profile::Scope measuring("cross entropy forward");
      task.measure(logits, begin, losses, keep_logits);
      if (keep_logits) kept = logits;
    }
    context->save_for_backward({task.gathered, task.targets, task.weights, positions, losses, kept});
    save_task(context, task);
    context->saved_data["rows"] = hidden.size(0);
    const at::Tensor nll_out = losses.select(0, 1).clone();
    context->mark_non_differentiable({nll_out});
    return {weighted_sum(losses.select(0, 0), task.weights), nll_out};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const profile::Scope scope("head backward");
    const variable_list saved = context->get_saved_variables();
    const HeadTask task = load_task(context, saved);
    const at::Tensor& positions = saved[3];
    const at::Tensor scale = gradients[0].to(at::kFloat);
    // Kept logits become their own gradient in place: a second backward through a retained graph computes them anew.
    const at::Tensor kept_logits = context->saved_data.count("spent") == 0 ? saved[5] : at::Tensor();
    context->saved_data["spent"] = true;
    const at::Tensor gathered_gradient = at::empty_like(task.gathered);
    const bool differentiated = kept_logits.defined() && device_ops(kept_logits) != nullptr;
    for (int64_t begin = 0; begin < task.positions(); begin += task.chunk) {
      const int64_t end = std::min(task.positions(), begin + task.chunk);
      const at::Tensor logits = kept_logits.defined() ? kept_logits : task.logits(begin, end);
      if (!differentiated) {
        const profile::Scope differentiating("cross entropy backward");
        task.differentiate(logits, begin, saved[4], scale);
      }
      matmul_into(logits, task.operand(), gathered_gradient.slice(0, begin, end), 0);
      if (task.table.gradient.defined()) {
        const at::Tensor gathered = task.gathered.slice(0, begin, end);
        matmul_into(logits.t(), differentiated ? gathered * scale.to(gathered.scalar_type()) : gathered,
                    task.table.gradient, 1);
      }
    }
    if (differentiated) gathered_gradient.mul_(scale);
    at::Tensor hidden_gradient;
    if (context->needs_input_grad(0)) {
      hidden_gradient = spread_rows(gathered_gradient, positions, context->saved_data["rows"].toInt());
    }
    return {hidden_gradient, {}, {}, {}, {}};
  }
};

void check_positions(const at::Tensor& positions, const at::Tensor& targets, int64_t rows, int64_t vocabulary) {
  if (!positions.is_cpu()) return;  // not looked at on a device: a target outside gives a loss of NaN there
  const auto* place = positions.const_data_ptr<int64_t>();
  const auto* target = targets.const_data_ptr<int64_t>();
  for (int64_t p = 0; p < positions.numel(); ++p) {
    GATO_CHECK(place[p] >= 0 && place[p] < rows && (p == 0 || place[p] > place[p - 1]), "positions[", p, "] is ",
               place[p], ": expected ascending places below ", rows);
    GATO_CHECK(target[p] >= 0 && target[p] < vocabulary, "targets[", p, "] is ", target[p], ", the vocabulary has ",
               vocabulary, " entries");
  }
}

}  // namespace

CrossEntropyResult head_cross_entropy(const at::Tensor& hidden, const Parameter& table, const at::Tensor& positions,
                                      const at::Tensor& targets, const at::Tensor& weights, const SoftTargets& soft,
                                      int64_t max_logits) {
  check_parameter(table, "table", {-1, -1});
  check_activation(hidden, "hidden", {-1, table.value.size(1)});
  GATO_CHECK(hidden.scalar_type() == at::kFloat || table.compute.defined(),
             "hidden is bf16, but the table has no bf16 copy (Parameter::compute)");
  check_tensor(positions, "positions", at::kLong, {-1});
  check_tensor(targets, "targets", at::kLong, {positions.size(0)});
  check_tensor(weights, "weights", at::kFloat, {positions.size(0)});
  const int64_t vocabulary = table.value.size(0);
  check_same_device(hidden,
                    {{"table", &table.value}, {"positions", &positions}, {"targets", &targets}, {"weights", &weights}});
  check_positions(positions, targets, hidden.size(0), vocabulary);
  GATO_CHECK(
      !(soft.sigma > 0) || (soft.first_id >= 0 && soft.num_ids >= 0 && soft.first_id + soft.num_ids <= vocabulary),
      "soft targets over ids [", soft.first_id, ", ", soft.first_id + soft.num_ids, ") of ", vocabulary);
  GATO_CHECK(max_logits > 0, "max_logits must be positive, is ", max_logits);
  HeadTask task{{}, targets, weights, table, soft, std::max<int64_t>(1, max_logits / std::max<int64_t>(1, vocabulary))};
  const bool keep_logits = c10::GradMode::is_enabled() && positions.size(0) <= task.chunk;
  const variable_list results =
      HeadFunction::apply(hidden, graph_anchor({&table}), positions, std::move(task), keep_logits);
  return {results[0], results[1]};
}

}  // namespace gato::kernels
