#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gato/data/filter.h"
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

/// Seconds of work by what it was for.
struct StageSeconds {
  double plan = 0;    ///< Deciding what is in a row.
  double read = 0;    ///< Reading blocks and checking their sums.
  double decode = 0;  ///< Decoding images.
  double pack = 0;    ///< Making tokens and rows of them.
  void add(const StageSeconds& other);
  [[nodiscard]] double total() const { return plan + read + decode + pack; }
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

  /// `keep`: by shard and position in its index, the episodes that a filter leaves (filter.h); null: all.
  Source(std::string dataset, std::vector<Shard> shards, const tokenizer::Vocabulary& vocabulary,
         const tokenizer::TextTokenizer* text, Split split, double validation_share,
         const std::vector<std::vector<bool>>* keep = nullptr);

  [[nodiscard]] const std::string& id() const { return id_; }  ///< "<data set>:<task id>".
  [[nodiscard]] const episode::TaskSpec& spec() const { return tokenizer_->spec(); }
  [[nodiscard]] const tokenizer::TaskTokenizer& tokenizer() const { return *tokenizer_; }
  [[nodiscard]] int64_t num_episodes() const { return static_cast<int64_t>(episodes_.size()); }
  [[nodiscard]] int64_t num_shards() const { return static_cast<int64_t>(shards_.size()); }
  [[nodiscard]] int64_t first_episode_of_shard(int64_t shard) const { return shard_begin_[static_cast<size_t>(shard)]; }
  [[nodiscard]] const Shard& shard(int64_t index) const { return shards_[static_cast<size_t>(index)]; }

  /// Steps of an episode; for documents its tokens with the `</s>`. No file is touched.
  [[nodiscard]] int64_t length(int64_t episode) const { return lengths_[static_cast<size_t>(episode)]; }
  [[nodiscard]] int64_t window_tokens(const Window& window) const;  ///< Exact, from the index alone.
  [[nodiscard]] int64_t total_tokens() const { return total_tokens_; }
  [[nodiscard]] int64_t total_labels() const { return total_labels_; }  ///< Action tokens that can carry loss.
  [[nodiscard]] int64_t max_step_tokens() const { return max_step_tokens_; }
  [[nodiscard]] uint32_t source_agent(int64_t episode) const;
  [[nodiscard]] std::string episode_name(int64_t episode) const;

  /// Where an episode is, for messages and lists.
  struct Place {
    const Shard* shard = nullptr;
    int64_t episode = 0;  ///< Position in the shard's index.
  };
  [[nodiscard]] Place place(int64_t episode) const;

  /// Appends the tokens of a window. Throws DataError naming shard and offset when a record it needs is damaged, and
  /// IoError when the system cannot read it; `out` is then as before. `seconds`, when given, grows by the time it took.
  void append(const Window& window, const tokenizer::LossWeights& weights, tokenizer::TokenSequence& out,
              StageSeconds* seconds = nullptr) const;
  [[nodiscard]] episode::Episode read(int64_t episode, int64_t first_step = 0, int64_t num_steps = -1) const;

 private:
  struct EpisodeRef {
    uint32_t shard = 0;
    uint32_t episode = 0;  // inside the shard
  };
  [[nodiscard]] const episode::EpisodeIndexEntry& entry(int64_t episode) const;
  [[nodiscard]] int64_t text_tokens(const Shard& shard, uint64_t first_step, uint64_t steps) const;
  void add_episodes(size_t shard, Split split, double validation_share, const std::vector<bool>* keep);
  void count_tokens();
  void count_documents();
  void count_text_steps();

  std::string id_;
  std::vector<Shard> shards_;
  std::shared_ptr<const tokenizer::TaskTokenizer> tokenizer_;
  std::vector<EpisodeRef> episodes_;
  std::vector<uint32_t> lengths_;
  std::vector<int64_t> shard_begin_;
  std::vector<std::pair<episode::Group, int>> text_fields_;
  int64_t total_tokens_ = 0, total_labels_ = 0, max_step_tokens_ = 0;
};

/// Sources of both splits, and what was opened.
struct OpenedSources {
  std::vector<std::shared_ptr<const Source>> training, validation;
  std::vector<FilterReport> filters;  ///< Of the sources that have a filter.
  int64_t num_episodes = 0;           ///< In all shards.
};

using ShardReaders = std::vector<std::shared_ptr<const episode::ShardReader>>;

/// Opens shards, several at a time. What the system cannot read is tried again a few times. Errors as of ShardReader.
[[nodiscard]] ShardReaders open_readers(const std::vector<Path>& shards);

/// Opens shards once for both splits, applies data.filters, and sets the cap of data.cache_mib for the process. What
/// the system cannot read is tried again a few times. Throws as open_sources.
[[nodiscard]] OpenedSources open_splits(const std::vector<Path>& shards, const DataConfig& config,
                                        const tokenizer::Vocabulary& vocabulary, const tokenizer::TextTokenizer* text);
/// The same of shards that are open.
[[nodiscard]] OpenedSources open_splits(const ShardReaders& shards, const DataConfig& config,
                                        const tokenizer::Vocabulary& vocabulary, const tokenizer::TextTokenizer* text);

/// Every source of the data sets of a configuration, training or validation side, in the order of their ids; sources
/// without episodes are left out. Where both sides are wanted, open_splits reads the files once. Throws ConfigError for
/// missing data sets (naming the command that makes them), DataError for damaged shards and for token columns that are
/// missing or belong to another tokenizer (naming the command that makes them).
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

/// All shard files of the data sets of a configuration, in a stable order; a file that several of them hold comes once.
[[nodiscard]] std::vector<Path> find_shards(const DataConfig& config);

}  // namespace gato::data
