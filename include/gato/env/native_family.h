#pragma once
#include <map>
#include <string>
#include <vector>

#include "gato/env/remote.h"

/// Families of tasks played in this process whose expert is too costly to measure whenever it is asked for: like those
/// of Python packages they have a catalogue of measured returns, data/environments/native/FAMILY.json.
namespace gato::env {

[[nodiscard]] const std::vector<std::string>& native_families();  ///< "mujoco".
[[nodiscard]] bool is_native_family(const std::string& family);

/// The family's tasks as they are here, with the returns that the catalogue knows of the same specification and
/// version. ConfigError for a name that is no native family, DataError for a damaged catalogue.
[[nodiscard]] RemoteFamily native_family(const std::string& family);

/// Versions of the libraries that play a task of a native family; none for other names.
[[nodiscard]] std::map<std::string, std::string> native_packages_of(const std::string& task);

}  // namespace gato::env
