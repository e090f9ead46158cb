#pragma once
#include <functional>

#include <CLI/CLI.hpp>

/// The verbs of gato-eval that need no model, `eval_<verb>.cpp`.
namespace gato::cli {

/// `gato-eval tasks`. The function runs the verb when the arguments named it and returns its exit code; -1 otherwise.
std::function<int()> add_tasks(CLI::App& app);

}  // namespace gato::cli
