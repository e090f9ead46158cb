#pragma once
#include <string>
#include <vector>

#include "import_formats.h"

/// Formats that a Python program reads by the official library, and writes as an episode stream: tools/import/.
namespace gato::cli {

/// An option that is handed to the program as it is.
struct ProgramOption {
  std::string name;  ///< "--task".
  std::string help;
  bool repeatable = false;
};

struct ImportProgram {
  std::string name;  ///< Of the format: "minari".
  std::string description, sources_help;
  std::string script;  ///< Below tools/import/: "minari_to_stream.py".
  std::vector<ProgramOption> options;
};

/// `gato-data import NAME SOURCE`: runs the script by the Python of `tools/setup --import` and reads its stream.
ImportCommand program_import(ImportProgram program);

/// The Python that tools/setup --import made: $GATO_DEPS_DIR/import/bin/python, or in .deps of `root`. ConfigError when
/// it is missing, saying what to do.
[[nodiscard]] std::string import_python(const std::string& root);

}  // namespace gato::cli
