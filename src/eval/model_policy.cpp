#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <deque>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/eval/agent.h"
#include "gato/model/token_loop.h"

namespace gato::eval {
namespace {

using env::Decoding;
using episode::Modality;
using episode::StepValues;
using kernels::Choice;
using kernels::TokenChoice;
using tokenizer::ActionToken;
using tokenizer::TokenSequence;

/// What one slot remembers of its episode.
struct SlotState {
  uint64_t seed = 0;
  int64_t step = 0;
  std::deque<TokenSequence> history;  // whole steps, the oldest first; at most the context
  TokenSequence pending;              // tokens not yet in the cache
  TokenSequence current;              // the step being made
  std::vector<int32_t> chosen;
  int fields = 0;  // of the action, begun so far
};

/// Tokens of a text that are chosen at once: a text that ends early has the rest computed for nothing on a GPU, which
/// is not asked in between.
constexpr int64_t kTextRounds = 16;

void append(TokenSequence& to, const TokenSequence& from) {
  const auto extend = [](auto& a, const auto& b) { a.insert(a.end(), b.begin(), b.end()); };
  extend(to.ids, from.ids);
  extend(to.targets, from.targets);
  extend(to.loss_weights, from.loss_weights);
  extend(to.kinds, from.kinds);
  extend(to.is_action, from.is_action);
  extend(to.local_positions, from.local_positions);
  extend(to.patches, from.patches);
  extend(to.patch_positions, from.patch_positions);
}

Choice choice_of(const ActionToken& token, const episode::TaskSpec& task, Decoding asked) {
  if (asked == Decoding::kMean && token.modality != Modality::kContinuous) asked = Decoding::kDefault;
  switch (asked) {
    case Decoding::kGreedy:
      return Choice::kGreedy;
    case Decoding::kMean:
      return Choice::kMean;
    case Decoding::kSample:
      return Choice::kSample;
    case Decoding::kDefault:
      break;
  }
  if (token.modality == Modality::kContinuous) return Choice::kMean;
  return token.modality == Modality::kDiscrete && task.partial_view ? Choice::kSample : Choice::kGreedy;
}

class ModelPolicy : public env::Policy {
 public:
  ModelPolicy(const Agent& agent, const episode::TaskSpec& task, int slots, const PolicyOptions& options)
      : agent_(agent),
        tokenizer_(task, agent.vocabulary(), agent.text()),
        options_(options),
        decoder_(agent.acting(), slots, agent.row_tokens()),
        loop_(decoder_, options.cuda_graph),
        slots_(static_cast<size_t>(slots)) {
    if (options_.context_steps < 0) options_.context_steps = agent.context_steps(task.id);
  }

  void begin_episode(int slot, uint64_t seed) override {
    slots_[static_cast<size_t>(slot)] = SlotState{};
    slots_[static_cast<size_t>(slot)].seed = seed;
    decoder_.reset(slot);
  }

  std::vector<StepValues> act(std::span<const int> slots, std::span<const StepValues> observations) override {
    const at::NoGradGuard no_grad;
    std::vector<int64_t> active;
    for (size_t i = 0; i < slots.size(); ++i) {
      begin_step(slots[i], observations[i]);
      active.push_back(slots[i]);
    }
    while (!active.empty()) active = choose_tokens(active);
    std::vector<StepValues> actions;
    for (const int slot : slots) actions.push_back(finish_step(slot));
    return actions;
  }

 private:
  SlotState& state(int64_t slot) { return slots_[static_cast<size_t>(slot)]; }

  /// Tokens that the action of a step may still take.
  [[nodiscard]] int64_t action_room() const {
    int64_t room = tokenizer_.fixed_action_tokens();
    for (const auto& field : tokenizer_.spec().action)
      room += field.modality == Modality::kText ? options_.max_text_tokens : 0;
    return room;
  }

  void begin_step(int slot, const StepValues& observation) {
    SlotState& s = state(slot);
    s.current.clear();
    s.chosen.clear();
    s.fields = 0;
    tokenizer::StepStorage storage;
    tokenizer_.append_observation(storage.view(tokenizer_.spec(), agent_.text(), observation), s.current);
    make_room(slot, s);
    append(s.pending, s.current);
  }

  /// Keeps the context inside the task's window and the row. When it is full the newer half is kept and computed anew,
  /// so that positions stay what they were in training.
  void make_room(int slot, SlotState& s) {
    const auto needed = [&] { return decoder_.length(slot) + s.pending.size() + s.current.size() + action_room(); };
    const int64_t limit = options_.context_steps;
    const auto steps = static_cast<int64_t>(s.history.size());
    if ((limit == 0 || steps < limit) && needed() <= agent_.row_tokens()) return;
    int64_t keep = limit > 0 ? std::min(steps, limit) / 2 : steps / 2;
    if (limit == 1) keep = 0;
    while (true) {
      while (static_cast<int64_t>(s.history.size()) > keep) s.history.pop_front();
      decoder_.reset(slot);
      s.pending.clear();
      for (const TokenSequence& past : s.history) append(s.pending, past);
      if (needed() <= agent_.row_tokens()) return;
      if (keep == 0) {
        throw DataError(cat("task ", tokenizer_.spec().id, ": one step takes ", needed(),
                            " tokens, but the model was trained on rows of ", agent_.row_tokens()));
      }
      keep /= 2;
    }
  }

  /// Chooses the next tokens of the slots that are behind in their action; returns the slots whose action goes on.
  std::vector<int64_t> choose_tokens(const std::vector<int64_t>& active) {
    const std::vector<int64_t> group = slots_behind(active);
    const std::vector<ActionToken> rounds = next_tokens(group.front());
    std::vector<TokenChoice> choices;
    for (const ActionToken& token : rounds) {
      for (const int64_t slot : group) choices.push_back(choice(slot, token, choices.size() / group.size()));
    }
    const auto chosen = loop_.choose(group, feed(group), choices);
    for (size_t g = 0; g < group.size(); ++g) {
      for (size_t r = 0; r < chosen[g].size(); ++r) take(group[g], rounds[r], chosen[g][r]);
      // All but the last are in the cache.
      tokenizer_.append_action_token(rounds[chosen[g].size() - 1], chosen[g].back(), state(group[g]).pending);
    }
    std::vector<int64_t> going_on;
    for (const int64_t slot : active) {
      if (next_token(slot)) going_on.push_back(slot);
    }
    return going_on;
  }

  /// Those whose next token is of the earliest field, so that they wait for each other where texts end: all of them are
  /// at the same element.
  std::vector<int64_t> slots_behind(const std::vector<int64_t>& active) {
    int least = state(active.front()).fields;
    for (const int64_t slot : active) least = std::min(least, state(slot).fields);
    std::vector<int64_t> behind;
    for (const int64_t slot : active) {
      if (state(slot).fields == least) behind.push_back(slot);
    }
    return behind;
  }

  /// What a slot is to choose, as far as that is known: the next tokens of a text, or all up to the next one.
  std::vector<ActionToken> next_tokens(int64_t slot) {
    std::vector<ActionToken> tokens{*next_token(slot)};
    if (tokens[0].modality == Modality::kText) {
      const int64_t left = options_.max_text_tokens - tokens[0].element;
      while (static_cast<int64_t>(tokens.size()) < std::min(left, kTextRounds)) {
        tokens.push_back(tokens.back());
        tokens.back().element += 1;
      }
      return tokens;
    }
    std::vector<int32_t> chosen = state(slot).chosen;
    while (static_cast<int64_t>(tokens.size()) < model::TokenLoop::kMostRounds) {
      chosen.push_back(tokens.back().first_id);  // whatever it will be
      const auto next = tokenizer_.next_action_token(chosen, options_.max_text_tokens);
      if (!next || next->modality == Modality::kText) break;
      tokens.push_back(*next);
    }
    return tokens;
  }

  [[nodiscard]] std::optional<ActionToken> next_token(int64_t slot) {
    return tokenizer_.next_action_token(state(slot).chosen, options_.max_text_tokens);
  }

  /// How a slot chooses a token, `ahead` tokens after those it has chosen.
  TokenChoice choice(int64_t slot, const ActionToken& token, size_t ahead) {
    const SlotState& s = state(slot);
    const bool is_text = token.modality == Modality::kText;
    Rng rng(mix_seed(s.seed, {hash_name("act"), static_cast<uint64_t>(s.step), s.chosen.size() + ahead}));
    return {.first_id = token.first_id,
            .num_ids = token.num_ids,
            .choice = choice_of(token, tokenizer_.spec(), options_.decoding),
            .temperature = options_.temperature,
            .top_p = options_.top_p,
            .uniform = rng.uniform(),
            .local_position = is_text ? tokenizer::kNoPosition : tokenizer::kActionPosition,
            .end_id = is_text ? agent_.text()->end_id() : -1};
  }

  at::Tensor feed(const std::vector<int64_t>& active) {
    std::vector<model::DecoderInput> inputs;
    std::vector<std::vector<uint8_t>> rows(active.size()), columns(active.size());
    for (size_t i = 0; i < active.size(); ++i) {
      const TokenSequence& pending = state(active[i]).pending;
      for (const tokenizer::PatchPosition& p : pending.patch_positions) {
        rows[i].push_back(static_cast<uint8_t>((p.row_low + p.row_high) / 2));
        columns[i].push_back(static_cast<uint8_t>((p.column_low + p.column_high) / 2));
      }
      inputs.push_back({pending.ids, pending.local_positions, pending.patches, rows[i], columns[i]});
    }
    at::Tensor hidden = decoder_.append(active, inputs);
    for (const int64_t slot : active) state(slot).pending.clear();
    return hidden;
  }

  void take(int64_t slot, const ActionToken& token, int32_t id) {
    SlotState& s = state(slot);
    const auto before = s.current.size();
    tokenizer_.append_action_token(token, id, s.current);
    GATO_CHECK(s.current.size() == before + 1, "one action token");
    s.chosen.push_back(id);
    const auto next = next_token(slot);
    if (next && next->field != token.field) s.fields += 1;
  }

  StepValues finish_step(int64_t slot) {
    SlotState& s = state(slot);
    s.history.push_back(std::move(s.current));
    s.current = {};
    s.step += 1;
    return tokenizer_.decode_action(s.chosen, options_.max_text_tokens);
  }

  const Agent& agent_;
  tokenizer::TaskTokenizer tokenizer_;
  PolicyOptions options_;
  model::Decoder decoder_;
  model::TokenLoop loop_;
  std::vector<SlotState> slots_;
};

}  // namespace

std::unique_ptr<env::Policy> make_model_policy(const Agent& agent, const episode::TaskSpec& task, int slots,
                                               const PolicyOptions& options) {
  GATO_CHECK(slots >= 1 && options.temperature > 0 && options.top_p > 0 && options.max_text_tokens >= 1,
             "policy options");
  if (const episode::TaskSpec* trained = agent.trained_task(task.id)) {
    const std::vector<std::string> differences = episode::spec_differences(*trained, task);
    if (!differences.empty()) {
      throw ConfigError(cat(
          "task ", task.id, " is not what ", agent.path().string(), " was trained on: ", join(differences, "; "),
          ". Evaluate with the environment that made the data, or record ", "its demonstrations again and train anew"));
    }
  }
  return std::make_unique<ModelPolicy>(agent, task, slots, options);
}

}  // namespace gato::eval
