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

/// What a reader shows after each frame, decoded into whole pictures; the parts of frames that were stored in `stored`.
std::vector<std::vector<uint8_t>> shown(const std::string& gif, std::vector<size_t>& stored) {
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(gif.at(at)); };
  const auto word = [&](size_t at) { return static_cast<size_t>(byte(at) | byte(at + 1) << 8); };
  const size_t width = word(6), height = word(8), table = 13;
  std::vector<uint8_t> picture(width * height * 3, 0);
  std::vector<std::vector<uint8_t>> pictures;
  size_t at = table + 768 + 19;
  while (byte(at) != ';') {
    EXPECT_EQ(byte(at), 0x21);
    at += 8;
    EXPECT_EQ(byte(at), ',');
    const size_t left = word(at + 1), top = word(at + 3), wide = word(at + 5), high = word(at + 7);
    at += 10;
    const std::vector<int> colours = decode(gif, at);
    EXPECT_EQ(colours.size(), wide * high);
    stored.push_back(colours.size());
    for (size_t i = 0; i < colours.size(); ++i) {
      const size_t to = ((top + i / wide) * width + left + i % wide) * 3;
      for (size_t c = 0; c < 3; ++c) picture.at(to + c) = byte(table + static_cast<size_t>(colours[i]) * 3 + c);
    }
    pictures.push_back(picture);
  }
  EXPECT_EQ(at + 1, gif.size());
  return pictures;
}

TEST(GifTest, AReaderSeesTheColoursOfEveryFrame) {
  const std::vector<episode::Image> frames = {image(150, 120, 1, false), image(150, 120, 2, false)};
  std::vector<size_t> stored;
  const auto pictures = shown(encode_gif(frames, 7, 1), stored);
  ASSERT_EQ(pictures.size(), 2u);
  for (size_t f = 0; f < 2; ++f) {
    for (size_t i = 0; i < pictures[f].size(); ++i) {
      ASSERT_NEAR(pictures[f][i], frames[f].pixels[i], 50) << "value " << i << " of frame " << f;
    }
  }
}

TEST(GifTest, SmoothGroundsStaySmooth) {
  episode::Image ground{64, 64, {}};
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 64; ++x) {
      ground.pixels.insert(ground.pixels.end(), {static_cast<uint8_t>(100 + y), static_cast<uint8_t>(90 + x), 200});
    }
  }
  std::vector<size_t> stored;
  const auto picture = shown(encode_gif({ground}, 7, 1), stored).at(0);
  for (size_t i = 0; i < picture.size(); ++i) ASSERT_NEAR(picture[i], ground.pixels[i], 4) << "value " << i;
}

TEST(GifTest, FewColoursAreExactAndOnlyWhatChangedIsStored) {
  std::vector<episode::Image> frames = {image(20, 30, 1, true), image(20, 30, 1, true), image(20, 30, 1, true)};
  for (size_t i = 0; i < 40; ++i) frames[0].pixels[i * 31] = static_cast<uint8_t>(i * 6);
  frames[1] = frames[0];
  frames[2] = frames[0];
  frames[2].pixels[(5 * 30 + 7) * 3] = 201;
  frames[2].pixels[(6 * 30 + 10) * 3 + 2] = 3;
  std::vector<size_t> stored;
  const auto pictures = shown(encode_gif(frames, 7, 1, 100), stored);
  ASSERT_EQ(pictures.size(), 3u);
  for (size_t f = 0; f < 3; ++f) EXPECT_EQ(pictures[f], frames[f].pixels) << f;
  EXPECT_EQ(stored, (std::vector<size_t>{600, 1, 8}));
}

TEST(GifTest, IsEnlargedByAWholeNumber) {
  std::vector<episode::Image> frames = {image(2, 3, 1, false), image(2, 3, 1, false)};
  frames[1].pixels[15] ^= 255;
  std::vector<size_t> stored;
  const auto pictures = shown(encode_gif(frames, 7, 4), stored);
  ASSERT_EQ(pictures[1].size(), 8u * 12 * 3);
  for (size_t y = 0; y < 8; ++y) {
    for (size_t x = 0; x < 12; ++x) {
      EXPECT_EQ(pictures[1][(y * 12 + x) * 3], frames[1].pixels[(y / 4 * 3 + x / 4) * 3]) << x << " " << y;
    }
  }
  EXPECT_EQ(stored[1], 16u);
  EXPECT_THROW(static_cast<void>(encode_gif({}, 7, 1)), ContractError);
}

}  // namespace
}  // namespace gato::eval
