#include "env/mujoco/variation.h"

#include <mujoco/mujoco.h>

#include <array>
#include <cmath>
#include <mutex>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/env/suite.h"

namespace gato::env::mujoco {
namespace {

struct SpecDeleter {
  void operator()(mjSpec* spec) const { mj_deleteSpec(spec); }
};
using SpecPtr = std::unique_ptr<mjSpec, SpecDeleter>;

double width(Variation variation) { return variation == Variation::kSmall ? 0.05 : 0.2; }

class Draw {
 public:
  Draw(Variation variation, uint64_t seed) : width_(width(variation)), rng_(mix_seed(seed, {hash_name("physics")})) {}
  double wide() { return rng_.uniform(1 - width_, 1 + width_); }
  double narrow() { return rng_.uniform(1 - width_ / 2, 1 + width_ / 2); }

 private:
  double width_;
  Rng rng_;
};

/// The next element of its kind; nullptr at the end.
template <class Visit>
void for_each(mjSpec* spec, mjtObj kind, const Visit& visit) {
  for (mjsElement* e = mjs_firstElement(spec, kind); e != nullptr; e = mjs_nextElement(spec, e)) visit(e);
}

void vary_geom(mjsGeom& geom, Draw& draw) {
  const double size = draw.narrow(), density = draw.wide();  // drawn in any case: the stream does not depend on shapes
  if (geom.mass == 0 || geom.type == mjGEOM_PLANE) return;
  for (double& length : geom.size) length *= size;
  geom.density *= density;
  if (!std::isnan(geom.mass)) geom.mass *= density;
}

void vary_joint(mjsJoint& joint, Draw& draw) {
  const double stiffness = draw.wide(), damping = draw.wide(), range = draw.narrow();
  joint.stiffness *= stiffness;
  joint.damping *= damping;
  for (double& bound : joint.range) bound *= range;
}

void vary(mjSpec* spec, Draw& draw) {
  for_each(spec, mjOBJ_GEOM, [&](mjsElement* e) { vary_geom(*mjs_asGeom(e), draw); });
  for_each(spec, mjOBJ_JOINT, [&](mjsElement* e) { vary_joint(*mjs_asJoint(e), draw); });
  for_each(spec, mjOBJ_ACTUATOR, [&](mjsElement* e) { mjs_asActuator(e)->gear[0] *= draw.wide(); });
  if (spec->compiler.settotalmass > 0) spec->compiler.settotalmass *= draw.wide();
}

}  // namespace

const char* variation_name(Variation variation) {
  switch (variation) {
    case Variation::kNone:
      return "none";
    case Variation::kSmall:
      return "small";
    case Variation::kLarge:
      return "large";
  }
  return "";
}

std::shared_ptr<const mjModel> varied_model(const std::string& file, Variation variation, uint64_t seed) {
  std::shared_ptr<const mjModel> base = control::shared_model(file);  // errors of the file, and MuJoCo's handlers
  if (variation == Variation::kNone) return base;
  const std::string path = cat(data_root(), "/data/models/", file);
  static std::mutex mutex;  // MuJoCo's parser keeps the last model read in a global
  std::array<char, 1024> message{};
  const std::lock_guard lock(mutex);
  const SpecPtr spec(mj_parseXML(path.c_str(), nullptr, message.data(), static_cast<int>(message.size())));
  if (spec == nullptr) throw ConfigError(cat("The physics model '", path, "' cannot be read: ", trim(message.data())));
  Draw draw(variation, seed);
  vary(spec.get(), draw);
  mjModel* model = mj_compile(spec.get(), nullptr);
  if (model == nullptr) {
    throw Error(cat("The physics model '", path, "' cannot be varied: ", trim(mjs_getError(spec.get()))));
  }
  model->vis.quality = base->vis.quality;
  return {model, mj_deleteModel};
}

}  // namespace gato::env::mujoco
