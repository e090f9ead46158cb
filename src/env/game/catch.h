#pragma once
#include <cstdint>

#include "gato/episode/image.h"

/// The game behind task game/catch: balls fall one after the other, drifting and bouncing off the sides; a paddle three
/// cells wide at the bottom should be there when they land. The board has 16 x 16 cells.
namespace gato::env::game {

inline constexpr int kBoard = 16;       ///< Cells per side.
inline constexpr int kCatchSteps = 75;  ///< Five balls of 15 steps.

struct CatchState {
  uint64_t seed = 0;
  int32_t steps = 0;
  int32_t balls = 0;  ///< Begun so far; keys the next one.
  int32_t ball_x = 0, ball_y = 0;
  int32_t drift = 0;   ///< -1, 0 or 1 cells per step.
  int32_t paddle = 0;  ///< Column of its middle, 1 .. 14.
  int32_t caught = 0;
};

[[nodiscard]] CatchState start_catch(uint64_t seed);

/// `move` -1, 0 or 1. Returns the reward: 1 when a ball landed on the paddle.
double advance_catch(CatchState& state, int move);

/// The move towards the column of the ball: what can be known from one picture.
[[nodiscard]] int expert_move(const CatchState& state);

/// What the agent sees: 32 x 32 pixels, two per cell.
[[nodiscard]] episode::Image draw_catch(const CatchState& state);

}  // namespace gato::env::game
