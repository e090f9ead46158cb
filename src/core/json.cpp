#include "gato/core/json.h"

#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"

namespace gato {
namespace {

/// Reads characters and tells how far the parser has come, which nlohmann's events do not.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* position, const char** furthest) : position_(position), furthest_(furthest) {}
  reference operator*() const { return *position_; }
  CountingIterator& operator++() {
    *furthest_ = ++position_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return position_ == other.position_; }
  bool operator!=(const CountingIterator& other) const { return position_ != other.position_; }

 private:
  const char* position_;
  const char** furthest_;
};

/// Builds a Json from the parser's events and refuses what the strict reading does not allow.
class StrictBuilder {
 public:
  StrictBuilder(const std::string& origin, const char* begin, const char* const* furthest, int max_depth)
      : origin_(origin), begin_(begin), furthest_(furthest), max_depth_(max_depth) {}

  [[nodiscard]] Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(Json::number_integer_t value) { return add(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return add(value); }
  bool number_float(Json::number_float_t value, const Json::string_t&) { return add(value); }
  bool string(Json::string_t& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }  // never in text

  bool start_object(size_t) { return open(Json::object()); }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_array() { return close(); }

  bool key(Json::string_t& name) {
    if (!open_.back().keys.insert(name).second) {
      refuse(cat("duplicate key \"", excerpt(name), "\", ending"), static_cast<size_t>(*furthest_ - begin_));
    }
    open_.back().key = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) {
    // What the library says is "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ...".
    std::string_view words = error.what();
    for (const std::string_view prefix : {"] ", "column "}) {
      const size_t found = words.find(prefix);
      if (found != std::string_view::npos) words.remove_prefix(found + prefix.size());
    }
    const size_t text = words.find_first_not_of("0123456789: ");
    if (text != std::string_view::npos) words.remove_prefix(text);
    refuse(excerpt(words, 200), position > 0 ? position - 1 : 0);
  }

 private:
  struct Open {
    Json* value = nullptr;
    std::string key;                       // of the entry that comes next, in an object
    std::unordered_set<std::string> keys;  // of an object, so far
  };

  [[noreturn]] void refuse(const std::string& problem, size_t offset) const {
    throw DataError(cat(origin_, ": not valid JSON: ", problem, " at byte ", offset));
  }

  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Open& parent = open_.back();
    if (parent.value->is_array()) {
      auto& items = parent.value->get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    // The map is a vector of pairs: its own insertion searches it, which makes large objects quadratic.
    auto& entries = static_cast<std::vector<Json::object_t::value_type>&>(parent.value->get_ref<Json::object_t&>());
    entries.emplace_back(std::move(parent.key), std::move(value));
    return &entries.back().second;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json container) {
    if (open_.size() >= static_cast<size_t>(max_depth_)) {
      refuse(cat("more than ", max_depth_, " levels of nesting"), static_cast<size_t>(*furthest_ - begin_) - 1);
    }
    Json* value = place(std::move(container));
    open_.emplace_back();
    open_.back().value = value;
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& origin_;
  const char* begin_;
  const char* const* furthest_;
  int max_depth_;
  Json root_;
  std::vector<Open> open_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& origin, JsonLimits limits) {
  if (text.size() > limits.max_bytes) {
    throw DataError(cat(origin, ": the JSON text has ", text.size(), " bytes where at most ", limits.max_bytes,
                        " are allowed; check that it is the right file"));
  }
  // The library takes a NUL for the end of the text and would ignore what follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw DataError(cat(origin, ": not valid JSON: a NUL character at byte ", nul));
  }
  const char* furthest = text.data();
  StrictBuilder builder(origin, text.data(), &furthest, limits.max_depth);
  const CountingIterator begin(text.data(), &furthest);
  const CountingIterator end(text.data() + text.size(), &furthest);
  if (!Json::sax_parse(begin, end, &builder)) throw DataError(cat(origin, ": not valid JSON"));
  return builder.take();
}

}  // namespace gato
