#include "env/game/catch.h"

#include <algorithm>

#include "env/canvas.h"
#include "gato/core/random.h"

namespace gato::env::game {

namespace {

constexpr int kPixels = 2;  // per cell
constexpr Color kNight = {0, 0, 0}, kBall = {255, 80, 80}, kPaddle = {80, 255, 80};

void drop_ball(CatchState& state) {
  Rng rng(mix_seed(state.seed, {hash_name("catch ball"), static_cast<uint64_t>(state.balls++)}));
  state.ball_y = 0;
  state.ball_x = static_cast<int32_t>(rng.below(kBoard));
  state.drift = static_cast<int32_t>(rng.below(3)) - 1;
}

void drift_ball(CatchState& state) {
  state.ball_x += state.drift;
  if (state.ball_x >= 0 && state.ball_x < kBoard) return;
  state.drift = -state.drift;
  state.ball_x += 2 * state.drift;
}

}  // namespace

CatchState start_catch(uint64_t seed) {
  CatchState state;
  state.seed = seed;
  Rng rng(mix_seed(seed, {hash_name("catch paddle")}));
  state.paddle = static_cast<int32_t>(1 + rng.below(kBoard - 2));
  drop_ball(state);
  return state;
}

double advance_catch(CatchState& state, int move) {
  ++state.steps;
  state.paddle = std::clamp(state.paddle + move, 1, kBoard - 2);
  drift_ball(state);
  if (++state.ball_y < kBoard - 1) return 0.0;
  const bool caught = std::abs(state.ball_x - state.paddle) <= 1;
  state.caught += caught ? 1 : 0;
  drop_ball(state);
  return caught ? 1.0 : 0.0;
}

int expert_move(const CatchState& state) {
  const int target = std::clamp(state.ball_x, 1, kBoard - 2);
  return std::clamp(target - state.paddle, -1, 1);
}

episode::Image draw_catch(const CatchState& state) {
  Canvas canvas(kBoard * kPixels, kBoard * kPixels, kNight);
  canvas.rectangle(state.ball_x * kPixels, state.ball_y * kPixels, kPixels, kPixels, kBall);
  canvas.rectangle((state.paddle - 1) * kPixels, (kBoard - 1) * kPixels, 3 * kPixels, kPixels, kPaddle);
  return std::move(canvas).take();
}

}  // namespace gato::env::game
