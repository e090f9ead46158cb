#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

/// Short dialogues from a small grammar: somebody tells the colours of some things and asks for one of them later, so
/// that an answer needs what was said turns before.
namespace gato::env::dialogue {

inline constexpr std::array<const char*, 6> kColors = {"red", "green", "blue", "yellow", "purple", "white"};
inline constexpr std::array<const char*, 6> kThings = {"ball", "box", "key", "car", "hat", "cup"};
inline constexpr int kMaxTurns = 5;

struct Turn {
  std::string user, reply;
  bool operator==(const Turn&) const = default;
};

/// The dialogue of `seed`, 2 to kMaxTurns turns: perhaps a greeting, one or two things told, a question about one of
/// them or, in one of five dialogues, about a thing never named, and perhaps thanks.
[[nodiscard]] std::vector<Turn> make_dialogue(uint64_t seed);

}  // namespace gato::env::dialogue
