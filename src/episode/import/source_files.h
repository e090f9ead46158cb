#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/episode/import.h"

namespace gato::episode {

/// One file of a source.
struct SourceFile {
  Path path;
  ImportUnit unit;  ///< Name: the path below the folder that was given, or the file's name; the same on every machine.
};

/// Files given by name, and files with a fitting name (`fits`, of the name alone) below folders, in name order; hidden
/// ones are passed over. ConfigError when a source does not exist or a folder holds none; `what` says what was looked
/// for ("*.tar").
[[nodiscard]] std::vector<SourceFile> find_source_files(const std::vector<Path>& sources,
                                                        const std::function<bool(std::string_view name)>& fits,
                                                        std::string_view what);

[[nodiscard]] std::vector<ImportUnit> units_of(const std::vector<SourceFile>& files);

}  // namespace gato::episode
