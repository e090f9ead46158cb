#include "episode/import/tf_example.h"

#include <algorithm>
#include <bit>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

static_assert(std::endian::native == std::endian::little, "packed floats are copied as they are");

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };
constexpr size_t kMaxVarintBytes = 10;

std::string key_for_people(std::string_view key) {
  constexpr size_t kLongest = 100;
  if (!is_valid_utf8(key)) return "(not UTF-8)";
  return key.size() <= kLongest ? std::string(key) : cat("(", key.size(), " bytes long)");
}

}  // namespace

std::string_view example_kind_name(ExampleKind kind) {
  switch (kind) {
    case ExampleKind::kNone:
      return "nothing";
    case ExampleKind::kBytes:
      return "byte strings";
    case ExampleKind::kFloats:
      return "floats";
    case ExampleKind::kIntegers:
      return "integers";
  }
  return "unknown";
}

void ExampleFeature::copy_floats(std::span<float> out) const {
  GATO_CHECK(out.size() == count_ && (kind_ == ExampleKind::kFloats || count_ == 0), "copy_floats of ", count_, " ",
             example_kind_name(kind_), " into ", out.size());
  size_t done = 0;
  for_each_run([&](std::string_view run) {
    if (run.empty()) return;
    std::memcpy(out.data() + done, run.data(), run.size());
    done += run.size() / sizeof(float);
  });
}

/// Walks one record.
class ExampleParser {
 public:
  ExampleParser(std::string_view record, const std::string& origin, const TfExampleLimits& limits)
      : record_(record), origin_(origin), limits_(limits) {}

  TfExample parse() {
    each_field(record_, [&](uint32_t number, uint32_t type, std::string_view features) {
      if (number == 1) parse_features(expect_message(type, features));
    });
    return std::move(example_);
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(std::string_view at, const Args&... problem) const {
    throw DataError(cat(origin_, ": byte ", at.data() - record_.data(), " of the record",
                        key_.empty() ? "" : cat(" (feature '", key_for_people(key_), "')"), ": ", cat(problem...)));
  }

  /// The varint at the front of `bytes`, taken off.
  uint64_t take_varint(std::string_view& bytes) const {
    uint64_t value = 0;
    for (size_t i = 0; i < std::min(bytes.size(), kMaxVarintBytes); ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i]);
      value |= uint64_t{byte & 0x7fu} << (7 * i);
      if (byte < 0x80) {
        bytes.remove_prefix(i + 1);
        return value;
      }
    }
    fail(bytes, bytes.size() < kMaxVarintBytes ? "a number is cut off" : "a number is longer than 10 bytes");
  }

  std::string_view take(std::string_view& bytes, uint64_t count) const {
    if (count > bytes.size()) fail(bytes, "a value of ", count, " bytes where ", bytes.size(), " are left");
    const std::string_view taken = bytes.substr(0, static_cast<size_t>(count));
    bytes.remove_prefix(static_cast<size_t>(count));
    return taken;
  }

  /// The bytes of one value on the wire, without a length in front.
  std::string_view take_value(uint32_t type, std::string_view& bytes) const {
    switch (type) {
      case kVarint: {
        const std::string_view before = bytes;
        static_cast<void>(take_varint(bytes));
        return before.substr(0, before.size() - bytes.size());
      }
      case kFixed64:
        return take(bytes, 8);
      case kFixed32:
        return take(bytes, 4);
      case kLengthDelimited:
        return take(bytes, take_varint(bytes));
      default:
        fail(bytes, "wire type ", type, " does not occur in examples");
    }
  }

  /// Calls visit(number, wire type, value) for every field of a message.
  template <class Visit>
  void each_field(std::string_view message, Visit&& visit) {
    while (!message.empty()) {
      const std::string_view at = message;
      const uint64_t tag = take_varint(message);
      if (tag >> 3 == 0 || tag > UINT32_MAX) fail(at, "field number ", tag >> 3);
      const auto type = static_cast<uint32_t>(tag & 7);
      visit(static_cast<uint32_t>(tag >> 3), type, take_value(type, message));
    }
  }

  std::string_view expect_message(uint32_t type, std::string_view value) const {
    if (type != kLengthDelimited) fail(value, "wire type ", type, " where a message is expected");
    return value;
  }

  void parse_features(std::string_view features) {
    each_field(features, [&](uint32_t number, uint32_t type, std::string_view entry) {
      if (number == 1) parse_entry(expect_message(type, entry));
    });
  }

  void parse_entry(std::string_view entry) {
    std::string_view key, value;
    bool has_key = false, has_value = false;
    each_field(entry, [&](uint32_t number, uint32_t type, std::string_view field) {
      if (number != 1 && number != 2) return;
      bool& seen = number == 1 ? has_key : has_value;
      if (seen) fail(field, "a map entry with two ", number == 1 ? "keys" : "values");
      seen = true;
      (number == 1 ? key : value) = expect_message(type, field);
    });
    if (example_.size() >= limits_.max_features) fail(entry, "more than ", limits_.max_features, " features");
    const auto [place, is_new] = example_.try_emplace(key);
    key_ = key;
    if (!is_new) fail(entry, "the feature occurs twice");
    parse_feature(value, place->second);
    key_ = {};
  }

  void parse_feature(std::string_view message, ExampleFeature& feature) {
    each_field(message, [&](uint32_t number, uint32_t type, std::string_view list) {
      if (number < 1 || number > 3) return;
      if (feature.kind_ != ExampleKind::kNone) fail(list, "it has two lists");
      feature.kind_ = static_cast<ExampleKind>(number);
      parse_list(expect_message(type, list), feature);
    });
  }

  void parse_list(std::string_view list, ExampleFeature& feature) {
    feature.list_ = list;
    const uint64_t most = feature.kind_ == ExampleKind::kBytes ? limits_.max_strings : limits_.max_values;
    each_field(list, [&](uint32_t number, uint32_t type, std::string_view value) {
      if (number != 1) return;
      feature.count_ += count_values(feature.kind_, type, value);
      if (feature.count_ > most) fail(value, "more than ", most, " ", example_kind_name(feature.kind_), " in one list");
    });
  }

  /// How many values `value` holds: one, or a packed run of them. Checks that they are whole.
  uint64_t count_values(ExampleKind kind, uint32_t type, std::string_view value) const {
    if (kind == ExampleKind::kBytes && type == kLengthDelimited) return 1;
    if (kind == ExampleKind::kFloats && type == kFixed32) return 1;
    if (kind == ExampleKind::kIntegers && type == kVarint) return 1;
    if (type != kLengthDelimited) fail(value, "wire type ", type, " in a list of ", example_kind_name(kind));
    if (kind == ExampleKind::kIntegers) return count_varints(value);
    if (value.size() % sizeof(float) != 0) fail(value, value.size(), " bytes of packed floats, not a multiple of 4");
    return value.size() / sizeof(float);
  }

  uint64_t count_varints(std::string_view run) const {
    uint64_t count = 0;
    size_t begin = 0;
    for (size_t i = 0; i < run.size(); ++i) {
      if (static_cast<unsigned char>(run[i]) >= 0x80) continue;
      if (i - begin >= kMaxVarintBytes) fail(run.substr(begin), "a number is longer than 10 bytes");
      ++count;
      begin = i + 1;
    }
    if (begin != run.size()) fail(run.substr(begin), "a number is cut off");
    return count;
  }

  std::string_view record_;
  const std::string& origin_;
  const TfExampleLimits& limits_;
  std::string_view key_;  ///< Of the feature being read, for messages.
  TfExample example_;
};

TfExample parse_tf_example(std::string_view record, const std::string& origin, const TfExampleLimits& limits) {
  return ExampleParser(record, origin, limits).parse();
}

}  // namespace gato::episode
