#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>

/// tf.train.Example without Protocol Buffers: a map from keys to lists of byte strings, floats or integers.
///
///   Example   { Features features = 1; }
///   Features  { map<string, Feature> feature = 1; }          a map is repeated { string key = 1; Feature value = 2; }
///   Feature   { BytesList = 1 | FloatList = 2 | Int64List = 3; }
///   ...List   { repeated value = 1; }                         numbers packed or one by one
namespace gato::episode {

enum class ExampleKind : uint8_t { kNone, kBytes, kFloats, kIntegers };

[[nodiscard]] std::string_view example_kind_name(
    ExampleKind kind);  ///< "nothing", "byte strings", "floats", "integers".

struct TfExampleLimits {
  size_t max_features = 4096;
  uint64_t max_values = uint64_t{1} << 27;   ///< Numbers in one list: 1 GiB as int64_t.
  uint64_t max_strings = uint64_t{1} << 24;  ///< Byte strings in one list.
};

/// One list: a view into the record's bytes, which must outlive it. Its values were checked to be whole.
class ExampleFeature {
 public:
  [[nodiscard]] ExampleKind kind() const { return kind_; }
  [[nodiscard]] uint64_t count() const { return count_; }

  /// `out` has count() elements. Only for kFloats (or no values at all).
  void copy_floats(std::span<float> out) const;

  /// Calls `visit(int64_t)` for every value. Only for kIntegers.
  template <class Visit>
  void for_each_integer(Visit&& visit) const {
    for_each_run([&](std::string_view run) {
      for (size_t i = 0; i < run.size();) visit(static_cast<int64_t>(next_varint(run, i)));
    });
  }

  /// Calls `visit(std::string_view)` for every value. Only for kBytes.
  template <class Visit>
  void for_each_string(Visit&& visit) const {
    for_each_run(visit);
  }

 private:
  friend class ExampleParser;

  /// The varint at `i` of `bytes`; `i` goes behind it.
  static uint64_t next_varint(std::string_view bytes, size_t& i) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes[i++]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  }

  /// Calls `visit` with the bytes of every value of field 1: a byte string, a number, or a packed run of numbers.
  template <class Visit>
  void for_each_run(Visit&& visit) const {
    for (size_t i = 0; i < list_.size();) {
      const uint64_t tag = next_varint(list_, i);
      size_t begin = i, size = 0;
      switch (tag & 7) {
        case 0:
          static_cast<void>(next_varint(list_, i));
          size = i - begin;
          break;
        case 2:
          size = static_cast<size_t>(next_varint(list_, i));
          begin = i;
          break;
        default:
          size = (tag & 7) == 1 ? 8 : 4;
      }
      i = begin + size;
      if (tag >> 3 == 1) visit(list_.substr(begin, size));
    }
  }

  ExampleKind kind_ = ExampleKind::kNone;
  uint64_t count_ = 0;
  std::string_view list_;  ///< The list's message.
};

/// The features of one record by key. Views into the record's bytes.
using TfExample = std::map<std::string_view, ExampleFeature, std::less<>>;

/// Reads an Example. Unknown fields are passed over. Throws DataError starting with `origin` and naming the key and the
/// byte in the record for anything malformed, a key or list that occurs twice (one writer's output never has that), and
/// more than the limits. Takes memory per feature, none per value.
[[nodiscard]] TfExample parse_tf_example(std::string_view record, const std::string& origin,
                                         const TfExampleLimits& limits = {});

}  // namespace gato::episode
