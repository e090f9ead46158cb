#include "env/dialogue/dialogue.h"

#include "gato/core/random.h"
#include "gato/core/text.h"

namespace gato::env::dialogue {

namespace {

struct Fact {
  const char* thing;
  const char* color;
};

/// One or two different things with their colours, and last a thing that is not among them.
std::vector<Fact> draw_facts(Rng& random) {
  std::array<const char*, kThings.size()> things = kThings;
  random.shuffle(things);
  std::vector<Fact> facts;
  const auto told = static_cast<size_t>(1 + random.below(2));
  for (size_t i = 0; i <= told; ++i)
    facts.push_back({things[i], kColors[static_cast<size_t>(random.below(kColors.size()))]});
  return facts;
}

}  // namespace

std::vector<Turn> make_dialogue(uint64_t seed) {
  Rng random(mix_seed(seed, {hash_name("dialogue")}));
  std::vector<Fact> facts = draw_facts(random);
  const Fact untold = facts.back();
  facts.pop_back();
  std::vector<Turn> turns;
  if (random.uniform() < 0.4) turns.push_back({"hello !", "hello !"});
  for (const Fact& fact : facts) {
    turns.push_back(
        {cat("my ", fact.thing, " is ", fact.color, " ."), cat("i see , a ", fact.color, " ", fact.thing, " .")});
  }
  if (random.uniform() < 0.2) {
    turns.push_back({cat("what color is my ", untold.thing, " ?"), "you did not say ."});
  } else {
    const Fact& asked = facts[static_cast<size_t>(random.below(static_cast<int64_t>(facts.size())))];
    turns.push_back(
        {cat("what color is my ", asked.thing, " ?"), cat("your ", asked.thing, " is ", asked.color, " .")});
  }
  if (random.uniform() < 0.4) turns.push_back({"thank you !", "you are welcome ."});
  return turns;
}

}  // namespace gato::env::dialogue
