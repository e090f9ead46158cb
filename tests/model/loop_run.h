#pragma once
#include <string>
#include <utility>
#include <vector>

#include "gato/model/token_loop.h"
#include "model/acting_run.h"

// Actions of many kinds chosen token after token, to compare ways and devices by.
namespace gato::model::testing {

enum class LoopWay {
  kStepByStep,  // logits to the CPU, choose_token() there, Decoder::append
  kLoop,
  kGraphs
};

/// What a life gave: all ids that were chosen, and hidden states of what came after.
struct Lived {
  std::vector<std::vector<int32_t>> chosen;
  Outputs hidden;
  size_t graphs = 0;
};

/// Room for all value bins.
inline ModelShape loop_shape() { return {1200, 100, kernels::kNumValueBins}; }

/// An action of `rounds` tokens of different kinds: the likeliest id, the mean bin, a drawn bin, a drawn id of the
/// likelier ones; every slot with numbers of its own. Temperatures are low, since a model that was not trained finds
/// all ids about as likely.
inline std::vector<kernels::TokenChoice> mixed_choices(int64_t rounds, int64_t slots, uint64_t seed) {
  using kernels::Choice;
  std::vector<kernels::TokenChoice> choices;
  Rng rng(seed);
  for (int64_t i = 0; i < rounds * slots; ++i) {
    kernels::TokenChoice choice{0, 100, Choice::kGreedy, 0.05, 1, rng.uniform(), 512, -1};
    switch (i / slots % 4) {
      case 1:
        choice.choice = Choice::kMean;
        break;
      case 2:
        choice.choice = Choice::kSample;
        break;
      case 3:
        choice.choice = Choice::kSample;
        choice.top_p = 0.7;
        choice.num_ids = static_cast<int32_t>(40 + i % slots);  // of its own for every slot
        choice.local_position = -1;
        break;
      default:
        break;
    }
    if (i / slots % 4 == 1 || i / slots % 4 == 2) {
      choice.first_id = 100;
      choice.num_ids = kernels::kNumValueBins;
    }
    choices.push_back(choice);
  }
  return choices;
}

/// What TokenLoop does, by the decoder's other functions and on the CPU.
inline std::vector<std::vector<int32_t>> choose_step_by_step(Decoder& decoder, const std::vector<int64_t>& slots,
                                                             at::Tensor hidden,
                                                             std::span<const kernels::TokenChoice> choices) {
  std::vector<std::vector<int32_t>> chosen(slots.size());
  std::vector<size_t> active(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) active[i] = i;
  for (size_t r = 0; r * slots.size() < choices.size(); ++r) {
    if (r > 0) {
      std::vector<int64_t> to;
      std::vector<int16_t> positions;
      for (const size_t i : active) {
        to.push_back(slots[i]);
        positions.push_back(static_cast<int16_t>(choices[(r - 1) * slots.size() + i].local_position));
      }
      std::vector<DecoderInput> inputs;
      for (size_t a = 0; a < active.size(); ++a)
        inputs.push_back({{&chosen[active[a]].back(), 1}, {&positions[a], 1}, {}, {}, {}});
      hidden = decoder.append(to, inputs);
    }
    const at::Tensor logits = decoder.logits(hidden, 0, loop_shape().vocabulary_size).cpu();
    std::vector<size_t> going_on;
    for (size_t a = 0; a < active.size(); ++a) {
      const kernels::TokenChoice& how = choices[r * slots.size() + active[a]];
      const float* row = logits.const_data_ptr<float>() + static_cast<int64_t>(a) * logits.size(1) + how.first_id;
      const int32_t id = kernels::choose_token(how, {row, static_cast<size_t>(how.num_ids)});
      chosen[active[a]].push_back(id);
      if (id != how.end_id) going_on.push_back(active[a]);
    }
    active = going_on;
    if (active.empty()) break;
  }
  return chosen;
}

/// A player's life with `slots` slots: prompts, then actions of several lengths by all slots and by some, one of which
/// ends early, with observations in between. No patches, whose convolutions round differently elsewhere.
class LoopLife {
 public:
  LoopLife(const ActingCase& of, LoopWay way, int64_t slots, at::Device device)
      : way_(way),
        model_(config_of(of), loop_shape(), 7, Model::Purpose::kInference, device),
        decoder_(std::make_shared<const ActingWeights>(model_, of.weights), slots, kWindow, of.cache),
        loop_(decoder_, way == LoopWay::kGraphs) {}

  [[nodiscard]] Lived live() {
    std::vector<int64_t> all;
    for (int64_t slot = 0; slot < decoder_.slots(); ++slot) all.push_back(slot);
    std::vector<size_t> lengths = {240, 17, 5};  // the first crosses the smallest context of a graph
    lengths.resize(all.size(), 3);
    for (int round = 0; round < 2; ++round) {
      act(all, lengths, mixed_choices(9, decoder_.slots(), 3));
      act({2, 0}, {1, 2}, mixed_choices(4, 2, 4 + static_cast<uint64_t>(round)));
      end_early({1, 2});
      act({1}, {2}, mixed_choices(1, 1, 5));
      lengths.assign(all.size(), 2);
    }
    probe(all);
    lived_.graphs = loop_.num_graphs();
    return lived_;
  }

 private:
  static constexpr int64_t kWindow = 320;

  static ModelConfig config_of(const ActingCase& of) {
    ModelConfig config = gpu_config(of.precision);
    config.position = of.position;
    return config;
  }

  at::Tensor observe(const std::vector<int64_t>& slots, const std::vector<size_t>& lengths) {
    std::vector<Tokens> tokens;
    for (const size_t length : lengths)
      tokens.push_back(without_patches(make_tokens(static_cast<int64_t>(length), ++seed_)));
    std::vector<DecoderInput> inputs;
    for (const Tokens& of_slot : tokens) inputs.push_back(of_slot.part(0, of_slot.ids.size()));
    return decoder_.append(slots, inputs);
  }

  std::vector<std::vector<int32_t>> act(const std::vector<int64_t>& slots, const std::vector<size_t>& lengths,
                                        const std::vector<kernels::TokenChoice>& choices) {
    const at::Tensor hidden = observe(slots, lengths);
    auto chosen = way_ == LoopWay::kStepByStep ? choose_step_by_step(decoder_, slots, hidden, choices)
                                               : loop_.choose(slots, hidden, choices);
    lived_.chosen.insert(lived_.chosen.end(), chosen.begin(), chosen.end());
    return chosen;
  }

  /// An action whose first slot ends with what it chose third in the same situation.
  void end_early(const std::vector<int64_t>& slots) {
    std::vector<kernels::TokenChoice> choices = mixed_choices(7, static_cast<int64_t>(slots.size()), 6);
    const std::vector<int64_t> before = {decoder_.length(slots[0]), decoder_.length(slots[1])};
    const uint64_t seed = seed_;
    const auto whole = act(slots, {3, 2}, choices);
    for (size_t i = 0; i < slots.size(); ++i) decoder_.truncate(slots[i], before[i]);
    seed_ = seed;
    for (size_t i = 0; i < choices.size(); i += slots.size()) choices[i].end_id = whole[0][2];
    act(slots, {3, 2}, choices);
  }

  void probe(const std::vector<int64_t>& slots) {
    keep_outputs(decoder_, observe(slots, std::vector<size_t>(slots.size(), 1)), lived_.hidden);
  }

  LoopWay way_;
  Model model_;
  Decoder decoder_;
  TokenLoop loop_;
  uint64_t seed_ = 20;
  Lived lived_;
};

inline Lived live(const ActingCase& of, LoopWay way, int64_t slots = 3, at::Device device = at::kCPU) {
  return LoopLife(of, way, slots, device).live();
}

}  // namespace gato::model::testing
