#pragma once
#include <string>

#include "gato/core/file.h"
#include "gato/episode/import.h"

/// Content filters from files (`configs/filters/*.yaml`): docs/importing.md, "Content filter".
namespace gato::episode {

struct LoadedFilter {
  ContentFilter filter;
  std::string digest;  ///< Of the rules and word lists: for ImportOptions::content_filter_digest.
};

/// Reads a filter's YAML and the word lists it names (relative to its folder). Throws ConfigError naming file, rule and
/// problem, such as a regular expression that cannot be compiled. The filter takes time in proportion to the text's
/// length whatever the expressions (RE2), and is thread-safe.
[[nodiscard]] LoadedFilter load_content_filter(const Path& path);

}  // namespace gato::episode
