#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"  // Path

/// Scores that others published, as kept in data/published/*.json, each with where it is from (docs/evaluation.md).
namespace gato::run {

/// One number for many tasks.
struct PublishedHeadline {
  std::string what;  ///< "mean score, percent of the expert".
  double value = 0;
  std::optional<int64_t> tasks;  ///< Over how many.
  std::string domain;            ///< Ours that it is about; "" for no one of them.
  bool operator==(const PublishedHeadline&) const = default;
};

/// Returns of one task.
struct PublishedReturns {
  std::string name;                ///< As they call it.
  std::vector<std::string> tasks;  ///< Ours that are nearest; may be none.
  std::optional<double> random, human, expert;
  std::string note;  ///< What keeps them from being the same task.
  bool operator==(const PublishedReturns&) const = default;
};

struct PublishedScores {
  std::string system, source, table, protocol;
  std::string licence;              ///< Of the table, SPDX; "" where none is stated.
  std::vector<std::string> errors;  ///< Known ones, in words.
  std::vector<PublishedHeadline> headlines;
  std::vector<PublishedReturns> returns;
  bool operator==(const PublishedScores&) const = default;
};

/// Strict: DataError naming `origin` and the key for unknown, missing or ill-typed keys.
[[nodiscard]] PublishedScores parse_published(std::string_view json, const std::string& origin);
/// All of `folder`/*.json by file name; a missing folder gives none.
[[nodiscard]] std::vector<PublishedScores> read_published(const Path& folder);

}  // namespace gato::run
