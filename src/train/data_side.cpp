#include <algorithm>
#include <cmath>
#include <limits>

#include "gato/core/log.h"
#include "session.h"

namespace gato::train {

data::OpenedData open_data(const TrainingConfig& config) {
  return data::open_data(config.data, config.tokenizer, static_cast<uint64_t>(config.train.seed));
}

model::ModelShape model_shape(const tokenizer::Vocabulary& vocabulary) {
  return {vocabulary.size(), vocabulary.first_bin(), tokenizer::kNumBins};
}

DomainLosses::DomainLosses(const data::RowPlan& plan) {
  for (const auto& source : plan.sources()) domains_.push_back(source->spec().domain());
  clear();
}

void DomainLosses::add(const at::Tensor& nll, const std::vector<int32_t>& sources) {
  const float* values = nll.const_data_ptr<float>();
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto source = static_cast<size_t>(sources[i]);
    sums_[source] += static_cast<double>(values[i]);
    ++counts_[source];
  }
}

void DomainLosses::clear() {
  sums_.assign(domains_.size(), 0);
  counts_.assign(domains_.size(), 0);
}

std::map<std::string, double> DomainLosses::means() const {
  std::map<std::string, std::pair<double, int64_t>> totals;
  for (size_t s = 0; s < domains_.size(); ++s) {
    if (counts_[s] == 0) continue;
    totals[domains_[s]].first += sums_[s];
    totals[domains_[s]].second += counts_[s];
  }
  std::map<std::string, double> means;
  for (const auto& [domain, total] : totals) means[domain] = total.first / static_cast<double>(total.second);
  return means;
}

double DomainLosses::mean() const {
  double sum = 0;
  int64_t count = 0;
  for (size_t s = 0; s < sums_.size(); ++s) {
    sum += sums_[s];
    count += counts_[s];
  }
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(count);
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

}  // namespace gato::train
