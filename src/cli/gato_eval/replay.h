#pragma once
#include <functional>

#include <CLI/CLI.hpp>

namespace gato::cli {

/// `gato-eval replay`. The function runs the verb when the arguments named it and returns its exit code; -1 otherwise.
std::function<int()> add_replay(CLI::App& app);

}  // namespace gato::cli
