#pragma once
#include <functional>

#include <CLI/CLI.hpp>

/// The verbs of gato-eval about a run's evaluation queue and results. Each function declares its verb and returns what
/// runs it when the arguments named it: that gives the exit code, or -1.
namespace gato::cli {

std::function<int()> add_status(CLI::App& app);
std::function<int()> add_enqueue(CLI::App& app);
std::function<int()> add_retry(CLI::App& app);
std::function<int()> add_cancel(CLI::App& app);
std::function<int()> add_compare(CLI::App& app);

}  // namespace gato::cli
