#include "gif.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <unordered_map>

#include "gato/core/error.h"

namespace gato::eval {
namespace {

constexpr int kMinCodeBits = 8, kMaxCode = 4095;

void put_word(std::string& out, int64_t value) {
  out += static_cast<char>(value & 255);
  out += static_cast<char>(value >> 8 & 255);
}

uint32_t packed(const uint8_t* pixel) { return uint32_t{pixel[0]} << 16 | uint32_t{pixel[1]} << 8 | pixel[2]; }

/// Colours whose five upper bits of every channel are alike, as one point of a histogram.
struct Bin {
  std::array<int64_t, 3> sum{};  // of the channels of its pixels
  int64_t count = 0;
  int number = 0;  // of its place: 15 bits
};

int bin_number(uint32_t colour) {
  return static_cast<int>((colour >> 19 & 31) << 10 | (colour >> 11 & 31) << 5 | (colour >> 3 & 31));
}

/// A box of bins, [first, last) of the list of all.
struct Box {
  size_t first = 0, last = 0;
  size_t channel = 0;  // the one along which it is widest
  double weight = 0;   // how much is gained by cutting it
};

int channel_of(const Bin& bin, size_t channel) { return bin.number >> (10 - 5 * channel) & 31; }

void measure(const std::vector<Bin>& bins, Box& box) {
  int64_t count = 0;
  for (size_t i = box.first; i < box.last; ++i) count += bins[i].count;
  int widest = 0;
  for (size_t c = 0; c < 3; ++c) {
    int low = 31, high = 0;
    for (size_t i = box.first; i < box.last; ++i) {
      low = std::min(low, channel_of(bins[i], c));
      high = std::max(high, channel_of(bins[i], c));
    }
    if (high - low <= widest) continue;
    widest = high - low;
    box.channel = c;
  }
  box.weight = widest * std::sqrt(static_cast<double>(count));
}

/// Cuts a box in two at the median of its pixels.
Box cut(std::vector<Bin>& bins, Box& box) {
  const auto at = [&](size_t i) { return bins.begin() + static_cast<std::ptrdiff_t>(i); };
  std::sort(at(box.first), at(box.last), [&](const Bin& a, const Bin& b) {
    return std::pair(channel_of(a, box.channel), a.number) < std::pair(channel_of(b, box.channel), b.number);
  });
  int64_t count = 0, before = 0;
  for (size_t i = box.first; i < box.last; ++i) count += bins[i].count;
  size_t middle = box.first;
  while (middle + 1 < box.last && (middle == box.first || before + bins[middle].count <= count / 2)) {
    before += bins[middle++].count;
  }
  Box upper{middle, box.last, 0, 0};
  box.last = middle;
  measure(bins, box);
  measure(bins, upper);
  return upper;
}

/// The table of up to 256 colours, and which of them a pixel gets.
class Palette {
 public:
  explicit Palette(const std::vector<episode::Image>& frames) {
    if (collect_exactly(frames)) return;
    exact_.clear();
    choose(histogram(frames));
  }

  [[nodiscard]] uint8_t number(const uint8_t* pixel) const {
    const uint32_t colour = packed(pixel);
    return bins_.empty() ? exact_.find(colour)->second : bins_[static_cast<size_t>(bin_number(colour))];
  }

  [[nodiscard]] const std::string& table() const { return table_; }  ///< 768 bytes.

 private:
  void set(size_t c, uint32_t colour) {
    for (size_t k = 0; k < 3; ++k) table_[3 * c + k] = static_cast<char>(colour >> (16 - 8 * k) & 255);
  }

  /// False when there are more than 256.
  bool collect_exactly(const std::vector<episode::Image>& frames) {
    for (const episode::Image& frame : frames) {
      uint32_t before = ~uint32_t{0};
      for (size_t i = 0; i + 2 < frame.pixels.size(); i += 3) {
        const uint32_t colour = packed(&frame.pixels[i]);
        if (colour == before) continue;
        before = colour;
        if (exact_.contains(colour)) continue;
        if (exact_.size() == 256) return false;
        set(exact_.size(), colour);
        exact_.emplace(colour, static_cast<uint8_t>(exact_.size()));
      }
    }
    return true;
  }

  static std::vector<Bin> histogram(const std::vector<episode::Image>& frames) {
    std::vector<Bin> bins(kBins);
    for (const episode::Image& frame : frames) {
      for (size_t i = 0; i + 2 < frame.pixels.size(); i += 3) {
        Bin& bin = bins[static_cast<size_t>(bin_number(packed(&frame.pixels[i])))];
        for (size_t c = 0; c < 3; ++c) bin.sum[c] += frame.pixels[i + c];
        ++bin.count;
      }
    }
    for (size_t b = 0; b < kBins; ++b) bins[b].number = static_cast<int>(b);
    std::erase_if(bins, [](const Bin& bin) { return bin.count == 0; });
    return bins;
  }

  /// Median cut (Heckbert 1982): the box that is worth most is cut until there are 256; a box's colour is its mean.
  void choose(std::vector<Bin> bins) {
    std::vector<Box> boxes = {{0, bins.size(), 0, 0}};
    measure(bins, boxes[0]);
    while (boxes.size() < 256) {
      const auto most =
          std::max_element(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.weight < b.weight; });
      if (!(most->weight > 0)) break;
      boxes.push_back(cut(bins, *most));
    }
    bins_.assign(kBins, 0);
    for (size_t c = 0; c < boxes.size(); ++c) {
      std::array<int64_t, 3> sum{};
      int64_t count = 0;
      for (size_t i = boxes[c].first; i < boxes[c].last; ++i) {
        for (size_t k = 0; k < 3; ++k) sum[k] += bins[i].sum[k];
        count += bins[i].count;
        bins_[static_cast<size_t>(bins[i].number)] = static_cast<uint8_t>(c);
      }
      const auto mean = [&](size_t k) { return static_cast<uint32_t>((sum[k] + count / 2) / count); };
      set(c, mean(0) << 16 | mean(1) << 8 | mean(2));
    }
  }

  static constexpr size_t kBins = 1 << 15;
  std::string table_ = std::string(768, '\0');
  std::unordered_map<uint32_t, uint8_t> exact_;
  std::vector<uint8_t> bins_;  // colour of a bin; empty where colours are exact
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
