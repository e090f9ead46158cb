#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gato/core/random.h"
#include "gato/episode/episode.h"

namespace gato::env {

using episode::FieldValue;
using episode::Image;
using episode::StepValues;
using episode::TaskSpec;

/// What a step of an environment returns.
struct StepResult {
  StepValues observation;  ///< Aligned with TaskSpec::observation; meaningful unless the episode ended.
  double reward = 0;
  bool terminated = false;      ///< The task itself ended (goal, failure).
  bool truncated = false;       ///< A time limit ended it.
  std::optional<bool> success;  ///< Set on the last step of tasks that define success.
  /// Why the episode cannot go on, when the environment itself failed (its process died, hung or raised an error); such
  /// a step is truncated, and the episode counts for nothing but as failed. "" otherwise.
  std::string failure = {};
  [[nodiscard]] bool done() const { return terminated || truncated; }
};

/// A task that can be played. One object is one place of play; objects are independent, so different threads may use
/// different ones. The same seed and actions always give the same episode.
class Environment {
 public:
  virtual ~Environment() = default;
  [[nodiscard]] virtual const TaskSpec& spec() const = 0;
  /// Starts the episode of `seed` and returns its first observation.
  virtual StepValues reset(uint64_t seed) = 0;
  /// `action` aligned with TaskSpec::action. Values outside their bounds are clipped (continuous) or a DataError
  /// (discrete). ContractError before reset() and after the end of an episode.
  virtual StepResult step(const StepValues& action) = 0;
  /// A picture of the present state for people; nothing where there is none.
  virtual std::optional<Image> frame() { return std::nullopt; }
  /// The whole state, so that planners can try steps and come back. Nothing where it is not supported.
  [[nodiscard]] virtual std::optional<std::string> snapshot() const { return std::nullopt; }
  virtual void restore(const std::string& snapshot);  ///< Throws ContractError where snapshot() gives nothing.
  /// The text the expert would answer in the present state, for tasks judged by exact match; nothing where no answer is
  /// awaited.
  [[nodiscard]] virtual std::optional<std::string> reference_answer() const { return std::nullopt; }
};

/// Chooses good actions for one environment by looking inside it (control theory, search, scripts).
class Expert {
 public:
  virtual ~Expert() = default;
  virtual void begin_episode() {}
  /// The action in the present state of the environment it was made for.
  virtual StepValues act() = 0;
};

/// How demonstrations are disturbed so that data covers the states of imperfect play: the executed action is noisy, the
/// label stays the expert's.
struct ActionNoise {
  std::vector<double> levels = {0.0};  ///< One is drawn per episode.
  /// Continuous actions: noise of `level` x half the range, Ornstein-Uhlenbeck with this correlation between steps.
  double correlation = 0.8;
  /// Discrete actions: a random action with probability `level` x this.
  double random_action_share = 0.5;
};

class EnvironmentBatch;

/// Where a task comes from. `make_expert` may be empty: such a task is registered, collected for nothing and left
/// unscored.
struct TaskEntry {
  std::string id;
  std::function<std::unique_ptr<Environment>()> make;
  std::function<std::unique_ptr<Expert>(Environment&)> make_expert;  ///< The environment outlives the expert.
  /// Many environments of `size` slots at once on up to `threads` threads or processes; empty: objects of `make`.
  std::function<std::unique_ptr<EnvironmentBatch>(int size, int threads)> make_batch = {};
  std::string family = {};  ///< The package whose worker plays it (gato/env/remote.h); "" for tasks of this process.
  /// What is known without making it. Its expert and random are measured returns, which collecting and scoring then
  /// take.
  std::optional<TaskSpec> known = {};
};

/// Adds a task to the process-wide registry; ConfigError for an id already there. Thread-safe.
void register_task(TaskEntry entry);
/// Ids of all tasks (the native ones are always there), sorted.
[[nodiscard]] std::vector<std::string> task_ids();
/// Ids that match `pattern` ("control/*"); ConfigError naming the nearest id when none does.
[[nodiscard]] std::vector<std::string> match_tasks(const std::string& pattern);
[[nodiscard]] const TaskEntry& find_task(const std::string& id);  ///< ConfigError with the nearest id when unknown.
[[nodiscard]] std::unique_ptr<Environment> make_environment(const std::string& id);

/// For implementations of step(): throws DataError naming task and field when `action` has another number of fields or
/// elements than TaskSpec::action, a discrete value out of range, a NaN or invalid UTF-8. Bounds of continuous values
/// are not checked: step() clips them.
void check_action(const TaskSpec& spec, const StepValues& action);

/// A uniformly random action inside the specification (bounds, categories; printable ASCII of 1 to 8 letters for text).
[[nodiscard]] StepValues random_action(const TaskSpec& spec, Rng& rng);

}  // namespace gato::env
