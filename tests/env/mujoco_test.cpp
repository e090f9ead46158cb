#include <gtest/gtest.h>
#include <mujoco/mujoco.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "env/mujoco/tasks.h"
#include "env/mujoco/tolerance.h"
#include "env/native.h"
#include "gato/core/error.h"
#include "gato/env/conformance.h"
#include "gato/env/native_family.h"

namespace gato::env::mujoco {
namespace {

const std::map<std::string, MujocoTask (*)()>& bodies() {
  static const std::map<std::string, MujocoTask (*)()> tasks = {{"acrobot_swingup", acrobot_swingup},
                                                                {"ball_in_cup_catch", ball_in_cup_catch},
                                                                {"cartpole_swingup", cartpole_swingup},
                                                                {"cheetah_run", cheetah_run},
                                                                {"finger_spin", finger_spin},
                                                                {"hopper_hop", hopper_hop},
                                                                {"hopper_stand", hopper_stand},
                                                                {"walker_stand", walker_stand},
                                                                {"walker_walk", walker_walk}};
  return tasks;
}

/// A task that ends soon, without an expert: planning whole episodes takes minutes (gato-data environments mujoco
/// --check does that).
TaskEntry short_entry(const std::string& name, Variation variation, int64_t steps) {
  MujocoTask task = bodies().at(name)();
  task.spec.id = "mujoco/" + task.spec.id;
  task.spec.max_steps = steps;
  task.variation = variation;
  TaskEntry entry = make_entry(std::move(task), std::nullopt);
  entry.make_expert = {};
  return entry;
}

class MujocoTest : public testing::TestWithParam<std::string> {};

TEST_P(MujocoTest, KeepsTheContract) {
  ConformanceOptions options;
  options.episodes = 2;
  for (const Variation variation : {Variation::kNone, Variation::kLarge}) {
    const TaskEntry entry = short_entry(GetParam(), variation, 20);
    const std::vector<std::string> violations = check_environment(entry, options);
    EXPECT_TRUE(violations.empty()) << variation_name(variation) << ": " << join(violations, "\n");
  }
}

TEST_P(MujocoTest, RewardsAreShares) {
  const TaskEntry entry = short_entry(GetParam(), Variation::kNone, 60);
  const std::unique_ptr<Environment> environment = entry.make();
  for (uint64_t seed = 0; seed < 2; ++seed) {
    environment->reset(seed);
    Rng rng(seed);
    StepResult result;
    while (!result.done()) {
      result = environment->step(random_action(environment->spec(), rng));
      EXPECT_GE(result.reward, 0);
      EXPECT_LE(result.reward, 1);
      EXPECT_EQ(result.failure, "");
    }
  }
}

TEST_P(MujocoTest, DamagedSnapshotsAreRefused) {
  const TaskEntry entry = short_entry(GetParam(), Variation::kNone, 20);
  const std::unique_ptr<Environment> environment = entry.make();
  environment->reset(3);
  const std::string whole = environment->snapshot().value();
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(environment->restore(whole.substr(0, size)), DataError) << size << " bytes";
  }
  EXPECT_THROW(environment->restore(whole + "x"), DataError);
  for (size_t byte = 0; byte < whole.size(); ++byte) {
    std::string flipped = whole;
    flipped[byte] = static_cast<char>(flipped[byte] ^ 0x20);
    EXPECT_THROW(environment->restore(flipped), DataError) << "byte " << byte;
  }
  EXPECT_EQ(environment->snapshot(), whole);  // what was refused changed nothing
  EXPECT_NO_THROW(environment->restore(whole));
}

INSTANTIATE_TEST_SUITE_P(Tasks, MujocoTest, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, make] : bodies()) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& tested) { return tested.param; });

TEST(MujocoTasksTest, AreRegisteredInThreeDomains) {
  std::map<std::string, int> domains;
  for (const TaskEntry& entry : mujoco_tasks()) {
    ++domains[entry.id.substr(0, entry.id.find('/'))];
    ASSERT_TRUE(entry.known.has_value());
    EXPECT_EQ(entry.known->id, entry.id);
    EXPECT_EQ(entry.known->max_steps, 1000);
    EXPECT_TRUE(entry.make_expert);
    EXPECT_TRUE(entry.family.empty());
    EXPECT_EQ(native_packages_of(entry.id).count("mujoco"), 1U) << entry.id;
  }
  EXPECT_EQ(domains, (std::map<std::string, int>{{"mujoco", 9}, {"mujoco_large", 9}, {"mujoco_small", 9}}));
  EXPECT_TRUE(native_packages_of("control/reacher").empty());
}

TEST(MujocoTasksTest, TheFamilysCatalogueIsReadBack) {
  const RemoteFamily family = native_family("mujoco");
  EXPECT_EQ(family.tasks.size(), 27U);
  const RemoteFamily read = parse_catalogue(to_json(family), "test.json");
  ASSERT_EQ(read.tasks.size(), family.tasks.size());
  for (size_t i = 0; i < read.tasks.size(); ++i) EXPECT_EQ(read.tasks[i].spec, family.tasks[i].spec);
  EXPECT_THROW(static_cast<void>(native_family("metaworld")), ConfigError);
}

TEST(MujocoTasksTest, MassesAreThoseOfTheSuite) {
  // Total masses of dm_control's models (its XML, compiled by MuJoCo 3.3.0).
  const std::map<std::string, double> masses = {
      {"swing_cart.xml", 1.1},   {"acrobot.xml", 2.0},      {"ball_in_cup.xml", 0.130603}, {"finger.xml", 3.979053},
      {"hopper.xml", 12.439154}, {"walker.xml", 28.540322}, {"cheetah.xml", 14.0}};
  for (const auto& [file, expected] : masses) {
    const auto model = control::shared_model(file);
    double mass = 0;
    for (int body = 0; body < model->nbody; ++body) mass += model->body_mass[body];
    EXPECT_NEAR(mass, expected, 1e-6 * std::max(1.0, expected)) << file;
  }
}

TEST(ToleranceTest, HasThePublishedValues) {
  EXPECT_EQ(near(1, 0, 2, 1), 1);
  EXPECT_NEAR(near(3, 0, 2, 1), 0.1, 1e-12);   // at the margin
  EXPECT_NEAR(near(-2, 0, 2, 2), 0.1, 1e-12);  // below as above
  EXPECT_NEAR(near(2.5, 0, 2, 1), std::pow(0.1, 0.25), 1e-12);
  EXPECT_NEAR(near_linear(1, 2, kUnbounded, 2, 0.5), 0.75, 1e-12);
  EXPECT_NEAR(near_linear(-1, 2, kUnbounded, 1, 0.5), 0, 1e-12);
  EXPECT_EQ(near_linear(7, 2, kUnbounded, 1, 0.5), 1);
  EXPECT_NEAR(near_quadratic(-0.5), 0.75, 1e-12);
  EXPECT_EQ(near_quadratic(3), 0);
  EXPECT_EQ(inside(2, 0, 2), 1);
  EXPECT_EQ(inside(2.001, 0, 2), 0);
}

TEST(VariationTest, FactorsStayInTheirIntervalsAndFollowTheSeed) {
  const auto base = control::shared_model("cheetah.xml");
  for (const auto& [variation, width] : {std::pair{Variation::kSmall, 0.05}, std::pair{Variation::kLarge, 0.2}}) {
    double widest = 0;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const auto model = varied_model("cheetah.xml", variation, seed);
      const auto again = varied_model("cheetah.xml", variation, seed);
      ASSERT_EQ(model->nq, base->nq);
      const auto check = [&](mjtNum varied, mjtNum repeated, mjtNum original, double most) {
        EXPECT_EQ(varied, repeated);
        if (original == 0) {
          EXPECT_EQ(varied, 0);
          return;
        }
        EXPECT_LE(std::abs(varied / original - 1), most + 1e-9);
        widest = std::max(widest, std::abs(varied / original - 1));
      };
      for (int i = 0; i < base->nu; ++i) {
        check(model->actuator_gear[6 * i], again->actuator_gear[6 * i], base->actuator_gear[6 * i], width);
      }
      for (int i = 0; i < base->njnt; ++i) {
        check(model->jnt_stiffness[i], again->jnt_stiffness[i], base->jnt_stiffness[i], width);
        check(model->jnt_range[2 * i], again->jnt_range[2 * i], base->jnt_range[2 * i], width / 2);
        check(model->dof_damping[i], again->dof_damping[i], base->dof_damping[i], width);
      }
      for (int i = 0; i < base->ngeom; ++i) {
        check(model->geom_size[3 * i], again->geom_size[3 * i], base->geom_size[3 * i], width / 2);
      }
    }
    EXPECT_GT(widest, 0.8 * width);
  }
}

TEST(VariationTest, EpisodesDifferInTheirPhysicsAndSnapshotsCarryThem) {
  const TaskEntry entry = short_entry("cartpole_swingup", Variation::kLarge, 50);
  const auto environment = entry.make(), other = entry.make();
  const auto& first = dynamic_cast<MujocoEnvironment&>(*environment);
  const auto& second = dynamic_cast<MujocoEnvironment&>(*other);
  environment->reset(1);
  other->reset(2);
  EXPECT_NE(first.model().actuator_gear[0], second.model().actuator_gear[0]);
  other->restore(environment->snapshot().value());
  EXPECT_EQ(first.model().actuator_gear[0], second.model().actuator_gear[0]);
  EXPECT_EQ(first.model().body_mass[1], second.model().body_mass[1]);
}

}  // namespace
}  // namespace gato::env::mujoco
