#include <gtest/gtest.h>

#include <map>
#include <set>

#include "env/pictures/picture.h"
#include "gato/core/text.h"
#include "gato/env/environment.h"

namespace gato::env::pictures {
namespace {

TEST(HeldOutTest, AreTheSame32ForEver) {
  std::string marks;
  for (int number = 0; number < kCombinations; ++number) marks += is_held_out(number) ? '1' : '0';
  EXPECT_EQ(std::count(marks.begin(), marks.end(), '1'), 32);
  EXPECT_EQ(
      marks,
      "0000000000100010000011000100000010000000100000000000001101000000011100001000001000000000001000000000010000100001"
      "00011000000000000001010000000000000011000001000010000000000000000000000100000000000010001000001000000001");
}

TEST(HeldOutTest, LeavesEveryPairOfPropertiesToTraining) {
  std::set<std::string> pairs;
  for (int number = 0; number < kCombinations; ++number) {
    if (is_held_out(number)) continue;
    const Content c = content_of(number);
    const int place = 3 * c.row + c.column;
    pairs.insert(cat("color ", c.color, " shape ", c.shape));
    pairs.insert(cat("color ", c.color, " place ", place));
    pairs.insert(cat("shape ", c.shape, " place ", place));
  }
  EXPECT_EQ(pairs.size(), 6u * 4 + 6 * 9 + 4 * 9);
}

TEST(HeldOutTest, TasksDrawFromTheirSideOnly) {
  std::map<bool, std::set<std::string>> captions;
  for (const bool held_out : {false, true}) {
    for (uint64_t seed = 0; seed < 4000; ++seed) captions[held_out].insert(caption_of(draw_content(seed, held_out)));
  }
  EXPECT_EQ(captions[false].size(), 184u);
  EXPECT_EQ(captions[true].size(), 32u);
  for (const std::string& caption : captions[true]) EXPECT_EQ(captions[false].count(caption), 0u);
  std::set<std::string> played;
  const auto environment = make_environment("pictures/caption_heldout");
  for (uint64_t seed = 0; seed < 300; ++seed) {
    environment->reset(seed);
    played.insert(environment->reference_answer().value());
  }
  for (const std::string& caption : played) EXPECT_EQ(captions[true].count(caption), 1u) << caption;
}

TEST(ContentTest, NumbersAndContentsAreOneToOne) {
  std::set<std::string> captions;
  for (int number = 0; number < kCombinations; ++number) captions.insert(caption_of(content_of(number)));
  EXPECT_EQ(captions.size(), 216u);
  EXPECT_TRUE(captions.count("a red circle at the top left"));
  EXPECT_TRUE(captions.count("a white cross at the bottom right"));
}

TEST(QuestionTest, AnswersFit) {
  const Content content = {.color = 2, .shape = 1, .row = 1, .column = 0};
  EXPECT_EQ(caption_of(content), "a blue square at the middle left");
  EXPECT_EQ(question_text(Question::kColor), "what color is it ?");
  EXPECT_EQ(answer_to(Question::kColor, content), "blue");
  EXPECT_EQ(question_text(Question::kShape), "what shape is it ?");
  EXPECT_EQ(answer_to(Question::kShape, content), "square");
  EXPECT_EQ(question_text(Question::kPlace), "where is it ?");
  EXPECT_EQ(answer_to(Question::kPlace, content), "middle left");
  std::map<Question, int> counts;
  for (uint64_t seed = 0; seed < 3000; ++seed) ++counts[draw_question(seed)];
  for (const auto& [question, count] : counts) EXPECT_NEAR(count, 1000, 120);
}

/// Mean position and number of the pixels that are clearly not ground.
struct Spot {
  double x = 0, y = 0;
  int pixels = 0;
};

Spot spot_of(const episode::Image& picture) {
  Spot spot;
  for (int y = 0; y < kPictureSide; ++y) {
    for (int x = 0; x < kPictureSide; ++x) {
      const uint8_t* pixel = picture.pixels.data() + 3 * (y * kPictureSide + x);
      if (std::max({pixel[0], pixel[1], pixel[2]}) < 120) continue;
      spot.x += x;
      spot.y += y;
      ++spot.pixels;
    }
  }
  spot.x /= spot.pixels;
  spot.y /= spot.pixels;
  return spot;
}

TEST(PictureTest, ShapesStandWhereTheCaptionSays) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const Content content = draw_content(seed, false);
    const Spot spot = spot_of(draw_picture(content, seed));
    EXPECT_GE(spot.pixels, 15);
    EXPECT_EQ(static_cast<int>(spot.x / (32.0 / 3)), content.column) << seed;
    EXPECT_EQ(static_cast<int>(spot.y / (32.0 / 3)), content.row) << seed;
  }
}

TEST(PictureTest, ColorsAreToldApartByTheirBrightestPixels) {
  const Content red = {.color = 0}, green = {.color = 1}, blue = {.color = 2};
  for (const auto& [content, channel] : {std::pair(red, 0), {green, 1}, {blue, 2}}) {
    const episode::Image picture = draw_picture(content, 3);
    std::array<int, 3> brightest{};
    for (size_t i = 0; i < picture.pixels.size(); ++i) {
      brightest[i % 3] = std::max<int>(brightest[i % 3], picture.pixels[i]);
    }
    const auto best = std::max_element(brightest.begin(), brightest.end()) - brightest.begin();
    EXPECT_EQ(best, channel);
  }
}

TEST(PictureTest, NoTwoPicturesAreAlike) {
  const Content content = {.color = 0};
  std::set<std::vector<uint8_t>> pictures;
  for (uint64_t seed = 0; seed < 100; ++seed) pictures.insert(draw_picture(content, seed).pixels);
  EXPECT_EQ(pictures.size(), 100u);
  EXPECT_EQ(draw_picture(content, 7), draw_picture(content, 7));
}

}  // namespace
}  // namespace gato::env::pictures
