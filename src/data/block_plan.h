#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "epoch_order.h"
#include "phases.h"

/// Planning of one block: drawing items, adding prompts, packing.
namespace gato::data {

/// The orders of epochs that are in use. Thread-safe.
class EpochOrders {
 public:
  explicit EpochOrders(int64_t shuffle_shards) : shuffle_shards_(shuffle_shards) {}
  [[nodiscard]] std::shared_ptr<const EpochOrder> of(const SourcePlan& plan, uint64_t epoch) const;

 private:
  struct Entry {
    std::shared_ptr<const EpochOrder> order;
    uint64_t last_use = 0;
  };
  int64_t shuffle_shards_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<const WindowTable*, uint64_t>, Entry> orders_;
  mutable uint64_t clock_ = 0;
};

/// Plans block `block` of `phase`: a pure function of configuration, seed, phase and number.
[[nodiscard]] PlannedBlock plan_block(const DataConfig& config, uint64_t seed, const EpochOrders& orders,
                                      const Phase& phase, int64_t block);

/// Appends the sequences, with prompts, of items [first, end) of a source, counted from where the phase begins.
/// `draw_key` decides which of them have prompts. Returns how many lack a prompt that they should have.
int64_t draw_sequences(const DataConfig& config, const EpochOrders& orders, const SourcePlan& plan, uint64_t first,
                       uint64_t end, uint64_t draw_key, std::vector<PlannedSequence>& out);

/// Shortens prompts, each by the same share but to one step at least, where the sequences have more than `limit`
/// tokens.
void shorten_prompts(const Phase& phase, int64_t limit, std::vector<PlannedSequence>& sequences);

/// Puts the sequences into `rows` of `row_tokens` tokens. What is too much is left out at random, so that no kind of
/// sequence loses share by its length; stretches are cut at steps (documents at tokens) where they fill a row. `key`
/// decides the order of rows and of the sequences in them. Returns the tokens left out.
int64_t pack_rows(const Phase& phase, int64_t row_tokens, uint64_t key, std::vector<PlannedSequence> sequences,
                  std::vector<PlannedRow>& rows);

}  // namespace gato::data
