#pragma once
#include <functional>

#include <CLI/CLI.hpp>

namespace gato::cli {

/// `gato-train replay`: runs the verb when the arguments named it and returns its exit code; -1 otherwise.
std::function<int()> add_replay(CLI::App& app);

}  // namespace gato::cli
