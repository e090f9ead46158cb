#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "gato/core/error.h"

/// Strict, typed configuration. A component declares an aggregate with defaults and, beside it, one list of its fields:
///
///   struct RowConfig {
///     int64_t row_tokens = 1024;
///     bool shuffle = true;
///   };
///   GATO_CONFIG(RowConfig, GATO_FIELD(row_tokens, "Tokens per row; > 0."), GATO_FIELD(shuffle, "Whether to shuffle."))
///   void validate_config(const RowConfig& config, gato::ConfigProblems& problems);   // optional
///
/// The list drives loading, overrides, dumping and documentation; leaving a field out of it fails to compile.
namespace gato {

struct ConfigEntry;

/// A parsed configuration document, with the origin of every value ("configs/demo.yaml:12", "command line").
struct ConfigNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string scalar;            ///< The text of a scalar, unquoted.
  bool quoted = false;           ///< Whether a scalar was quoted: then it is text and never a number.
  std::vector<ConfigNode> list;  ///< Items of a list.
  std::vector<ConfigEntry> map;  ///< Entries of a map in file order, keys unique.
  std::string origin;            ///< Where the value came from, for messages.

  [[nodiscard]] const ConfigNode* find(std::string_view key) const;  ///< The value of `key`, or nullptr.
};

/// One entry of a map. (Not a std::pair: clang refuses a pair of an unfinished type.)
struct ConfigEntry {
  std::string key;
  ConfigNode value;
};

/// Parses YAML. Throws ConfigError naming `origin`, line and column for: syntax errors, duplicate keys, aliases, tags,
/// keys that are not plain scalars, more than 1 MiB, more than 32 levels, invalid UTF-8.
[[nodiscard]] ConfigNode parse_yaml(std::string_view text, const std::string& origin);

/// Reads and parses one file (parse_yaml); IoError or ConfigError name it.
[[nodiscard]] ConfigNode load_yaml(const std::string& path);

/// Lays `over` upon `base`: maps are merged key by key, everything else is replaced.
void merge_config(ConfigNode& base, const ConfigNode& over);

/// Applies "a.b.c=value", the value being YAML ("[1, 2]", "text", "null"). Throws ConfigError for a malformed override.
void apply_override(ConfigNode& root, std::string_view override_text);

/// The files merged in order (later wins), then the overrides in order.
[[nodiscard]] ConfigNode load_config(const std::vector<std::string>& files, const std::vector<std::string>& overrides);

/// Every problem found in one pass over a configuration, each with its full key path and origin.
class ConfigProblems {
 public:
  /// Adds "`path below the entered keys`.`key`: problem (origin)". Without `origin` the one that the file or command
  /// line gave to that key is looked up.
  void add(std::string_view key, std::string_view problem, std::string_view origin = {});
  void push(std::string_view key);  ///< Enters a key (or "[3]"): later paths are below it.
  void pop();
  /// The path of `key` below the entered keys.
  [[nodiscard]] std::string path(std::string_view key) const;
  [[nodiscard]] bool empty() const { return problems_.empty(); }
  [[nodiscard]] const std::vector<std::string>& list() const { return problems_; }
  void throw_if_any() const;  ///< Throws ConfigError listing all of them.
  /// The document in which add() looks origins up; it must outlive this object.
  void set_origins(const ConfigNode* document) { origins_ = document; }

 private:
  const ConfigNode* origins_ = nullptr;
  std::vector<std::string> stack_;
  std::vector<std::string> problems_;
};

template <class Owner, class Value>
struct ConfigField {
  const char* name;
  Value Owner::*member;
  const char* doc;
};

template <class Owner, class Value>
constexpr ConfigField<Owner, Value> config_field(const char* name, Value Owner::*member, const char* doc) {
  return {name, member, doc};
}

namespace detail {

struct AnyField {
  template <class T>
  operator T() const noexcept;  // NOLINT(google-explicit-constructor): only used unevaluated, to count fields
};

template <class T, class Indices>
struct IsBraceConstructible;
template <class T, size_t... I>
struct IsBraceConstructible<T, std::index_sequence<I...>> {
  template <class U>
  static auto test(int) -> decltype(U{(static_cast<void>(I), AnyField{})...}, std::true_type{});
  template <class U>
  static std::false_type test(...);
  static constexpr bool value = decltype(test<T>(0))::value;
};

template <class T, size_t N = 64>
constexpr size_t aggregate_field_count() {
  if constexpr (N == 0) {
    return 0;
  } else if constexpr (IsBraceConstructible<T, std::make_index_sequence<N>>::value) {
    return N;
  } else {
    return aggregate_field_count<T, N - 1>();
  }
}

template <class T, class = void>
struct HasConfigFields : std::false_type {};
template <class T>
struct HasConfigFields<T, std::void_t<decltype(config_fields(static_cast<const T*>(nullptr)))>> : std::true_type {};

template <class T, class = void>
struct HasConfigEnum : std::false_type {};
template <class T>
struct HasConfigEnum<T, std::void_t<decltype(config_enum(static_cast<const T*>(nullptr)))>> : std::true_type {};

template <class T, class = void>
struct HasValidate : std::false_type {};
template <class T>
struct HasValidate<T, std::void_t<decltype(validate_config(std::declval<const T&>(), std::declval<ConfigProblems&>()))>>
    : std::true_type {};

template <class T, class = void>
struct HasCustomConfig : std::false_type {};
template <class T>
struct HasCustomConfig<T, std::void_t<decltype(parse_config_value(std::declval<const ConfigNode&>(), std::declval<T&>(),
                                                                  std::declval<std::string&>())),
                                      decltype(config_value_yaml(std::declval<const T&>()))>> : std::true_type {};

bool parse_scalar(const ConfigNode& node, bool& value, std::string& problem);
bool parse_scalar(const ConfigNode& node, int64_t& value, std::string& problem);
bool parse_scalar(const ConfigNode& node, double& value, std::string& problem);
bool parse_scalar(const ConfigNode& node, std::string& value, std::string& problem);
std::string scalar_yaml(bool value);
std::string scalar_yaml(int64_t value);
std::string scalar_yaml(double value);
std::string scalar_yaml(const std::string& value);
void report_unknown_keys(const ConfigNode& node, const std::vector<std::string>& known, ConfigProblems& problems);
void report_kind(const ConfigNode& node, std::string_view expected, ConfigProblems& problems);

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsMap : std::false_type {};
template <class T>
struct IsMap<std::map<std::string, T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

}  // namespace detail

/// Calls `visitor(name, value, doc)` for every field of `config`, in the order of declaration.
template <class T, class Visitor>
void visit_fields(T& config, Visitor&& visitor) {
  std::apply([&](const auto&... field) { (visitor(field.name, config.*(field.member), field.doc), ...); },
             config_fields(static_cast<const std::remove_const_t<T>*>(nullptr)));
}

/// Reads `node` into `value`; what the node does not name keeps its value. Problems are collected, nothing is thrown.
/// Types: bool, int64_t, double, std::string, enums with GATO_CONFIG_ENUM, std::optional (null clears), std::vector,
/// std::map<std::string, T>, aggregates with GATO_CONFIG, and types that bring their own pair of functions, found by
/// argument-dependent lookup: `bool parse_config_value(const ConfigNode&, T&, std::string& expected)` and
/// `std::string config_value_yaml(const T&)`.
template <class T>
void read_config_into(T& value, const ConfigNode& node, ConfigProblems& problems) {
  using detail::report_kind;
  if constexpr (detail::IsOptional<T>::value) {
    if (node.kind == ConfigNode::Kind::kNull) {
      value.reset();
      return;
    }
    typename T::value_type inner{};
    if (value) inner = *value;
    read_config_into(inner, node, problems);
    value = std::move(inner);
  } else if constexpr (detail::IsVector<T>::value) {
    if (node.kind != ConfigNode::Kind::kList) return report_kind(node, "a list", problems);
    value.clear();
    for (size_t i = 0; i < node.list.size(); ++i) {
      problems.push(cat("[", i, "]"));
      typename T::value_type item{};
      read_config_into(item, node.list[i], problems);
      value.push_back(std::move(item));
      problems.pop();
    }
  } else if constexpr (detail::IsMap<T>::value) {
    if (node.kind == ConfigNode::Kind::kNull) return;
    if (node.kind != ConfigNode::Kind::kMap) return report_kind(node, "a map", problems);
    for (const auto& [key, child] : node.map) {
      problems.push(key);
      read_config_into(value[key], child, problems);
      problems.pop();
    }
  } else if constexpr (detail::HasConfigFields<T>::value) {
    if (node.kind == ConfigNode::Kind::kNull) return;
    if (node.kind != ConfigNode::Kind::kMap) return report_kind(node, "a map", problems);
    std::vector<std::string> known;
    visit_fields(value, [&](const char* name, auto& field, const char*) {
      known.emplace_back(name);
      if (const ConfigNode* child = node.find(name)) {
        problems.push(name);
        read_config_into(field, *child, problems);
        problems.pop();
      }
    });
    detail::report_unknown_keys(node, known, problems);
  } else if constexpr (detail::HasConfigEnum<T>::value) {
    std::vector<std::string> names;
    for (const auto& [name, candidate] : config_enum(static_cast<const T*>(nullptr))) {
      if (node.kind == ConfigNode::Kind::kScalar && node.scalar == name) {
        value = candidate;
        return;
      }
      names.emplace_back(name);
    }
    report_kind(node, "one of " + join(names, ", "), problems);
  } else if constexpr (detail::HasCustomConfig<T>::value) {
    std::string expected;
    if (!parse_config_value(node, value, expected)) report_kind(node, expected, problems);
  } else {
    std::string problem;
    if (!detail::parse_scalar(node, value, problem)) report_kind(node, problem, problems);
  }
}

namespace detail {
template <class T>
void validate_tree(const T& value, ConfigProblems& problems) {
  if constexpr (IsOptional<T>::value) {
    if (value) validate_tree(*value, problems);
  } else if constexpr (IsVector<T>::value) {
    for (size_t i = 0; i < value.size(); ++i) {
      problems.push(cat("[", i, "]"));
      validate_tree(static_cast<const typename T::value_type&>(value[i]), problems);
      problems.pop();
    }
  } else if constexpr (IsMap<T>::value) {
    for (const auto& [key, item] : value) {
      problems.push(key);
      validate_tree(item, problems);
      problems.pop();
    }
  } else if constexpr (HasConfigFields<T>::value) {
    visit_fields(value, [&](const char* name, const auto& field, const char*) {
      problems.push(name);
      validate_tree(field, problems);
      problems.pop();
    });
    if constexpr (HasValidate<T>::value) validate_config(value, problems);
  }
}

/// One line of a dumped configuration.
struct DumpLine {
  int depth = 0;
  std::string text;  ///< "key: value" or "key:".
  std::string path;  ///< Full dotted path, to look the origin up.
  const char* doc = "";
};

template <class T>
void dump_value(const T& value, int depth, const std::string& prefix, const std::string& path, const char* doc,
                std::vector<DumpLine>& out) {
  if constexpr (IsOptional<T>::value) {
    if (value) {
      dump_value(*value, depth, prefix, path, doc, out);
    } else {
      out.push_back({depth, prefix + " null", path, doc});
    }
  } else if constexpr (IsVector<T>::value) {
    if (value.empty()) {
      out.push_back({depth, prefix + " []", path, doc});
      return;
    }
    out.push_back({depth, prefix, path, doc});
    for (size_t i = 0; i < value.size(); ++i) {
      dump_value(static_cast<const typename T::value_type&>(value[i]), depth + 1, "-", cat(path, "[", i, "]"), "", out);
    }
  } else if constexpr (IsMap<T>::value) {
    out.push_back({depth, prefix + (value.empty() ? " {}" : ""), path, doc});
    for (const auto& [key, item] : value) {
      dump_value(item, depth + 1, scalar_yaml(key) + ":", path.empty() ? key : path + "." + key, "", out);
    }
  } else if constexpr (HasConfigFields<T>::value) {
    if (!prefix.empty()) out.push_back({depth, prefix, path, doc});
    const int inner = prefix.empty() ? depth : depth + 1;
    visit_fields(value, [&](const char* name, const auto& field, const char* field_doc) {
      dump_value(field, inner, std::string(name) + ":", path.empty() ? name : path + "." + name, field_doc, out);
    });
  } else if constexpr (HasConfigEnum<T>::value) {
    std::string text = "?";
    for (const auto& [name, candidate] : config_enum(static_cast<const T*>(nullptr))) {
      if (candidate == value) text = name;
    }
    out.push_back({depth, prefix + " " + text, path, doc});
  } else if constexpr (HasCustomConfig<T>::value) {
    out.push_back({depth, prefix + " " + config_value_yaml(value), path, doc});
  } else {
    out.push_back({depth, prefix + " " + scalar_yaml(value), path, doc});
  }
}

std::string render_dump(const std::vector<DumpLine>& lines, const ConfigNode* origins, bool with_docs);
std::map<std::string, std::string> leaves_of(const std::vector<DumpLine>& lines);
}  // namespace detail

/// `node` as a T: defaults, then what the node names, then validate_config of every struct in it, innermost first.
/// Throws one ConfigError that lists every problem: unknown keys (with the nearest known one), wrong types, bad values.
template <class T>
[[nodiscard]] T read_config(const ConfigNode& node) {
  T config{};
  ConfigProblems problems;
  problems.set_origins(&node);
  read_config_into(config, node, problems);
  problems.throw_if_any();
  detail::validate_tree(config, problems);
  problems.throw_if_any();
  return config;
}

/// `config` as YAML that read_config reads back to the same value. With `origins` each line ends in a comment that says
/// where the value came from ("default" when no file names it); with `with_docs` in the field's description.
template <class T>
[[nodiscard]] std::string dump_config(const T& config, const ConfigNode* origins = nullptr, bool with_docs = false) {
  std::vector<detail::DumpLine> lines;
  detail::dump_value(config, 0, "", "", "", lines);
  return detail::render_dump(lines, origins, with_docs);
}

/// Every single value of `config` as YAML by its path, such as "data.filters[0].tasks" or "model.layers".
template <class T>
[[nodiscard]] std::map<std::string, std::string> config_leaves(const T& config) {
  std::vector<detail::DumpLine> lines;
  detail::dump_value(config, 0, "", "", "", lines);
  return detail::leaves_of(lines);
}

}  // namespace gato

/// One entry of GATO_CONFIG.
#define GATO_FIELD(name, doc) ::gato::config_field(#name, &Self::name, doc)

/// Declares the fields of the aggregate `Type` (to be used in the namespace of `Type`). Compilation fails when their
/// number is not the number of members.
#define GATO_CONFIG(Type, ...)                                                                   \
  constexpr auto config_fields(const Type*) {                                                    \
    using Self = Type;                                                                           \
    return std::make_tuple(__VA_ARGS__);                                                         \
  }                                                                                              \
  static_assert(std::tuple_size_v<decltype(config_fields(static_cast<const Type*>(nullptr)))> == \
                    ::gato::detail::aggregate_field_count<Type>(),                               \
                "GATO_CONFIG must list every member of " #Type);

/// Declares the names of an enum: GATO_CONFIG_ENUM(Kind, 2, {"a", Kind::kA}, {"b", Kind::kB}).
#define GATO_CONFIG_ENUM(Type, count, ...) \
  constexpr std::array<std::pair<const char*, Type>, count> config_enum(const Type*) { return {{__VA_ARGS__}}; }
