#include "env/canvas.h"

#include <array>
#include <cctype>

namespace gato::env {

namespace {

struct Glyph {
  char letter;
  std::array<const char*, 7> rows;
  int drop = 0;  // rows below the line's top at which the drawing starts: 2 for letters with a tail
};

// clang-format off
constexpr std::array<Glyph, 46> kGlyphs = {{
    {'a', {".....", ".....", ".###.", "....#", ".####", "#...#", ".####"}},
    {'b', {"#....", "#....", "####.", "#...#", "#...#", "#...#", "####."}},
    {'c', {".....", ".....", ".###.", "#....", "#....", "#....", ".###."}},
    {'d', {"....#", "....#", ".####", "#...#", "#...#", "#...#", ".####"}},
    {'e', {".....", ".....", ".###.", "#...#", "#####", "#....", ".###."}},
    {'f', {"..##.", ".#...", "####.", ".#...", ".#...", ".#...", ".#..."}},
    {'g', {".####", "#...#", "#...#", "#...#", ".####", "....#", ".###."}, 2},
    {'h', {"#....", "#....", "####.", "#...#", "#...#", "#...#", "#...#"}},
    {'i', {"..#..", ".....", ".##..", "..#..", "..#..", "..#..", ".###."}},
    {'j', {"..##.", "...#.", "...#.", "...#.", "...#.", "#..#.", ".##.."}, 2},
    {'k', {"#....", "#....", "#..#.", "#.#..", "##...", "#.#..", "#..#."}},
    {'l', {".##..", "..#..", "..#..", "..#..", "..#..", "..#..", ".###."}},
    {'m', {".....", ".....", "##.#.", "#.#.#", "#.#.#", "#.#.#", "#.#.#"}},
    {'n', {".....", ".....", "####.", "#...#", "#...#", "#...#", "#...#"}},
    {'o', {".....", ".....", ".###.", "#...#", "#...#", "#...#", ".###."}},
    {'p', {"####.", "#...#", "#...#", "#...#", "####.", "#....", "#...."}, 2},
    {'q', {".####", "#...#", "#...#", "#...#", ".####", "....#", "....#"}, 2},
    {'r', {".....", ".....", "#.##.", "##...", "#....", "#....", "#...."}},
    {'s', {".....", ".....", ".####", "#....", ".###.", "....#", "####."}},
    {'t', {".#...", ".#...", "####.", ".#...", ".#...", ".#...", "..##."}},
    {'u', {".....", ".....", "#...#", "#...#", "#...#", "#...#", ".####"}},
    {'v', {".....", ".....", "#...#", "#...#", "#...#", ".#.#.", "..#.."}},
    {'w', {".....", ".....", "#.#.#", "#.#.#", "#.#.#", "#.#.#", ".#.#."}},
    {'x', {".....", ".....", "#...#", ".#.#.", "..#..", ".#.#.", "#...#"}},
    {'y', {"#...#", "#...#", "#...#", "#...#", ".####", "....#", ".###."}, 2},
    {'z', {".....", ".....", "#####", "...#.", "..#..", ".#...", "#####"}},
    {'0', {".###.", "#...#", "#..##", "#.#.#", "##..#", "#...#", ".###."}},
    {'1', {"..#..", ".##..", "..#..", "..#..", "..#..", "..#..", ".###."}},
    {'2', {".###.", "#...#", "....#", "...#.", "..#..", ".#...", "#####"}},
    {'3', {".###.", "#...#", "....#", "..##.", "....#", "#...#", ".###."}},
    {'4', {"...#.", "..##.", ".#.#.", "#..#.", "#####", "...#.", "...#."}},
    {'5', {"#####", "#....", "####.", "....#", "....#", "#...#", ".###."}},
    {'6', {".###.", "#....", "#....", "####.", "#...#", "#...#", ".###."}},
    {'7', {"#####", "....#", "...#.", "..#..", ".#...", ".#...", ".#..."}},
    {'8', {".###.", "#...#", "#...#", ".###.", "#...#", "#...#", ".###."}},
    {'9', {".###.", "#...#", "#...#", ".####", "....#", "....#", ".###."}},
    {' ', {".....", ".....", ".....", ".....", ".....", ".....", "....."}},
    {'.', {".....", ".....", ".....", ".....", ".....", ".##..", ".##.."}},
    {',', {".....", ".....", ".....", ".....", ".##..", "..#..", ".#..."}},
    {':', {".....", ".##..", ".##..", ".....", ".##..", ".##..", "....."}},
    {'?', {".###.", "#...#", "....#", "...#.", "..#..", ".....", "..#.."}},
    {'!', {"..#..", "..#..", "..#..", "..#..", "..#..", ".....", "..#.."}},
    {'-', {".....", ".....", ".....", "#####", ".....", ".....", "....."}},
    {'\'', {"..#..", "..#..", ".#...", ".....", ".....", ".....", "....."}},
    {'/', {".....", "....#", "...#.", "..#..", ".#...", "#....", "....."}},
    {'\0', {"#####", "#...#", "#...#", "#...#", "#...#", "#...#", "#####"}},  // stands for all others
}};
// clang-format on

const Glyph& glyph_of(char character) {
  const char small = static_cast<char>(std::tolower(static_cast<unsigned char>(character)));
  const auto found =
      std::find_if(kGlyphs.begin(), kGlyphs.end() - 1, [&](const Glyph& glyph) { return glyph.letter == small; });
  return *found;
}

uint8_t mixed(uint8_t below, uint8_t above, double share) {
  return static_cast<uint8_t>(std::lround(below + (above - below) * share));
}

}  // namespace

Canvas::Canvas(int width, int height, Color background) {
  image_.width = width;
  image_.height = height;
  image_.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  rectangle(0, 0, width, height, background);
}

void Canvas::rectangle(int x, int y, int width, int height, Color color) {
  const int x_end = std::min(image_.width, x + width), y_end = std::min(image_.height, y + height);
  for (int row = std::max(0, y); row < y_end; ++row) {
    for (int column = std::max(0, x); column < x_end; ++column) blend(column, row, color, 1.0);
  }
}

void Canvas::disc(double x, double y, double radius, Color color) {
  shape(x - radius, y - radius, x + radius, y + radius, color,
        [=](double u, double v) { return (u - x) * (u - x) + (v - y) * (v - y) <= radius * radius; });
}

void Canvas::enlarged(int x, int y, const episode::Image& picture, int scale) {
  for (int row = 0; row < picture.height; ++row) {
    for (int column = 0; column < picture.width; ++column) {
      const uint8_t* pixel = picture.pixels.data() + 3 * (row * picture.width + column);
      rectangle(x + column * scale, y + row * scale, scale, scale, {pixel[0], pixel[1], pixel[2]});
    }
  }
}

void Canvas::text(int x, int y, std::string_view line, Color color, int scale) {
  for (const char character : line) {
    const Glyph& glyph = glyph_of(character);
    for (int row = 0; row < 7; ++row) {
      for (int column = 0; column < 5; ++column) {
        if (glyph.rows[static_cast<size_t>(row)][column] != '#') continue;
        rectangle(x + column * scale, y + (row + glyph.drop) * scale, scale, scale, color);
      }
    }
    x += 6 * scale;
  }
}

int Canvas::text_width(std::string_view line, int scale) {
  return line.empty() ? 0 : (6 * static_cast<int>(line.size()) - 1) * scale;
}

void Canvas::blend(int x, int y, Color color, double share) {
  uint8_t* pixel = image_.pixels.data() + 3 * (y * image_.width + x);
  pixel[0] = mixed(pixel[0], color.red, share);
  pixel[1] = mixed(pixel[1], color.green, share);
  pixel[2] = mixed(pixel[2], color.blue, share);
}

}  // namespace gato::env
