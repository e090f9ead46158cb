#include "env/control/physics.h"

#include <mujoco/mujoco.h>

#include <array>
#include <cmath>
#include <map>
#include <mutex>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/env/suite.h"

namespace gato::env::control {
namespace {

constexpr double kDifference = 1e-4;  // of linearise: truncation about 1e-8, cancellation about 1e-12

// MuJoCo ends the process when its error handler returns, so the handler throws, through MuJoCo's own frames; its
// library carries the unwind tables that this needs (control_test raises errors from inside it).
[[noreturn]] void throw_error(const char* message) { throw Error(cat("MuJoCo: ", message)); }

void log_warning(const char* message) { log::warning("env", "MuJoCo: ", message); }

void install_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    mju_user_error = throw_error;
    mju_user_warning = log_warning;
  });
}

bool diverged(const mjData& data) {
  return data.warning[mjWARN_BADQPOS].number + data.warning[mjWARN_BADQVEL].number +
             data.warning[mjWARN_BADQACC].number >
         0;
}

/// State after `steps` time steps from `state` under `control`.
std::vector<double> propagate(const mjModel& model, mjData& data, const std::vector<double>& state,
                              const std::vector<double>& control, int steps) {
  const auto n = static_cast<size_t>(model.nv);
  reset_physics(model, data);
  for (size_t i = 0; i < n; ++i) {
    data.qpos[i] = state[i];
    data.qvel[i] = state[n + i];
  }
  for (size_t i = 0; i < control.size(); ++i) data.ctrl[i] = control[i];
  advance_physics(model, data, steps);
  std::vector<double> next(data.qpos, data.qpos + n);
  next.insert(next.end(), data.qvel, data.qvel + n);
  return next;
}

}  // namespace

std::shared_ptr<const mjModel> load_model(const std::string& path) {
  install_handlers();
  std::array<char, 1024> message{};
  mjModel* model = mj_loadXML(path.c_str(), nullptr, message.data(), static_cast<int>(message.size()));
  if (model == nullptr) {
    throw ConfigError(cat("The physics model '", path, "' cannot be loaded (", trim(message.data()),
                          "): reinstall gato, or set GATO_ROOT to the folder that holds its data/models."));
  }
  model->vis.quality.shadowsize = 0;  // shadows make drawing in software twenty times slower
  model->vis.quality.offsamples = 0;  // the renderer smooths edges itself
  return {model, mj_deleteModel};
}

std::shared_ptr<const mjModel> shared_model(const std::string& file) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const mjModel>> models;
  const std::string path = cat(data_root(), "/data/models/", file);
  const std::lock_guard lock(mutex);
  auto found = models.find(path);
  if (found == models.end()) found = models.emplace(path, load_model(path)).first;
  return found->second;
}

void DataDeleter::operator()(mjData* data) const { mj_deleteData(data); }

DataPtr make_data(const mjModel& model) {
  DataPtr data(mj_makeData(&model));
  if (data == nullptr) throw Error("MuJoCo could not make a simulation: out of memory.");
  return data;
}

void reset_physics(const mjModel& model, mjData& data) { mj_resetData(&model, &data); }

void update_derived(const mjModel& model, mjData& data) { mj_forward(&model, &data); }

void advance_physics(const mjModel& model, mjData& data, int steps) {
  for (int i = 0; i < steps; ++i) mj_step(&model, &data);
  update_derived(model, data);
  if (diverged(data))
    throw Error("The simulation diverged: a position, velocity or acceleration is huge or not finite.");
}

int64_t physics_state_size(const mjModel& model) { return mj_stateSize(&model, mjSTATE_INTEGRATION); }

std::vector<double> physics_state(const mjModel& model, const mjData& data) {
  std::vector<double> state(static_cast<size_t>(physics_state_size(model)));
  mj_getState(&model, &data, state.data(), mjSTATE_INTEGRATION);
  return state;
}

void set_physics_state(const mjModel& model, mjData& data, const std::vector<double>& state) {
  GATO_CHECK(static_cast<int64_t>(state.size()) == physics_state_size(model), state.size(), " numbers for a state of ",
             physics_state_size(model));
  reset_physics(model, data);
  mj_setState(&model, &data, state.data(), mjSTATE_INTEGRATION);
  update_derived(model, data);
  // The update overwrites the solver's starting point, which is part of the state.
  mj_setState(&model, &data, state.data(), mjSTATE_INTEGRATION);
}

LinearSystem linearise(const mjModel& model, int steps) {
  GATO_CHECK(model.nq == model.nv, "linearise() needs joints of one coordinate per degree of freedom");
  const DataPtr data = make_data(model);
  const int n = 2 * model.nv;
  std::vector<double> state(static_cast<size_t>(n));
  for (int i = 0; i < model.nq; ++i) state[static_cast<size_t>(i)] = model.qpos0[i];
  std::vector<double> control(static_cast<size_t>(model.nu));

  // Column `column` of `out`: half the difference of the outcomes when `input` is moved up and down.
  const auto difference = [&](double& input, Matrix& out, int column) {
    const double middle = input;
    input = middle + kDifference;
    const std::vector<double> above = propagate(model, *data, state, control, steps);
    input = middle - kDifference;
    const std::vector<double> below = propagate(model, *data, state, control, steps);
    input = middle;
    for (int i = 0; i < n; ++i) {
      out(i, column) = (above[static_cast<size_t>(i)] - below[static_cast<size_t>(i)]) / (2 * kDifference);
    }
  };
  LinearSystem system{.a = Matrix(n, n), .b = Matrix(n, model.nu)};
  for (int i = 0; i < n; ++i) difference(state[static_cast<size_t>(i)], system.a, i);
  for (int i = 0; i < model.nu; ++i) difference(control[static_cast<size_t>(i)], system.b, i);
  return system;
}

}  // namespace gato::env::control
