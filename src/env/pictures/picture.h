#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gato/episode/image.h"

/// Small pictures drawn from a seed: one coloured shape at one of nine places, on a noisy ground.
namespace gato::env::pictures {

inline constexpr int kPictureSide = 32;  ///< Pixels.
inline constexpr std::array<const char*, 6> kColors = {"red", "green", "blue", "yellow", "purple", "white"};
inline constexpr std::array<const char*, 4> kShapes = {"circle", "square", "triangle", "cross"};
inline constexpr std::array<const char*, 3> kRows = {"top", "middle", "bottom"};
inline constexpr std::array<const char*, 3> kColumns = {"left", "center", "right"};
inline constexpr int kCombinations =
    static_cast<int>(kColors.size() * kShapes.size() * kRows.size() * kColumns.size());  ///< 216.

/// What a picture shows, as indices into the lists above.
struct Content {
  int color = 0, shape = 0, row = 0, column = 0;
  bool operator==(const Content&) const = default;
};

/// Combination `number` of [0, kCombinations).
[[nodiscard]] Content content_of(int number);

/// Whether a combination is kept out of every picture that training may see: 32 of the 216, the same for ever.
[[nodiscard]] bool is_held_out(int number);

/// The content of the picture of `seed`, among the held-out combinations or among the others.
[[nodiscard]] Content draw_content(uint64_t seed, bool held_out);

/// The picture: size, exact place, brightness and ground vary with the seed.
[[nodiscard]] episode::Image draw_picture(const Content& content, uint64_t seed);

[[nodiscard]] std::string caption_of(const Content& content);  ///< "a red circle at the top left".

enum class Question { kColor, kShape, kPlace };
[[nodiscard]] Question draw_question(uint64_t seed);
[[nodiscard]] std::string question_text(Question question);                      ///< "what color is it ?".
[[nodiscard]] std::string answer_to(Question question, const Content& content);  ///< "red".

}  // namespace gato::env::pictures
