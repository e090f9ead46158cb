#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "episode/import/tf_example.h"
#include "episode/import/tfds_mapping.h"
#include "gato/episode/episode.h"

/// One record of an RLDS data set: the lists of a tf.Example become the columns of an episode.
namespace gato::episode {

/// A record while it is read. Every function throws DataError starting with `origin` and naming the leaf where the
/// record does not fit features.json or the plan. Views into the example, which must outlive it.
class TfdsRecord {
 public:
  TfdsRecord(const TfdsPlan& plan, const TfExample& example, std::string origin);

  /// Rows in the record, by the marks of RLDS where there are any, else by the first column.
  [[nodiscard]] int64_t num_rows() const { return num_rows_; }

  /// Rows that become steps: all, or all but the last where it is marked is_last and `keep_last_step` is false.
  [[nodiscard]] int64_t num_steps(bool keep_last_step) const;

  [[nodiscard]] bool ends_marked() const { return last_marked_; }  ///< The last row is marked is_last.
  [[nodiscard]] bool terminal() const { return terminal_; }        ///< The last row is marked is_terminal.

  /// The first `steps` rows of a column.
  [[nodiscard]] Column column(const TfdsColumn& column, int64_t steps) const;

  /// The numbers of a column of source kNumbers, steps x elements.
  [[nodiscard]] std::vector<float> numbers(const TfdsColumn& column, int64_t steps) const;

  /// The first `steps` rewards; empty where there are none.
  [[nodiscard]] std::vector<float> rewards(int64_t steps) const;

  /// One text or number as text; of the first row where the leaf has one per step.
  [[nodiscard]] std::string text_of(const TfdsLeaf& leaf) const { return text_of(leaf, 0); }
  /// The same as truth, of the last row: an episode's outcome is known at its end.
  [[nodiscard]] bool truth_of(const TfdsLeaf& leaf) const;

  /// The bytes of the first picture of a column of source kEncoded; empty when there is none.
  [[nodiscard]] std::string_view first_picture(const TfdsColumn& column) const;

 private:
  template <class... Args>
  [[noreturn]] void fail(const TfdsLeaf& leaf, const Args&... problem) const;
  const ExampleFeature& feature(const TfdsLeaf& leaf, const std::string& key, ExampleKind kind) const;
  /// The values of a leaf, checked to be rows x per_row of `kind`; ragged leaves have rows of one length.
  const ExampleFeature& values(const TfdsLeaf& leaf, const std::vector<int64_t>& lengths, int64_t per_row,
                               ExampleKind kind) const;
  void check_row_lengths(const TfdsLeaf& leaf, const std::vector<int64_t>& lengths, int64_t rows) const;
  std::string text_of(const TfdsLeaf& leaf, int64_t row) const;
  int64_t rows_of(const TfdsLeaf& leaf) const { return leaf.per_step ? num_rows_ : 1; }

  void count_rows();
  void read_marks();
  std::vector<int64_t> mark(const TfdsLeaf& leaf) const;

  /// The first `count` of a leaf's numbers, whatever their encoding.
  template <class Number>
  std::vector<Number> read_numbers(const TfdsLeaf& leaf, const std::vector<int64_t>& lengths, int64_t per_row,
                                   int64_t count) const;
  template <class Number>
  void read_encoded(const TfdsLeaf& leaf, const ExampleFeature& strings, int64_t per_row,
                    std::vector<Number>& out) const;
  std::vector<std::string> strings(const TfdsColumn& column, int64_t steps) const;
  std::vector<std::string> ragged_strings(const TfdsLeaf& leaf, int64_t steps) const;
  std::vector<std::string> utf8(const TfdsColumn& column, int64_t steps) const;
  std::vector<Image> pixels(const TfdsColumn& column, int64_t steps) const;
  std::vector<int32_t> integers(const TfdsColumn& column, int64_t steps) const;
  /// Values of one row stand for all steps where the leaf belongs to the episode.
  template <class Value>
  void spread(const TfdsLeaf& leaf, int64_t steps, std::vector<Value>& row) const;

  const TfdsPlan& plan_;
  const TfExample& example_;
  std::string origin_;
  int64_t num_rows_ = 0;
  bool last_marked_ = false, terminal_ = false;
};

/// The episode of a record: columns, rewards and how it ended; without id, agent and task. An episode without steps has
/// num_steps 0.
[[nodiscard]] Episode make_tfds_episode(const TfdsPlan& plan, const TfdsRecord& record, bool keep_last_step);

}  // namespace gato::episode
