#include "episode/import/tfds_episode.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "episode/import/tfds_inflate.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr int64_t kMaxRows = int64_t{1} << 24;
/// Numbers of one column in a record: 1 GiB as int64_t.
constexpr int64_t kMaxNumbers = int64_t{1} << 27;
/// Memory that a value of the episode may take when it is repeated at every step.
constexpr size_t kMaxSpreadBytes = size_t{1} << 30;

size_t size_of(int64_t count) { return static_cast<size_t>(count); }

/// Bytes of one value stored as bytes; 0 for types that are not read so.
size_t bytes_of_type(std::string_view dtype) {
  if (dtype == "bool" || dtype == "int8" || dtype == "uint8") return 1;
  if (dtype == "int16" || dtype == "uint16") return 2;
  if (dtype == "int32" || dtype == "uint32" || dtype == "float32") return 4;
  if (dtype == "int64" || dtype == "uint64" || dtype == "float64") return 8;
  return 0;
}

template <class Number, class Stored>
void convert(std::string_view bytes, Number* out) {
  for (size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<Number>(value);
  }
}

/// Little-endian values of `dtype` as Numbers. Floats are only asked for as floats.
template <class Number>
void convert_from(std::string_view dtype, std::string_view bytes, Number* out) {
  if constexpr (std::is_floating_point_v<Number>) {
    if (dtype == "float32") return convert<Number, float>(bytes, out);
    if (dtype == "float64") return convert<Number, double>(bytes, out);
  }
  if (dtype == "bool" || dtype == "uint8") return convert<Number, uint8_t>(bytes, out);
  if (dtype == "int8") return convert<Number, int8_t>(bytes, out);
  if (dtype == "int16") return convert<Number, int16_t>(bytes, out);
  if (dtype == "uint16") return convert<Number, uint16_t>(bytes, out);
  if (dtype == "int32") return convert<Number, int32_t>(bytes, out);
  if (dtype == "uint32") return convert<Number, uint32_t>(bytes, out);
  if (dtype == "int64") return convert<Number, int64_t>(bytes, out);
  if (dtype == "uint64") return convert<Number, uint64_t>(bytes, out);
}

template <class Value>
size_t memory_of(const Value& value) {
  if constexpr (std::is_same_v<Value, std::string>) {
    return sizeof(value) + value.size();
  } else if constexpr (std::is_same_v<Value, Image>) {
    return sizeof(value) + value.pixels.size();
  } else {
    return sizeof(value);
  }
}

ExampleKind stored_kind(const TfdsLeaf& leaf) {
  if (leaf.kind != TfdsKind::kTensor || leaf.encoding != TfdsEncoding::kNone) return ExampleKind::kBytes;
  return leaf.is_float() ? ExampleKind::kFloats : ExampleKind::kIntegers;
}

std::vector<int64_t> inner_lengths(const TfdsColumn& column) {
  const auto count = static_cast<ptrdiff_t>(column.leaf.sequences.size());
  return {column.spec.shape.begin(), column.spec.shape.begin() + count};
}

}  // namespace

template <class... Args>
void TfdsRecord::fail(const TfdsLeaf& leaf, const Args&... problem) const {
  throw DataError(cat(origin_, ": '", leaf.path, "': ", cat(problem...)));
}

TfdsRecord::TfdsRecord(const TfdsPlan& plan, const TfExample& example, std::string origin)
    : plan_(plan), example_(example), origin_(std::move(origin)) {
  count_rows();
  read_marks();
}

const ExampleFeature& TfdsRecord::feature(const TfdsLeaf& leaf, const std::string& key, ExampleKind kind) const {
  const auto place = example_.find(key);
  if (place == example_.end()) fail(leaf, "the record has no feature '", key, "'; features.json does not belong to it");
  const ExampleFeature& found = place->second;
  if (found.count() > 0 && found.kind() != kind) {
    fail(leaf, "the record holds ", example_kind_name(found.kind()), ", features.json says ", leaf.type_text());
  }
  return found;
}

void TfdsRecord::count_rows() {
  const auto by_count = [&](const TfdsLeaf& leaf, const std::string& key, int64_t per_row) {
    const auto count = static_cast<int64_t>(feature(leaf, key, stored_kind(leaf)).count());
    if (count % per_row != 0) fail(leaf, count, " values are no multiple of ", per_row, ", the values of a step");
    num_rows_ = count / per_row;
    if (num_rows_ > kMaxRows) fail(leaf, num_rows_, " steps, at most ", kMaxRows, " are read");
  };
  for (const auto* leaf : {&plan_.is_last, &plan_.is_first, &plan_.is_terminal, &plan_.reward}) {
    if (*leaf) return by_count(**leaf, (*leaf)->path, 1);
  }
  for (const auto* columns : {&plan_.action, &plan_.observation}) {
    for (const TfdsColumn& column : *columns) {
      if (!column.leaf.per_step) continue;
      if (!column.leaf.sequences.empty()) {
        TfdsLeaf lengths = column.leaf;
        lengths.kind = TfdsKind::kTensor;
        lengths.dtype = "int64";
        lengths.encoding = TfdsEncoding::kNone;
        return by_count(lengths, column.leaf.path + "/ragged_row_lengths_0", 1);
      }
      return by_count(column.leaf, column.leaf.path,
                      stored_kind(column.leaf) == ExampleKind::kBytes ? 1 : column.elements());
    }
  }
  throw DataError(cat(origin_, ": no feature of the record says how many steps it has; map one below steps"));
}

std::vector<int64_t> TfdsRecord::mark(const TfdsLeaf& leaf) const {
  return read_numbers<int64_t>(leaf, {}, 1, num_rows_);
}

void TfdsRecord::read_marks() {
  if (num_rows_ == 0) return;
  if (plan_.is_first) {
    const std::vector<int64_t> first = mark(*plan_.is_first);
    const auto again = std::find_if(first.begin() + 1, first.end(), [](int64_t x) { return x != 0; });
    if (again != first.end()) {
      fail(*plan_.is_first, "step ", again - first.begin(), " of ", num_rows_, " is marked as a first step");
    }
  }
  if (plan_.is_last) {
    const std::vector<int64_t> last = mark(*plan_.is_last);
    const auto early = std::find_if(last.begin(), last.end() - 1, [](int64_t x) { return x != 0; });
    if (early != last.end() - 1) {
      fail(*plan_.is_last, "step ", early - last.begin(), " of ", num_rows_, " is marked as the last one");
    }
    last_marked_ = last.back() != 0;
  }
  if (plan_.is_terminal) terminal_ = mark(*plan_.is_terminal).back() != 0;
}

int64_t TfdsRecord::num_steps(bool keep_last_step) const {
  return last_marked_ && !keep_last_step ? num_rows_ - 1 : num_rows_;
}

void TfdsRecord::check_row_lengths(const TfdsLeaf& leaf, const std::vector<int64_t>& lengths, int64_t rows) const {
  for (size_t level = 0; level < lengths.size(); ++level) {
    const ExampleFeature& row_lengths =
        feature(leaf, cat(leaf.path, "/ragged_row_lengths_", level), ExampleKind::kIntegers);
    if (static_cast<int64_t>(row_lengths.count()) != rows) {
      fail(leaf, row_lengths.count(), " row lengths at level ", level, ", expected ", rows);
    }
    int64_t row = 0;
    row_lengths.for_each_integer([&](int64_t length) {
      if (length != lengths[level]) {
        fail(leaf, "row ", row, " has ", length, " values at level ", level, ", the mapping says ", lengths[level]);
      }
      ++row;
    });
    rows *= lengths[level];
  }
}

const ExampleFeature& TfdsRecord::values(const TfdsLeaf& leaf, const std::vector<int64_t>& lengths, int64_t per_row,
                                         ExampleKind kind) const {
  const int64_t rows = rows_of(leaf);
  // Sequences below `steps` are ragged; a single one around a value of the episode is a plain list.
  const bool ragged = leaf.per_step && !leaf.sequences.empty();
  if (ragged) check_row_lengths(leaf, lengths, rows);
  const ExampleFeature& found = feature(leaf, ragged ? leaf.path + "/ragged_flat_values" : leaf.path, kind);
  // The count is compared without a product that a record could make overflow.
  const auto count = static_cast<int64_t>(found.count());
  if (rows == 0 ? count != 0 : count % rows != 0 || count / rows != per_row) {
    fail(leaf, count, " values for ", rows, rows == 1 ? " row" : " rows", ", expected ", per_row, " for each");
  }
  return found;
}

template <class Number>
std::vector<Number> TfdsRecord::read_numbers(const TfdsLeaf& leaf, const std::vector<int64_t>& lengths, int64_t per_row,
                                             int64_t count) const {
  std::vector<Number> out;
  const ExampleKind kind = stored_kind(leaf);
  if (kind == ExampleKind::kBytes) {
    int64_t strings_per_row = 1;
    for (const int64_t length : lengths) strings_per_row *= length;
    const ExampleFeature& found = values(leaf, lengths, strings_per_row, kind);
    read_encoded(leaf, found, per_row / strings_per_row, out);
  } else {
    const ExampleFeature& found = values(leaf, lengths, per_row, kind);
    out.resize(size_of(static_cast<int64_t>(found.count())));
    if (kind == ExampleKind::kFloats) {
      if constexpr (std::is_same_v<Number, float>) {
        found.copy_floats(out);
      } else {
        fail(leaf, "floats where whole numbers are needed");
      }
    } else if (!out.empty()) {
      size_t i = 0;
      found.for_each_integer([&](int64_t value) {
        if (std::is_same_v<Number, uint8_t> && (value < 0 || value > 255)) fail(leaf, "value ", value, " of a pixel");
        out[i++] = static_cast<Number>(value);
      });
    }
  }
  if (static_cast<int64_t>(out.size()) > count) out.resize(size_of(count));
  return out;
}

template <class Number>
void TfdsRecord::read_encoded(const TfdsLeaf& leaf, const ExampleFeature& strings, int64_t per_string,
                              std::vector<Number>& out) const {
  const size_t width = bytes_of_type(leaf.dtype);
  if (width == 0 || (leaf.is_float() && !std::is_floating_point_v<Number>)) {
    fail(leaf, "tensors of ", leaf.dtype, " stored as bytes are not read here");
  }
  const size_t bytes_per_string = size_of(per_string) * width;
  if (static_cast<int64_t>(strings.count()) > kMaxNumbers / std::max<int64_t>(per_string, 1)) {
    fail(leaf, strings.count(), " tensors of ", per_string, " values are too many for one record");
  }
  std::string unpacked;
  strings.for_each_string([&](std::string_view stored) {
    if (leaf.encoding == TfdsEncoding::kZlib) {
      unpacked.resize(bytes_per_string);
      inflate_exactly(stored, std::as_writable_bytes(std::span(unpacked)), cat(origin_, ": '", leaf.path, "'"));
      stored = unpacked;
    }
    if (stored.size() != bytes_per_string) {
      fail(leaf, "a tensor of ", stored.size(), " bytes, ", bytes_per_string, " are expected");
    }
    out.resize(out.size() + size_of(per_string));
    convert_from(leaf.dtype, stored, out.data() + out.size() - size_of(per_string));
  });
}

template <class Value>
void TfdsRecord::spread(const TfdsLeaf& leaf, int64_t steps, std::vector<Value>& row) const {
  if (leaf.per_step) return;
  const std::vector<Value> once = row;
  size_t bytes = 0;
  for (const Value& value : once) bytes += memory_of(value);
  if (bytes > 0 && size_of(steps) > kMaxSpreadBytes / bytes) {
    fail(leaf, bytes, " bytes repeated over ", steps, " steps are too many for one record");
  }
  row.clear();
  row.reserve(once.size() * size_of(steps));
  for (int64_t step = 0; step < steps; ++step) row.insert(row.end(), once.begin(), once.end());
}

std::vector<float> TfdsRecord::numbers(const TfdsColumn& column, int64_t steps) const {
  const int64_t rows = column.leaf.per_step ? steps : 1;
  std::vector<float> out =
      read_numbers<float>(column.leaf, inner_lengths(column), column.elements(), rows * column.elements());
  spread(column.leaf, steps, out);
  return out;
}

std::vector<int32_t> TfdsRecord::integers(const TfdsColumn& column, int64_t steps) const {
  const int64_t rows = column.leaf.per_step ? steps : 1;
  const std::vector<int64_t> wide =
      read_numbers<int64_t>(column.leaf, inner_lengths(column), column.elements(), rows * column.elements());
  std::vector<int32_t> out(wide.size());
  for (size_t i = 0; i < wide.size(); ++i) {
    if (wide[i] < 0 || wide[i] >= column.spec.num_values) {
      fail(column.leaf, "value ", wide[i], " at step ", static_cast<int64_t>(i) / column.elements(), " is outside [0, ",
           column.spec.num_values, ")");
    }
    out[i] = static_cast<int32_t>(wide[i]);
  }
  spread(column.leaf, steps, out);
  return out;
}

std::vector<std::string> TfdsRecord::strings(const TfdsColumn& column, int64_t steps) const {
  const TfdsLeaf& leaf = column.leaf;
  std::vector<std::string> out;
  if (!leaf.sequences.empty()) {
    out = ragged_strings(leaf, steps);
  } else {
    values(leaf, {}, 1, ExampleKind::kBytes).for_each_string([&](std::string_view text) {
      if (!leaf.per_step || static_cast<int64_t>(out.size()) < steps) out.emplace_back(text);
    });
  }
  spread(leaf, steps, out);
  return out;
}

/// The strings of each row joined by line ends.
std::vector<std::string> TfdsRecord::ragged_strings(const TfdsLeaf& leaf, int64_t steps) const {
  std::vector<std::string> rows(size_of(rows_of(leaf)));
  std::vector<int64_t> lengths;
  const ExampleFeature& flat =
      feature(leaf, leaf.per_step ? leaf.path + "/ragged_flat_values" : leaf.path, ExampleKind::kBytes);
  const auto count = static_cast<int64_t>(flat.count());
  if (leaf.per_step) {
    const ExampleFeature& found = feature(leaf, leaf.path + "/ragged_row_lengths_0", ExampleKind::kIntegers);
    if (found.count() != rows.size()) fail(leaf, found.count(), " row lengths for ", rows.size(), " rows");
    int64_t left = count;
    found.for_each_integer([&](int64_t length) {
      if (length < 0 || length > left) fail(leaf, "the row lengths do not fit the ", count, " values");
      left -= length;
      lengths.push_back(length);
    });
    if (left != 0) fail(leaf, "the row lengths leave ", left, " of ", count, " values over");
  } else {
    lengths.push_back(count);
  }
  size_t row = 0;
  int64_t in_row = 0;
  flat.for_each_string([&](std::string_view text) {
    while (in_row == lengths[row]) {
      ++row;
      in_row = 0;
    }
    if (in_row++ > 0) rows[row] += '\n';
    rows[row] += text;
  });
  if (leaf.per_step) rows.resize(size_of(steps));
  return rows;
}

std::vector<std::string> TfdsRecord::utf8(const TfdsColumn& column, int64_t steps) const {
  const int64_t width = column.elements();
  const int64_t rows = column.leaf.per_step ? steps : 1;
  const std::vector<int64_t> bytes = read_numbers<int64_t>(column.leaf, {}, width, rows * width);
  std::vector<std::string> out(size_of(rows));
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] < 0 || bytes[i] > 255) fail(column.leaf, "value ", bytes[i], " is no byte of a text");
    out[i / size_of(width)] += static_cast<char>(bytes[i]);
  }
  for (std::string& text : out) text.resize(std::min(text.find('\0'), text.size()));
  spread(column.leaf, steps, out);
  return out;
}

std::vector<Image> TfdsRecord::pixels(const TfdsColumn& column, int64_t steps) const {
  const TfdsLeaf& leaf = column.leaf;
  const int64_t rows = leaf.per_step ? steps : 1;
  const std::vector<uint8_t> bytes = read_numbers<uint8_t>(leaf, {}, column.elements(), rows * column.elements());
  std::vector<Image> out(size_of(rows));
  for (size_t i = 0; i < out.size(); ++i) {
    const auto begin = bytes.begin() + static_cast<ptrdiff_t>(i) * column.elements();
    out[i].height = static_cast<int32_t>(leaf.shape[0]);
    out[i].width = static_cast<int32_t>(leaf.shape[1]);
    out[i].pixels.assign(begin, begin + column.elements());
  }
  spread(leaf, steps, out);
  return out;
}

std::string_view TfdsRecord::first_picture(const TfdsColumn& column) const {
  std::string_view first;
  bool found = false;
  values(column.leaf, {}, 1, ExampleKind::kBytes).for_each_string([&](std::string_view bytes) {
    if (!found) first = bytes;
    found = true;
  });
  return first;
}

Column TfdsRecord::column(const TfdsColumn& column, int64_t steps) const {
  Column out;
  switch (column.source) {
    case TfdsColumn::Source::kNumbers:
      out.continuous = numbers(column, steps);
      break;
    case TfdsColumn::Source::kIntegers:
      out.discrete = integers(column, steps);
      break;
    case TfdsColumn::Source::kStrings:
      out.text = strings(column, steps);
      break;
    case TfdsColumn::Source::kUtf8:
      out.text = utf8(column, steps);
      break;
    case TfdsColumn::Source::kEncoded:
      out.encoded = strings(column, steps);
      break;
    case TfdsColumn::Source::kPixels:
      out.images = pixels(column, steps);
      break;
  }
  return out;
}

std::vector<float> TfdsRecord::rewards(int64_t steps) const {
  if (!plan_.reward) return {};
  return read_numbers<float>(*plan_.reward, {}, 1, steps);
}

std::string TfdsRecord::text_of(const TfdsLeaf& leaf, int64_t row) const {
  if (leaf.per_step && num_rows_ == 0) fail(leaf, "an episode without steps has no value of it");
  if (leaf.kind == TfdsKind::kText) {
    std::string text;
    int64_t at = 0;
    values(leaf, {}, 1, ExampleKind::kBytes).for_each_string([&](std::string_view value) {
      if (at++ == row) text = value;
    });
    return text;
  }
  if (!leaf.is_float()) return std::to_string(read_numbers<int64_t>(leaf, {}, 1, row + 1).at(size_of(row)));
  return cat(read_numbers<float>(leaf, {}, 1, row + 1).at(size_of(row)));
}

bool TfdsRecord::truth_of(const TfdsLeaf& leaf) const {
  const std::string text = text_of(leaf, std::max<int64_t>(rows_of(leaf), 1) - 1);
  if (text == "1" || text == "true" || text == "True") return true;
  if (text == "0" || text == "false" || text == "False") return false;
  fail(leaf, "neither 0 nor 1 nor true nor false");
}

Episode make_tfds_episode(const TfdsPlan& plan, const TfdsRecord& record, bool keep_last_step) {
  Episode episode;
  episode.num_steps = record.num_steps(keep_last_step);
  if (episode.num_steps == 0) return episode;
  for (const TfdsColumn& column : plan.observation) {
    episode.observation.push_back(record.column(column, episode.num_steps));
  }
  for (const TfdsColumn& column : plan.action) episode.action.push_back(record.column(column, episode.num_steps));
  episode.reward = record.rewards(episode.num_steps);
  episode.terminated = record.ends_marked() && record.terminal();
  episode.truncated = record.ends_marked() && plan.is_terminal && !record.terminal();
  if (plan.success) episode.success = record.truth_of(*plan.success);
  return episode;
}

}  // namespace gato::episode
