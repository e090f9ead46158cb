#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "gato/data/batch.h"
#include "gato/train/communicator.h"

/// What the metrics say of a stretch of training, by task and by domain.
namespace gato::train {

/// Squared lengths, double [P], of rows `positions` (int64 [P]) of `gradient` (dense fp32 [N, C]).
[[nodiscard]] at::Tensor gradient_squares(const at::Tensor& gradient, const at::Tensor& positions);

/// Losses of labels, and what each label pulls at the model.
class LabelMeter {
 public:
  explicit LabelMeter(const data::RowPlan& plan);
  /// `nll`: fp32 [P]; `sources`: source of every position, negative where it is none (BatchTensors).
  void add(const at::Tensor& nll, const std::vector<int32_t>& sources);
  /// `squares`: double [P], squared lengths of the loss's gradient with respect to the hidden state of every position.
  void add_gradients(const at::Tensor& squares, const std::vector<int32_t>& sources);
  /// Takes in what the meters of the other processes were told, whose data are the same.
  void add_up(Communicator& communicator);
  void clear();
  /// Mean nll in nats per label, of the domains (tasks) that had labels.
  [[nodiscard]] std::map<std::string, double> domain_means() const { return means(domains_); }
  [[nodiscard]] std::map<std::string, double> task_means() const { return means(tasks_); }
  /// Shares of the summed squared gradients at the hidden states; empty when none were added.
  [[nodiscard]] std::map<std::string, double> domain_gradient_shares() const;
  [[nodiscard]] std::map<std::string, double> task_gradient_shares() const;
  [[nodiscard]] double mean() const;  ///< Over all labels; NaN when there were none.

 private:
  struct Sums {
    double nll = 0, gradient = 0;
    int64_t count = 0;
  };
  [[nodiscard]] std::map<std::string, double> means(const std::vector<std::string>& names) const;
  [[nodiscard]] std::map<std::string, double> gradient_shares(const std::vector<std::string>& names) const;

  std::vector<std::string> domains_, tasks_;  // by source
  std::vector<Sums> sums_;
};

/// What rows were made of, by task: shares of tokens, of labels and of summed loss weights.
class ShareMeter {
 public:
  explicit ShareMeter(const data::RowPlan& plan);
  void add(const data::Batch& batch);
  void add_up(Communicator& communicator);  ///< As LabelMeter's.
  void clear();
  struct Shares {
    double tokens = 0, labels = 0, loss = 0;  ///< Each sums to 1 over the tasks.
  };
  [[nodiscard]] std::map<std::string, Shares> shares() const;  ///< By task id, of tasks that had a token.
  [[nodiscard]] double fill() const;                           ///< Share of positions that are not padding.

 private:
  struct Count {
    int64_t tokens = 0, labels = 0;
    double loss = 0;
  };
  std::vector<std::string> tasks_;  // by source
  std::vector<Count> counts_;
  int64_t positions_ = 0;
};

/// How far a value is from what it was lately, in standard deviations of the last `kWindow` values.
class Outliers {
 public:
  static constexpr size_t kWindow = 128;
  static constexpr size_t kFewest = 16;  ///< Values before the first verdict.
  /// z of `value` against the values before it (0 until there are kFewest, and for a non-finite one), then takes it in.
  double add(double value);

 private:
  std::vector<double> values_;
  size_t next_ = 0;
};

}  // namespace gato::train
