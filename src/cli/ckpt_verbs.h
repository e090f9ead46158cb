#pragma once
#include <functional>

#include <CLI/CLI.hpp>

/// The verbs of gato-ckpt, `ckpt_<verb>.cpp`.
namespace gato::cli {

/// Runs the verb when the arguments named it and returns its exit code; -1 otherwise.
using CkptVerb = std::function<int()>;

CkptVerb add_ckpt_list(CLI::App& app);
CkptVerb add_ckpt_verify(CLI::App& app);
CkptVerb add_ckpt_diff(CLI::App& app);
CkptVerb add_ckpt_export(CLI::App& app);
CkptVerb add_ckpt_pin(CLI::App& app);
CkptVerb add_ckpt_prune(CLI::App& app);

}  // namespace gato::cli
