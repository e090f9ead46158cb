#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "env/control/lqr.h"

// MuJoCo's own types, declared as its headers do, so that only the sources include them.
typedef struct mjModel_ mjModel;
typedef struct mjData_ mjData;

/// Models and simulations on MuJoCo. Its errors become gato::Error (its own handling would end the process) and its
/// warnings log messages; it writes no log file.
namespace gato::env::control {

/// The compiled model of data/models/FILE below data_root(), shared by the whole process and never changed.
/// Thread-safe. ConfigError, with the parser's words and the remedy, when it is missing or malformed.
[[nodiscard]] std::shared_ptr<const mjModel> shared_model(const std::string& file);

/// The compiled model of the MJCF file at `path`, as above but not shared.
[[nodiscard]] std::shared_ptr<const mjModel> load_model(const std::string& path);

struct DataDeleter {
  void operator()(mjData* data) const;
};
using DataPtr = std::unique_ptr<mjData, DataDeleter>;

/// A simulation of `model`, at rest in its reference configuration. The model must outlive it.
[[nodiscard]] DataPtr make_data(const mjModel& model);

/// Sets everything to the reference configuration at rest, as after make_data.
void reset_physics(const mjModel& model, mjData& data);

/// Recomputes what follows from positions, velocities and controls (poses, inertia, forces).
void update_derived(const mjModel& model, mjData& data);

/// Integrates `steps` time steps under the present controls, then updates what follows from the state. Error when the
/// simulation diverges.
void advance_physics(const mjModel& model, mjData& data, int steps);

/// Everything that decides the future of a simulation, as numbers.
[[nodiscard]] std::vector<double> physics_state(const mjModel& model, const mjData& data);
[[nodiscard]] int64_t physics_state_size(const mjModel& model);
/// Puts a state of physics_state_size(model) numbers back: the simulation continues bit for bit.
void set_physics_state(const mjModel& model, mjData& data, const std::vector<double>& state);

/// The model's dynamics over `steps` time steps, linear in the deviation from rest at its reference configuration
/// without control, by central differences. The state is (positions, velocities). For models without quaternions.
[[nodiscard]] LinearSystem linearise(const mjModel& model, int steps);

}  // namespace gato::env::control
