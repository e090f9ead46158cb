#pragma once
#include <functional>

#include <CLI/CLI.hpp>

/// The verbs of gato-data that have a file of their own, `data_<verb>.cpp`.
namespace gato::cli {

/// Runs the verb when the arguments named it and returns its exit code; -1 otherwise.
using Verb = std::function<int()>;

Verb add_environments(CLI::App& app);
Verb add_explain(CLI::App& app);
Verb add_filter(CLI::App& app);
Verb add_import(CLI::App& app);
Verb add_statistics(CLI::App& app);

}  // namespace gato::cli
