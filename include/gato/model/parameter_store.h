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
};
constexpr int64_t kSegmentAlignment = 16;  ///< Elements; the gaps hold zeros in every buffer.

/// A stretch of the flat buffers that is exchanged and divided as a whole, with padding: segments [first_segment,
/// end_segment).
struct Bucket {
  int64_t offset = 0, size = 0;  ///< Elements; both multiples of kSegmentAlignment.
  int64_t first_segment = 0, end_segment = 0;
};
constexpr int64_t kBucketElements = int64_t{1} << 22;  ///< 16 MiB of fp32: enough to hide a message's latency.

/// How the buffers are cut into buckets.
struct BucketLayout {
  int64_t elements = kBucketElements;  ///< A bucket is closed once it has that many; > 0.
  int64_t parts = 1;                   ///< Every bucket is padded so that it divides into as many equal parts; > 0.
};

/// All parameters in one flat fp32 buffer, and their gradients in another, in the order in which backward finishes them
/// (the token table last). Operations get views; optimizer, snapshots and communication see two tensors. A store for
/// bf16 computing has a third buffer, the values rounded to bf16, which update() writes in the same pass; whoever
/// writes to values() in another way calls values_changed().
class ParameterStore {
 public:
  /// What a parameter is before it has a place.
  struct Declaration {
    std::string name;
    std::vector<int64_t> shape;
    bool decay = true;
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
  /// last segment, the token table, is a bucket of its own, since all of backward adds to it where it is also the head.
  /// They cover the buffer without gap or overlap.
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }

  [[nodiscard]] const at::Tensor& values() const { return values_; }        ///< fp32 [elements with padding].
  [[nodiscard]] const at::Tensor& gradients() const { return gradients_; }  ///< The same; undefined without gradients.
  [[nodiscard]] const at::Tensor& compute() const {
    return compute_;
  }  ///< bf16, the same; undefined for fp32 computing.
  void zero_gradients();

  /// Brings compute() in step with values().
  void values_changed();

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
  /// Fills the buffer from a file. Strict: throws CheckpointError that lists (up to some) missing and unexpected names,
  /// and the shapes and dtypes that differ, before anything is changed. Only F32 is accepted.
  void import_tensors(const checkpoint::SafetensorsReader& reader);

 private:
  std::vector<Segment> segments_;
  std::vector<Bucket> buckets_;
  std::unordered_map<std::string, size_t> index_;
  at::Tensor values_, gradients_, compute_;
};

/// A flat fp32 buffer on the CPU laid out like the store's (its values, optimizer moments), as named tensors
/// "<prefix><segment name>" that point into it. import_flat is the way back, onto any device, with import_tensors's
/// strictness.
[[nodiscard]] std::vector<checkpoint::TensorView> export_flat(const ParameterStore& store, const at::Tensor& flat,
                                                              const std::string& prefix);
void import_flat(const ParameterStore& store, const at::Tensor& flat, const std::string& prefix,
                 const checkpoint::SafetensorsReader& reader);

}  // namespace gato::model
