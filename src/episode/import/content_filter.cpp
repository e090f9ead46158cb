#include <re2/re2.h>

#include <memory>
#include <utility>
#include <vector>

#include "gato/core/config.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/import_filter.h"

namespace gato::episode {

/// One reason to leave a text out.
struct ContentFilterRule {
  std::string reason;
  std::vector<std::string> words;
  std::string words_file;
  std::vector<std::string> patterns;
};
GATO_CONFIG(ContentFilterRule, GATO_FIELD(reason, "What the counts are listed under."),
            GATO_FIELD(words, "Words or phrases; found as whole words, in any case."),
            GATO_FIELD(words_file, "File of such words, one a line, beside this file; # begins a comment."),
            GATO_FIELD(patterns, "Regular expressions of RE2; found anywhere."))

void validate_config(const ContentFilterRule& rule, ConfigProblems& problems) {
  if (trim(rule.reason).empty()) problems.add("reason", "a rule needs a reason");
  if (rule.words.empty() && rule.words_file.empty() && rule.patterns.empty()) {
    problems.add("words", "a rule needs words, words_file or patterns");
  }
}

struct ContentFilterConfig {
  int64_t min_characters = 0;
  int64_t max_characters = 0;
  std::vector<ContentFilterRule> rules;
};
GATO_CONFIG(ContentFilterConfig, GATO_FIELD(min_characters, "Shorter texts are left out; >= 0."),
            GATO_FIELD(max_characters, "Longer texts are left out; 0: no limit."),
            GATO_FIELD(rules, "A text that meets any of them is left out."))

void validate_config(const ContentFilterConfig& config, ConfigProblems& problems) {
  if (config.min_characters < 0) problems.add("min_characters", "must not be negative");
  if (config.max_characters != 0 && config.max_characters < config.min_characters) {
    problems.add("max_characters", "must be 0 or at least min_characters");
  }
}

namespace {

constexpr uint64_t kMaxWordsFileBytes = uint64_t{16} << 20;
/// Memory of one compiled expression: a list of some ten thousand words fits.
constexpr int64_t kMaxExpressionBytes = int64_t{256} << 20;

struct Expression {
  std::string reason;
  std::unique_ptr<const RE2> expression;
};

Expression compile(const std::string& where, const std::string& reason, const std::string& pattern,
                   const RE2::Options& options) {
  auto expression = std::make_unique<const RE2>(pattern, options);
  if (!expression->ok()) {
    throw ConfigError(cat(where, ", rule '", reason, "': '", pattern.substr(0, 200),
                          "' is no regular expression of RE2: ", expression->error()));
  }
  return {reason, std::move(expression)};
}

/// The words of a file, without comments and blank lines.
std::vector<std::string> read_words(const Path& path) {
  const std::string content = read_file(path, kMaxWordsFileBytes);
  size_t bad = 0;
  if (!is_valid_utf8(content, &bad)) throw ConfigError(cat(path.string(), ": not valid UTF-8 at byte ", bad));
  std::vector<std::string> words;
  for (const std::string& line : split(content, '\n')) {
    const std::string_view word = trim(line);
    if (!word.empty() && word.front() != '#') words.emplace_back(word);
  }
  return words;
}

/// One expression that finds any of the words, where neither a letter nor a digit goes on before or behind it.
std::string words_pattern(const std::vector<std::string>& words) {
  std::vector<std::string> quoted;
  for (const std::string& word : words) quoted.push_back(RE2::QuoteMeta(word));
  return cat(R"((?:^|[^\pL\pN_])(?:)", join(quoted, "|"), R"()(?:$|[^\pL\pN_]))");
}

std::vector<Expression> compile_rules(const ContentFilterConfig& config, const Path& path, std::string& digest_text) {
  RE2::Options options;
  options.set_max_mem(kMaxExpressionBytes);
  options.set_log_errors(false);
  RE2::Options any_case = options;
  any_case.set_case_sensitive(false);
  std::vector<Expression> expressions;
  for (const ContentFilterRule& rule : config.rules) {
    std::vector<std::string> words = rule.words;
    if (!rule.words_file.empty()) {
      for (std::string& word : read_words(path.parent_path() / rule.words_file)) words.push_back(std::move(word));
    }
    for (const std::string& word : words) {
      if (trim(word).empty()) throw ConfigError(cat(path.string(), ", rule '", rule.reason, "': a word is empty"));
    }
    digest_text += cat("\n", rule.reason, "\n", join(words, "\n"), "\n", join(rule.patterns, "\n"));
    if (!words.empty()) {
      expressions.push_back(compile(path.string(), rule.reason, words_pattern(words), any_case));
    }
    for (const std::string& pattern : rule.patterns) {
      expressions.push_back(compile(path.string(), rule.reason, pattern, options));
    }
  }
  return expressions;
}

/// Characters of valid UTF-8: bytes that do not continue one.
int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0u) != 0x80u ? 1 : 0;
  return count;
}

}  // namespace

LoadedFilter load_content_filter(const Path& path) {
  const auto config = read_config<ContentFilterConfig>(load_yaml(path.string()));
  std::string digest_text = cat(config.min_characters, " ", config.max_characters);
  const auto expressions = std::make_shared<const std::vector<Expression>>(compile_rules(config, path, digest_text));
  LoadedFilter loaded;
  loaded.digest = digest128(digest_text);
  loaded.filter = [expressions, shortest = config.min_characters,
                   longest = config.max_characters](std::string_view text) -> std::string {
    const int64_t length = count_characters(text);
    if (length < shortest) return cat("shorter than ", shortest, " characters");
    if (longest > 0 && length > longest) return cat("longer than ", longest, " characters");
    for (const Expression& rule : *expressions) {
      if (RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *rule.expression)) return rule.reason;
    }
    return {};
  };
  return loaded;
}

}  // namespace gato::episode
