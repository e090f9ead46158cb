#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <unordered_set>

#include "gato/core/config.h"
#include "gato/core/excerpt.h"
#include "gato/core/file.h"
#include "yaml_value.h"

namespace gato {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;
constexpr size_t kMostLevels = 32;
constexpr size_t kMostValues = 100'000;  // a value takes about 200 bytes of memory, however few it has in the file
constexpr size_t kLongestKey = 128;      // so that a dumped key, escaped, stays below YAML's 1024 characters

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// Builds a ConfigNode from the parser's events and refuses what is YAML but no configuration.
class NodeBuilder final : public YAML::EventHandler {
 public:
  NodeBuilder(std::string_view text, const std::string& origin, bool with_lines)
      : text_(text), origin_(origin), with_lines_(with_lines) {
    root_.origin = origin;
  }

  [[nodiscard]] ConfigNode take() { return std::move(root_); }

  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view problem) const {
    const bool known = mark.line >= 0 && mark.column >= 0;
    throw ConfigError(cat(origin_, known ? cat(":", mark.line + 1, ":", mark.column + 1) : "", ": ", problem));
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (seen_document_) {
      refuse(mark, "this does not belong to what stands above, or begins a second document; a configuration holds one");
    }
    seen_document_ = true;
  }
  void OnDocumentEnd() override {}

  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    refuse(mark, cat("anchors are not allowed here; quote the text \"&", excerpt(name), "\" if it is meant as text"));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases are not allowed here; quote text that begins with *");
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (expects_key()) refuse(mark, "a key must be text; quote it if it is meant as such");
    place(mark);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    check_tag(mark, tag, /*is_scalar=*/true);
    check_text(mark, value);
    const size_t end = end_of_scalar(mark, value);
    if (expects_key()) return begin_entry(mark, value, end);
    ConfigNode& node = place(mark);
    node.kind = ConfigNode::Kind::kScalar;
    node.scalar = value;
    node.quoted = tag == "!";
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, ConfigNode::Kind::kList);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(mark, tag, ConfigNode::Kind::kMap);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  struct Open {
    ConfigNode* node = nullptr;
    bool has_key = false;                  // of a map: whether its last entry waits for a value
    std::unordered_set<std::string> keys;  // of a map
  };

  [[nodiscard]] bool expects_key() const {
    return !open_.empty() && open_.back().node->kind == ConfigNode::Kind::kMap && !open_.back().has_key;
  }

  /// Refuses explicit tags. The parser gives quoted scalars the tag "!", and so does a written "!".
  void check_tag(const YAML::Mark& mark, const std::string& tag, bool is_scalar) const {
    const auto position = static_cast<size_t>(std::max(0, mark.pos));
    const bool written = position < text_.size() && text_[position] == '!';
    if (tag.empty() || tag == "?" || (is_scalar && tag == "!" && !written)) return;
    refuse(mark, cat("tags are not allowed here (\"", excerpt(tag), "\"); quote text that begins with !"));
  }

  void check_text(const YAML::Mark& mark, const std::string& value) const {
    if (!is_valid_utf8(value)) refuse(mark, "the text is not valid UTF-8");
    if (value.find('\0') != std::string::npos) refuse(mark, "the text holds a NUL character; remove it");
  }

  /// Where the text of a scalar ends, npos for forms whose end is not marked. The parser lets a quote stay open up to
  /// the end of the file when a line end comes before it, which is how a file that was cut short looks.
  [[nodiscard]] size_t end_of_scalar(const YAML::Mark& mark, const std::string& value) const {
    const auto begin = static_cast<size_t>(std::max(0, mark.pos));
    const char first = begin < text_.size() ? text_[begin] : '\0';
    if (first != '"' && first != '\'') {
      return text_.substr(begin).starts_with(value) ? begin + value.size() : std::string_view::npos;
    }
    for (size_t i = begin + 1; i < text_.size(); ++i) {
      if (first == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == first) {
        const bool doubled = first == '\'' && i + 1 < text_.size() && text_[i + 1] == first;
        if (!doubled) return i + 1;
        ++i;
      }
    }
    refuse(mark, cat("the quote that begins here is never closed; add ", first));
  }

  void begin_entry(const YAML::Mark& mark, const std::string& key, size_t end) {
    // The parser takes a lone word for a key without a value.
    const size_t colon = end < text_.size() ? text_.find_first_not_of(" \t\r\n", end) : std::string_view::npos;
    if (colon == std::string_view::npos || text_[colon] != ':') {
      refuse(mark, cat("no colon behind the key \"", excerpt(key), "\"; write \"key: value\""));
    }
    if (key.size() > kLongestKey) {
      refuse(mark, cat("the key \"", excerpt(key), "\" has ", key.size(), " bytes where at most ", kLongestKey,
                       " are allowed"));
    }
    Open& map = open_.back();
    if (!map.keys.insert(key).second) refuse(mark, cat("duplicate key \"", excerpt(key), "\"; remove one of them"));
    map.node->map.push_back({key, ConfigNode{}});
    map.has_key = true;
  }

  /// A new node where the document has come to.
  ConfigNode& place(const YAML::Mark& mark) {
    if (++num_values_ > kMostValues) refuse(mark, cat("more than ", kMostValues, " values"));
    ConfigNode* node = &root_;
    if (!open_.empty()) {
      Open& parent = open_.back();
      const bool is_map = parent.node->kind == ConfigNode::Kind::kMap;
      node = is_map ? &parent.node->map.back().value : &parent.node->list.emplace_back();
      parent.has_key = false;
    }
    node->origin = with_lines_ ? cat(origin_, ":", mark.line + 1) : origin_;
    return *node;
  }

  void open(const YAML::Mark& mark, const std::string& tag, ConfigNode::Kind kind) {
    check_tag(mark, tag, /*is_scalar=*/false);
    if (expects_key()) refuse(mark, "a key must be text, not a list or a map");
    if (open_.size() >= kMostLevels) refuse(mark, cat("more than ", kMostLevels, " levels of nesting"));
    ConfigNode& node = place(mark);
    node.kind = kind;
    open_.emplace_back();
    open_.back().node = &node;
  }

  std::string_view text_;
  const std::string& origin_;
  bool with_lines_;
  bool seen_document_ = false;
  size_t num_values_ = 0;
  ConfigNode root_;
  std::vector<Open> open_;
};

/// Refuses bytes that no configuration needs and that the parser takes for something else (it guesses UTF-16 from NULs
/// and ends at 0x04).
void check_characters(std::string_view text, const std::string& origin) {
  size_t bad = 0;
  const bool is_utf8 = is_valid_utf8(text, &bad);
  const auto is_bad_control = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\n' && c != '\r' && c != '\t') || byte == 0x7F;
  };
  const auto control = std::find_if(text.begin(), text.end(), is_bad_control);
  if (is_utf8 && control == text.end()) return;
  if (!is_utf8 && control != text.end()) bad = std::min(bad, static_cast<size_t>(control - text.begin()));
  if (is_utf8) bad = static_cast<size_t>(control - text.begin());
  const std::string_view before = text.substr(0, bad);
  const size_t line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const size_t column = bad - (line == 1 ? 0 : before.rfind('\n') + 1) + 1;
  const bool is_control = control != text.end() && bad == static_cast<size_t>(control - text.begin());
  throw ConfigError(cat(origin, ":", line, ":", column, ": ", is_control ? "a control character" : "invalid UTF-8",
                        "; is it a text file, saved as UTF-8?"));
}

}  // namespace

namespace detail {

ConfigNode parse_yaml_value(std::string_view text, const std::string& origin, bool with_lines) {
  if (text.size() > kMostBytes) {
    throw ConfigError(cat(origin, ": ", text.size(), " bytes where at most ", kMostBytes,
                          " are allowed; is it a configuration file?"));
  }
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  check_characters(text, origin);
  std::istringstream stream{std::string(text)};
  NodeBuilder builder(text, origin, with_lines);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    std::string hint;
    if (error.msg.find("alias") != std::string::npos) hint = "; quote text that begins with *";
    if (error.msg.find("anchor") != std::string::npos) hint = "; quote text that begins with * or &";
    builder.refuse(error.mark, cat("not valid YAML: ", excerpt(error.msg, 200), hint));
  }
  return builder.take();
}

}  // namespace detail

ConfigNode parse_yaml(std::string_view text, const std::string& origin) {
  return detail::parse_yaml_value(text, origin, /*with_lines=*/true);
}

ConfigNode load_yaml(const std::string& path) {
  std::string text;
  try {
    text = read_file(path, kMostBytes);
  } catch (const DataError& error) {
    throw ConfigError(error.what());
  }
  return parse_yaml(text, path);
}

}  // namespace gato
