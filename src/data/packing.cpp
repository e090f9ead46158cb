// Puts the sequences of a block into its rows (pack_rows of block_plan.h).
#include <algorithm>
#include <numeric>

#include "block_plan.h"
#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::data {
namespace {

/// What rows have left, in rising order.
class Gaps {
 public:
  Gaps(size_t rows, int64_t row_tokens) {
    for (size_t r = 0; r < rows; ++r) gaps_.push_back({row_tokens, static_cast<int32_t>(r)});
  }
  [[nodiscard]] int64_t largest() const { return gaps_.back().free; }
  /// Takes from the row with the most room; returns the row.
  int32_t take_largest(int64_t tokens) { return take(gaps_.size() - 1, tokens); }
  /// Takes from the row with the least room that suffices; tokens <= largest().
  int32_t take_tightest(int64_t tokens) {
    const auto found = std::lower_bound(gaps_.begin(), gaps_.end(), tokens,
                                        [](const Gap& gap, int64_t needed) { return gap.free < needed; });
    return take(static_cast<size_t>(found - gaps_.begin()), tokens);
  }

 private:
  struct Gap {
    int64_t free;
    int32_t row;
  };
  int32_t take(size_t at, int64_t tokens) {
    const Gap left{gaps_[at].free - tokens, gaps_[at].row};
    for (; at > 0 && gaps_[at - 1].free > left.free; --at) gaps_[at] = gaps_[at - 1];
    gaps_[at] = left;
    return left.row;
  }
  std::vector<Gap> gaps_;
};

/// Packs one block.
class Packer {
 public:
  Packer(const Phase& phase, int64_t row_tokens, std::vector<PlannedSequence>& sequences)
      : phase_(phase), row_tokens_(row_tokens), capacity_(kBlockRows * row_tokens), sequences_(sequences) {
    for (const SourcePlan& plan : phase.sources) has_stretches_ = has_stretches_ || plan.windows->are_stretches();
  }

  int64_t drop_surplus();
  int64_t pack(uint64_t key, std::vector<PlannedRow>& rows);

 private:
  static constexpr int32_t kNowhere = -1, kHeldBack = -2;
  /// Where the sequences go, whole.
  struct Attempt {
    Gaps gaps;
    std::vector<int32_t> row;  // of each sequence, or kNowhere
    int64_t lost = 0;          // tokens of sequences that fit nowhere and may not be cut
  };

  [[nodiscard]] bool may_be_cut(const PlannedSequence& sequence) const {
    return phase_.plan_of(sequence.source).windows->are_stretches();
  }
  [[nodiscard]] std::vector<uint32_t> longest_first() const;
  [[nodiscard]] Attempt place_whole(const std::vector<uint32_t>& order, double held_back, double spread_until) const;
  [[nodiscard]] std::optional<PlannedSequence> cut_off(PlannedSequence& sequence, int64_t limit) const;
  int64_t fill_gaps(Attempt& attempt, const std::vector<uint32_t>& order);
  [[nodiscard]] bool shorten_to(PlannedSequence& sequence, int64_t limit) const;
  void build_rows(const std::vector<int32_t>& row_of, uint64_t key, std::vector<PlannedRow>& rows);

  const Phase& phase_;
  int64_t row_tokens_, capacity_;
  std::vector<PlannedSequence>& sequences_;
  bool has_stretches_ = false;
};

/// Leaves out sequences at random until the rest can fit: packing alone would always leave out the shortest.
int64_t Packer::drop_surplus() {
  int64_t total = 0, flexible = 0, shortest = capacity_;
  for (const PlannedSequence& sequence : sequences_) {
    total += sequence.tokens;
    flexible += may_be_cut(sequence) ? sequence.tokens : 0;
    shortest = std::min<int64_t>(shortest, sequence.tokens);
  }
  // Without anything to cut, half of what packing leaves empty at worst.
  const int64_t limit = capacity_ - (flexible * 50 > capacity_ ? 0 : kBlockRows * (shortest - 1) / 2);
  int64_t surplus = total - limit;
  if (surplus <= 0) return 0;
  std::vector<uint32_t> order(sequences_.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return sequences_[a].key < sequences_[b].key; });
  int64_t dropped = 0;
  for (const uint32_t i : order) {
    if (surplus <= 0) break;
    PlannedSequence& sequence = sequences_[i];
    int64_t tokens = sequence.tokens;
    if (may_be_cut(sequence) && tokens > surplus) {
      const std::optional<PlannedSequence> end = cut_off(sequence, surplus);
      tokens = end ? tokens - sequence.tokens : 0;
    } else if (tokens <= 2 * surplus) {
      sequence.tokens = 0;
    } else {
      tokens = 0;  // too long for the little that is too much
    }
    dropped += tokens;
    surplus -= tokens;
  }
  std::erase_if(sequences_, [](const PlannedSequence& sequence) { return sequence.tokens == 0; });
  return dropped;
}

/// By counting, since lengths are at most a row.
std::vector<uint32_t> Packer::longest_first() const {
  std::vector<uint32_t> begin(static_cast<size_t>(row_tokens_) + 2), order(sequences_.size());
  for (const PlannedSequence& sequence : sequences_) ++begin[static_cast<size_t>(row_tokens_ - sequence.tokens) + 1];
  for (size_t i = 1; i < begin.size(); ++i) begin[i] += begin[i - 1];
  for (size_t i = 0; i < sequences_.size(); ++i) {
    order[begin[static_cast<size_t>(row_tokens_ - sequences_[i].tokens)]++] = static_cast<uint32_t>(i);
  }
  return order;
}

/// Longest first: into the emptiest row until the share `spread_until` of the block is placed, so that every row gets
/// its part of every kind (small batches would else hold a few tasks each), then into the fullest row that has room, so
/// that little room is left over. `held_back`: share of the block, in the shortest sequences that may be cut, that
/// waits to fill gaps.
Packer::Attempt Packer::place_whole(const std::vector<uint32_t>& order, double held_back, double spread_until) const {
  Attempt attempt{Gaps(static_cast<size_t>(kBlockRows), row_tokens_), std::vector<int32_t>(order.size(), kNowhere), 0};
  auto to_hold = static_cast<int64_t>(held_back * static_cast<double>(capacity_));
  for (auto i = order.rbegin(); i != order.rend() && to_hold > 0; ++i) {
    if (!may_be_cut(sequences_[*i])) continue;
    attempt.row[*i] = kHeldBack;
    to_hold -= sequences_[*i].tokens;
  }
  const auto spread = static_cast<int64_t>(spread_until * static_cast<double>(capacity_));
  int64_t placed = 0;
  for (const uint32_t i : order) {
    if (attempt.row[i] == kHeldBack) {
      attempt.row[i] = kNowhere;
      continue;
    }
    const int64_t tokens = sequences_[i].tokens;
    if (tokens > attempt.gaps.largest()) {
      if (!may_be_cut(sequences_[i])) attempt.lost += tokens;
      continue;
    }
    attempt.row[i] = placed > spread ? attempt.gaps.take_tightest(tokens) : attempt.gaps.take_largest(tokens);
    placed += tokens;
  }
  return attempt;
}

/// Cuts steps off the end of a stretch, at most `limit` tokens of them; nothing when not even one step is that short.
/// `sequence` keeps the rest, and its prompt; 0 tokens when nothing is left of its window.
std::optional<PlannedSequence> Packer::cut_off(PlannedSequence& sequence, int64_t limit) const {
  const Source& source = *phase_.plan_of(sequence.source).data;
  const Window all = sequence.window;
  int64_t count = steps_before(source, all.episode, all.first + all.count, limit, all.count);
  if (count == 0) return std::nullopt;
  PlannedSequence end = sequence;
  const auto cut_tokens = [&] { return source.window_tokens({all.episode, all.first + all.count - count, count}); };
  int64_t tokens = cut_tokens();
  const int64_t all_tokens = source.window_tokens(all), least = least_piece_tokens(row_tokens_);
  if (count < all.count && all_tokens - tokens < least && all_tokens > 2 * least) {
    // What remains would be too short: cut off less.
    count = std::max<int64_t>(1, steps_before(source, all.episode, all.first + all.count, all_tokens - least, count));
    tokens = cut_tokens();
  }
  end.window = {all.episode, all.first + all.count - count, count};
  end.has_prompt = false;
  end.prompt = {};
  end.tokens = static_cast<int32_t>(tokens);
  end.key = mix_seed(sequence.key, {9, static_cast<uint64_t>(end.window.first)});
  sequence.window.count -= count;
  sequence.tokens = sequence.window.count == 0 ? 0 : static_cast<int32_t>(sequence.tokens - tokens);
  return end;
}

/// Shortens the prompt of a sequence whose windows may not be cut; false where that is not enough.
bool Packer::shorten_to(PlannedSequence& sequence, int64_t limit) const {
  if (!sequence.has_prompt) return false;
  const Source& source = *phase_.plan_of(sequence.source).data;
  const int64_t windows = sequence.tokens - source.window_tokens(sequence.prompt);
  const Window prompt = shortened_prompt(source, sequence.prompt, limit - windows);
  const int64_t tokens = windows + source.window_tokens(prompt);
  if (tokens > limit) return false;
  sequence.prompt = prompt;
  sequence.tokens = static_cast<int32_t>(tokens);
  return true;
}

/// Cuts what found no place, and may be cut, to the size of the gaps. Returns the tokens that found no place.
int64_t Packer::fill_gaps(Attempt& attempt, const std::vector<uint32_t>& order) {
  std::vector<uint32_t> waiting;
  int64_t tokens = 0;
  for (const uint32_t i : order) {
    if (attempt.row[i] != kNowhere) continue;
    const int64_t before = sequences_[i].tokens;
    if (may_be_cut(sequences_[i])) {
      waiting.push_back(i);
      tokens += before;
    } else if (shorten_to(sequences_[i], attempt.gaps.largest())) {
      attempt.row[i] = attempt.gaps.take_largest(sequences_[i].tokens);
      tokens += before - sequences_[i].tokens;
    } else {
      tokens += before;
    }
  }
  // Documents last: they fit any gap, long steps only some.
  const auto step_tokens = [&](uint32_t i) { return phase_.plan_of(sequences_[i].source).data->max_step_tokens(); };
  std::stable_sort(waiting.begin(), waiting.end(),
                   [&](uint32_t a, uint32_t b) { return step_tokens(a) > step_tokens(b); });
  const int64_t least = least_piece_tokens(row_tokens_);
  for (const uint32_t i : waiting) {
    while (sequences_[i].tokens > attempt.gaps.largest() && attempt.gaps.largest() >= least) {
      std::optional<PlannedSequence> end = cut_off(sequences_[i], attempt.gaps.largest());
      if (!end) break;
      tokens -= end->tokens;
      attempt.row.push_back(attempt.gaps.take_largest(end->tokens));
      sequences_.push_back(std::move(*end));
    }
    if (sequences_[i].tokens == 0 || sequences_[i].tokens > attempt.gaps.largest()) continue;
    attempt.row[i] = attempt.gaps.take_tightest(sequences_[i].tokens);
    tokens -= sequences_[i].tokens;
  }
  return tokens;
}

/// Moves every sequence to its row, rows and the sequences in them in random order.
void Packer::build_rows(const std::vector<int32_t>& row_of, uint64_t key, std::vector<PlannedRow>& rows) {
  Rng rng(key);
  std::vector<uint32_t> row_order(rows.size());
  std::iota(row_order.begin(), row_order.end(), 0u);
  rng.shuffle(row_order);
  std::vector<std::vector<uint32_t>> members(rows.size());
  for (size_t i = 0; i < row_of.size(); ++i) {
    if (row_of[i] != kNowhere) members[row_order[static_cast<size_t>(row_of[i])]].push_back(static_cast<uint32_t>(i));
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    rng.shuffle(members[r]);
    rows[r].sequences.reserve(members[r].size());
    for (const uint32_t i : members[r]) rows[r].sequences.push_back(std::move(sequences_[i]));
  }
}

int64_t Packer::pack(uint64_t key, std::vector<PlannedRow>& rows) {
  const std::vector<uint32_t> order = longest_first();
  constexpr double kSpread = 0.85;
  Attempt best = place_whole(order, 0, kSpread);
  // Where sequences that may not be cut find no place, more and more of the others step back for them: to drop only
  // the former would take from their share. Rows of one kind are the last resort.
  struct Try {
    double held_back, spread_until;
  };
  for (const Try& next : {Try{0.05, kSpread}, Try{0.15, kSpread}, Try{0.45, kSpread}, Try{1.0, kSpread}, Try{1.0, 0}}) {
    if (best.lost * 1000 <= capacity_ || !has_stretches_) break;
    Attempt attempt = place_whole(order, next.held_back, next.spread_until);
    if (attempt.lost < best.lost) best = std::move(attempt);
  }
  const int64_t dropped = fill_gaps(best, order);
  build_rows(best.row, key, rows);
  return dropped;
}

}  // namespace

int64_t pack_rows(const Phase& phase, int64_t row_tokens, uint64_t key, std::vector<PlannedSequence> sequences,
                  std::vector<PlannedRow>& rows) {
  Packer packer(phase, row_tokens, sequences);
  const int64_t surplus = packer.drop_surplus();
  return surplus + packer.pack(key, rows);
}

}  // namespace gato::data
