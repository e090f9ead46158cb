#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gato/checkpoint/safetensors.h"
#include "gato/kernels/optimizer.h"
#include "gato/kernels/parameter.h"

namespace gato::model {

/// A named parameter and its place in the flat buffers.
struct Segment {
  std::string name;  ///< As in checkpoints: "blocks.3.attention.qkv.weight".
  std::vector<int64_t> shape;
  int64_t offset = 0;  ///< First element; a multiple of kSegmentAlignment.
  int64_t size = 0;    ///< Elements, without padding.
  bool decay = true;   ///< Whether weight decay applies.
  bool trainable = true;
  bool only_products = false;  ///< With bf16 computing nothing reads its fp32 values but the optimizer.
};
constexpr int64_t kSegmentAlignment = 16;  ///< Elements; the gaps hold zeros in every buffer.

/// A stretch of the flat buffers that is exchanged and divided as a whole, with padding: segments [first_segment,
/// end_segment).
struct Bucket {
  int64_t offset = 0, size = 0;  ///< Elements; both multiples of kSegmentAlignment.
  int64_t first_segment = 0, end_segment = 0;
};
constexpr int64_t kBucketElements = int64_t{1} << 22;  ///< 16 MiB of fp32: enough to hide a message's latency.

/// Elements [begin, end) of the flat buffers.
struct FlatRange {
  int64_t begin = 0, end = 0;
  bool operator==(const FlatRange&) const = default;
};

/// How the buffers are cut into buckets.
struct BucketLayout {
  int64_t elements = kBucketElements;  ///< A bucket is closed once it has that many; > 0.
  int64_t parts = 1;                   ///< Every bucket is padded so that it divides into as many equal parts; > 0.
  int64_t own = 0;                     ///< The part of every bucket that is this process's; in [0, parts).
  /// Whether a store for bf16 computing keeps fp32 values of its own parts alone, where nothing else reads them
  /// (Segment::only_products). These parameters then come first, in buckets of their own.
  bool divide_masters = false;
};

/// All parameters in one flat fp32 buffer, and their gradients in another, in the order in which backward finishes them
/// (the token table last). Operations get views; optimizer, snapshots and communication see two tensors. A store for
/// bf16 computing has a third buffer, the values rounded to bf16, which update() writes in the same pass; whoever
/// writes to values() in another way calls values_changed().
///
/// With divided masters (BucketLayout) fp32 values lie in two places. masters() are those of the own part of every
/// bucket, one after the other: what the optimizer updates and checkpoints are made of. values() begins at
/// first_value() and has the rest of what operations read in fp32 (tables, norms, biases), whole. Everybody has the
/// whole of compute().
class ParameterStore {
 public:
  /// What a parameter is before it has a place.
  struct Declaration {
    std::string name;
    std::vector<int64_t> shape;
    bool decay = true;
    bool only_products = false;
  };
  /// Lays the parameters out in the given order and fills them with zeros. Without gradients the store serves inference
  /// alone. Throws ContractError for a name that comes twice.
  ParameterStore(std::vector<Declaration> declarations, bool with_gradients, bool with_compute = false,
                 at::Device device = at::kCPU, const BucketLayout& layout = {});
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  [[nodiscard]] const std::vector<Segment>& segments() const { return segments_; }
  [[nodiscard]] const Segment* find(std::string_view name) const;  ///< Null when there is none.
  [[nodiscard]] int64_t num_parameters() const;                    ///< Without padding.

  /// The buffer in buckets of whole segments, in the order in which backward finishes them, as the layout says; the
  /// last segment, the token table, is a bucket of its own, since all of backward adds to it where it is also the head;
  /// not so where masters are divided, since all of what lies beside it then is finished last.
  /// They cover the buffer without gap or overlap.
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }

  [[nodiscard]] int64_t num_elements() const { return num_elements_; }  ///< Of each buffer, with padding.
  /// fp32 [num_elements() - first_value()]: elements from first_value() on, which is 0 unless masters are divided.
  [[nodiscard]] const at::Tensor& values() const { return values_; }
  [[nodiscard]] int64_t first_value() const { return num_elements_ - values_.numel(); }
  [[nodiscard]] bool has_divided_masters() const { return masters_.defined(); }
  [[nodiscard]] const at::Tensor& masters() const { return masters_; }  ///< fp32 [own elements]; undefined: values().
  /// Of each bucket, the elements of the own part: where masters() belong.
  [[nodiscard]] std::vector<FlatRange> own_ranges() const;
  [[nodiscard]] const at::Tensor& gradients() const {
    return gradients_;
  }  ///< fp32 [num_elements()]; undefined without gradients.
  [[nodiscard]] const at::Tensor& compute() const {
    return compute_;
  }  ///< bf16, the same; undefined for fp32 computing.
  void zero_gradients();

  /// Brings compute() in step with values(); masters are not divided (ContractError).
  void values_changed();
  /// Keeps of values() what the layout's divide_masters asks for, once they are filled. Nothing without bf16 computing.
  /// Views of parameters taken before are no longer those of this store.
  void divide_masters();
  /// Gives a parameter new values, fp32 on the CPU, in every place where this process has some.
  void assign(const Segment& segment, const at::Tensor& host);

  /// kernels::adamw_step on this store: values() and compute() change.
  void update(const at::Tensor& first_moment, const at::Tensor& second_moment,
              std::span<const kernels::UpdateSpan> spans, const kernels::AdamWStep& step);
  /// kernels::adamw_update on this store.
  void update(const at::Tensor& first_moment, const at::Tensor& second_moment,
              std::span<const kernels::UpdateSpan> spans, const kernels::AdamWSettings& settings,
              const kernels::StepNumbers& numbers);

  /// Views of a parameter, sharing memory with the buffers. ContractError for an unknown name.
  [[nodiscard]] kernels::Parameter parameter(std::string_view name) const;

  [[nodiscard]] at::Device device() const { return values_.device(); }

  /// The parameters of a store on the CPU as named tensors that point into the buffer: valid while the store lives and
  /// is not written to. From a GPU: export_flat of a copy.
  [[nodiscard]] std::vector<checkpoint::TensorView> export_tensors() const;
  /// Fills the store from a file. Strict: throws CheckpointError that lists (up to some) missing and unexpected names,
  /// and the shapes and dtypes that differ, before anything is changed. Only F32 is accepted.
  void import_tensors(const checkpoint::SafetensorsReader& reader);

 private:
  std::vector<Segment> segments_;
  std::vector<Bucket> buckets_;
  std::unordered_map<std::string, size_t> index_;
  BucketLayout layout_;
  int64_t num_elements_ = 0;
  at::Tensor values_, masters_, gradients_, compute_;
};

/// A flat fp32 buffer on the CPU laid out like the store's (its values, optimizer moments), as named tensors
/// "<prefix><segment name>" that point into it. import_flat is the way back, onto any device, with import_tensors's
/// strictness.
[[nodiscard]] std::vector<checkpoint::TensorView> export_flat(const ParameterStore& store, const at::Tensor& flat,
                                                              const std::string& prefix);
void import_flat(const ParameterStore& store, const at::Tensor& flat, const std::string& prefix,
                 const checkpoint::SafetensorsReader& reader);

}  // namespace gato::model
