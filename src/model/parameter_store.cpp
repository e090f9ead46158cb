#include "gato/model/parameter_store.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "gato/core/text.h"

namespace gato::model {
namespace {

int64_t rounded_up(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

/// A view that shares memory but neither graph nor version counter: slices would share the counter of the whole buffer,
/// and any update in place would break a recorded backward.
/// `flat` begins with element `first` of the buffers.
at::Tensor view_of(const at::Tensor& flat, const Segment& segment, int64_t first = 0) {
  if (!flat.defined()) return {};
  const int64_t begin = segment.offset - first;
  return flat.slice(0, begin, begin + segment.size).view(segment.shape).variable_data();
}

/// "blocks.3.attention.qkv.weight" is part of "attention.qkv", as of all other blocks.
std::string profile_name(const Segment& segment) {
  std::vector<std::string> words = split(segment.name, '.');
  if (words.size() > 2 && words[0] == "blocks") words.erase(words.begin(), words.begin() + 2);
  if (words.size() > 1 && words.back() == "weight") words.pop_back();
  return join(words, ".");
}

std::span<std::byte> bytes_of(const at::Tensor& flat, const Segment& segment) {
  auto* begin = flat.mutable_data_ptr<float>() + segment.offset;
  return std::as_writable_bytes(std::span<float>(begin, static_cast<size_t>(segment.size)));
}

/// At most `most` problems, one a line, and how many more there are.
std::string list_problems(const std::vector<std::string>& problems, size_t most = 12) {
  std::string text;
  for (size_t i = 0; i < std::min(most, problems.size()); ++i) text += "\n  " + problems[i];
  if (problems.size() > most) text += cat("\n  and ", problems.size() - most, " more");
  return text;
}

std::string describe(const std::vector<int64_t>& shape) {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(cat(size));
  return "[" + join(sizes, ", ") + "]";
}

/// Everything in which the tensors of the file whose names start with `prefix` differ from the store's.
std::vector<std::string> find_problems(const ParameterStore& store, const std::string& prefix,
                                       const checkpoint::SafetensorsReader& reader) {
  std::vector<std::string> problems;
  for (const Segment& segment : store.segments()) {
    const std::string name = prefix + segment.name;
    if (!reader.has(name)) {
      problems.push_back(cat("missing: ", name, " ", describe(segment.shape)));
      continue;
    }
    const checkpoint::TensorInfo& info = reader.info(name);
    if (info.shape != segment.shape) {
      problems.push_back(cat(name, " has shape ", describe(info.shape), ", the model needs ", describe(segment.shape)));
    } else if (info.dtype != checkpoint::Dtype::kF32) {
      problems.push_back(cat(name, " is of type ", info.dtype_name, ", the model needs F32"));
    }
  }
  for (const checkpoint::TensorInfo& info : reader.tensors()) {
    if (info.name.compare(0, prefix.size(), prefix) == 0 && store.find(info.name.substr(prefix.size())) == nullptr) {
      problems.push_back(cat("unexpected: ", info.name, " ", describe(info.shape)));
    }
  }
  return problems;
}

void check_fit(const ParameterStore& store, const std::string& prefix, const checkpoint::SafetensorsReader& reader) {
  const std::vector<std::string> problems = find_problems(store, prefix, reader);
  if (problems.empty()) return;
  throw CheckpointError(
      cat(reader.path().string(), " does not fit the model (", problems.size(),
          " differences); load it with the configuration it was trained with:", list_problems(problems)));
}

void check_flat(const ParameterStore& store, const at::Tensor& flat) {
  GATO_CHECK(flat.defined() && flat.dim() == 1 && flat.numel() == store.num_elements() &&
                 flat.scalar_type() == at::kFloat && flat.is_contiguous(),
             "the buffer must be laid out like the store's: dense fp32 of ", store.num_elements(), " elements");
}

}  // namespace

ParameterStore::ParameterStore(std::vector<Declaration> declarations, bool with_gradients, bool with_compute,
                               at::Device device, const BucketLayout& layout)
    : layout_(layout) {
  GATO_CHECK(layout.elements > 0 && layout.parts > 0 && layout.own >= 0 && layout.own < layout.parts, "buckets of ",
             layout.elements, " elements in ", layout.parts, " parts, of which ", layout.own, " is the own one");
  layout_.divide_masters = layout.divide_masters && with_compute;
  if (layout_.divide_masters) {
    std::stable_partition(declarations.begin(), declarations.end(), [](const auto& d) { return d.only_products; });
  }
  const int64_t unit = std::lcm(kSegmentAlignment, layout.parts);
  const size_t count = declarations.size();
  int64_t offset = 0;
  for (Declaration& declaration : declarations) {
    Segment segment{std::move(declaration.name), std::move(declaration.shape), 0, 1, declaration.decay, true,
                    declaration.only_products};
    for (const int64_t size : segment.shape) segment.size *= size;
    GATO_CHECK(segment.size >= 0, "parameter ", segment.name, " has a negative size");
    GATO_CHECK(index_.emplace(segment.name, segments_.size()).second, "two parameters are named ", segment.name);
    const auto number = static_cast<int64_t>(segments_.size());
    const bool full = !buckets_.empty() && buckets_.back().size >= layout.elements && segment.size > 0;
    const bool other_kind =
        layout_.divide_masters && !segments_.empty() && segments_.back().only_products != segment.only_products;
    const bool last_alone = !layout_.divide_masters && segments_.size() + 1 == count;
    if (buckets_.empty() || full || other_kind || last_alone) {
      offset = rounded_up(offset, unit);
      if (!buckets_.empty()) buckets_.back().size = offset - buckets_.back().offset;
      buckets_.push_back({offset, 0, number, number});
    }
    segment.offset = offset;
    offset += rounded_up(segment.size, kSegmentAlignment);
    buckets_.back().size = offset - buckets_.back().offset;
    buckets_.back().end_segment = number + 1;
    segments_.push_back(std::move(segment));
  }
  offset = rounded_up(offset, unit);
  if (!buckets_.empty()) buckets_.back().size = offset - buckets_.back().offset;
  num_elements_ = offset;
  const auto options = at::TensorOptions().device(device);
  values_ = at::zeros({offset}, options.dtype(at::kFloat));
  if (with_gradients) gradients_ = at::zeros({offset}, options.dtype(at::kFloat));
  if (with_compute) compute_ = at::zeros({offset}, options.dtype(at::kBFloat16));
}

const Segment* ParameterStore::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &segments_[found->second];
}

int64_t ParameterStore::num_parameters() const {
  int64_t count = 0;
  for (const Segment& segment : segments_) count += segment.size;
  return count;
}

void ParameterStore::zero_gradients() {
  GATO_CHECK(gradients_.defined(), "the store was made without gradients");
  gradients_.zero_();
}

void ParameterStore::values_changed() {
  GATO_CHECK(!has_divided_masters(), "no process has all fp32 values");
  if (compute_.defined()) kernels::round_to_bf16(values_, compute_);
}

std::vector<FlatRange> ParameterStore::own_ranges() const {
  std::vector<FlatRange> ranges;
  for (const Bucket& bucket : buckets_) {
    const int64_t part = bucket.size / layout_.parts, begin = bucket.offset + layout_.own * part;
    ranges.push_back({begin, begin + part});
  }
  return ranges;
}

void ParameterStore::divide_masters() {
  if (!layout_.divide_masters || has_divided_masters()) return;
  std::vector<at::Tensor> own;
  for (const FlatRange& range : own_ranges()) own.push_back(values_.slice(0, range.begin, range.end));
  masters_ = at::cat(own);
  const auto is_whole = [](const Segment& segment) { return !segment.only_products; };
  const auto first = std::find_if(segments_.begin(), segments_.end(), is_whole);
  values_ = values_.slice(0, first == segments_.end() ? num_elements_ : first->offset).clone();
}

void ParameterStore::assign(const Segment& segment, const at::Tensor& host) {
  GATO_CHECK(host.is_cpu() && host.is_contiguous() && host.scalar_type() == at::kFloat && host.numel() == segment.size,
             "values of ", segment.name, " must be dense fp32 on the CPU, ", segment.size, " elements");
  const at::Tensor values = host.view({-1}).to(device());
  const int64_t begin = segment.offset, end = segment.offset + segment.size, first = first_value();
  if (begin >= first) values_.slice(0, begin - first, end - first).copy_(values);
  if (compute_.defined()) kernels::round_to_bf16(values, compute_.slice(0, begin, end));
  if (!has_divided_masters()) return;
  int64_t local = 0;  // of a range in masters()
  for (const FlatRange& range : own_ranges()) {
    const int64_t from = std::max(begin, range.begin), to = std::min(end, range.end);
    if (from < to) {
      masters_.slice(0, local + from - range.begin, local + to - range.begin)
          .copy_(values.slice(0, from - begin, to - begin));
    }
    local += range.end - range.begin;
  }
}

void ParameterStore::update(const at::Tensor& first_moment, const at::Tensor& second_moment,
                            std::span<const kernels::UpdateSpan> spans, const kernels::AdamWStep& step) {
  GATO_CHECK(gradients_.defined() && !has_divided_masters(), "the store has no gradients, or parts of the masters");
  kernels::adamw_step(values_, gradients_, first_moment, second_moment, spans, step, compute_);
}

void ParameterStore::update(const at::Tensor& first_moment, const at::Tensor& second_moment,
                            std::span<const kernels::UpdateSpan> spans, const kernels::AdamWSettings& settings,
                            const kernels::StepNumbers& numbers) {
  GATO_CHECK(gradients_.defined() && !has_divided_masters(), "the store has no gradients, or parts of the masters");
  kernels::adamw_update(values_, gradients_, first_moment, second_moment, spans, settings, numbers, compute_);
}

kernels::Parameter ParameterStore::parameter(std::string_view name) const {
  const Segment* segment = find(name);
  GATO_CHECK(segment != nullptr, "there is no parameter named ", name);
  const int64_t first = first_value();
  const bool whole = segment->offset >= first;
  return {whole ? view_of(values_, *segment, first) : at::Tensor(),
          segment->trainable ? view_of(gradients_, *segment) : at::Tensor(), view_of(compute_, *segment),
          profile::intern(profile_name(*segment))};
}

std::vector<checkpoint::TensorView> ParameterStore::export_tensors() const { return export_flat(*this, values_, ""); }

void ParameterStore::import_tensors(const checkpoint::SafetensorsReader& reader) {
  if (!has_divided_masters()) {
    import_flat(*this, values_, "", reader);
    return values_changed();
  }
  check_fit(*this, "", reader);
  for (const Segment& segment : segments_) {
    const at::Tensor host = at::empty({segment.size}, at::kFloat);
    auto* data = host.mutable_data_ptr<float>();
    reader.read(segment.name, std::as_writable_bytes(std::span<float>(data, static_cast<size_t>(segment.size))));
    assign(segment, host);
  }
}

std::vector<checkpoint::TensorView> export_flat(const ParameterStore& store, const at::Tensor& flat,
                                                const std::string& prefix) {
  check_flat(store, flat);
  GATO_CHECK(flat.is_cpu(), "tensors of a file must be in the CPU's memory, the buffer is on ", flat.device().str());
  std::vector<checkpoint::TensorView> views;
  for (const Segment& segment : store.segments()) {
    views.push_back({prefix + segment.name, checkpoint::Dtype::kF32, segment.shape, bytes_of(flat, segment)});
  }
  return views;
}

void import_flat(const ParameterStore& store, const at::Tensor& flat, const std::string& prefix,
                 const checkpoint::SafetensorsReader& reader) {
  check_flat(store, flat);
  check_fit(store, prefix, reader);
  const at::Tensor host = flat.is_cpu() ? flat : at::zeros(flat.sizes(), at::kFloat);
  for (const Segment& segment : store.segments()) reader.read(prefix + segment.name, bytes_of(host, segment));
  if (!flat.is_cpu()) flat.copy_(host);
}

}  // namespace gato::model
