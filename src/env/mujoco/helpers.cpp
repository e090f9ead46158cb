#include "env/mujoco/helpers.h"

#include <mujoco/mujoco.h>

#include <numbers>

#include "gato/core/error.h"

namespace gato::env::mujoco {
namespace {

size_t index_of(const Sim& sim, mjtObj kind, const char* name) {
  const int id = mj_name2id(&sim.model, kind, name);
  GATO_CHECK(id >= 0, "the model has no '", name, "'");
  return static_cast<size_t>(id);
}

FieldValue numbers_of(const double* begin, const double* end) {
  FieldValue value;
  for (; begin != end; ++begin) value.continuous.push_back(static_cast<float>(*begin));
  return value;
}

}  // namespace

FieldValue positions(const Sim& sim, int first) {
  return numbers_of(sim.data.qpos + first, sim.data.qpos + sim.model.nq);
}

FieldValue velocities(const Sim& sim) { return numbers_of(sim.data.qvel, sim.data.qvel + sim.model.nv); }

const double* centre_of_mass(const Sim& sim) { return sim.data.subtree_com + 3 * size_t{1}; }

const double* body_position(const Sim& sim, const char* body) {
  return sim.data.xpos + 3 * index_of(sim, mjOBJ_BODY, body);
}

const double* body_centre(const Sim& sim, const char* body) {
  return sim.data.xipos + 3 * index_of(sim, mjOBJ_BODY, body);
}

const double* body_orientation(const Sim& sim, const char* body) {
  return sim.data.xmat + 9 * index_of(sim, mjOBJ_BODY, body);
}

const double* site_position(const Sim& sim, const char* site) {
  return sim.data.site_xpos + 3 * index_of(sim, mjOBJ_SITE, site);
}

const double* sensor(const Sim& sim, const char* name) {
  return sim.data.sensordata + sim.model.sensor_adr[index_of(sim, mjOBJ_SENSOR, name)];
}

void randomise_joints(const Sim& sim, Rng& rng) {
  for (int joint = 0; joint < sim.model.njnt; ++joint) {
    double& position = sim.data.qpos[sim.model.jnt_qposadr[joint]];
    if (sim.model.jnt_limited[joint] != 0) {
      position = rng.uniform(sim.model.jnt_range[2 * joint], sim.model.jnt_range[2 * joint + 1]);
    } else if (sim.model.jnt_type[joint] == mjJNT_HINGE) {
      position = rng.uniform(-std::numbers::pi, std::numbers::pi);
    }
  }
}

episode::FieldSpec seen(std::string name, int64_t size, std::string unit) {
  episode::FieldSpec field;
  field.name = std::move(name);
  field.modality = episode::Modality::kContinuous;
  field.shape = {size};
  field.unit = std::move(unit);
  return field;
}

}  // namespace gato::env::mujoco
