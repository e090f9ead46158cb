#include "gato/train/batch_tensors.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "gato/core/error.h"
#include "gato/tokenizer/sequence.h"

namespace gato::train {
namespace {

/// A tensor that shares memory with the loader's array. Only read, whence the const_cast that from_blob needs.
template <class T>
at::Tensor view_of(const std::vector<T>& array, int64_t first, at::IntArrayRef shape, at::ScalarType dtype) {
  return at::from_blob(const_cast<T*>(array.data() + first), shape, at::TensorOptions().dtype(dtype));
}

template <class T>
at::Tensor copy_of(const std::vector<T>& array, at::ScalarType dtype) {
  return view_of(array, 0, {static_cast<int64_t>(array.size())}, dtype).clone();
}

void select_patches(const data::Batch& batch, int64_t first_token, int64_t end_token, model::ModelInput& input) {
  const auto begin = std::lower_bound(batch.patch_index.begin(), batch.patch_index.end(), first_token);
  const auto end = std::lower_bound(batch.patch_index.begin(), batch.patch_index.end(), end_token);
  const int64_t first = begin - batch.patch_index.begin(), count = end - begin;
  if (count == 0) return;
  input.patch_index = view_of(batch.patch_index, first, {count}, at::kLong);
  if (first_token != 0) input.patch_index = input.patch_index - first_token;
  input.patches = view_of(batch.patches, first * tokenizer::kPatchBytes,
                          {count, tokenizer::kPatchSide, tokenizer::kPatchSide, 3}, at::kByte);
  input.patch_rows = view_of(batch.patch_rows, first, {count}, at::kInt);
  input.patch_columns = view_of(batch.patch_columns, first, {count}, at::kInt);
}

kernels::SequenceBounds bounds_of(const data::Batch& batch, int64_t first_token, int64_t end_token) {
  std::vector<int32_t> boundaries;
  kernels::SequenceBounds bounds;
  const auto close = [&](int64_t place) {
    if (!boundaries.empty()) bounds.longest = std::max<int64_t>(bounds.longest, place - boundaries.back());
    boundaries.push_back(static_cast<int32_t>(place));
  };
  for (int64_t i = first_token; i < end_token; ++i) {
    if (batch.sequence_starts[static_cast<size_t>(i)] == i % batch.row_tokens) close(i - first_token);
  }
  close(end_token - first_token);
  bounds.boundaries = copy_of(boundaries, at::kInt);
  return bounds;
}

int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

/// Adds `extra` places that carry no loss yet.
void pad_loss(BatchTensors& tensors, int64_t extra) {
  const model::LossInput from = tensors.loss;
  const std::vector<int32_t> sources = std::move(tensors.loss_sources);
  const int64_t count = from.positions.numel();
  const auto total = static_cast<size_t>(count + extra);
  std::vector<int64_t> positions, targets;
  std::vector<float> weights;
  tensors.loss_sources.clear();
  for (int64_t place = 0, next = 0; positions.size() < total; ++place) {
    const bool used = next < count && from.positions.const_data_ptr<int64_t>()[next] == place;
    if (!used && extra == 0) continue;
    positions.push_back(place);
    targets.push_back(used ? from.targets.const_data_ptr<int64_t>()[next] : 0);
    weights.push_back(used ? from.weights.const_data_ptr<float>()[next] : 0.0f);
    tensors.loss_sources.push_back(used ? sources[static_cast<size_t>(next)] : -1);
    used ? ++next : --extra;
  }
  tensors.loss = {copy_of(positions, at::kLong), copy_of(targets, at::kLong), copy_of(weights, at::kFloat)};
}

void pad_bounds(kernels::SequenceBounds& bounds, int64_t row_tokens) {
  const int64_t count = bounds.boundaries.numel(), extra = round_up(count, kBoundaryStep) - count;
  bounds.boundaries = at::cat({bounds.boundaries, bounds.boundaries.slice(0, count - 1).expand({extra})});
  bounds.longest = row_tokens;
}

}  // namespace

BatchTensors pad_sizes(BatchTensors tensors) {
  const int64_t count = tensors.loss.positions.numel();
  if (count == 0) return tensors;
  pad_loss(tensors, std::min(round_up(count, kLossStep), tensors.input.ids.numel()) - count);
  if (tensors.input.bounds.defined()) pad_bounds(tensors.input.bounds, tensors.input.ids.size(1));
  return tensors;
}

BatchTensors to_device(BatchTensors tensors, at::Device device) {
  if (!device.is_cpu()) {
    for_each_tensor(tensors, [&](at::Tensor& x) {
      if (x.defined()) x = x.to(device);
    });
  }
  return tensors;
}

BatchTensors batch_tensors(const data::Batch& batch, int64_t first, int64_t count) {
  GATO_CHECK(first >= 0 && count >= 1 && first + count <= batch.rows, "rows ", first, " + ", count, " of ", batch.rows);
  const int64_t row_tokens = batch.row_tokens;
  const int64_t first_token = first * row_tokens, end_token = (first + count) * row_tokens;
  BatchTensors tensors;
  tensors.input.ids = view_of(batch.ids, first_token, {count, row_tokens}, at::kInt);
  tensors.input.sequence_starts = view_of(batch.sequence_starts, first_token, {count, row_tokens}, at::kInt);
  tensors.input.local_positions = view_of(batch.local_positions, first_token, {count, row_tokens}, at::kInt);
  select_patches(batch, first_token, end_token, tensors.input);
  tensors.input.bounds = bounds_of(batch, first_token, end_token);

  std::vector<int64_t> positions, targets;
  std::vector<float> weights;
  for (int64_t i = first_token; i < end_token; ++i) {
    const auto token = static_cast<size_t>(i);
    if (batch.loss_weights[token] == 0) continue;
    positions.push_back(i - 1 - first_token);  // never the first of a row: a sequence's first token has no loss
    targets.push_back(batch.targets[token]);
    weights.push_back(batch.loss_weights[token]);
    tensors.loss_sources.push_back(batch.sources[token]);
    tensors.weight_sum += static_cast<double>(batch.loss_weights[token]);
  }
  tensors.loss = {copy_of(positions, at::kLong), copy_of(targets, at::kLong), copy_of(weights, at::kFloat)};
  return tensors;
}

}  // namespace gato::train
