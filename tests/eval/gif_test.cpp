#include "eval/gif.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::eval {
namespace {

episode::Image image(int32_t height, int32_t width, uint64_t key, bool plain) {
  episode::Image frame;
  frame.height = height;
  frame.width = width;
  Rng rng(key);
  for (int64_t i = 0; i < int64_t{height} * width * 3; ++i) {
    frame.pixels.push_back(static_cast<uint8_t>(plain ? 40 : rng.below(256)));
  }
  return frame;
}

/// Decodes the LZW data that begins at `at` (minimum code size, blocks) as a GIF reader does.
std::vector<int> decode(const std::string& gif, size_t& at) {
  const int min_bits = gif.at(at++);
  std::string data;
  while (const auto size = static_cast<uint8_t>(gif.at(at++))) {
    data += gif.substr(at, size);
    at += size;
  }
  const int clear = 1 << min_bits, end = clear + 1;
  std::vector<std::vector<int>> table;
  std::vector<int> out, before;
  int bits = min_bits + 1;
  size_t bit = 0;
  while (true) {
    int code = 0;
    for (int b = 0; b < bits; ++b, ++bit) {
      code |= (static_cast<uint8_t>(data.at(bit / 8)) >> bit % 8 & 1) << b;
    }
    if (code == end) return out;
    if (code == clear) {
      table.assign(static_cast<size_t>(end) + 1, {});
      for (int c = 0; c < clear; ++c) table[static_cast<size_t>(c)] = {c};
      bits = min_bits + 1;
      before.clear();
      continue;
    }
    std::vector<int> now;
    if (static_cast<size_t>(code) < table.size()) {
      now = table[static_cast<size_t>(code)];
    } else {
      now = before;
      now.push_back(before.at(0));
    }
    out.insert(out.end(), now.begin(), now.end());
    if (!before.empty() && table.size() < 4096) {
      before.push_back(now[0]);
      table.push_back(before);
      if (table.size() == size_t{1} << bits && bits < 12) ++bits;
    }
    before = now;
  }
}

class GifTest : public ::testing::TestWithParam<bool> {};

TEST_P(GifTest, AReaderSeesTheColoursOfEveryFrame) {
  const std::vector<episode::Image> frames = {image(150, 120, 1, GetParam()), image(150, 120, 2, GetParam())};
  const std::string gif = encode_gif(frames, 7, 1);
  ASSERT_EQ(gif.substr(0, 6), "GIF89a");
  EXPECT_EQ(gif.back(), ';');
  const size_t table = 13;
  size_t at = table + 768 + 19;
  for (const episode::Image& frame : frames) {
    ASSERT_EQ(static_cast<uint8_t>(gif.at(at)), 0x21);
    at += 8;
    ASSERT_EQ(gif.at(at), ',');
    EXPECT_EQ(static_cast<uint8_t>(gif[at + 5]), 120);
    EXPECT_EQ(static_cast<uint8_t>(gif[at + 7]), 150);
    at += 10;
    const std::vector<int> colours = decode(gif, at);
    ASSERT_EQ(colours.size() * 3, frame.pixels.size());
    for (size_t i = 0; i < frame.pixels.size(); ++i) {
      const auto shown = static_cast<uint8_t>(gif[table + static_cast<size_t>(colours[i / 3]) * 3 + i % 3]);
      ASSERT_NEAR(shown, frame.pixels[i], 26) << "value " << i;
    }
  }
  EXPECT_EQ(at + 1, gif.size());
}

INSTANTIATE_TEST_SUITE_P(Pictures, GifTest, ::testing::Values(false, true),
                         [](const auto& which) { return which.param ? "plain" : "noisy"; });

TEST(GifSizeTest, IsEnlargedByAWholeNumber) {
  const std::string gif = encode_gif({image(2, 3, 1, false)}, 7, 4);
  EXPECT_EQ(static_cast<uint8_t>(gif[6]), 12);
  EXPECT_EQ(static_cast<uint8_t>(gif[8]), 8);
  EXPECT_THROW(static_cast<void>(encode_gif({}, 7, 1)), ContractError);
}

}  // namespace
}  // namespace gato::eval
