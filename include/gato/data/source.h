#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gato/data/mixture.h"
#include "gato/episode/shard.h"
#include "gato/tokenizer/sequence.h"

namespace gato::data {

enum class Split { kTraining, kValidation };

/// A run of steps of one episode; for documents a run of tokens.
struct Window {
  int64_t episode = 0;  ///< Index into the source's episodes.
  int64_t first = 0;    ///< First step (token).
  int64_t count = 0;    ///< Steps (tokens).
  bool operator==(const Window&) const = default;
};

/// One task of one data set: its episodes, their token counts, and windows of them as token sequences. Const and
/// thread-safe.
class Source {
 public:
  /// One shard that holds episodes of the task.
  struct Shard {
    std::shared_ptr<const episode::ShardReader> reader;
    std::shared_ptr<const episode::TokenColumnsReader> tokens;  ///< Null where the task has no text.
    int task = 0;                                               ///< Index of the task inside the shard.
  };

  Source(std::string dataset, std::vector<Shard> shards, const tokenizer::Vocabulary& vocabulary,
         const tokenizer::TextTokenizer* text, Split split, double validation_share);

  [[nodiscard]] const std::string& id() const { return id_; }  ///< "<data set>:<task id>".
  [[nodiscard]] const episode::TaskSpec& spec() const { return tokenizer_->spec(); }
  [[nodiscard]] const tokenizer::TaskTokenizer& tokenizer() const { return *tokenizer_; }
  [[nodiscard]] int64_t num_episodes() const { return static_cast<int64_t>(episodes_.size()); }
  [[nodiscard]] int64_t num_shards() const { return static_cast<int64_t>(shards_.size()); }
  [[nodiscard]] int64_t first_episode_of_shard(int64_t shard) const { return shard_begin_[static_cast<size_t>(shard)]; }
  [[nodiscard]] const Shard& shard(int64_t index) const { return shards_[static_cast<size_t>(index)]; }

  /// Steps of an episode; for documents its tokens with the `</s>`.
  [[nodiscard]] int64_t length(int64_t episode) const;
  [[nodiscard]] int64_t window_tokens(const Window& window) const;  ///< Exact, from the index alone.
  [[nodiscard]] int64_t total_tokens() const { return total_tokens_; }
  [[nodiscard]] int64_t total_labels() const { return total_labels_; }  ///< Action tokens that can carry loss.
  [[nodiscard]] int64_t max_step_tokens() const { return max_step_tokens_; }
  [[nodiscard]] uint32_t source_agent(int64_t episode) const;
  [[nodiscard]] std::string episode_name(int64_t episode) const;

  /// Appends the tokens of a window. Throws DataError naming shard and offset when a record it needs is damaged.
  void append(const Window& window, const tokenizer::LossWeights& weights, tokenizer::TokenSequence& out) const;
  [[nodiscard]] episode::Episode read(int64_t episode, int64_t first_step = 0, int64_t num_steps = -1) const;

 private:
  struct EpisodeRef {
    uint32_t shard = 0;
    uint32_t episode = 0;  // inside the shard
  };
  [[nodiscard]] const episode::EpisodeIndexEntry& entry(int64_t episode) const;
  [[nodiscard]] int64_t step_tokens(const Shard& shard, uint64_t column_step) const;
  void count_tokens();

  std::string id_;
  std::vector<Shard> shards_;
  std::shared_ptr<const tokenizer::TaskTokenizer> tokenizer_;
  std::vector<EpisodeRef> episodes_;
  std::vector<int64_t> shard_begin_;
  std::vector<std::pair<episode::Group, int>> text_fields_;
  int64_t total_tokens_ = 0, total_labels_ = 0, max_step_tokens_ = 0;
};

/// Every source of the data sets of a configuration, training or validation side; sources without episodes are left
/// out. Throws ConfigError for missing data sets (naming the command that makes them), DataError for damaged shards and
/// for token columns that are missing or belong to another tokenizer (naming the command that makes them).
[[nodiscard]] std::vector<std::shared_ptr<const Source>> open_sources(const DataConfig& config,
                                                                      const tokenizer::Vocabulary& vocabulary,
                                                                      const tokenizer::TextTokenizer* text,
                                                                      Split split);

/// The same of given shard files, whatever data sets the configuration names.
[[nodiscard]] std::vector<std::shared_ptr<const Source>> open_sources(const std::vector<Path>& shards,
                                                                      const DataConfig& config,
                                                                      const tokenizer::Vocabulary& vocabulary,
                                                                      const tokenizer::TextTokenizer* text,
                                                                      Split split);

/// All shard files of the data sets of a configuration, in a stable order.
[[nodiscard]] std::vector<Path> find_shards(const DataConfig& config);

}  // namespace gato::data
