#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <deque>
#include <limits>

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
  size_t task = 0;  // of the policy's tasks
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

/// What all slots of one task have in common.
struct ActedTask {
  tokenizer::TaskTokenizer tokenizer;
  PolicyOptions options;
  TokenSequence prompt;  // in front of every context; may be empty

  /// Tokens that the action of a step may still take.
  [[nodiscard]] int64_t action_room() const {
    int64_t room = tokenizer.fixed_action_tokens();
    for (const auto& field : tokenizer.spec().action)
      room += field.modality == Modality::kText ? options.max_text_tokens : 0;
    return room;
  }
};

ActedTask acted_task(const Agent& agent, const SlotGroup& group) {
  ActedTask task{tokenizer::TaskTokenizer(group.task, agent.vocabulary(), agent.text()), group.options, {}};
  if (task.options.context_steps < 0) task.options.context_steps = agent.context_steps(group.task.id);
  if (task.options.demonstration) task.prompt = agent.demonstration(group.task.id);
  return task;
}

int total_slots(std::span<const SlotGroup> groups) {
  int slots = 0;
  for (const SlotGroup& group : groups) slots += group.slots;
  return slots;
}

class ModelPolicy : public env::Policy {
 public:
  ModelPolicy(const Agent& agent, std::span<const SlotGroup> groups)
      : agent_(agent),
        decoder_(agent.acting(), total_slots(groups), agent.row_tokens()),
        loop_(decoder_, groups.front().options.cuda_graph) {
    for (const SlotGroup& group : groups) {
      tasks_.push_back(acted_task(agent, group));
      SlotState state;
      state.task = tasks_.size() - 1;
      slots_.insert(slots_.end(), static_cast<size_t>(group.slots), state);
    }
  }

  void begin_episode(int slot, uint64_t seed) override {
    SlotState& s = state(slot);
    const size_t task = s.task;
    s = SlotState{};
    s.task = task;
    s.seed = seed;
    s.pending = tasks_[task].prompt;
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

  const ActedTask& task_of(int64_t slot) { return tasks_[state(slot).task]; }

  void begin_step(int slot, const StepValues& observation) {
    SlotState& s = state(slot);
    s.current.clear();
    s.chosen.clear();
    s.fields = 0;
    tokenizer::StepStorage storage;
    const tokenizer::TaskTokenizer& tokens = task_of(slot).tokenizer;
    tokens.append_observation(storage.view(tokens.spec(), agent_.text(), observation), s.current);
    make_room(slot, s);
    append(s.pending, s.current);
  }

  /// Keeps the context inside the task's window and the row. When it is full the newer half is kept and computed anew,
  /// so that positions stay what they were in training.
  void make_room(int slot, SlotState& s) {
    const ActedTask& task = task_of(slot);
    const auto needed = [&] {
      return decoder_.length(slot) + s.pending.size() + s.current.size() + task.action_room();
    };
    const int64_t limit = task.options.context_steps;
    const auto steps = static_cast<int64_t>(s.history.size());
    if ((limit == 0 || steps < limit) && needed() <= agent_.row_tokens()) return;
    int64_t keep = limit > 0 ? std::min(steps, limit) / 2 : steps / 2;
    if (limit == 1) keep = 0;
    while (true) {
      while (static_cast<int64_t>(s.history.size()) > keep) s.history.pop_front();
      decoder_.reset(slot);
      s.pending = task.prompt;
      for (const TokenSequence& past : s.history) append(s.pending, past);
      if (needed() <= agent_.row_tokens()) return;
      if (keep == 0) {
        throw DataError(cat("task ", task.tokenizer.spec().id, ": one step takes ", needed(),
                            " tokens with its prompt, but the model was trained on rows of ", agent_.row_tokens()));
      }
      keep /= 2;
    }
  }

  /// Chooses the next tokens of the slots that are behind in their action; returns the slots whose action goes on.
  std::vector<int64_t> choose_tokens(const std::vector<int64_t>& active) {
    const std::vector<int64_t> group = slots_behind(active);
    std::vector<std::vector<ActionToken>> tokens;
    size_t rounds = std::numeric_limits<size_t>::max();
    for (const int64_t slot : group) rounds = std::min(rounds, tokens.emplace_back(next_tokens(slot)).size());
    std::vector<TokenChoice> choices;
    for (size_t r = 0; r < rounds; ++r) {
      for (size_t g = 0; g < group.size(); ++g) choices.push_back(choice(group[g], tokens[g][r], r));
    }
    const auto chosen = loop_.choose(group, feed(group), choices);
    for (size_t g = 0; g < group.size(); ++g) {
      for (size_t r = 0; r < chosen[g].size(); ++r) take(group[g], tokens[g][r], chosen[g][r]);
      // All but the last are in the cache.
      task_of(group[g]).tokenizer.append_action_token(tokens[g][chosen[g].size() - 1], chosen[g].back(),
                                                      state(group[g]).pending);
    }
    std::vector<int64_t> going_on;
    for (const int64_t slot : active) {
      if (next_token(slot)) going_on.push_back(slot);
    }
    return going_on;
  }

  /// Those whose next token is of the earliest field, so that they wait for each other where texts end: those of one
  /// task are at the same element.
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
      const int64_t left = task_of(slot).options.max_text_tokens - tokens[0].element;
      while (static_cast<int64_t>(tokens.size()) < std::min(left, kTextRounds)) {
        tokens.push_back(tokens.back());
        tokens.back().element += 1;
      }
      return tokens;
    }
    std::vector<int32_t> chosen = state(slot).chosen;
    while (static_cast<int64_t>(tokens.size()) < model::TokenLoop::kMostRounds) {
      chosen.push_back(tokens.back().first_id);  // whatever it will be
      const auto next = task_of(slot).tokenizer.next_action_token(chosen, task_of(slot).options.max_text_tokens);
      if (!next || next->modality == Modality::kText) break;
      tokens.push_back(*next);
    }
    return tokens;
  }

  [[nodiscard]] std::optional<ActionToken> next_token(int64_t slot) {
    return task_of(slot).tokenizer.next_action_token(state(slot).chosen, task_of(slot).options.max_text_tokens);
  }

  /// How a slot chooses a token, `ahead` tokens after those it has chosen.
  TokenChoice choice(int64_t slot, const ActionToken& token, size_t ahead) {
    const SlotState& s = state(slot);
    const ActedTask& task = task_of(slot);
    const bool is_text = token.modality == Modality::kText;
    Rng rng(mix_seed(s.seed, {hash_name("act"), static_cast<uint64_t>(s.step), s.chosen.size() + ahead}));
    return {.first_id = token.first_id,
            .num_ids = token.num_ids,
            .choice = choice_of(token, task.tokenizer.spec(), task.options.decoding),
            .temperature = task.options.temperature,
            .top_p = task.options.top_p,
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
    task_of(slot).tokenizer.append_action_token(token, id, s.current);
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
    return task_of(slot).tokenizer.decode_action(s.chosen, task_of(slot).options.max_text_tokens);
  }

  const Agent& agent_;
  std::vector<ActedTask> tasks_;
  model::Decoder decoder_;
  model::TokenLoop loop_;
  std::vector<SlotState> slots_;
};

void check_group(const Agent& agent, const SlotGroup& group) {
  GATO_CHECK(group.slots >= 1 && group.options.temperature > 0 && group.options.top_p > 0 &&
                 group.options.max_text_tokens >= 1,
             "policy options");
  const episode::TaskSpec* trained = agent.trained_task(group.task.id);
  if (trained == nullptr) return;
  const std::vector<std::string> differences = episode::spec_differences(*trained, group.task);
  if (differences.empty()) return;
  throw ConfigError(
      cat("task ", group.task.id, " is not what ", agent.path().string(), " was trained on: ", join(differences, "; "),
          ". Evaluate with the environment that made the data, or record its demonstrations again and ", "train anew"));
}

}  // namespace

std::unique_ptr<env::Policy> make_model_policy(const Agent& agent, std::span<const SlotGroup> groups) {
  GATO_CHECK(!groups.empty(), "a policy of no task");
  for (const SlotGroup& group : groups) check_group(agent, group);
  return std::make_unique<ModelPolicy>(agent, groups);
}

std::unique_ptr<env::Policy> make_model_policy(const Agent& agent, const episode::TaskSpec& task, int slots,
                                               const PolicyOptions& options) {
  const std::vector<SlotGroup> groups = {{task, slots, options}};
  return make_model_policy(agent, groups);
}

}  // namespace gato::eval
