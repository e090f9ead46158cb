#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/json.h"

namespace gato {

/// Reads the entries of one JSON object strictly. Every getter throws DataError naming `where` and the key when the
/// entry is missing or of another type; finish() throws for entries that nobody asked for. Does not own the object.
class JsonFields {
 public:
  /// `where` starts every message, such as "runs/demo/environment.json: attempts[2]". DataError unless `object` is one.
  JsonFields(const Json& object, std::string where);

  [[nodiscard]] bool has(std::string_view key);  ///< Also counts as asking for it.

  [[nodiscard]] const Json& value(std::string_view key);  ///< Of any type.
  [[nodiscard]] const Json& object(std::string_view key);
  [[nodiscard]] const Json& array(std::string_view key);
  [[nodiscard]] std::string text(std::string_view key);
  /// One of `names`; returns its position.
  [[nodiscard]] size_t choice(std::string_view key, std::initializer_list<std::string_view> names);
  [[nodiscard]] bool boolean(std::string_view key);
  [[nodiscard]] double number(std::string_view key);         ///< Finite.
  [[nodiscard]] double number_or_nan(std::string_view key);  ///< NaN where null is written.
  [[nodiscard]] uint64_t unsigned_integer(std::string_view key);
  [[nodiscard]] int64_t integer(std::string_view key, int64_t minimum = INT64_MIN, int64_t maximum = INT64_MAX);

  /// Throws DataError naming the first entry that was never asked for, with the nearest key that was.
  void finish() const;

  /// Throws DataError about the entry `key`.
  [[noreturn]] void fail(std::string_view key, std::string_view problem) const;

 private:
  const Json& object_;
  std::string where_;
  std::vector<std::string> asked_;
};

}  // namespace gato
