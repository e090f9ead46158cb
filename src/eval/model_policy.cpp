#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/eval/agent.h"
#include "gato/model/decoder.h"
#include "gato/tokenizer/numbers.h"

namespace gato::eval {
namespace {

using env::Decoding;
using episode::Modality;
using episode::StepValues;
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
};

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

Decoding decoding_of(const ActionToken& token, const episode::TaskSpec& task, Decoding asked) {
  if (asked == Decoding::kMean && token.modality != Modality::kContinuous) asked = Decoding::kDefault;
  if (asked != Decoding::kDefault) return asked;
  if (token.modality == Modality::kContinuous) return Decoding::kMean;
  return token.modality == Modality::kDiscrete && task.partial_view ? Decoding::kSample : Decoding::kGreedy;
}

int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<double> probabilities(std::span<const float> logits, double temperature) {
  const double top = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  double sum = 0;
  for (const float logit : logits) {
    p.push_back(std::exp((static_cast<double>(logit) - top) / temperature));
    sum += p.back();
  }
  for (double& value : p) value /= sum;
  return p;
}

/// Sets all but the likeliest ids, which together have at least `top_p`, to 0, and makes the rest sum to 1 (nucleus
/// sampling, Holtzman et al. 2020).
void keep_nucleus(std::vector<double>& p, double top_p) {
  if (top_p >= 1) return;
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && kept < top_p) kept += p[order[count++]];
  for (size_t i = count; i < order.size(); ++i) p[order[i]] = 0;
  for (double& value : p) value /= kept;
}

int32_t sample(const std::vector<double>& p, double uniform) {
  for (size_t i = 0; i < p.size(); ++i) {
    uniform -= p[i];
    if (uniform < 0) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
}

/// The bin of the expected value: what is fed back, too.
int32_t mean_bin(const std::vector<double>& p) {
  double mean = 0;
  for (size_t bin = 0; bin < p.size(); ++bin)
    mean += p[bin] * static_cast<double>(tokenizer::action_value(static_cast<int32_t>(bin)));
  return tokenizer::action_bin(static_cast<float>(mean));
}

class ModelPolicy : public env::Policy {
 public:
  ModelPolicy(const Agent& agent, const episode::TaskSpec& task, int slots, const PolicyOptions& options)
      : agent_(agent),
        tokenizer_(task, agent.vocabulary(), agent.text()),
        options_(options),
        decoder_(agent.acting(), slots, agent.row_tokens()),
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

  /// Chooses the next action token of every active slot; returns the slots whose action goes on.
  std::vector<int64_t> choose_tokens(const std::vector<int64_t>& active) {
    const at::Tensor hidden = feed(active);
    std::vector<int64_t> going_on;
    // All slots are at the same token except inside texts, so groups are few.
    std::vector<bool> done(active.size(), false);
    for (size_t first = 0; first < active.size(); ++first) {
      if (done[first]) continue;
      const ActionToken token = *next_token(active[first]);
      std::vector<int64_t> group;
      for (size_t i = first; i < active.size(); ++i) {
        const ActionToken other = *next_token(active[i]);
        if (done[i] || other.first_id != token.first_id || other.num_ids != token.num_ids) continue;
        done[i] = true;
        group.push_back(static_cast<int64_t>(i));
      }
      const at::Tensor rows = rows_of(hidden, group);
      const at::Tensor logits = decoder_.logits(rows, token.first_id, token.num_ids).to(at::kCPU).contiguous();
      for (size_t g = 0; g < group.size(); ++g) {
        const int64_t slot = active[static_cast<size_t>(group[g])];
        const std::span<const float> row(logits.const_data_ptr<float>() + static_cast<int64_t>(g) * token.num_ids,
                                         static_cast<size_t>(token.num_ids));
        take(slot, *next_token(slot), token.first_id + choose(slot, token, row));
      }
    }
    for (const int64_t slot : active) {
      if (next_token(slot)) going_on.push_back(slot);
    }
    return going_on;
  }

  /// All of them without a copy.
  static at::Tensor rows_of(const at::Tensor& hidden, const std::vector<int64_t>& rows) {
    if (static_cast<int64_t>(rows.size()) == hidden.size(0)) return hidden;
    return hidden.index_select(0, at::tensor(rows, at::kLong).to(hidden.device()));
  }

  [[nodiscard]] std::optional<ActionToken> next_token(int64_t slot) {
    return tokenizer_.next_action_token(state(slot).chosen, options_.max_text_tokens);
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

  int32_t choose(int64_t slot, const ActionToken& token, std::span<const float> logits) {
    const Decoding decoding = decoding_of(token, tokenizer_.spec(), options_.decoding);
    if (decoding == Decoding::kGreedy) return argmax(logits);
    auto p = probabilities(logits, options_.temperature);
    if (decoding == Decoding::kMean) return mean_bin(p);
    keep_nucleus(p, options_.top_p);
    const SlotState& s = state(slot);
    Rng rng(mix_seed(s.seed, {hash_name("act"), static_cast<uint64_t>(s.step), s.chosen.size()}));
    return sample(p, rng.uniform());
  }

  void take(int64_t slot, const ActionToken& token, int32_t id) {
    SlotState& s = state(slot);
    const auto before = s.current.size();
    tokenizer_.append_action_token(token, id, s.current);
    GATO_CHECK(s.current.size() == before + 1, "one action token");
    tokenizer_.append_action_token(token, id, s.pending);
    s.chosen.push_back(id);
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
