#pragma once
#include <map>
#include <optional>
#include <string>

#include "gato/env/remote.h"

namespace gato::env::mujoco {

inline constexpr const char* kFamily = "mujoco";

/// {"mujoco": version of the library that plays}.
[[nodiscard]] std::map<std::string, std::string> packages();

/// data/environments/native/mujoco.json; nothing where there is none. DataError when it is damaged.
[[nodiscard]] std::optional<RemoteFamily> read_catalogue();

/// `spec` with the returns of `catalogue`, where that is of the same specification and version.
[[nodiscard]] episode::TaskSpec with_returns(episode::TaskSpec spec, const std::optional<RemoteFamily>& catalogue);

}  // namespace gato::env::mujoco
