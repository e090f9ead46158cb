#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <thread>

#include "env/control/physics.h"
#include "env/control/renderer.h"
#include "env/native.h"
#include "gato/core/error.h"
#include "gato/core/threads.h"
#include "gato/env/suite.h"
#include "support/temp_folder.h"

// MuJoCo's own functions to raise errors and warnings, declared as in its header.
extern "C" {
void mju_error(const char* message, ...);
void mju_warning(const char* message, ...);
}

// OSMesa is not instrumented: the sanitizers do not see how its threads wait for each other, nor how it finds its
// memory again. They call these functions, where there are sanitizers.
extern "C" {
const char* __lsan_default_suppressions();
const char* __lsan_default_suppressions() { return "leak:libOSMesa.so\n"; }
const char* __tsan_default_suppressions();
const char* __tsan_default_suppressions() {
  return "race:libOSMesa.so\ncalled_from_lib:libOSMesa.so\ndeadlock:libLLVM\n";
}
}

namespace gato::env {
namespace {

constexpr int kReferenceEpisodes = 100;

const TaskEntry& entry(const std::string& id) {
  static const std::vector<TaskEntry> entries = control_tasks();
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const TaskEntry& e) { return e.id == id; });
  GATO_CHECK(found != entries.end(), "no task ", id);
  return *found;
}

StepValues constant_action(const TaskSpec& spec, float value) {
  StepValues action(1);
  action[0].continuous.assign(static_cast<size_t>(spec.action[0].num_elements()), value);
  return action;
}

/// Everything an agent gets from an episode, in one comparable list.
std::vector<double> play_trace(Environment& environment, uint64_t seed, uint64_t action_seed, int steps) {
  std::vector<double> trace;
  const auto add = [&](const StepValues& values) {
    for (const FieldValue& value : values) trace.insert(trace.end(), value.continuous.begin(), value.continuous.end());
  };
  add(environment.reset(seed));
  Rng rng(action_seed);
  for (int i = 0; i < steps; ++i) {
    const StepResult result = environment.step(random_action(environment.spec(), rng));
    add(result.observation);
    trace.push_back(result.reward);
  }
  return trace;
}

class ControlTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Environment> make() const { return entry(GetParam()).make(); }
};

TEST_P(ControlTest, SpecificationIsSound) {
  const std::unique_ptr<Environment> environment = make();
  const TaskSpec& spec = environment->spec();
  EXPECT_NO_THROW(episode::check_task_spec(spec));
  EXPECT_EQ(spec.id, GetParam());
  EXPECT_FALSE(spec.description.empty());
  EXPECT_EQ(spec.max_steps, 200);
  EXPECT_EQ(spec.scoring, episode::Scoring::kReturn);
  EXPECT_FALSE(spec.partial_view);
  for (const episode::FieldSpec& field : spec.observation) EXPECT_FALSE(field.unit.empty()) << field.name;
  for (const episode::FieldSpec& field : spec.action) EXPECT_FALSE(field.unit.empty()) << field.name;
}

TEST_P(ControlTest, ReplayOfASeedIsIdentical) {
  const std::unique_ptr<Environment> first = make();
  const std::unique_ptr<Environment> second = make();
  const std::vector<double> trace = play_trace(*first, 11, 1, 200);
  play_trace(*second, 12, 2, 60);  // what was played before does not matter
  EXPECT_EQ(play_trace(*second, 11, 1, 200), trace);
  EXPECT_NE(play_trace(*second, 12, 1, 200), trace);
}

TEST_P(ControlTest, ThreadsPlayIdenticallyAtTheSameTime) {
  const std::vector<double> expected = play_trace(*make(), 11, 1, 200);
  std::vector<std::vector<double>> traces(4);
  parallel_for(
      4, [&](int64_t i) { traces[static_cast<size_t>(i)] = play_trace(*make(), 11, 1, 200); }, 4);
  for (const std::vector<double>& trace : traces) EXPECT_EQ(trace, expected);
}

TEST_P(ControlTest, ActionsAreClippedToTheirBounds) {
  const std::unique_ptr<Environment> inside = make();
  const std::unique_ptr<Environment> outside = make();
  for (const float beyond : {7.0F, std::numeric_limits<float>::infinity()}) {
    for (const float sign : {-1.0F, 1.0F}) {
      inside->reset(3);
      outside->reset(3);
      for (int i = 0; i < 20; ++i) {
        const StepResult expected = inside->step(constant_action(inside->spec(), sign));
        EXPECT_EQ(outside->step(constant_action(outside->spec(), sign * beyond)).observation, expected.observation);
      }
    }
  }
}

TEST_P(ControlTest, ActionsThatDoNotFitAreRefusedAndChangeNothing) {
  const std::unique_ptr<Environment> environment = make();
  environment->reset(3);
  const std::optional<std::string> before = environment->snapshot();
  const StepValues good = constant_action(environment->spec(), 0.5F);
  StepValues nan = good;
  nan[0].continuous.back() = std::numeric_limits<float>::quiet_NaN();
  StepValues longer = good;
  longer[0].continuous.push_back(0);
  EXPECT_THROW(environment->step(nan), DataError);
  EXPECT_THROW(environment->step(longer), DataError);
  EXPECT_THROW(environment->step({}), DataError);
  EXPECT_THROW(environment->step({good[0], good[0]}), DataError);
  EXPECT_EQ(environment->snapshot(), before);
  EXPECT_NO_THROW(environment->step(good));
}

TEST_P(ControlTest, EpisodesAreTruncatedAtTheLimitOnly) {
  const std::unique_ptr<Environment> environment = make();
  const StepValues action = constant_action(environment->spec(), 1);
  EXPECT_THROW(environment->step(action), ContractError);  // no reset() yet
  for (uint64_t seed = 0; seed < 2; ++seed) {
    environment->reset(seed);
    for (int i = 1; i <= 200; ++i) {
      const StepResult result = environment->step(action);
      EXPECT_FALSE(result.terminated);
      EXPECT_EQ(result.truncated, i == 200);
      EXPECT_FALSE(result.success.has_value());
    }
    EXPECT_THROW(environment->step(action), ContractError);
  }
}

/// Steps both with the same actions and expects the same until the end.
void expect_same_end(Environment& a, Environment& b, bool constant) {
  Rng rng(17);
  StepResult left, right;
  do {
    const StepValues action = constant ? constant_action(a.spec(), 1) : random_action(a.spec(), rng);
    left = a.step(action);
    right = b.step(action);
    ASSERT_EQ(left.observation, right.observation);
    ASSERT_EQ(left.reward, right.reward);
    ASSERT_EQ(left.truncated, right.truncated);
  } while (!left.done());
}

TEST_P(ControlTest, RestoredSnapshotsContinueIdentically) {
  // Constant actions press against the stops of cart and mass, where the constraint solver starts from its last
  // solution.
  for (const bool constant : {false, true}) {
    const std::unique_ptr<Environment> original = make();
    const std::unique_ptr<Environment> copy = make();
    copy->reset(99);
    original->reset(4);
    for (int i = 0; i < 120; ++i) original->step(constant_action(original->spec(), constant ? 1.0F : 0.2F));
    const std::optional<std::string> snapshot = original->snapshot();
    ASSERT_TRUE(snapshot.has_value());
    copy->restore(*snapshot);
    EXPECT_EQ(copy->snapshot(), snapshot);
    const std::optional<Image> picture = original->frame();
    EXPECT_EQ(copy->frame(), picture);
    expect_same_end(*original, *copy, constant);
    copy->restore(*snapshot);  // and back again after the end
    original->restore(*snapshot);
    expect_same_end(*original, *copy, constant);
  }
}

TEST_P(ControlTest, ExpertsContinueIdenticallyAfterRestore) {
  const std::unique_ptr<Environment> original = make();
  const std::unique_ptr<Environment> copy = make();
  original->reset(4);
  const std::unique_ptr<Expert> expert = entry(GetParam()).make_expert(*original);
  const std::unique_ptr<Expert> other = entry(GetParam()).make_expert(*copy);
  for (int i = 0; i < 10; ++i) original->step(expert->act());
  copy->restore(original->snapshot().value());
  EXPECT_EQ(other->act(), expert->act());
}

TEST_P(ControlTest, DamagedSnapshotsAreRefused) {
  const std::unique_ptr<Environment> environment = make();
  environment->reset(4);
  const std::string snapshot = environment->snapshot().value();
  for (size_t size = 0; size < snapshot.size(); ++size) {
    EXPECT_THROW(environment->restore(snapshot.substr(0, size)), DataError) << size << " bytes";
  }
  EXPECT_THROW(environment->restore(snapshot + 'x'), DataError);
  for (size_t i = 0; i < snapshot.size(); ++i) {
    std::string flipped = snapshot;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    EXPECT_THROW(environment->restore(flipped), DataError) << "byte " << i;
  }
  EXPECT_EQ(environment->snapshot(), snapshot);
}

/// Whether a value lies inside its field's bounds.
testing::AssertionResult in_bounds(const TaskSpec& spec, const StepValues& observation) {
  for (size_t f = 0; f < observation.size(); ++f) {
    const episode::FieldSpec& field = spec.observation[f];
    for (size_t i = 0; i < observation[f].continuous.size(); ++i) {
      const float value = observation[f].continuous[i];
      const auto element = static_cast<int64_t>(i);
      if (!(value >= field.low_of(element) && value <= field.high_of(element))) {
        return testing::AssertionFailure() << field.name << "[" << i << "] = " << value;
      }
    }
  }
  return testing::AssertionSuccess();
}

TEST_P(ControlTest, ObservationsAndRewardsStayInBounds) {
  const std::unique_ptr<Environment> environment = make();
  for (uint64_t seed = 0; seed < 40; ++seed) {
    ASSERT_TRUE(in_bounds(environment->spec(), environment->reset(seed)));
    Rng rng(seed);
    StepValues action = constant_action(environment->spec(), seed % 2 == 0 ? 1.0F : -1.0F);
    for (int i = 0; i < 200; ++i) {
      if (seed % 4 >= 2) {
        action = random_action(environment->spec(), rng);
      } else if (rng.below(15) == 0) {
        for (float& value : action[0].continuous)
          value = rng.below(2) == 0 ? -1.0F : 1.0F;  // full force, now and then turned
      }
      const StepResult result = environment->step(action);
      ASSERT_TRUE(in_bounds(environment->spec(), result.observation)) << "seed " << seed << ", step " << i;
      ASSERT_GE(result.reward, 0);
      ASSERT_LE(result.reward, 1);
    }
  }
}

struct Returns {
  double mean = 0, lowest = 1e9;
};

Returns measure(const TaskEntry& task, bool expert_plays) {
  const std::unique_ptr<Environment> environment = task.make();
  const std::unique_ptr<Expert> expert = task.make_expert(*environment);
  Returns returns;
  for (uint64_t seed = 0; seed < kReferenceEpisodes; ++seed) {
    environment->reset(seed);
    Rng rng(seed);
    double sum = 0;
    for (bool done = false; !done;) {
      const StepValues action = expert_plays ? expert->act() : random_action(environment->spec(), rng);
      const StepResult result = environment->step(action);
      sum += result.reward;
      done = result.done();
    }
    returns.mean += sum / kReferenceEpisodes;
    returns.lowest = std::min(returns.lowest, sum);
  }
  return returns;
}

TEST_P(ControlTest, ExpertIsFarAboveRandom) {
  // Of at most 200. An expert that needs two seconds to get there cannot have more than 150 or so.
  const std::map<std::string, double> bars{{"control/cartpole_balance", 175},
                                           {"control/pendulum_swingup", 145},
                                           {"control/reacher", 140},
                                           {"control/point_mass", 140}};
  const Returns expert = measure(entry(GetParam()), true);
  const Returns random = measure(entry(GetParam()), false);
  std::cout << GetParam() << ": expert " << expert.mean << " (lowest " << expert.lowest << "), random " << random.mean
            << "\n";
  EXPECT_GE(expert.mean, bars.at(GetParam()));
  EXPECT_GE(expert.lowest, 100);
  EXPECT_LT(random.mean, 0.25 * expert.mean);
}

TEST_P(ControlTest, ExpertRefusesTheEnvironmentOfAnotherTask) {
  const std::string other = GetParam() == "control/reacher" ? "control/point_mass" : "control/reacher";
  const std::unique_ptr<Environment> environment = entry(other).make();
  EXPECT_THROW(entry(GetParam()).make_expert(*environment), ContractError);
}

int count_target_pixels(const Image& image) {
  int count = 0;
  for (size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
    const int red = image.pixels[i], green = image.pixels[i + 1], blue = image.pixels[i + 2];
    if (red > 150 && green < 110 && blue < 130 && red > 2 * blue) ++count;
  }
  return count;
}

double share_of_equal_pixels(const Image& a, const Image& b) {
  size_t equal = 0;
  for (size_t i = 0; i < a.pixels.size(); i += 3) {
    equal += std::equal(a.pixels.begin() + static_cast<ptrdiff_t>(i), a.pixels.begin() + static_cast<ptrdiff_t>(i + 3),
                        b.pixels.begin() + static_cast<ptrdiff_t>(i));
  }
  return 3.0 * static_cast<double>(equal) / static_cast<double>(a.pixels.size());
}

TEST_P(ControlTest, FramesShowTheTargetAndTheMotion) {
  const std::unique_ptr<Environment> environment = make();
  environment->reset(5);
  const std::optional<Image> first = environment->frame();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->width, 128);
  EXPECT_EQ(first->height, 128);
  ASSERT_EQ(first->pixels.size(), 128u * 128u * 3u);
  EXPECT_EQ(environment->frame(), first);  // drawing changes nothing
  EXPECT_GE(count_target_pixels(*first), 12);
  EXPECT_LE(count_target_pixels(*first), 1200);

  for (int i = 0; i < 25; ++i) environment->step(constant_action(environment->spec(), 1));
  const std::optional<Image> later = environment->frame();
  ASSERT_TRUE(later.has_value());
  EXPECT_NE(later, first);
  EXPECT_GT(share_of_equal_pixels(*first, *later), 0.8);  // the camera and the background stand still
  environment->reset(5);
  EXPECT_EQ(environment->frame(), first);
}

TEST_P(ControlTest, FramesAreTheSameOnEveryThread) {
  const std::unique_ptr<Environment> environment = make();
  environment->reset(5);
  const std::optional<Image> expected = environment->frame();
  ASSERT_TRUE(expected.has_value());
  std::vector<std::optional<Image>> frames(2);
  std::vector<std::thread> threads;
  for (std::optional<Image>& frame : frames) {
    threads.emplace_back([&, this] {
      const std::unique_ptr<Environment> own = make();
      own->reset(5);
      frame = own->frame();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::optional<Image>& frame : frames) EXPECT_EQ(frame, expected);
}

INSTANTIATE_TEST_SUITE_P(Tasks, ControlTest,
                         testing::Values("control/cartpole_balance", "control/pendulum_swingup", "control/reacher",
                                         "control/point_mass"),
                         [](const auto& tested) { return tested.param.substr(std::string("control/").size()); });

TEST(ControlTasksTest, AreTheFourOfThisFamily) {
  std::vector<std::string> ids;
  for (const TaskEntry& task : control_tasks()) ids.push_back(task.id);
  EXPECT_EQ(ids, (std::vector<std::string>{"control/cartpole_balance", "control/pendulum_swingup", "control/reacher",
                                           "control/point_mass"}));
}

/// Elements of the observation field `name`.
std::vector<float> field(const Environment& environment, const StepValues& observation, const std::string& name) {
  for (size_t i = 0; i < observation.size(); ++i) {
    if (environment.spec().observation[i].name == name) return observation[i].continuous;
  }
  throw ContractError(cat("no field ", name));
}

TEST(PointMassTest, FollowsNewton) {
  const std::unique_ptr<Environment> environment = entry("control/point_mass").make();
  const StepValues start = environment->reset(8);
  EXPECT_EQ(field(*environment, start, "velocity"), (std::vector<float>{0, 0}));
  StepValues action = constant_action(environment->spec(), 1);
  action[0].continuous[1] = -0.5F;
  const StepValues seen = environment->step(action).observation;
  // v' = (v + h F / m) / (1 + h d / m), twice, with h = 0.01 s, m = 1 kg, d = 0.5 N s/m, F = 3 N and -1.5 N.
  const std::vector<float> velocity = field(*environment, seen, "velocity");
  const double gained = (0.03 / 1.005 + 0.03) / 1.005;
  EXPECT_NEAR(velocity[0], gained, 1e-6);
  EXPECT_NEAR(velocity[1], -gained / 2, 1e-6);
}

TEST(PointMassTest, TargetStaysWhereItIs) {
  const std::unique_ptr<Environment> environment = entry("control/point_mass").make();
  const auto target = [&](const StepValues& seen) {
    const std::vector<float> position = field(*environment, seen, "position");
    const std::vector<float> to_target = field(*environment, seen, "to_target");
    return std::vector<double>{position[0] + to_target[0], position[1] + to_target[1]};
  };
  const std::vector<double> expected = target(environment->reset(8));
  Rng rng(1);
  for (int i = 0; i < 50; ++i) {
    const std::vector<double> now = target(environment->step(random_action(environment->spec(), rng)).observation);
    EXPECT_NEAR(now[0], expected[0], 1e-6);
    EXPECT_NEAR(now[1], expected[1], 1e-6);
  }
}

TEST(ReacherTest, ExpertBringsTheTipToEveryTarget) {
  const std::unique_ptr<Environment> environment = entry("control/reacher").make();
  const std::unique_ptr<Expert> expert = entry("control/reacher").make_expert(*environment);
  for (uint64_t seed = 0; seed < 30; ++seed) {
    environment->reset(seed);
    StepResult result;
    while (!result.done()) result = environment->step(expert->act());
    const std::vector<float> offset = field(*environment, result.observation, "to_target");
    EXPECT_LT(std::hypot(offset[0], offset[1]), 0.02) << "seed " << seed;
  }
}

}  // namespace

namespace control {
namespace {

std::string model_path(const std::string& file) { return cat(data_root(), "/data/models/", file); }

std::string write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
  return path.string();
}

TEST(PhysicsTest, ModelsAreSharedByThreads) {
  std::vector<std::shared_ptr<const mjModel>> models(8);
  parallel_for(
      8, [&](int64_t i) { models[static_cast<size_t>(i)] = shared_model("reacher.xml"); }, 4);
  for (const auto& model : models) EXPECT_EQ(model, models[0]);
}

TEST(PhysicsTest, MissingModelIsNamedWithTheRemedy) {
  try {
    static_cast<void>(shared_model("no_such.xml"));
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("no_such.xml"), std::string::npos) << message;
    EXPECT_NE(message.find("GATO_ROOT"), std::string::npos) << message;
  }
}

TEST(PhysicsTest, MalformedModelsAreRefused) {
  const test::TempFolder folder("models");
  std::ifstream file(model_path("look.xml"));
  const std::string look((std::istreambuf_iterator<char>(file)), {});
  write(folder / "look.xml", look);
  EXPECT_THROW(load_model(write(folder / "empty.xml", "")), ConfigError);
  EXPECT_THROW(load_model(write(folder / "joint.xml", "<mujoco><worldbody><body><joint/></body></worldbody></mujoco>")),
               ConfigError);
  std::ifstream cartpole(model_path("cartpole.xml"));
  const std::string whole((std::istreambuf_iterator<char>(cartpole)), {});
  EXPECT_NO_THROW(load_model(write(folder / "whole.xml", whole)));
  for (size_t size = 0; size + 20 < whole.size(); size += 97) {
    EXPECT_THROW(load_model(write(folder / "cut.xml", whole.substr(0, size))), ConfigError) << size << " bytes";
  }
}

TEST(PhysicsTest, ErrorsAndWarningsOfMujocoStayInTheProcess) {
  static_cast<void>(shared_model("reacher.xml"));  // installs the handlers
  const test::TempFolder folder("log");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  EXPECT_THROW(mju_error("raised by a test"), Error);
  mju_warning("a warning raised by a test");
  const bool written = std::filesystem::exists("MUJOCO_LOG.TXT");
  std::filesystem::current_path(before);
  EXPECT_FALSE(written);
}

TEST(PhysicsTest, ErrorsDeepInsideAStepAreThrown) {
  const test::TempFolder folder("models");
  // Springs push thirty joints to their limits, and the arena is too small for the solver that this starts.
  std::string text =
      "<mujoco><option integrator='RK4'><flag contact='disable'/></option><size memory='38K'/><worldbody>";
  for (int i = 0; i < 30; ++i) {
    text += cat("<body pos='", 3 * i, " 0 0'><joint type='slide' limited='true' range='-1 0.001' stiffness='50' ",
                "springref='1'/><geom size='1' mass='1'/></body>");
  }
  const std::shared_ptr<const mjModel> model = load_model(write(folder / "tight.xml", text + "</worldbody></mujoco>"));
  const DataPtr data = make_data(*model);
  for (int round = 0; round < 3; ++round) {
    EXPECT_THROW(advance_physics(*model, *data, 50), Error);
    reset_physics(*model, *data);
    EXPECT_NO_THROW(advance_physics(*model, *data, 1));  // usable again
  }
}

TEST(PhysicsTest, DivergenceIsAnError) {
  const test::TempFolder folder("models");
  const std::shared_ptr<const mjModel> model =
      load_model(write(folder / "stiff.xml",
                       "<mujoco><option timestep='0.1' integrator='Euler'/><worldbody><body><joint type='slide' "
                       "stiffness='1e7' springref='1'/><geom size='.1' mass='1'/></body></worldbody></mujoco>"));
  const DataPtr data = make_data(*model);
  EXPECT_THROW(advance_physics(*model, *data, 100), Error);
}

TEST(LineariseTest, PointMassMatchesItsEquation) {
  // As in FollowsNewton: v' = c (v + h g u) with c = 1 / (1 + h d), h = 0.01, d = 0.5, g = 3; x' = x + h v'. Twice.
  const double h = 0.01, c = 1 / 1.005, g = 3;
  const LinearSystem system = linearise(*shared_model("point_mass.xml"), 2);
  ASSERT_EQ(system.a.rows(), 4);
  ASSERT_EQ(system.b.cols(), 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_NEAR(system.a(i, i), 1, 1e-9);
    EXPECT_NEAR(system.a(i, 2 + i), h * (c + c * c), 1e-9);
    EXPECT_NEAR(system.a(2 + i, 2 + i), c * c, 1e-9);
    EXPECT_NEAR(system.b(2 + i, i), h * g * (c * c + c), 1e-9);
    EXPECT_NEAR(system.b(i, i), h * h * g * (2 * c + c * c), 1e-9);
    EXPECT_NEAR(system.a(i, 1 - i), 0, 1e-9);
    EXPECT_NEAR(system.b(2 + i, 1 - i), 0, 1e-9);
  }
}

TEST(LineariseTest, UprightPoleFallsWithoutControl) {
  const LinearSystem system = linearise(*shared_model("cartpole.xml"), 2);
  EXPECT_GT(system.a(3, 1), 0.1);   // leaning over turns further over
  EXPECT_GT(system.b(2, 0), 0.1);   // a push to +x moves the cart to +x
  EXPECT_LT(system.b(3, 0), -0.1);  // and turns the pole back
}

TEST(RendererTest, ModelsCanBeDrawnInTurns) {
  std::vector<std::unique_ptr<Environment>> environments;
  std::vector<std::optional<episode::Image>> frames;
  for (const TaskEntry& task : control_tasks()) {
    environments.push_back(task.make());
    environments.back()->reset(5);
    frames.push_back(environments.back()->frame());
    ASSERT_TRUE(frames.back().has_value());
  }
  Rng rng(1);
  for (int i = 0; i < 40; ++i) {
    const auto k = static_cast<size_t>(rng.below(4));
    EXPECT_EQ(environments[k]->frame(), frames[k]) << "draw " << i << " of task " << k;
  }
}

TEST(RendererTest, WhatCannotBeDrawnGivesNothing) {
  const test::TempFolder folder("models");
  const std::shared_ptr<const mjModel> blind =  // without a camera
      load_model(write(folder / "blind.xml", "<mujoco><worldbody><geom size='1'/></worldbody></mujoco>"));
  std::optional<episode::Image> frame = episode::Image{};
  std::thread([&] {  // of its own: a thread that failed draws no more
    const DataPtr data = make_data(*blind);
    frame = render_frame(blind, *data);
  })
      .join();
  EXPECT_FALSE(frame.has_value());
}

}  // namespace
}  // namespace control
}  // namespace gato::env
