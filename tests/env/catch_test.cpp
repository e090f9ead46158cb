#include "env/game/catch.h"

#include <gtest/gtest.h>

#include <set>

#include "gato/env/rollout.h"

namespace gato::env::game {
namespace {

TEST(CatchTest, FiveBallsFallInTheBoard) {
  std::set<int> drifts;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    CatchState state = start_catch(seed);
    for (int step = 0; step < kCatchSteps; ++step) {
      EXPECT_GE(state.ball_x, 0);
      EXPECT_LT(state.ball_x, kBoard);
      EXPECT_EQ(state.ball_y, step % (kBoard - 1));
      drifts.insert(state.drift);
      advance_catch(state, step % 3 - 1);
    }
    EXPECT_EQ(state.balls, 6) << "five landed, the sixth begun";
  }
  EXPECT_EQ(drifts, (std::set<int>{-1, 0, 1}));
}

TEST(CatchTest, BallsBounceOffTheSides) {
  CatchState state = start_catch(0);
  state.ball_x = kBoard - 1;
  state.drift = 1;
  advance_catch(state, 0);
  EXPECT_EQ(state.ball_x, kBoard - 2);
  EXPECT_EQ(state.drift, -1);
}

TEST(CatchTest, PaddleStaysInTheBoardAndCatchesThreeCells) {
  CatchState state = start_catch(0);
  for (int i = 0; i < 30; ++i) advance_catch(state, -1);
  EXPECT_EQ(state.paddle, 1);
  for (int i = 0; i < 30; ++i) advance_catch(state, 1);
  EXPECT_EQ(state.paddle, kBoard - 2);
  for (int offset = -3; offset <= 3; ++offset) {
    CatchState last = start_catch(0);
    last.paddle = 7;
    last.ball_x = 7 + offset;
    last.drift = 0;
    last.ball_y = kBoard - 2;
    EXPECT_EQ(advance_catch(last, 0), std::abs(offset) <= 1 ? 1.0 : 0.0) << offset;
  }
}

TEST(CatchTest, ExpertCatchesEveryBallAndRandomPlayFew) {
  const auto seeds = seeds_for(SeedUse::kReference, 0, "game/catch", 100);
  EXPECT_GT(return_record(roll_out_reference("game/catch", ReferenceAgent::kExpert, seeds)).mean, 4.9);
  EXPECT_LT(return_record(roll_out_reference("game/catch", ReferenceAgent::kRandom, seeds)).mean, 1.7);
}

TEST(CatchTest, ThePictureShowsBallAndPaddle) {
  CatchState state = start_catch(0);
  state.ball_x = 3;
  state.ball_y = 5;
  state.paddle = 10;
  const episode::Image picture = draw_catch(state);
  ASSERT_EQ(picture.height, 32);
  ASSERT_EQ(picture.width, 32);
  int ball = 0, paddle = 0;
  for (int y = 0; y < 32; ++y) {
    for (int x = 0; x < 32; ++x) {
      const uint8_t* pixel = picture.pixels.data() + 3 * (y * 32 + x);
      const bool is_ball = pixel[0] == 255, is_paddle = pixel[1] == 255;
      EXPECT_EQ(is_ball, x / 2 == 3 && y / 2 == 5);
      EXPECT_EQ(is_paddle, y / 2 == 15 && x / 2 >= 9 && x / 2 <= 11);
      ball += is_ball ? 1 : 0;
      paddle += is_paddle ? 1 : 0;
    }
  }
  EXPECT_EQ(ball, 4);
  EXPECT_EQ(paddle, 12);
}

}  // namespace
}  // namespace gato::env::game
