#include "shared_parameters.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "gato/core/error.h"
#include "gato/core/profile.h"

namespace gato::train {
namespace {

at::Tensor part_of(const at::Tensor& flat, int64_t offset, int64_t size) {
  return flat.slice(0, offset, offset + size);
}

}  // namespace

model::BucketLayout bucket_layout(int64_t parameters, int64_t size, double bucket_mib) {
  constexpr int64_t kBuckets = 12, kSmallest = int64_t{1} << 18, kPerProcess = int64_t{1} << 18;
  model::BucketLayout layout;
  layout.parts = std::max<int64_t>(1, size);
  if (bucket_mib > 0) {
    layout.elements = std::max<int64_t>(1, std::llround(bucket_mib * (1 << 18)));
    return layout;
  }
  // Several, so that the first are on their way while backward is at work. But a ring passes every process, so that its
  // latency grows with their number: then a bucket carries more, however few there are (docs/scaling.md).
  layout.elements = std::clamp(parameters / kBuckets, kSmallest, model::kBucketElements);
  if (size * kPerProcess > model::kBucketElements) layout.elements = size * kPerProcess;
  return layout;
}

model::BucketLayout bucket_layout(int64_t parameters, const Communicator& processes, const TrainingConfig& config) {
  model::BucketLayout layout = bucket_layout(parameters, processes.size(), config.comm.bucket_mib);
  layout.own = processes.rank();
  layout.divide_masters = config.train.shard_optimizer && !processes.alone();
  return layout;
}

SharedParameters::SharedParameters(std::shared_ptr<Communicator> communicator, model::ParameterStore& store,
                                   bool sharded)
    : communicator_(std::move(communicator)), store_(store), sharded_(sharded && !communicator_->alone()) {
  const int64_t size = communicator_->size();
  int64_t local = 0;
  for (const model::Bucket& bucket : store.buckets()) {
    Exchange exchange;
    exchange.bucket = bucket;
    if (sharded_) {
      GATO_CHECK(bucket.size % size == 0, "a bucket of ", bucket.size, " elements does not divide by ", size);
      const int64_t part = bucket.size / size;
      exchange.own = {bucket.offset + communicator_->rank() * part, part, local};
      local += part;
      parts_.push_back(exchange.own);
    }
    exchanges_.push_back(std::move(exchange));
  }
  GATO_CHECK(sharded_ || !store.has_divided_masters(), "masters are divided, but not the optimizer");
  if (!sharded_) parts_.push_back({0, store.num_elements(), 0});
}

int64_t SharedParameters::own_elements() const { return parts_.back().local + parts_.back().size; }

OptimizerState SharedParameters::make_optimizer() const {
  const auto moment = [&] { return at::zeros({own_elements()}, store_.values().options()); };
  OptimizerState state{moment(), moment(), {}};
  if (!sharded_) return state;
  for (const OwnPart& part : parts_) state.ranges.push_back({part.offset, part.offset + part.size});
  return state;
}

at::Tensor SharedParameters::masters_of(const OwnPart& part) const {
  return store_.has_divided_masters() ? part_of(store_.masters(), part.local, part.size)
                                      : part_of(store_.values(), part.offset, part.size);
}

std::vector<at::Tensor> SharedParameters::replicas() const {
  if (store_.has_divided_masters()) return {store_.values(), store_.compute()};
  return {store_.values()};
}

bool SharedParameters::is_shared_in_bf16(const model::Bucket& bucket) const {
  return bucket.offset < store_.first_value();
}

/// fp32 values of a bucket that is shared in fp32.
at::Tensor SharedParameters::values_of(const model::Bucket& bucket) const {
  return part_of(store_.values(), bucket.offset - store_.first_value(), bucket.size);
}

void SharedParameters::gather_masters(const at::Tensor& whole) {
  const bool wanted = whole.defined();
  GATO_CHECK(!wanted || whole.numel() == store_.num_elements(), "parameters of ", store_.num_elements(), " elements");
  const profile::Scope scope("gathering parameters");
  for (const Exchange& exchange : exchanges_) {
    const model::Bucket& bucket = exchange.bucket;
    at::Tensor values;
    if (is_shared_in_bf16(bucket)) {
      values = at::empty({bucket.size}, store_.masters().options());
      communicator_->all_gather(values, masters_of(exchange.own), "parameters in fp32").finish();
    } else {
      values = values_of(bucket);
    }
    if (wanted) part_of(whole, bucket.offset, bucket.size).copy_(values);
  }
}

void SharedParameters::start(Exchange& exchange) {
  const at::Tensor bucket = part_of(store_.gradients(), exchange.bucket.offset, exchange.bucket.size);
  const std::string name = cat("gradients of bucket ", &exchange - exchanges_.data());
  if (!sharded_) {
    exchange.work = communicator_->all_reduce(bucket, name);
    return;
  }
  const at::Tensor own = part_of(store_.gradients(), exchange.own.offset, exchange.own.size);
  exchange.work = communicator_->reduce_scatter(own, bucket, name);
}

void SharedParameters::after_gradients(int64_t end) {
  if (communicator_->alone() || !is_last_) return;
  while (started_ < exchanges_.size()) {
    Exchange& next = exchanges_[started_];
    if (next.bucket.offset + next.bucket.size > end) return;
    ++started_;
    start(next);
  }
}

void SharedParameters::start_gradients() {
  before_values(0);  // where there was no forward
  last_backward();
  after_gradients(store_.gradients().numel());
}

void SharedParameters::finish_gradients() {
  if (communicator_->alone()) return;
  const profile::Scope scope("sum of gradients");
  start_gradients();
  for (Exchange& exchange : exchanges_) exchange.work.wait();
  if (!exchanges_.empty()) last_gradients_ = std::move(exchanges_.back().work);
  is_last_ = false;
  started_ = 0;
}

void SharedParameters::finish_values() {
  before_values(0);
  for (Exchange& exchange : exchanges_) exchange.work.finish();
}

void SharedParameters::share_values() {
  if (!sharded_) return;
  // Forward reads from the end of the buffers.
  for (size_t i = exchanges_.size(); i-- > 0;) {
    Exchange& exchange = exchanges_[i];
    const model::Bucket& bucket = exchange.bucket;
    const bool narrow = is_shared_in_bf16(bucket);
    const at::Tensor all = narrow ? part_of(store_.compute(), bucket.offset, bucket.size) : values_of(bucket);
    const at::Tensor own = part_of(all, exchange.own.offset - bucket.offset, exchange.own.size);
    if (store_.has_divided_masters() && !narrow) own.copy_(masters_of(exchange.own));
    exchange.work = communicator_->all_gather(all, own, cat("values of bucket ", i));
  }
  values_there_ = exchanges_.size();
}

void SharedParameters::before_values(int64_t first) {
  while (values_there_ > 0) {
    Exchange& next = exchanges_[values_there_ - 1];
    if (next.bucket.offset + next.bucket.size <= first) return;
    --values_there_;
    next.work.wait();
    round_for_compute(next.bucket);
  }
}

void SharedParameters::round_for_compute(const model::Bucket& bucket) {
  if (!store_.compute().defined() || is_shared_in_bf16(bucket)) return;
  kernels::round_to_bf16(values_of(bucket), part_of(store_.compute(), bucket.offset, bucket.size));
}

}  // namespace gato::train
