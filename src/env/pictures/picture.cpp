#include "env/pictures/picture.h"

#include <algorithm>
#include <cmath>

#include "gato/core/random.h"
#include "gato/core/text.h"

namespace gato::env::pictures {

namespace {

constexpr int kHeldOut = 32;
// Part of the tasks' definition: another key would hold out other combinations, and scores would not compare.
constexpr uint64_t kHeldOutKey = 0x6761746f70696374;

struct Paint {
  double red = 0, green = 0, blue = 0;
};
constexpr std::array<Paint, 6> kPaints = {
    {{230, 40, 40}, {40, 200, 60}, {50, 80, 230}, {230, 220, 40}, {160, 50, 200}, {235, 235, 235}}};

/// Whether the point (u, v), relative to the middle of a shape of `size`, belongs to it; v grows downwards.
bool covers(int shape, double u, double v, double size) {
  switch (shape) {
    case 0:
      return u * u + v * v <= size * size;
    case 1:
      return std::abs(u) <= size * 0.85 && std::abs(v) <= size * 0.85;
    case 2:
      return v <= size * 0.8 && v >= -size && std::abs(u) <= (v + size) * 0.55;
    default:
      return (std::abs(u) <= size * 0.3 || std::abs(v) <= size * 0.3) && std::abs(u) <= size && std::abs(v) <= size;
  }
}

std::vector<int> combinations(bool held_out) {
  std::vector<int> numbers;
  for (int number = 0; number < kCombinations; ++number) {
    if (is_held_out(number) == held_out) numbers.push_back(number);
  }
  return numbers;
}

uint8_t scaled(double channel, double brightness) { return static_cast<uint8_t>(std::lround(channel * brightness)); }

}  // namespace

Content content_of(int number) {
  Content content;
  content.column = number % 3;
  content.row = number / 3 % 3;
  content.shape = number / 9 % static_cast<int>(kShapes.size());
  content.color = number / 9 / static_cast<int>(kShapes.size());
  return content;
}

bool is_held_out(int number) {
  static const KeyedPermutation ranks(kCombinations, kHeldOutKey);
  return ranks(static_cast<uint64_t>(number)) < kHeldOut;
}

Content draw_content(uint64_t seed, bool held_out) {
  static const std::vector<int> kSeen = combinations(false), kHidden = combinations(true);
  const std::vector<int>& choices = held_out ? kHidden : kSeen;
  Rng rng(mix_seed(seed, {hash_name("picture content")}));
  return content_of(choices[static_cast<size_t>(rng.below(static_cast<int64_t>(choices.size())))]);
}

episode::Image draw_picture(const Content& content, uint64_t seed) {
  Rng rng(mix_seed(seed, {hash_name("picture pixels")}));
  const double size = rng.uniform(3.5, 5.0);
  const double middle_x = 5.5 + 10.5 * content.column + rng.uniform(-1.0, 1.0);
  const double middle_y = 5.5 + 10.5 * content.row + rng.uniform(-1.0, 1.0);
  const double brightness = rng.uniform(0.8, 1.0);
  const Paint paint = kPaints[static_cast<size_t>(content.color)];
  episode::Image picture;
  picture.height = picture.width = kPictureSide;
  picture.pixels.resize(kPictureSide * kPictureSide * 3);
  for (uint8_t& byte : picture.pixels) byte = static_cast<uint8_t>(rng.below(50));
  for (int y = 0; y < kPictureSide; ++y) {
    for (int x = 0; x < kPictureSide; ++x) {
      if (!covers(content.shape, x - middle_x, y - middle_y, size)) continue;
      uint8_t* pixel = picture.pixels.data() + 3 * (y * kPictureSide + x);
      pixel[0] = scaled(paint.red, brightness);
      pixel[1] = scaled(paint.green, brightness);
      pixel[2] = scaled(paint.blue, brightness);
    }
  }
  return picture;
}

std::string caption_of(const Content& content) {
  return cat("a ", kColors[static_cast<size_t>(content.color)], " ", kShapes[static_cast<size_t>(content.shape)],
             " at the ", kRows[static_cast<size_t>(content.row)], " ", kColumns[static_cast<size_t>(content.column)]);
}

Question draw_question(uint64_t seed) {
  Rng rng(mix_seed(seed, {hash_name("picture question")}));
  return static_cast<Question>(rng.below(3));
}

std::string question_text(Question question) {
  switch (question) {
    case Question::kColor:
      return "what color is it ?";
    case Question::kShape:
      return "what shape is it ?";
    case Question::kPlace:
      break;
  }
  return "where is it ?";
}

std::string answer_to(Question question, const Content& content) {
  switch (question) {
    case Question::kColor:
      return kColors[static_cast<size_t>(content.color)];
    case Question::kShape:
      return kShapes[static_cast<size_t>(content.shape)];
    case Question::kPlace:
      break;
  }
  return cat(kRows[static_cast<size_t>(content.row)], " ", kColumns[static_cast<size_t>(content.column)]);
}

}  // namespace gato::env::pictures
