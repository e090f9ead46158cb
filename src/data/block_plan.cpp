#include "block_plan.h"

#include <algorithm>
#include <cmath>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {

std::shared_ptr<const EpochOrder> EpochOrders::of(const SourcePlan& plan, uint64_t epoch) const {
  constexpr size_t kMostPerSource = 4;  // neighbouring blocks are in two epochs at most, if epochs are not tiny
  const std::lock_guard lock(mutex_);
  Entry& entry = orders_[{plan.windows.get(), epoch}];
  entry.last_use = ++clock_;
  if (!entry.order) {
    entry.order = std::make_shared<const EpochOrder>(plan.windows->shard_begin(), shuffle_shards_,
                                                     mix_seed(plan.key, {4, epoch}));
  }
  std::shared_ptr<const EpochOrder> order = entry.order;
  auto oldest = orders_.end();
  size_t kept = 0;
  for (auto i = orders_.lower_bound({plan.windows.get(), 0});
       i != orders_.end() && i->first.first == plan.windows.get(); ++i, ++kept) {
    if (oldest == orders_.end() || i->second.last_use < oldest->second.last_use) oldest = i;
  }
  if (kept > kMostPerSource) orders_.erase(oldest);
  return order;
}

namespace {

int64_t tokens_of(const Source& source, int64_t each, const Window& window) {
  return each > 0 ? each * window.count : source.window_tokens(window);
}

/// Turns the windows of items into sequences.
class SequenceMaker {
 public:
  SequenceMaker(const DataConfig& config, const SourcePlan& plan, std::vector<PlannedSequence>& out)
      : plan_(plan),
        each_(tokens_of_each_step(*plan.data)),
        row_(config.row_tokens),
        room_(config.row_tokens - plan.prompt_tokens),
        out_(out) {}

  void begin_epoch(uint64_t epoch) {
    epoch_ = epoch;
    epoch_key_ = mix_seed(plan_.key, {5, epoch});
  }
  void begin_item(uint64_t item) {
    item_ = item;
    parts_ = 0;
  }
  /// One sequence per window, cut where a stretch is longer than a row.
  void add_alone(Window window) {
    int64_t tokens = tokens_of(*plan_.data, each_, window);
    while (tokens > row_) {
      const int64_t count = steps_from(*plan_.data, window.episode, window.first, row_, window.count);
      const Window front{window.episode, window.first, count};
      const int64_t front_tokens = tokens_of(*plan_.data, each_, front);
      push(front, front_tokens);
      window = {window.episode, window.first + count, window.count - count};
      tokens -= front_tokens;
    }
    push(window, tokens);
  }
  /// All windows in one sequence, or in as few as rows have room for.
  void add_together(const std::vector<Window>& windows) {
    bool open = false;
    for (const Window& window : windows) {
      const int64_t tokens = tokens_of(*plan_.data, each_, window);
      if (open && out_.back().tokens + tokens <= room_) {
        out_.back().group.push_back(window);
        out_.back().tokens += static_cast<int32_t>(tokens);
      } else {
        push(window, tokens);
        open = true;
      }
    }
  }

 private:
  void push(const Window& window, int64_t tokens) {
    PlannedSequence& made = out_.emplace_back();
    made.source = plan_.source;
    made.window = window;
    made.tokens = static_cast<int32_t>(tokens);
    made.epoch = epoch_;
    made.item = item_;
    made.key = mix_seed(epoch_key_, {item_, parts_++});
  }

  const SourcePlan& plan_;
  int64_t each_, row_, room_;
  std::vector<PlannedSequence>& out_;
  uint64_t epoch_ = 0, epoch_key_ = 0, item_ = 0, parts_ = 0;
};

/// Gives one sequence a prompt; what of a stretch then no longer fits the row is appended as a sequence of its own.
/// False when there is no prompt for it.
bool add_prompt(const DataConfig& config, const SourcePlan& plan, size_t index, std::vector<PlannedSequence>& out) {
  const Source& source = *plan.data;
  PlannedSequence& sequence = out[index];
  Rng rng(mix_seed(sequence.key, {3}));
  std::vector<Window> windows = {sequence.window};
  windows.insert(windows.end(), sequence.group.begin(), sequence.group.end());
  const PromptRule rule{plan.entry->prompt_steps, plan.prompt_tokens, config.prompt_from_end};
  const std::optional<Window> prompt = plan.prompts->draw(source, windows, rule, rng);
  if (!prompt) return false;
  const int64_t prompt_tokens = source.window_tokens(*prompt);
  sequence.prompt = *prompt;
  sequence.has_prompt = true;
  const int64_t tokens = sequence.tokens, room = config.row_tokens - prompt_tokens;
  sequence.tokens += static_cast<int32_t>(prompt_tokens);
  if (tokens <= room) return true;
  const Window all = sequence.window;
  const int64_t shortest_rest = least_piece_tokens(config.row_tokens);
  const int64_t head = std::min(room, std::max(source.max_step_tokens(), tokens - shortest_rest));
  const int64_t count = steps_from(source, all.episode, all.first, head, all.count);
  GATO_CHECK(plan.windows->are_stretches() && count >= 1 && count < all.count, "source ", source.id(), " planned ",
             tokens, " tokens behind a prompt of ", prompt_tokens);
  PlannedSequence rest = sequence;
  sequence.window.count = count;
  const int64_t kept = source.window_tokens(sequence.window);
  sequence.tokens = static_cast<int32_t>(prompt_tokens + kept);
  rest.window = {all.episode, all.first + count, all.count - count};
  rest.tokens = static_cast<int32_t>(tokens - kept);
  rest.has_prompt = false;
  rest.prompt = {};
  rest.key = mix_seed(rest.key, {9, static_cast<uint64_t>(rest.window.first)});
  out.push_back(std::move(rest));  // ends the life of `sequence`
  return true;
}

/// Gives exactly the asked share of the sequences from `begin` on a prompt, up to rounding: drawing for each on its own
/// would let the tokens of blocks vary.
int64_t add_prompts(const DataConfig& config, const SourcePlan& plan, size_t begin, uint64_t key,
                    std::vector<PlannedSequence>& out) {
  Rng rng(key);
  int64_t missed = 0;
  while (begin < out.size()) {
    const size_t end = out.size();  // rests that are cut off take part in the next round
    const auto count = static_cast<double>(end - begin);
    double wanted = std::floor(count * plan.prompt_rate + rng.uniform());
    for (size_t i = begin; i < end; ++i) {
      if (rng.uniform() * static_cast<double>(end - i) >= wanted) continue;
      wanted -= 1;
      if (!add_prompt(config, plan, i, out)) ++missed;
    }
    begin = end;
  }
  return missed;
}

}  // namespace

int64_t draw_sequences(const DataConfig& config, const EpochOrders& orders, const SourcePlan& plan, uint64_t first,
                       uint64_t end, uint64_t draw_key, std::vector<PlannedSequence>& out) {
  const size_t begin = out.size();
  const auto group = static_cast<uint64_t>(plan.entry->group);
  SequenceMaker maker(config, plan, out);
  std::vector<Window> windows;
  std::shared_ptr<const EpochOrder> order;
  uint64_t order_epoch = 0, cut_key = 0;
  for (uint64_t i = plan.first_item + first; i < plan.first_item + end; ++i) {
    const uint64_t epoch = plan.first_epoch + i / plan.items_per_epoch, item = i % plan.items_per_epoch;
    if (!order || epoch != order_epoch) {
      order = orders.of(plan, epoch);
      order_epoch = epoch;
      cut_key = mix_seed(plan.key, {6, epoch});
      maker.begin_epoch(epoch);
    }
    windows.clear();
    for (uint64_t p = item * group; p < std::min(item * group + group, plan.windows->size()); ++p) {
      const EpochOrder::Place place = order->at(p);
      plan.windows->append(*plan.data, place.item, place.shard, cut_key, windows);
    }
    maker.begin_item(item);
    if (group > 1) {
      maker.add_together(windows);
    } else {
      for (const Window& window : windows) maker.add_alone(window);
    }
  }
  return plan.prompts ? add_prompts(config, plan, begin, draw_key, out) : 0;
}

void shorten_prompts(const Phase& phase, int64_t limit, std::vector<PlannedSequence>& sequences) {
  int64_t all = 0, in_prompts = 0;
  for (const PlannedSequence& sequence : sequences) {
    all += sequence.tokens;
    if (sequence.has_prompt) in_prompts += phase.plan_of(sequence.source).data->window_tokens(sequence.prompt);
  }
  int64_t excess = all - limit;
  if (excess <= 0 || in_prompts == 0) return;
  const double kept = std::max(0.5, 1 - static_cast<double>(excess) / static_cast<double>(in_prompts));
  for (PlannedSequence& sequence : sequences) {
    if (!sequence.has_prompt || excess <= 0) continue;
    const Source& source = *phase.plan_of(sequence.source).data;
    const int64_t before = source.window_tokens(sequence.prompt);
    const auto target = static_cast<int64_t>(kept * static_cast<double>(before));
    sequence.prompt = shortened_prompt(source, sequence.prompt, target);
    const int64_t saved = before - source.window_tokens(sequence.prompt);
    sequence.tokens -= static_cast<int32_t>(saved);
    excess -= saved;
  }
}

PlannedBlock plan_block(const DataConfig& config, uint64_t seed, const EpochOrders& orders, const Phase& phase,
                        int64_t block) {
  PlannedBlock planned;
  planned.rows.resize(static_cast<size_t>(kBlockRows));
  if (!phase.items) return planned;
  std::vector<PlannedSequence> sequences;
  const std::vector<uint64_t> first = phase.items->before(block - phase.first_block);
  const std::vector<uint64_t> end = phase.items->before(block - phase.first_block + 1);
  for (size_t i = 0; i < phase.sources.size(); ++i) {
    const SourcePlan& plan = phase.sources[i];
    const uint64_t draw_key = mix_seed(plan.key, {11, static_cast<uint64_t>(block)});
    planned.missed_prompts += draw_sequences(config, orders, plan, first[i], end[i], draw_key, sequences);
  }
  shorten_prompts(phase, kBlockRows * config.row_tokens, sequences);
  for (const PlannedSequence& sequence : sequences) planned.planned_tokens += sequence.tokens;
  const uint64_t pack_key = mix_seed(seed, {7, static_cast<uint64_t>(block)});
  planned.dropped_tokens = pack_rows(phase, config.row_tokens, pack_key, std::move(sequences), planned.rows);
  for (const PlannedRow& row : planned.rows) {
    for (const PlannedSequence& sequence : row.sequences) {
      planned.sequences += phase.plan_of(sequence.source).prompts ? 1 : 0;
      planned.prompts += sequence.has_prompt ? 1 : 0;
    }
  }
  return planned;
}

}  // namespace gato::data
