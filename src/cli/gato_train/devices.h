#pragma once
#include <CLI/CLI.hpp>

#include <functional>

namespace gato::cli {

/// Adds `gato-train devices`. The result runs it and returns its exit code, or -1 when it was not asked for.
[[nodiscard]] std::function<int()> add_devices(CLI::App& app);

}  // namespace gato::cli
