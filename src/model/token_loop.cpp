#include "gato/model/token_loop.h"

#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/profile.h"
#include "gato/kernels/choose_tokens.h"
#include "gato/kernels/device.h"
#include "gato/kernels/rows.h"
#include "model/staging.h"

namespace gato::model {
namespace {

using kernels::Choice;
using kernels::TokenChoice;

constexpr int64_t kSmallestContext = 256;

/// Ids that the head computes for a round.
struct Range {
  int64_t first = 0, count = 0;
  bool operator==(const Range&) const = default;
};

/// All that any slot may take.
Range range_of(std::span<const TokenChoice> round) {
  int64_t first = round.front().first_id, last = first;
  for (const TokenChoice& choice : round) {
    first = std::min<int64_t>(first, choice.first_id);
    last = std::max<int64_t>(last, int64_t{choice.first_id} + choice.num_ids);
  }
  return {first, last - first};
}

int64_t next_power_of_two(int64_t value, int64_t least) {
  int64_t power = least;
  while (power < value) power *= 2;
  return power;
}

void check_choice(const TokenChoice& choice, int64_t vocabulary, bool on_device) {
  GATO_CHECK(choice.first_id >= 0 && choice.num_ids > 0 && int64_t{choice.first_id} + choice.num_ids <= vocabulary,
             "a choice among ", choice.num_ids, " ids from ", choice.first_id, " on, of a vocabulary of ", vocabulary);
  GATO_CHECK(choice.local_position >= -1 && choice.local_position < kLocalPositionRows, "local position ",
             choice.local_position, ", the table has ", kLocalPositionRows, " rows");
  if (choice.choice == Choice::kGreedy) return;
  GATO_CHECK(choice.temperature > 0, "a temperature of ", choice.temperature);
  GATO_CHECK(choice.choice != Choice::kMean || choice.num_ids == kernels::kNumValueBins, "a mean over ", choice.num_ids,
             " ids: there are ", kernels::kNumValueBins, " bins");
  if (on_device && choice.num_ids > kernels::kMostSampledOnDevice) {
    throw ConfigError(cat("a GPU draws among at most ", kernels::kMostSampledOnDevice, " ids, and here are ",
                          choice.num_ids, "; decode greedily, or on the CPU (--device cpu)"));
  }
}

}  // namespace

/// The state of n rows on the device, at places that graphs keep.
struct TokenLoop::Memory {
  kernels::ChoiceState state;

  Memory(int64_t n, at::Device device) : n_(n), device_(device) {
    round_ = layout_.add(n, at::kInt);
    runs_ = layout_.add(n * kernels::kRunTableColumns, at::kInt);
    ids_ = layout_.add(n, at::kInt);
    local_positions_ = layout_.add(n, at::kInt);
    chosen_ = layout_.add(kMostRounds * n, at::kInt);
    choices_ = layout_.add(kMostRounds * n * static_cast<int64_t>(sizeof(TokenChoice)), at::kByte);  // last: fill()
    memory_ = at::empty({layout_.bytes()}, at::TensorOptions().dtype(at::kByte).device(device));
    state.round = layout_.array_of(memory_, round_);
    state.runs = layout_.array_of(memory_, runs_).view({n, kernels::kRunTableColumns});
    state.ids = layout_.array_of(memory_, ids_);
    state.local_positions = layout_.array_of(memory_, local_positions_);
    state.chosen = layout_.array_of(memory_, chosen_).view({kMostRounds, n});
    state.choices = layout_.array_of(memory_, choices_);
  }

  /// Rows [0, slots.size()) for `slots`, the rest without a part, by one copy.
  void fill(const Decoder& decoder, std::span<const int64_t> slots, std::span<const TokenChoice> choices) {
    layout_.allocate(device_);
    const auto zero = [&](size_t array) { std::ranges::fill(layout_.host<int32_t>(array), 0); };
    zero(round_);
    zero(ids_);
    zero(local_positions_);
    std::ranges::fill(layout_.host<int32_t>(chosen_), -1);
    fill_runs(decoder, slots);
    const size_t rounds = choices.size() / slots.size(), n = static_cast<size_t>(n_);
    const auto to = layout_.host<TokenChoice>(choices_);
    for (size_t r = 0; r < rounds; ++r) {
      std::ranges::copy(choices.subspan(r * slots.size(), slots.size()), to.begin() + static_cast<int64_t>(r * n));
      std::fill_n(to.begin() + static_cast<int64_t>(r * n + slots.size()), n - slots.size(), choices[r * slots.size()]);
    }
    layout_.copy_to(memory_, layout_.offset(choices_) + static_cast<int64_t>(rounds * n * sizeof(TokenChoice)));
  }

 private:
  /// Every row has a slot of its own, those without a part one of the other slots.
  void fill_runs(const Decoder& decoder, std::span<const int64_t> slots) {
    auto to = layout_.host<int32_t>(runs_).begin();
    std::vector<bool> used(static_cast<size_t>(decoder.slots()), false);
    int32_t row = 0;
    const auto add = [&](int64_t slot, int64_t position, int32_t count) {
      for (const int64_t value : {slot, position, int64_t{count}, int64_t{row}}) *to++ = static_cast<int32_t>(value);
      ++row;
    };
    for (const int64_t slot : slots) {
      used[static_cast<size_t>(slot)] = true;
      add(slot, decoder.length(slot) - 1, 1);
    }
    for (int64_t slot = 0; row < n_; ++slot) {
      if (!used[static_cast<size_t>(slot)]) add(slot, 0, 0);
    }
  }

  int64_t n_;
  at::Device device_;
  Staging layout_;
  size_t round_ = 0, runs_ = 0, ids_ = 0, local_positions_ = 0, chosen_ = 0, choices_ = 0;
  at::Tensor memory_;
};

/// One token of every row: the one chosen last is appended, and the next is chosen.
struct TokenLoop::Step {
  std::shared_ptr<Memory> memory;
  Range range;
  int64_t most_context = 0;

  bool operator==(const Step&) const = default;
  void compute(const Decoder& decoder) const {
    const kernels::ChoiceState& state = memory->state;
    const at::Tensor hidden = decoder.step(state.ids, state.local_positions, state.runs, most_context);
    kernels::choose_tokens(decoder.logits(hidden, range.first, range.count), range.first, state);
  }
};

struct TokenLoop::Graph {
  Step step;
  std::unique_ptr<kernels::CapturedWork> work;
};

TokenLoop::TokenLoop(Decoder& decoder, bool cuda_graph)
    : decoder_(decoder), on_device_(kernels::has_device_operations(decoder.device())), cuda_graph_(cuda_graph) {
  if (cuda_graph && !kernels::can_capture(decoder.device())) {
    throw ConfigError(cat("acting in CUDA graphs (--cuda-graph) is for a GPU, but the model is on ",
                          decoder.device().str(), " (--device)"));
  }
}

TokenLoop::~TokenLoop() {
  try {
    if (!graphs_.empty()) kernels::synchronize(decoder_.device());
  } catch (const std::exception&) {  // a device that failed runs nothing any more
  }
}

size_t TokenLoop::num_graphs() const { return graphs_.size(); }

void TokenLoop::check(std::span<const int64_t> slots, const at::Tensor& hidden,
                      std::span<const TokenChoice> choices) const {
  GATO_CHECK(!slots.empty() && choices.size() % slots.size() == 0, choices.size(), " choices for ", slots.size(),
             " slots");
  const auto rounds = static_cast<int64_t>(choices.size() / slots.size());
  GATO_CHECK(rounds >= 1 && rounds <= kMostRounds, rounds, " rounds: 1 to ", kMostRounds, " can be at once");
  GATO_CHECK(hidden.dim() == 2 && hidden.size(0) == static_cast<int64_t>(slots.size()), "hidden states of sizes ",
             hidden.sizes(), " for ", slots.size(), " slots");
  std::vector<bool> used(static_cast<size_t>(decoder_.slots()), false);
  for (const int64_t slot : slots) {
    const int64_t held = decoder_.length(slot);
    GATO_CHECK(held > 0 && held + rounds - 1 <= decoder_.max_tokens(), "slot ", slot, " holds ", held,
               " tokens: ", rounds - 1, " more do not follow or are too many for ", decoder_.max_tokens());
    GATO_CHECK(!used[static_cast<size_t>(slot)], "slot ", slot, " comes twice");
    used[static_cast<size_t>(slot)] = true;
  }
  for (const TokenChoice& choice : choices) check_choice(choice, decoder_.vocabulary_size(), on_device_);
}

TokenLoop::Chosen TokenLoop::choose(std::span<const int64_t> slots, const at::Tensor& hidden,
                                    std::span<const TokenChoice> choices) {
  check(slots, hidden, choices);
  const c10::AutoGradMode no_gradients(false);
  return on_device_ ? choose_on_device(slots, hidden, choices) : choose_on_cpu(slots, hidden, choices);
}

TokenLoop::Chosen TokenLoop::choose_on_cpu(std::span<const int64_t> slots, at::Tensor hidden,
                                           std::span<const TokenChoice> choices) {
  Chosen chosen(slots.size());
  std::vector<size_t> active(slots.size());  // numbers in `slots`, those of the rows of `hidden`
  for (size_t i = 0; i < active.size(); ++i) active[i] = i;
  for (auto round = choices; !round.empty(); round = round.subspan(slots.size())) {
    const Range range = range_of(round.first(slots.size()));
    const at::Tensor logits = decoder_.logits(hidden, range.first, range.count);
    const float* row = logits.const_data_ptr<float>();
    std::vector<size_t> going_on;
    for (const size_t i : active) {
      const TokenChoice& how = round[i];
      const auto* allowed = row + (how.first_id - range.first);
      chosen[i].push_back(kernels::choose_token(how, {allowed, static_cast<size_t>(how.num_ids)}));
      if (chosen[i].back() != how.end_id) going_on.push_back(i);
      row += range.count;
    }
    active = std::move(going_on);
    if (active.empty() || round.size() == slots.size()) break;
    hidden = append(slots, active, chosen, round);
  }
  return chosen;
}

at::Tensor TokenLoop::append(std::span<const int64_t> slots, const std::vector<size_t>& active, const Chosen& chosen,
                             std::span<const TokenChoice> round) {
  std::vector<int64_t> to;
  std::vector<int16_t> local_positions;
  for (const size_t i : active) {
    to.push_back(slots[i]);
    local_positions.push_back(static_cast<int16_t>(round[i].local_position));
  }
  std::vector<DecoderInput> inputs;
  for (size_t a = 0; a < active.size(); ++a) {
    inputs.push_back({{&chosen[active[a]].back(), 1}, {&local_positions[a], 1}, {}, {}, {}});
  }
  return decoder_.append(to, inputs);
}

TokenLoop::Chosen TokenLoop::choose_on_device(std::span<const int64_t> slots, const at::Tensor& hidden,
                                              std::span<const TokenChoice> choices) {
  const auto count = static_cast<int64_t>(slots.size());
  const int64_t rounds = static_cast<int64_t>(choices.size()) / count;
  const int64_t n = std::min(next_power_of_two(count, 1), decoder_.slots());
  std::shared_ptr<Memory>& memory = memories_[n];
  if (memory == nullptr) memory = std::make_shared<Memory>(n, decoder_.device());
  memory->fill(decoder_, slots, choices);
  at::Tensor rows = hidden;
  if (n > count) {
    rows = at::zeros({n, hidden.size(1)}, hidden.options());
    rows.narrow(0, 0, count).copy_(hidden);
  }
  int64_t longest = 0;
  for (const int64_t slot : slots) longest = std::max(longest, decoder_.length(slot) + rounds - 1);
  const int64_t context = std::min(next_power_of_two(longest, kSmallestContext), decoder_.max_tokens());
  for (int64_t r = 0; r < rounds; ++r) {
    const Range range = range_of(choices.subspan(static_cast<size_t>(r * count), slots.size()));
    if (r == 0) {
      kernels::choose_tokens(decoder_.logits(rows, range.first, range.count), range.first, memory->state);
    } else {
      run({memory, range, context});
    }
  }
  return read(*memory, slots, choices);
}

TokenLoop::Chosen TokenLoop::read(const Memory& memory, std::span<const int64_t> slots,
                                  std::span<const TokenChoice> choices) {
  const size_t rounds = choices.size() / slots.size();
  const at::Tensor ids = memory.state.chosen.narrow(0, 0, static_cast<int64_t>(rounds)).to(at::kCPU);
  const auto* id = ids.const_data_ptr<int32_t>();
  Chosen chosen(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    for (size_t r = 0; r < rounds; ++r) {
      chosen[i].push_back(id[r * static_cast<size_t>(memory.state.size()) + i]);
      GATO_CHECK(chosen[i].back() >= 0, "no choice was made for slot ", slots[i], " in round ", r);
      if (chosen[i].back() == choices[r * slots.size() + i].end_id) break;
    }
    decoder_.extend(slots[i], static_cast<int64_t>(chosen[i].size()) - 1);
  }
  return chosen;
}

void TokenLoop::run(const Step& step) {
  if (!cuda_graph_) return step.compute(decoder_);
  const auto found =
      std::find_if(graphs_.begin(), graphs_.end(), [&](const Graph& graph) { return graph.step == step; });
  if (found == graphs_.end()) return record(step);
  const profile::Scope scope("graph of a token");
  std::rotate(found, found + 1, graphs_.end());
  graphs_.back().work->replay();
}

/// Recording calls the work once for real, so that nothing is left to replay.
void TokenLoop::record(const Step& step) {
  const profile::Scope scope("recording a graph");
  if (graphs_.size() == kMostGraphs) {
    kernels::synchronize(decoder_.device());  // it may still be running
    graphs_.erase(graphs_.begin());
  }
  const kernels::CapturedWork* beside = graphs_.empty() ? nullptr : graphs_.back().work.get();
  std::unique_ptr<kernels::CapturedWork> work;
  try {
    const auto compute = [&decoder = decoder_, step] {
      const c10::AutoGradMode no_gradients(false);
      step.compute(decoder);
    };
    work = kernels::capture(decoder_.device(), compute, beside);
  } catch (const DeviceError& error) {
    throw DeviceError(cat(error.what(), " (acting goes without --cuda-graph, too)"));
  }
  log::debug("model", "recorded a CUDA graph for a token of ", step.memory->state.size(), " slots, contexts of up to ",
             step.most_context, " tokens and ", step.range.count, " ids");
  graphs_.push_back({step, std::move(work)});
}

}  // namespace gato::model
