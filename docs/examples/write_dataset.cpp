// Writes a data set from C++: one task, a hundred episodes of a controller, shards that gato-train reads.
#include <algorithm>
#include <cmath>
#include <iostream>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/episode/inspect.h"
#include "gato/episode/shard.h"

using namespace gato::episode;

/// What the agent sees and does, fixed for all episodes: names, shapes, units, and for actions bounds, between which
/// they become one of 1024 bins.
const TaskSpec kCart = {.id = "mine/cart",
                        .description = "Bring the cart to rest at 0.",
                        .observation = {{.name = "state", .shape = {2}, .unit = "m, m/s"}},
                        .action = {{.name = "force", .low = {-1}, .high = {1}, .unit = "N"}},
                        .max_steps = 50,
                        .licence = "CC0-1.0"};

Episode play(uint64_t seed) {
  gato::Rng random(seed);
  Episode episode;
  episode.id = "cart-" + std::to_string(seed);  // Unique; decides between training and validation.
  episode.source_agent = "damped spring";
  episode.seed = seed;
  episode.num_steps = kCart.max_steps;
  episode.observation.resize(1);  // A column per field: its values over all steps, one after the other.
  episode.action.resize(1);
  double position = random.uniform(-1, 1), speed = 0;
  for (int64_t step = 0; step < episode.num_steps; ++step) {
    const double force = std::clamp(-2 * position - speed, -1.0, 1.0);
    episode.observation[0].continuous.push_back(static_cast<float>(position));
    episode.observation[0].continuous.push_back(static_cast<float>(speed));
    episode.action[0].continuous.push_back(static_cast<float>(force));
    episode.reward.push_back(static_cast<float>(-std::abs(position)));
    speed += 0.1 * force;
    position += 0.1 * speed;
  }
  episode.truncated = true;
  return episode;
}

int main(int argc, char** argv) try {
  DatasetWriter writer(argc > 1 ? argv[1] : "datasets/cart", {.name = "mine/cart", .licence = "CC0-1.0"}, {kCart});
  for (uint64_t seed = 0; seed < 100; ++seed) writer.add(0, play(seed));  // DataError for what does not fit the task.
  writer.finish();  // No shard has its final name before it is whole.
  for (const gato::Path& shard : writer.shards()) {
    for (const std::string& damage : verify_files(shard, {.contents = true})) throw gato::DataError(damage);
    std::cout << describe_shard(ShardReader(shard), {.steps = 1});
  }
} catch (const gato::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
