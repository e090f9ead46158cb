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
  constexpr int64_t kBuckets = 12, kSmallest = int64_t{1} << 18;
  model::BucketLayout layout;
  layout.parts = std::max<int64_t>(1, size);
  if (bucket_mib > 0) {
    layout.elements = std::max<int64_t>(1, std::llround(bucket_mib * (1 << 18)));
  } else {
    layout.elements = std::clamp(parameters / kBuckets, kSmallest, model::kBucketElements);
  }
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
  if (!sharded_) parts_.push_back({0, store.values().numel(), 0});
}

int64_t SharedParameters::own_elements() const { return parts_.back().local + parts_.back().size; }

OptimizerState SharedParameters::make_optimizer() const {
  const auto moment = [&] { return at::zeros({own_elements()}, store_.values().options()); };
  OptimizerState state{moment(), moment(), {}};
  if (!sharded_) return state;
  for (const OwnPart& part : parts_) state.ranges.push_back({part.offset, part.offset + part.size});
  return state;
}

at::Tensor SharedParameters::own_of(const at::Tensor& flat, const Exchange& exchange) const {
  return part_of(flat, exchange.own.offset, exchange.own.size);
}

void SharedParameters::start(Exchange& exchange) {
  const at::Tensor bucket = part_of(store_.gradients(), exchange.bucket.offset, exchange.bucket.size);
  const std::string name = cat("gradients of bucket ", &exchange - exchanges_.data());
  exchange.work = sharded_ ? communicator_->reduce_scatter(own_of(store_.gradients(), exchange), bucket, name)
                           : communicator_->all_reduce(bucket, name);
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
  finish_values();  // where there was no forward
  last_backward();
  after_gradients(store_.gradients().numel());
}

void SharedParameters::finish_gradients() {
  if (communicator_->alone()) return;
  const profile::Scope scope("sum of gradients");
  start_gradients();
  for (Exchange& exchange : exchanges_) exchange.work.wait();
  is_last_ = false;
  started_ = 0;
}

void SharedParameters::share_values() {
  if (!sharded_) return;
  // Forward reads from the end of the buffers.
  for (size_t i = exchanges_.size(); i-- > 0;) {
    Exchange& exchange = exchanges_[i];
    const at::Tensor bucket = part_of(store_.values(), exchange.bucket.offset, exchange.bucket.size);
    exchange.work = communicator_->all_gather(bucket, own_of(store_.values(), exchange), cat("values of bucket ", i));
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
  if (!store_.compute().defined()) return;
  kernels::round_to_bf16(part_of(store_.values(), bucket.offset, bucket.size),
                         part_of(store_.compute(), bucket.offset, bucket.size));
}

}  // namespace gato::train
