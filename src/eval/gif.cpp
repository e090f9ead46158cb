#include "gif.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>

#include "gato/core/error.h"

namespace gato::eval {
namespace {

constexpr int kRed = 6, kGreen = 7, kBlue = 6;  // levels; the eye sees green best
constexpr int kMinCodeBits = 8, kMaxCode = 4095;

uint8_t level(int value, int levels) { return static_cast<uint8_t>((value * (levels - 1) + 127) / 255); }

void put_word(std::string& out, int64_t value) {
  out += static_cast<char>(value & 255);
  out += static_cast<char>(value >> 8 & 255);
}

uint32_t packed(const uint8_t* pixel) { return uint32_t{pixel[0]} << 16 | uint32_t{pixel[1]} << 8 | pixel[2]; }

/// The table of up to 256 colours, and which of them a pixel gets.
class Palette {
 public:
  explicit Palette(const std::vector<episode::Image>& frames) : is_exact_(collect(frames)) {
    if (!is_exact_) numbers_.clear();
  }

  [[nodiscard]] uint8_t number(const uint8_t* pixel) const {
    if (is_exact_) return numbers_.find(packed(pixel))->second;
    return static_cast<uint8_t>((level(pixel[0], kRed) * kGreen + level(pixel[1], kGreen)) * kBlue +
                                level(pixel[2], kBlue));
  }

  [[nodiscard]] std::string table() const {
    std::string table(768, '\0');
    const auto set = [&](size_t c, int red, int green, int blue) {
      table[3 * c] = static_cast<char>(red);
      table[3 * c + 1] = static_cast<char>(green);
      table[3 * c + 2] = static_cast<char>(blue);
    };
    for (const auto& [colour, c] : numbers_) {
      set(c, static_cast<int>(colour >> 16), static_cast<int>(colour >> 8 & 255), static_cast<int>(colour & 255));
    }
    for (int c = 0; !is_exact_ && c < kRed * kGreen * kBlue; ++c) {
      set(static_cast<size_t>(c), c / (kGreen * kBlue) * 255 / (kRed - 1), c / kBlue % kGreen * 255 / (kGreen - 1),
          c % kBlue * 255 / (kBlue - 1));
    }
    return table;
  }

 private:
  bool collect(const std::vector<episode::Image>& frames) {
    for (const episode::Image& frame : frames) {
      uint32_t before = ~uint32_t{0};
      for (size_t i = 0; i + 2 < frame.pixels.size(); i += 3) {
        const uint32_t colour = packed(&frame.pixels[i]);
        if (colour == before) continue;
        before = colour;
        if (numbers_.size() == 256 && !numbers_.contains(colour)) return false;
        numbers_.try_emplace(colour, static_cast<uint8_t>(numbers_.size()));
      }
    }
    return true;
  }

  std::unordered_map<uint32_t, uint8_t> numbers_;
  bool is_exact_;
};

/// Part of a frame, in its own pixels.
struct Area {
  int64_t left = 0, top = 0, width = 0, height = 0;
};

/// The smallest rectangle that holds all pixels that differ; one pixel where none does.
Area changed_area(const episode::Image& before, const episode::Image& now) {
  int64_t left = now.width, right = -1, top = now.height, bottom = -1;
  for (int64_t y = 0; y < now.height; ++y) {
    for (int64_t x = 0; x < now.width; ++x) {
      const auto at = static_cast<size_t>((y * now.width + x) * 3);
      if (std::equal(&now.pixels[at], &now.pixels[at] + 3, &before.pixels[at])) continue;
      left = std::min(left, x);
      right = std::max(right, x);
      top = std::min(top, y);
      bottom = y;
    }
  }
  if (right < 0) return {0, 0, 1, 1};
  return {left, top, right - left + 1, bottom - top + 1};
}

/// The bits of codes in blocks of at most 255 bytes.
class CodeWriter {
 public:
  explicit CodeWriter(std::string& out) : out_(out) {}
  void put(int code, int bits) {
    buffer_ |= static_cast<uint32_t>(code) << filled_;
    for (filled_ += bits; filled_ >= 8; filled_ -= 8, buffer_ >>= 8) add(static_cast<char>(buffer_ & 255));
  }
  void finish() {
    if (filled_ > 0) add(static_cast<char>(buffer_ & 255));
    flush();
    out_ += '\0';
  }

 private:
  void add(char byte) {
    block_ += byte;
    if (block_.size() == 255) flush();
  }
  void flush() {
    if (block_.empty()) return;
    out_ += static_cast<char>(block_.size());
    out_ += block_;
    block_.clear();
  }
  std::string& out_;
  std::string block_;
  uint32_t buffer_ = 0;
  int filled_ = 0;
};

/// LZW as in the GIF89a specification, appendix F.
void compress(const std::vector<uint8_t>& pixels, std::string& out) {
  constexpr int kClear = 1 << kMinCodeBits, kEnd = kClear + 1;
  std::vector<std::array<int16_t, 256>> next(kMaxCode + 1);  // code of (code, colour); 0: none
  int count = 0, bits = 0;
  CodeWriter writer(out);
  const auto clear = [&] {
    for (auto& row : next) row.fill(0);
    count = kEnd + 1;
    bits = kMinCodeBits + 1;
  };
  clear();
  writer.put(kClear, bits);
  int current = pixels.at(0);
  for (size_t i = 1; i < pixels.size(); ++i) {
    int16_t& known = next[static_cast<size_t>(current)][pixels[i]];
    if (known != 0) {
      current = known;
      continue;
    }
    writer.put(current, bits);
    current = pixels[i];
    if (count > kMaxCode) {
      writer.put(kClear, bits);
      clear();
      continue;
    }
    known = static_cast<int16_t>(count);
    if (count == 1 << bits) ++bits;
    ++count;
  }
  writer.put(current, bits);
  writer.put(kEnd, bits);
  writer.finish();
}

std::vector<uint8_t> colours_of(const episode::Image& frame, const Area& area, const Palette& palette, int scale) {
  std::vector<uint8_t> colours;
  colours.reserve(static_cast<size_t>(area.width * area.height) * static_cast<size_t>(scale * scale));
  for (int64_t y = 0; y < area.height * scale; ++y) {
    for (int64_t x = 0; x < area.width * scale; ++x) {
      const int64_t at = (area.top + y / scale) * frame.width + area.left + x / scale;
      colours.push_back(palette.number(&frame.pixels[static_cast<size_t>(at * 3)]));
    }
  }
  return colours;
}

void put_frame(const episode::Image& frame, const Area& area, const Palette& palette, int scale, int centiseconds,
               std::string& out) {
  out += std::string("\x21\xf9\x04\x04", 4);  // stays when the next one comes
  put_word(out, centiseconds);
  out += std::string("\x00\x00\x2c", 3);
  for (const int64_t value : {area.left, area.top, area.width, area.height}) put_word(out, value * scale);
  out += '\0';
  out += static_cast<char>(kMinCodeBits);
  compress(colours_of(frame, area, palette, scale), out);
}

}  // namespace

std::string encode_gif(const std::vector<episode::Image>& frames, int centiseconds, int scale, int last_centiseconds) {
  GATO_CHECK(!frames.empty() && scale >= 1 && centiseconds >= 0 && last_centiseconds >= 0, frames.size(),
             " frames, scale ", scale);
  const int64_t width = int64_t{frames[0].width} * scale, height = int64_t{frames[0].height} * scale;
  GATO_CHECK(width > 0 && height > 0 && width <= 65535 && height <= 65535, "a GIF of ", width, " x ", height);
  for (const episode::Image& frame : frames) {
    GATO_CHECK(frame.width == frames[0].width && frame.height == frames[0].height, "frames differ in size");
  }
  const Palette palette(frames);
  std::string out = "GIF89a";
  put_word(out, width);
  put_word(out, height);
  out += '\xf7';  // a table of 256 colours
  out.append(2, '\0');
  out += palette.table();
  out += std::string("\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00", 19);  // repeats for ever
  for (size_t i = 0; i < frames.size(); ++i) {
    const Area area = i == 0 ? Area{0, 0, frames[0].width, frames[0].height} : changed_area(frames[i - 1], frames[i]);
    const bool is_last = i + 1 == frames.size() && last_centiseconds > 0;
    put_frame(frames[i], area, palette, scale, is_last ? last_centiseconds : centiseconds, out);
  }
  return out + ";";
}

}  // namespace gato::eval
