#include "meters.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gato/core/error.h"

namespace gato::train {

LabelMeter::LabelMeter(const data::RowPlan& plan) {
  for (const auto& source : plan.sources()) {
    domains_.push_back(source->spec().domain());
    tasks_.push_back(source->spec().id);
  }
  clear();
}

void LabelMeter::add(const at::Tensor& nll, const std::vector<int32_t>& sources) {
  const float* values = nll.const_data_ptr<float>();
  for (size_t i = 0; i < sources.size(); ++i) {
    if (sources[i] < 0) continue;
    Sums& sums = sums_[static_cast<size_t>(sources[i])];
    sums.nll += static_cast<double>(values[i]);
    ++sums.count;
  }
}

at::Tensor gradient_squares(const at::Tensor& gradient, const at::Tensor& positions) {
  GATO_CHECK(gradient.dim() == 2 && gradient.is_contiguous() && gradient.scalar_type() == at::kFloat,
             "the gradient of hidden states must be dense fp32 [N, C]");
  const at::Tensor squares = at::empty({positions.numel()}, at::kDouble);
  const auto* values = gradient.const_data_ptr<float>();
  const auto* position = positions.const_data_ptr<int64_t>();
  auto* square = squares.mutable_data_ptr<double>();
  const int64_t width = gradient.size(1);
  for (int64_t i = 0; i < positions.numel(); ++i) {
    const float* row = values + position[i] * width;
    double sum = 0;
    for (int64_t c = 0; c < width; ++c) sum += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    square[i] = sum;
  }
  return squares;
}

void LabelMeter::add_gradients(const at::Tensor& squares, const std::vector<int32_t>& sources) {
  const auto* square = squares.const_data_ptr<double>();
  for (size_t i = 0; i < sources.size(); ++i) {
    if (sources[i] >= 0) sums_[static_cast<size_t>(sources[i])].gradient += square[i];
  }
}

void LabelMeter::add_up(Communicator& communicator) {
  if (communicator.alone()) return;
  const at::Tensor numbers = at::empty({static_cast<int64_t>(sums_.size()), 3}, at::kDouble);
  auto* number = numbers.mutable_data_ptr<double>();
  for (const Sums& sums : sums_) {
    (*number++ = sums.nll, *number++ = sums.gradient, *number++ = static_cast<double>(sums.count));
  }
  communicator.all_reduce(numbers, "losses by task").wait();
  number = numbers.mutable_data_ptr<double>();
  for (Sums& sums : sums_) {
    (sums.nll = *number++, sums.gradient = *number++, sums.count = static_cast<int64_t>(*number++));
  }
}

void LabelMeter::clear() { sums_.assign(domains_.size(), {}); }

std::map<std::string, double> LabelMeter::means(const std::vector<std::string>& names) const {
  std::map<std::string, Sums> totals;
  for (size_t s = 0; s < names.size(); ++s) {
    if (sums_[s].count == 0) continue;
    totals[names[s]].nll += sums_[s].nll;
    totals[names[s]].count += sums_[s].count;
  }
  std::map<std::string, double> means;
  for (const auto& [name, total] : totals) means[name] = total.nll / static_cast<double>(total.count);
  return means;
}

std::map<std::string, double> LabelMeter::gradient_shares(const std::vector<std::string>& names) const {
  std::map<std::string, double> shares;
  double total = 0;
  for (size_t s = 0; s < names.size(); ++s) {
    if (sums_[s].count == 0) continue;
    shares[names[s]] += sums_[s].gradient;
    total += sums_[s].gradient;
  }
  if (!(total > 0) || !std::isfinite(total)) return {};
  for (auto& [name, share] : shares) share /= total;
  return shares;
}

std::map<std::string, double> LabelMeter::domain_gradient_shares() const { return gradient_shares(domains_); }
std::map<std::string, double> LabelMeter::task_gradient_shares() const { return gradient_shares(tasks_); }

double LabelMeter::mean() const {
  Sums total;
  for (const Sums& sums : sums_) {
    total.nll += sums.nll;
    total.count += sums.count;
  }
  return total.count == 0 ? std::numeric_limits<double>::quiet_NaN() : total.nll / static_cast<double>(total.count);
}

ShareMeter::ShareMeter(const data::RowPlan& plan) {
  for (const auto& source : plan.sources()) tasks_.push_back(source->spec().id);
  clear();
}

void ShareMeter::add(const data::Batch& batch) {
  positions_ += static_cast<int64_t>(batch.ids.size());
  for (size_t i = 0; i < batch.sources.size(); ++i) {
    if (batch.sources[i] < 0) continue;
    Count& count = counts_[static_cast<size_t>(batch.sources[i])];
    ++count.tokens;
    if (batch.loss_weights[i] == 0) continue;
    ++count.labels;
    count.loss += static_cast<double>(batch.loss_weights[i]);
  }
}

void ShareMeter::add_up(Communicator& communicator) {
  if (communicator.alone()) return;
  const at::Tensor numbers = at::empty({static_cast<int64_t>(3 * counts_.size() + 1)}, at::kDouble);
  auto* number = numbers.mutable_data_ptr<double>();
  for (const Count& count : counts_) {
    *number++ = static_cast<double>(count.tokens);
    *number++ = static_cast<double>(count.labels);
    *number++ = count.loss;
  }
  *number = static_cast<double>(positions_);
  communicator.all_reduce(numbers, "shares of tasks").wait();
  number = numbers.mutable_data_ptr<double>();
  for (Count& count : counts_) {
    count.tokens = static_cast<int64_t>(*number++);
    count.labels = static_cast<int64_t>(*number++);
    count.loss = *number++;
  }
  positions_ = static_cast<int64_t>(*number);
}

void ShareMeter::clear() {
  counts_.assign(tasks_.size(), {});
  positions_ = 0;
}

std::map<std::string, ShareMeter::Shares> ShareMeter::shares() const {
  std::map<std::string, Shares> shares;
  Shares total;
  for (size_t s = 0; s < tasks_.size(); ++s) {
    const Count& count = counts_[s];
    if (count.tokens == 0) continue;
    const Shares part{static_cast<double>(count.tokens), static_cast<double>(count.labels), count.loss};
    for (Shares* sum : {&shares[tasks_[s]], &total}) {
      sum->tokens += part.tokens;
      sum->labels += part.labels;
      sum->loss += part.loss;
    }
  }
  for (auto& [task, share] : shares) {
    share.tokens /= total.tokens;
    share.labels /= std::max(1.0, total.labels);
    share.loss = total.loss > 0 ? share.loss / total.loss : 0;
  }
  return shares;
}

double ShareMeter::fill() const {
  int64_t tokens = 0;
  for (const Count& count : counts_) tokens += count.tokens;
  return positions_ == 0 ? 0 : static_cast<double>(tokens) / static_cast<double>(positions_);
}

double Outliers::add(double value) {
  double z = 0;
  if (values_.size() >= kFewest && std::isfinite(value)) {
    double mean = 0, square = 0;
    for (const double v : values_) mean += v;
    mean /= static_cast<double>(values_.size());
    for (const double v : values_) square += (v - mean) * (v - mean);
    const double deviation = std::sqrt(square / static_cast<double>(values_.size() - 1));
    z = deviation > 0 ? (value - mean) / deviation : 0;
  }
  if (std::isfinite(value)) {
    if (values_.size() < kWindow) {
      values_.push_back(value);
    } else {
      values_[next_] = value;
      next_ = (next_ + 1) % kWindow;
    }
  }
  return z;
}

}  // namespace gato::train
