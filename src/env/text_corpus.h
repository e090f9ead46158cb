#pragma once
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/env/suite.h"
#include "gato/episode/spec.h"

namespace gato::env {

/// The files of a corpus, in order.
[[nodiscard]] std::vector<Path> corpus_files(const SuiteText& text);

/// The documents of one file, without blanks at their ends; empty ones are left out. DataError naming file and byte for
/// invalid UTF-8, ConfigError for a file without documents.
[[nodiscard]] std::vector<std::string> read_documents(const Path& file, const std::string& separator);

/// A document is one step without observation whose action is its text.
[[nodiscard]] episode::TaskSpec corpus_spec(const SuiteText& text);

}  // namespace gato::env
