#pragma once
#include <vector>

#include "env/mujoco/mujoco_environment.h"

/// What the tasks ask of a simulation.
namespace gato::env::mujoco {

/// Positions of the joints from coordinate `first` on.
[[nodiscard]] FieldValue positions(const Sim& sim, int first = 0);
[[nodiscard]] FieldValue velocities(const Sim& sim);
/// x, y, z of the centre of mass of the first body and what hangs on it.
[[nodiscard]] const double* centre_of_mass(const Sim& sim);

// By name; ContractError for a name that the model lacks.
[[nodiscard]] const double* body_position(const Sim& sim, const char* body);     ///< x, y, z of its frame.
[[nodiscard]] const double* body_centre(const Sim& sim, const char* body);       ///< x, y, z of its centre of mass.
[[nodiscard]] const double* body_orientation(const Sim& sim, const char* body);  ///< 3 x 3, row-major.
[[nodiscard]] const double* site_position(const Sim& sim, const char* site);     ///< x, y, z.
[[nodiscard]] const double* sensor(const Sim& sim, const char* name);

/// Draws every limited joint inside its range and every other hinge in [-pi, pi].
void randomise_joints(const Sim& sim, Rng& rng);

/// A continuous field without bounds.
[[nodiscard]] episode::FieldSpec seen(std::string name, int64_t size, std::string unit);

}  // namespace gato::env::mujoco
