#include "slices.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

namespace gato::train {
namespace {

using checkpoint::SafetensorsReader;
using checkpoint::TensorInfo;
using model::Segment;

/// A stretch of a parameter in a file.
struct Slice {
  int64_t begin = 0, end = 0;  // elements of the parameter
  const SafetensorsReader* reader = nullptr;
  const TensorInfo* tensor = nullptr;
};

/// "name[begin:end]" taken apart; a name alone has no range.
struct SliceName {
  std::string parameter;
  std::optional<FlatRange> range;
};

SliceName parse_name(const std::string& name) {
  const size_t open = name.rfind('[');
  if (open == std::string::npos || name.back() != ']') return {name, std::nullopt};
  FlatRange range;
  const char* const last = name.data() + name.size() - 1;
  const auto begin = std::from_chars(name.data() + open + 1, last, range.begin);
  if (begin.ec != std::errc() || begin.ptr == last || *begin.ptr != ':') return {name, std::nullopt};
  const auto end = std::from_chars(begin.ptr + 1, last, range.end);
  if (end.ec != std::errc() || end.ptr != last) return {name, std::nullopt};
  return {name.substr(0, open), range};
}

std::string describe(const std::vector<int64_t>& shape) {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(cat(size));
  return "[" + join(sizes, ", ") + "]";
}

/// What the files hold of every parameter, checked against the store.
class SliceTable {
 public:
  SliceTable(const model::ParameterStore& store, const std::string& prefix,
             std::span<const SafetensorsReader> readers) {
    for (const SafetensorsReader& reader : readers) {
      for (const TensorInfo& tensor : reader.tensors()) add(store, prefix, reader, tensor);
    }
    for (const Segment& segment : store.segments()) check_cover(segment);
    if (problems_.empty()) return;
    const std::string where = readers.empty() ? cat("no file has ", prefix, "*") : readers.front().path().string();
    constexpr size_t kMost = 12;
    const size_t shown = std::min(kMost, problems_.size());
    throw CheckpointError(cat(where, " and its like do not fit the model (", problems_.size(),
                              " differences); load them with the configuration they were trained with:\n  ",
                              join({problems_.begin(), problems_.begin() + static_cast<std::ptrdiff_t>(shown)}, "\n  "),
                              problems_.size() > kMost ? cat("\n  and ", problems_.size() - kMost, " more") : ""));
  }

  /// Slices of a parameter by rising begin.
  [[nodiscard]] const std::vector<Slice>& of(const Segment& segment) const { return slices_.at(segment.name); }

 private:
  void add(const model::ParameterStore& store, const std::string& prefix, const SafetensorsReader& reader,
           const TensorInfo& tensor) {
    const SliceName name = parse_name(tensor.name);
    const bool prefixed = name.parameter.starts_with(prefix);
    const Segment* segment = prefixed ? store.find(name.parameter.substr(prefix.size())) : nullptr;
    if (segment == nullptr) {
      problems_.push_back(cat("unexpected: ", tensor.name, " ", describe(tensor.shape)));
      return;
    }
    const FlatRange range = name.range.value_or(FlatRange{0, segment->size});
    const auto needed = name.range ? std::vector<int64_t>{range.end - range.begin} : segment->shape;
    if (range.begin < 0 || range.begin > range.end || range.end > segment->size || tensor.shape != needed) {
      problems_.push_back(
          cat(tensor.name, " has shape ", describe(tensor.shape), ", the model needs ", describe(segment->shape)));
    } else if (tensor.dtype != checkpoint::Dtype::kF32) {
      problems_.push_back(cat(tensor.name, " is of type ", tensor.dtype_name, ", the model needs F32"));
    }
    slices_[segment->name].push_back({range.begin, range.end, &reader, &tensor});
  }

  void check_cover(const Segment& segment) {
    std::vector<Slice>& slices = slices_[segment.name];
    std::sort(slices.begin(), slices.end(),
              [](const Slice& a, const Slice& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    if (slices.empty() && segment.size > 0) {
      problems_.push_back(cat("missing: ", segment.name, " ", describe(segment.shape)));
      return;
    }
    int64_t covered = 0;
    const auto continues = [&](const Slice& slice) { return slice.begin == std::exchange(covered, slice.end); };
    if (std::all_of(slices.begin(), slices.end(), continues) && covered == segment.size) return;
    problems_.push_back(cat("not there exactly once: the elements of ", segment.name, " ", describe(segment.shape)));
  }

  std::map<std::string, std::vector<Slice>> slices_;
  std::vector<std::string> problems_;
};

/// Calls use(segment, first element of it, number of elements, offset in the buffer of the ranges) for every stretch of
/// a parameter in `ranges`.
template <class Use>
void for_each_stretch(const model::ParameterStore& store, const std::vector<FlatRange>& ranges, const Use& use) {
  int64_t start = 0;  // of the range in the buffer
  for (const FlatRange& range : ranges) {
    const auto& segments = store.segments();
    auto segment = std::upper_bound(segments.begin(), segments.end(), range.begin,
                                    [](int64_t at, const Segment& s) { return at < s.offset + s.size; });
    for (; segment != segments.end() && segment->offset < range.end; ++segment) {
      const int64_t begin = std::max(range.begin, segment->offset);
      const int64_t end = std::min(range.end, segment->offset + segment->size);
      if (begin < end) use(*segment, begin - segment->offset, end - begin, start + begin - range.begin);
    }
    start += range.end - range.begin;
  }
}

int64_t num_elements(const std::vector<FlatRange>& ranges) {
  int64_t count = 0;
  for (const FlatRange& range : ranges) {
    GATO_CHECK(0 <= range.begin && range.begin <= range.end, "a range of elements ", range.begin, " to ", range.end);
    count += range.end - range.begin;
  }
  return count;
}

void check_buffer(const at::Tensor& flat, int64_t elements) {
  GATO_CHECK(flat.defined() && flat.numel() == elements && flat.scalar_type() == at::kFloat && flat.is_contiguous(),
             "the buffer must be dense fp32 of ", elements, " elements");
}

}  // namespace

std::vector<checkpoint::TensorView> export_slices(const model::ParameterStore& store, const at::Tensor& flat,
                                                  const std::vector<FlatRange>& ranges, const std::string& prefix) {
  check_buffer(flat, num_elements(ranges));
  GATO_CHECK(flat.is_cpu(), "tensors of a file must be in the CPU's memory");
  const auto* elements = reinterpret_cast<const std::byte*>(flat.const_data_ptr());
  std::vector<checkpoint::TensorView> views;
  for_each_stretch(store, ranges, [&](const Segment& segment, int64_t first, int64_t count, int64_t at) {
    views.push_back(
        {cat(prefix, segment.name, "[", first, ":", first + count, "]"),
         checkpoint::Dtype::kF32,
         {count},
         {elements + at * static_cast<int64_t>(sizeof(float)), static_cast<size_t>(count) * sizeof(float)}});
  });
  return views;
}

void import_slices(const model::ParameterStore& store, const at::Tensor& flat, const std::vector<FlatRange>& ranges,
                   const std::string& prefix, std::span<const SafetensorsReader> readers) {
  const std::vector<FlatRange> wanted = ranges.empty() ? std::vector<FlatRange>{{0, store.num_elements()}} : ranges;
  check_buffer(flat, num_elements(wanted));
  const SliceTable table(store, prefix, readers);
  const at::Tensor host = flat.is_cpu() ? flat : at::empty(flat.sizes(), at::kFloat);
  host.zero_();
  auto* elements = reinterpret_cast<std::byte*>(host.mutable_data_ptr());
  for_each_stretch(store, wanted, [&](const Segment& segment, int64_t first, int64_t count, int64_t at) {
    for (const Slice& slice : table.of(segment)) {
      const int64_t begin = std::max(first, slice.begin), end = std::min(first + count, slice.end);
      if (begin >= end) continue;
      const auto bytes = [](int64_t number) { return static_cast<size_t>(number) * sizeof(float); };
      slice.reader->read_range(slice.tensor->name, bytes(begin - slice.begin),
                               {elements + bytes(at + begin - first), bytes(end - begin)});
    }
  });
  if (!flat.is_cpu()) flat.copy_(host);
}

}  // namespace gato::train
