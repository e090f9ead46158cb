#include "step_input.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "gato/core/profile.h"

namespace gato::train {

InputPreparer::InputPreparer(at::Device device, const TrainingConfig& config, int64_t processes)
    : device_(device), micro_rows_(micro_rows(config.train, processes)), padded_(config.train.cuda_graph) {
  if (!device.is_cpu()) stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

StepInput InputPreparer::prepare(data::Batch batch) const {
  const profile::Scope scope("tensors of the batch");
  StepInput input;
  input.batch = std::move(batch);
  for (int64_t first = 0; first < input.batch.rows; first += micro_rows_) {
    BatchTensors tensors = batch_tensors(input.batch, first, std::min(micro_rows_, input.batch.rows - first));
    input.micro.push_back({input.batch.first_row + first, padded_ ? pad_sizes(std::move(tensors)) : tensors});
  }
  if (stream_) copy_ahead(input);
  return input;
}

void InputPreparer::copy_ahead(StepInput& input) const {
  const c10::StreamGuard guard(*stream_);
  for (StepInput::MicroBatch& micro : input.micro) {
    const auto copy = [&](at::Tensor& x) {
      if (!x.defined()) return;
      input.host.push_back(x.pin_memory());
      x = input.host.back().to(device_, x.scalar_type(), /*non_blocking=*/true);
    };
    for_each_tensor(micro.tensors, copy);
  }
  input.ready.emplace(device_.type());
  input.ready->record(*stream_);
}

void InputPreparer::wait_for(const StepInput& input) const {
  if (!input.ready) return;
  const c10::Stream current = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
  input.ready->block(current);
  // Their memory came from the other stream: it must not be given out again before this one is done with it.
  for (const StepInput::MicroBatch& micro : input.micro) {
    for_each_tensor(micro.tensors, [&](const at::Tensor& x) {
      if (x.defined()) x.record_stream(current);
    });
  }
}

}  // namespace gato::train
