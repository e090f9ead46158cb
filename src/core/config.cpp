#include "gato/core/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "gato/core/excerpt.h"
#include "yaml_value.h"

namespace gato {
namespace {

constexpr size_t kMostProblemsShown = 50;

/// Whether `text` is digits, where single underscores may stand between digits; no leading zero before other digits.
bool is_whole(std::string_view text) {
  if (text.empty() || text.front() == '_' || text.back() == '_') return false;
  if (text.size() > 1 && text.front() == '0') return false;
  char previous = '0';
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c != '_' || previous == '_')) return false;
    previous = c;
  }
  return true;
}

std::string without_underscores(std::string_view text) {
  std::string out(text);
  std::erase(out, '_');
  return out;
}

std::string_view without_plus(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-' && text[1] != '+') text.remove_prefix(1);
  return text;
}

/// What a node holds, for messages.
std::string describe(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      return "nothing";
    case ConfigNode::Kind::kList:
      return "a list";
    case ConfigNode::Kind::kMap:
      return "a map";
    case ConfigNode::Kind::kScalar:
      break;
  }
  return cat(node.quoted ? "the text \"" : "\"", excerpt(node.scalar), "\"");
}

/// The node at `path` ("a.b[3].c") below `node`, or nullptr. Keys may hold dots themselves, so every entry is tried.
const ConfigNode* find_path(const ConfigNode& node, std::string_view path) {
  if (path.empty()) return &node;
  if (path.front() == '[' && node.kind == ConfigNode::Kind::kList) {
    size_t index = 0;
    const auto result = std::from_chars(path.data() + 1, path.data() + path.size(), index);
    if (result.ec != std::errc{} || index >= node.list.size()) return nullptr;
    path.remove_prefix(static_cast<size_t>(result.ptr - path.data()) + 1);  // and the ']'
    if (!path.empty() && path.front() == '.') path.remove_prefix(1);
    return find_path(node.list[index], path);
  }
  for (const auto& [key, child] : node.map) {
    if (!path.starts_with(key)) continue;
    std::string_view rest = path.substr(key.size());
    if (!rest.empty() && rest.front() != '.' && rest.front() != '[') continue;
    if (!rest.empty() && rest.front() == '.') rest.remove_prefix(1);
    if (const ConfigNode* found = find_path(child, rest)) return found;
  }
  return nullptr;
}

/// Whether YAML reads `text` without quotes as this text and nothing else, whatever surrounds it.
bool is_plain_yaml(std::string_view text) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/';
  };
  const auto is_inner = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-'; };
  if (text.empty() || !is_letter(text.front()) || !std::all_of(text.begin(), text.end(), is_inner)) return false;
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  for (const std::string_view word : {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}) {
    if (lower == word) return false;
  }
  return true;
}

std::string quoted_yaml(const std::string& text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (text[i] == '"' || text[i] == '\\') {
      out += '\\';
      out += text[i];
    } else if (text[i] == '\n') {
      out += "\\n";
    } else if (text[i] == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += text[i];
    }
  }
  return out + '"';
}

}  // namespace

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const auto& [name, child] : map) {
    if (name == key) return &child;
  }
  return nullptr;
}

void merge_config(ConfigNode& base, const ConfigNode& over) {
  if (base.kind != ConfigNode::Kind::kMap || over.kind != ConfigNode::Kind::kMap) {
    base = over;
    return;
  }
  std::unordered_map<std::string_view, size_t> positions;
  for (size_t i = 0; i < base.map.size(); ++i) positions.emplace(base.map[i].key, i);
  std::vector<const ConfigEntry*> added;
  for (const ConfigEntry& entry : over.map) {
    const auto found = positions.find(entry.key);
    if (found == positions.end()) {
      added.push_back(&entry);
    } else {
      merge_config(base.map[found->second].value, entry.value);
    }
  }
  for (const ConfigEntry* entry : added) base.map.push_back(*entry);
}

void apply_override(ConfigNode& root, std::string_view override_text) {
  const std::string origin = "command line";
  const size_t equals = override_text.find('=');
  const auto refuse = [&](std::string_view problem) {
    throw ConfigError(cat(origin, ": \"", excerpt(override_text), "\": ", problem, "; write key.path=value"));
  };
  if (equals == std::string_view::npos) refuse("no \"=\" in it");
  const std::vector<std::string> keys = split(override_text.substr(0, equals), '.');
  for (const std::string& key : keys) {
    if (key.empty()) refuse("an empty key");
    if (trim(key) != key) refuse("blanks around a key");
    if (!is_valid_utf8(key)) refuse("invalid UTF-8");
  }
  ConfigNode value;
  try {
    value = detail::parse_yaml_value(override_text.substr(equals + 1), origin, /*with_lines=*/false);
  } catch (const ConfigError& error) {
    throw ConfigError(cat(error.what(), " (in \"", excerpt(override_text), "\")"));
  }
  for (size_t i = keys.size(); i-- > 0;) {
    ConfigNode outer;
    outer.kind = ConfigNode::Kind::kMap;
    outer.origin = origin;
    outer.map.push_back({keys[i], std::move(value)});
    value = std::move(outer);
  }
  merge_config(root, value);
}

ConfigNode load_config(const std::vector<std::string>& files, const std::vector<std::string>& overrides) {
  ConfigNode root;
  root.kind = ConfigNode::Kind::kMap;
  for (const std::string& file : files) {
    const ConfigNode node = load_yaml(file);
    if (node.kind == ConfigNode::Kind::kNull) continue;  // an empty file changes nothing
    if (node.kind != ConfigNode::Kind::kMap) {
      throw ConfigError(cat(node.origin, ": expected keys and values (\"key: value\"), got ", describe(node)));
    }
    merge_config(root, node);
  }
  for (const std::string& override_text : overrides) apply_override(root, override_text);
  return root;
}

void ConfigProblems::add(std::string_view key, std::string_view problem, std::string_view origin) {
  const std::string where = path(key);
  if (origin.empty() && origins_ != nullptr) {
    if (const ConfigNode* node = find_path(*origins_, where)) origin = node->origin;
  }
  problems_.push_back(cat(where.empty() ? "" : where + ": ", problem, origin.empty() ? "" : cat(" (", origin, ")")));
}

void ConfigProblems::push(std::string_view key) { stack_.emplace_back(key); }

void ConfigProblems::pop() { stack_.pop_back(); }

std::string ConfigProblems::path(std::string_view key) const {
  std::string out;
  const auto append = [&out](std::string_view part) {
    if (part.empty()) return;
    if (!out.empty() && part.front() != '[') out += '.';
    out += part;
  };
  for (const std::string& part : stack_) append(part);
  append(key);
  return out;
}

void ConfigProblems::throw_if_any() const {
  if (problems_.empty()) return;
  if (problems_.size() == 1) throw ConfigError("configuration: " + problems_.front());
  std::string message = cat(problems_.size(), " problems in the configuration:");
  for (size_t i = 0; i < std::min(problems_.size(), kMostProblemsShown); ++i) message += "\n  " + problems_[i];
  if (problems_.size() > kMostProblemsShown) message += cat("\n  and ", problems_.size() - kMostProblemsShown, " more");
  throw ConfigError(message);
}

namespace detail {

bool parse_scalar(const ConfigNode& node, bool& value, std::string& problem) {
  problem = "true or false";
  if (node.kind != ConfigNode::Kind::kScalar || node.quoted) return false;
  const std::string& text = node.scalar;
  const bool is_true = text == "true" || text == "True" || text == "TRUE";
  const bool is_false = text == "false" || text == "False" || text == "FALSE";
  if (is_true || is_false) value = is_true;
  return is_true || is_false;
}

bool parse_scalar(const ConfigNode& node, int64_t& value, std::string& problem) {
  problem = "a whole number";
  if (node.kind != ConfigNode::Kind::kScalar || node.quoted) return false;
  const std::string_view text = without_plus(node.scalar);
  if (!is_whole(text.starts_with('-') ? text.substr(1) : text)) return false;
  const std::string digits = without_underscores(text);
  int64_t parsed = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), parsed);
  if (result.ec != std::errc{}) {
    problem = "a whole number of at most 63 bits";
    return false;
  }
  value = parsed;
  return true;
}

bool parse_scalar(const ConfigNode& node, double& value, std::string& problem) {
  problem = "a number";
  if (node.kind != ConfigNode::Kind::kScalar || node.quoted) return false;
  std::string_view text = without_plus(node.scalar);
  const double sign = text.starts_with('-') ? -1 : 1;
  if (sign < 0) text.remove_prefix(1);
  if (text == ".inf" || text == ".Inf" || text == ".INF") {
    value = sign * HUGE_VAL;
    return true;
  }
  // from_chars would take "inf" and "nan": letters other than an exponent are refused. NaN would pass most range
  // checks.
  const size_t whole_end = std::min(text.size(), text.find_first_not_of("0123456789_"));
  if (text.empty() || text.find_first_not_of("0123456789_.eE+-") != std::string_view::npos) return false;
  if (whole_end > 0 && !is_whole(text.substr(0, whole_end))) return false;
  if (text.find('_', whole_end) != std::string_view::npos) return false;
  const std::string digits = without_underscores(text);
  double parsed = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), parsed);
  if (result.ec == std::errc::result_out_of_range) problem = "a number that fits a double";
  if (result.ec != std::errc{} || result.ptr != digits.data() + digits.size()) return false;
  value = sign * parsed;
  return true;
}

bool parse_scalar(const ConfigNode& node, std::string& value, std::string& problem) {
  problem = node.kind == ConfigNode::Kind::kNull ? "text (\"\" for none)" : "text";
  if (node.kind != ConfigNode::Kind::kScalar) return false;
  value = node.scalar;
  return true;
}

std::string scalar_yaml(bool value) { return value ? "true" : "false"; }

std::string scalar_yaml(int64_t value) { return std::to_string(value); }

std::string scalar_yaml(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

std::string scalar_yaml(const std::string& value) {
  GATO_CHECK(is_valid_utf8(value), "a configuration cannot hold the text \"", excerpt(value), "\": it is not UTF-8");
  return is_plain_yaml(value) ? value : quoted_yaml(value);
}

void report_unknown_keys(const ConfigNode& node, const std::vector<std::string>& known, ConfigProblems& problems) {
  for (const auto& [key, child] : node.map) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string help;
    if (problems.list().size() < kMostProblemsShown) {
      const std::string guess = nearest(key, known);
      help = guess.empty() ? "; known here: " + join(known, ", ") : "; did you mean \"" + guess + "\"?";
    }
    problems.add(excerpt(key), "unknown key" + help, child.origin);
  }
}

void report_kind(const ConfigNode& node, std::string_view expected, ConfigProblems& problems) {
  problems.add("", cat("expected ", expected, ", got ", describe(node)), node.origin);
}

std::map<std::string, std::string> leaves_of(const std::vector<DumpLine>& lines) {
  std::map<std::string, std::string> leaves;
  for (const DumpLine& line : lines) {
    if (line.text.ends_with(':') || line.text == "-") continue;  // what holds values has none itself
    const std::string_view name = std::string_view(line.path).substr(line.path.rfind('.') + 1);
    // "key: value" or, in a list, "- value"; a key that was quoted is longer than its name.
    const size_t colon = line.text.starts_with("- ") ? 1 : line.text.find(": ", name.size());
    leaves[line.path] = line.text.substr(colon + (line.text[colon] == ':' ? 2 : 1));
  }
  return leaves;
}

std::string render_dump(const std::vector<DumpLine>& lines, const ConfigNode* origins, bool with_docs) {
  constexpr size_t kCommentColumn = 40;
  std::string out;
  for (const DumpLine& line : lines) {
    std::string text = std::string(2 * static_cast<size_t>(line.depth), ' ') + line.text;
    std::string comment = with_docs ? line.doc : "";
    const bool has_value = !line.text.ends_with(':') && line.text != "-";
    if (origins != nullptr && has_value) {
      const ConfigNode* node = find_path(*origins, line.path);
      const std::string origin = node == nullptr ? "default" : excerpt(node->origin, 400);
      comment += comment.empty() ? origin : cat(" (", origin, ")");
    }
    if (!comment.empty()) {
      text.resize(std::max(text.size() + 2, kCommentColumn), ' ');
      text += "# " + comment;
    }
    out += text + "\n";
  }
  return out;
}

}  // namespace detail
}  // namespace gato
