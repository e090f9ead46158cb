#include "gato/core/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/text.h"

namespace gato {
namespace {

/// A value for a message: short, on one line.
std::string shown(const Json& value) { return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60); }

}  // namespace

JsonFields::JsonFields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) throw DataError(cat(where_, ": expected an object, found ", shown(object)));
}

bool JsonFields::has(std::string_view key) {
  asked_.emplace_back(key);
  return object_.contains(key);
}

const Json& JsonFields::value(std::string_view key) {
  asked_.emplace_back(key);
  const auto found = object_.find(key);
  if (found == object_.end()) throw DataError(cat(where_, ": the key \"", key, "\" is missing"));
  return *found;
}

const Json& JsonFields::object(std::string_view key) {
  const Json& found = value(key);
  if (!found.is_object()) fail(key, cat("expected an object, found ", shown(found)));
  return found;
}

const Json& JsonFields::array(std::string_view key) {
  const Json& found = value(key);
  if (!found.is_array()) fail(key, cat("expected a list, found ", shown(found)));
  return found;
}

std::string JsonFields::text(std::string_view key) {
  const Json& found = value(key);
  if (!found.is_string()) fail(key, cat("expected a text, found ", shown(found)));
  return found.get<std::string>();
}

size_t JsonFields::choice(std::string_view key, std::initializer_list<std::string_view> names) {
  const std::string found = text(key);
  const auto position = std::find(names.begin(), names.end(), found);
  if (position == names.end()) {
    const std::vector<std::string> known(names.begin(), names.end());
    fail(key, cat("expected one of ", join(known, ", "), ", found \"", excerpt(found, 60), "\""));
  }
  return static_cast<size_t>(position - names.begin());
}

bool JsonFields::boolean(std::string_view key) {
  const Json& found = value(key);
  if (!found.is_boolean()) fail(key, cat("expected true or false, found ", shown(found)));
  return found.get<bool>();
}

double JsonFields::number(std::string_view key) {
  const Json& found = value(key);
  if (!found.is_number()) fail(key, cat("expected a number, found ", shown(found)));
  const double number = found.get<double>();
  if (!std::isfinite(number)) fail(key, "expected a finite number");
  return number;
}

double JsonFields::number_or_nan(std::string_view key) {
  return value(key).is_null() ? std::numeric_limits<double>::quiet_NaN() : number(key);
}

uint64_t JsonFields::unsigned_integer(std::string_view key) {
  const Json& found = value(key);
  if (!found.is_number_unsigned()) fail(key, cat("expected a whole number >= 0, found ", shown(found)));
  return found.get<uint64_t>();
}

int64_t JsonFields::integer(std::string_view key, int64_t minimum, int64_t maximum) {
  const Json& found = value(key);
  const bool fits = found.is_number_integer() &&
                    (!found.is_number_unsigned() || found.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits) fail(key, cat("expected a whole number, found ", shown(found)));
  const auto number = found.get<int64_t>();
  if (number < minimum || number > maximum) {
    fail(key, cat("expected a whole number in [", minimum, ", ", maximum, "], found ", number));
  }
  return number;
}

void JsonFields::finish() const {
  for (const auto& entry : object_.items()) {
    if (std::find(asked_.begin(), asked_.end(), entry.key()) != asked_.end()) continue;
    const std::string near = nearest(entry.key(), asked_);
    throw DataError(cat(where_, ": unknown key \"", excerpt(entry.key(), 60), "\"",
                        near.empty() ? "" : cat("; did you mean \"", near, "\"?")));
  }
}

void JsonFields::fail(std::string_view key, std::string_view problem) const {
  throw DataError(cat(where_, ": ", key, ": ", problem));
}

}  // namespace gato
