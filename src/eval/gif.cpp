#include "gif.h"

#include <array>
#include <cstdint>

#include "gato/core/error.h"

namespace gato::eval {
namespace {

constexpr int kRed = 6, kGreen = 7, kBlue = 6;  // levels; the eye sees green best
constexpr int kMinCodeBits = 8, kMaxCode = 4095;

uint8_t level(int value, int levels) { return static_cast<uint8_t>((value * (levels - 1) + 127) / 255); }

uint8_t colour_of(const uint8_t* pixel) {
  return static_cast<uint8_t>((level(pixel[0], kRed) * kGreen + level(pixel[1], kGreen)) * kBlue +
                              level(pixel[2], kBlue));
}

void put_word(std::string& out, int64_t value) {
  out += static_cast<char>(value & 255);
  out += static_cast<char>(value >> 8 & 255);
}

std::string colour_table() {
  std::string table;
  for (int c = 0; c < 256; ++c) {
    const int red = c / (kGreen * kBlue), green = c / kBlue % kGreen, blue = c % kBlue;
    const bool is_used = c < kRed * kGreen * kBlue;
    table += static_cast<char>(is_used ? red * 255 / (kRed - 1) : 0);
    table += static_cast<char>(is_used ? green * 255 / (kGreen - 1) : 0);
    table += static_cast<char>(is_used ? blue * 255 / (kBlue - 1) : 0);
  }
  return table;
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

std::vector<uint8_t> colours_of(const episode::Image& frame, int scale) {
  std::vector<uint8_t> colours;
  colours.reserve(static_cast<size_t>(frame.height) * static_cast<size_t>(frame.width) *
                  static_cast<size_t>(scale * scale));
  for (int64_t y = 0; y < int64_t{frame.height} * scale; ++y) {
    for (int64_t x = 0; x < int64_t{frame.width} * scale; ++x) {
      colours.push_back(colour_of(&frame.pixels[static_cast<size_t>((y / scale * frame.width + x / scale) * 3)]));
    }
  }
  return colours;
}

}  // namespace

std::string encode_gif(const std::vector<episode::Image>& frames, int centiseconds, int scale) {
  GATO_CHECK(!frames.empty() && scale >= 1 && centiseconds >= 0, frames.size(), " frames, scale ", scale);
  const int64_t width = int64_t{frames[0].width} * scale, height = int64_t{frames[0].height} * scale;
  GATO_CHECK(width > 0 && height > 0 && width <= 65535 && height <= 65535, "a GIF of ", width, " x ", height);
  std::string out = "GIF89a";
  put_word(out, width);
  put_word(out, height);
  out += '\xf7';  // a table of 256 colours
  out.append(2, '\0');
  out += colour_table();
  out += std::string("\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00", 19);  // repeats for ever
  for (const episode::Image& frame : frames) {
    GATO_CHECK(frame.width == frames[0].width && frame.height == frames[0].height, "frames differ in size");
    out += std::string("\x21\xf9\x04\x04", 4);
    put_word(out, centiseconds);
    out += std::string("\x00\x00\x2c\x00\x00\x00\x00", 7);
    put_word(out, width);
    put_word(out, height);
    out += '\0';
    out += static_cast<char>(kMinCodeBits);
    compress(colours_of(frame, scale), out);
  }
  return out + ";";
}

}  // namespace gato::eval
