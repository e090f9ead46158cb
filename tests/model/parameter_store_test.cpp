#include "gato/model/parameter_store.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "model/small_model.h"
#include "support/temp_folder.h"

namespace gato::model {
namespace {

using namespace testing;

ParameterStore make_store(bool gradients = true, const BucketLayout& layout = {}) {
  return ParameterStore(
      {{"a", {3, 5}, true}, {"b", {17}, false}, {"c", {}, false}, {"d", {2, 0}, true}, {"e", {16}, true}}, gradients,
      false, at::kCPU, layout);
}

TEST(ParameterStoreTest, SegmentsAreAlignedAndPadded) {
  const ParameterStore store = make_store();
  std::vector<int64_t> offsets, sizes;
  for (const Segment& s : store.segments()) {
    offsets.push_back(s.offset);
    sizes.push_back(s.size);
  }
  EXPECT_EQ(offsets, (std::vector<int64_t>{0, 16, 48, 64, 64}));
  EXPECT_EQ(sizes, (std::vector<int64_t>{15, 17, 1, 0, 16}));
  EXPECT_EQ(store.values().numel(), 80);
  EXPECT_EQ(store.gradients().numel(), 80);
  EXPECT_EQ(store.num_parameters(), 49);
  EXPECT_EQ(store.find("b")->decay, false);
  EXPECT_EQ(store.find("nothing"), nullptr);
}

TEST(ParameterStoreTest, BucketsCoverTheBufferAndTheLastParameterIsAlone) {
  for (const int64_t elements : {1, 16, 17, 40, 1000}) {
    const ParameterStore store = make_store(true, {elements, 1});
    const std::vector<Bucket>& buckets = store.buckets();
    int64_t offset = 0, segment = 0;
    for (const Bucket& bucket : buckets) {
      EXPECT_EQ(bucket.offset, offset);
      EXPECT_EQ(bucket.first_segment, segment);
      EXPECT_LT(bucket.first_segment, bucket.end_segment);
      offset += bucket.size;
      segment = bucket.end_segment;
    }
    EXPECT_EQ(offset, store.values().numel());
    EXPECT_EQ(segment, 5);
    EXPECT_EQ(buckets.back().first_segment, 4) << "the last parameter shares a bucket";
  }
  EXPECT_EQ(make_store(true, {16, 1}).buckets().size(), 4u);
  EXPECT_EQ(make_store(true, {1000, 1}).buckets().size(), 2u);
}

/// Of two weights that only products read, two vectors and a table, as process `own` of `parts` has it.
ParameterStore divided_store(int64_t parts, int64_t own, bool bf16 = true) {
  BucketLayout layout{.elements = 32, .parts = parts, .own = own, .divide_masters = true};
  return ParameterStore(
      {{"a", {3, 7}, true, true}, {"b", {17}, false}, {"c", {5, 9}, true, true}, {"d", {4}, false}, {"e", {16}, true}},
      true, bf16, at::kCPU, layout);
}

TEST(ParameterStoreTest, DividedMastersAreTheOwnPartOfEveryBucketAndNothingIsLost) {
  for (const int64_t parts : {2, 3, 5}) {
    at::Tensor covered;
    for (int64_t own = 0; own < parts; ++own) {
      ParameterStore store = divided_store(parts, own);
      if (own == 0) covered = at::zeros({store.num_elements()});
      store.values().copy_(at::arange(store.num_elements(), at::kFloat));
      store.values_changed();
      store.divide_masters();
      ASSERT_TRUE(store.has_divided_masters());
      EXPECT_EQ(store.segments()[1].name, "c") << "what only products read comes first";
      EXPECT_EQ(store.segments().back().name, "e");
      EXPECT_EQ(store.first_value(), store.find("b")->offset);
      EXPECT_FALSE(store.parameter("a").value.defined());
      EXPECT_EQ(store.parameter("a").compute.sizes(), (at::IntArrayRef{3, 7}));
      EXPECT_EQ(store.parameter("d").value[0].item<float>(), static_cast<float>(store.find("d")->offset));
      int64_t local = 0;
      for (const FlatRange& range : store.own_ranges()) {
        const int64_t size = range.end - range.begin;
        EXPECT_TRUE(
            at::equal(store.masters().slice(0, local, local + size), at::arange(range.begin, range.end, at::kFloat)));
        covered.slice(0, range.begin, range.end).add_(1);
        local += size;
      }
      EXPECT_EQ(store.masters().numel(), local);
      EXPECT_THROW(store.values_changed(), ContractError);
    }
    EXPECT_TRUE(at::equal(covered, at::ones_like(covered))) << parts;
  }
}

TEST(ParameterStoreTest, NewValuesReachEveryPlaceOfADividedParameter) {
  for (const int64_t own : {0, 1, 2}) {
    ParameterStore store = divided_store(3, own), expected = divided_store(3, own);
    store.divide_masters();
    for (const Segment& segment : store.segments()) {
      const at::Tensor values = at::arange(segment.size, at::kFloat) + static_cast<double>(segment.offset) + 0.5;
      store.assign(segment, values);
      expected.assign(segment, values);
    }
    const at::Tensor compute = expected.compute();
    expected.divide_masters();
    EXPECT_TRUE(at::equal(store.masters(), expected.masters()));
    EXPECT_TRUE(at::equal(store.values(), expected.values()));
    EXPECT_TRUE(at::equal(store.compute(), compute));
    EXPECT_THROW(store.assign(store.segments()[0], at::zeros({1})), ContractError);
  }
}

TEST(ParameterStoreTest, WithoutBf16NothingIsDivided) {
  ParameterStore store = divided_store(2, 1, /*bf16=*/false);
  store.divide_masters();
  EXPECT_FALSE(store.has_divided_masters());
  EXPECT_EQ(store.first_value(), 0);
  EXPECT_EQ(store.segments()[1].name, "b") << "the order is that of backward";
}

TEST(ParameterStoreTest, BucketsDivideIntoParts) {
  for (const int64_t parts : {1, 2, 3, 5, 7, 32}) {
    const ParameterStore store = make_store(true, {16, parts});
    int64_t offset = 0;
    for (const Bucket& bucket : store.buckets()) {
      EXPECT_EQ(bucket.offset, offset);
      EXPECT_EQ(bucket.size % parts, 0);
      offset += bucket.size;
      for (int64_t s = bucket.first_segment; s < bucket.end_segment; ++s) {
        const Segment& segment = store.segments()[static_cast<size_t>(s)];
        EXPECT_EQ(segment.offset % kSegmentAlignment, 0);
        EXPECT_GE(segment.offset, bucket.offset);
        EXPECT_LE(segment.offset + segment.size, bucket.offset + bucket.size);
      }
    }
    EXPECT_EQ(offset, store.values().numel());
    EXPECT_EQ(store.num_parameters(), 49);
  }
}

TEST(ParameterStoreTest, ViewsShareMemoryBothWays) {
  ParameterStore store = make_store();
  const kernels::Parameter b = store.parameter("b");
  store.values().slice(0, 16, 33).fill_(3);
  EXPECT_EQ(b.value.sum().item<float>(), 51);
  b.gradient.fill_(2);
  EXPECT_EQ(store.gradients().sum().item<float>(), 34);
  store.zero_gradients();
  EXPECT_EQ(b.gradient.sum().item<float>(), 0);
}

TEST(ParameterStoreTest, ViewsHaveTheirOwnVersion) {
  // An update in place of one parameter must not spoil what a graph has saved of another.
  const ParameterStore store = make_store();
  const at::Tensor b = store.parameter("b").value;
  const auto version = b._version();
  store.values().add_(1);
  store.parameter("a").value.add_(1);
  EXPECT_EQ(b._version(), version);
  EXPECT_FALSE(b.requires_grad());
}

TEST(ParameterStoreTest, RefusesContractBreaches) {
  EXPECT_THROW(ParameterStore({{"a", {1}}, {"a", {2}}}, true), ContractError);
  EXPECT_THROW(ParameterStore({{"a", {-1}}}, true), ContractError);
  EXPECT_THROW((void)make_store().parameter("x"), ContractError);
  EXPECT_THROW((void)export_flat(make_store(), at::zeros({79}), ""), ContractError);
  EXPECT_FALSE(make_store(false).gradients().defined());
  EXPECT_FALSE(make_store(false).parameter("a").gradient.defined());
}

class ParameterFileTest : public ::testing::Test {
 protected:
  test::TempFolder folder_{"store"};

  std::filesystem::path write(const std::vector<checkpoint::TensorView>& tensors) {
    const auto path = folder_ / "model.safetensors";
    checkpoint::write_safetensors(path, tensors);
    return path;
  }
};

TEST_F(ParameterFileTest, RoundTripIsExact) {
  const Model saved(small_config(), small_shape(), 1);
  const auto path = write(saved.store().export_tensors());
  Model loaded(small_config(), small_shape(), 2, Model::Purpose::kInference);
  EXPECT_FALSE(same_bits(saved.store().values(), loaded.store().values()));
  loaded.store().import_tensors(checkpoint::SafetensorsReader(path));
  EXPECT_TRUE(same_bits(saved.store().values(), loaded.store().values()));
  const SmallBatch batch = small_batch(2, 20, 1);
  EXPECT_TRUE(same_bits(saved.forward(batch.input), loaded.forward(batch.input)));
}

TEST_F(ParameterFileTest, OtherBuffersGoByPrefix) {
  const ParameterStore store = make_store();
  const at::Tensor moments = random_normal({80}, 1), other = random_normal({80}, 2);
  std::vector<checkpoint::TensorView> tensors = export_flat(store, moments, "first.");
  for (const auto& view : export_flat(store, other, "second.")) tensors.push_back(view);
  const checkpoint::SafetensorsReader reader(write(tensors));
  const at::Tensor back = at::zeros({80});
  import_flat(store, back, "second.", reader);
  for (const Segment& s : store.segments()) {
    EXPECT_TRUE(same_bits(back.slice(0, s.offset, s.offset + s.size), other.slice(0, s.offset, s.offset + s.size)));
  }
  EXPECT_EQ(back.slice(0, 33, 48).abs().max().item<float>(), 0);  // padding is not stored
}

TEST_F(ParameterFileTest, EveryDifferenceIsNamedAndNothingChanges) {
  ParameterStore store = make_store();
  store.values().copy_(random_normal({80}, 1));
  const at::Tensor before = store.values().clone();
  const std::vector<float> floats(17, 1.0f);
  const auto bytes = std::as_bytes(std::span(floats));
  const auto path = write({{"a", checkpoint::Dtype::kF32, {5, 3}, bytes.subspan(0, 60)},
                           {"b", checkpoint::Dtype::kI32, {17}, bytes},
                           {"d", checkpoint::Dtype::kF32, {2, 0}, {}},
                           {"e", checkpoint::Dtype::kF32, {16}, bytes.subspan(0, 64)},
                           {"f", checkpoint::Dtype::kF32, {}, bytes.subspan(0, 4)}});
  try {
    store.import_tensors(checkpoint::SafetensorsReader(path));
    FAIL() << "accepted";
  } catch (const CheckpointError& error) {
    const std::string text = error.what();
    for (const char* part : {"model.safetensors", "4 differences", "a has shape [5, 3], the model needs [3, 5]",
                             "b is of type I32, the model needs F32", "missing: c []", "unexpected: f []"}) {
      EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in: " << text;
    }
    EXPECT_EQ(text.find(" e "), std::string::npos) << text;
  }
  EXPECT_TRUE(same_bits(store.values(), before));
}

TEST_F(ParameterFileTest, LongListsOfDifferencesAreCut) {
  Model model(small_config(), small_shape(), 1);
  const float one = 1;
  const auto path = write({{"x", checkpoint::Dtype::kF32, {}, std::as_bytes(std::span(&one, 1))}});
  try {
    model.store().import_tensors(checkpoint::SafetensorsReader(path));
    FAIL() << "accepted";
  } catch (const CheckpointError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("more"), std::string::npos) << text;
    EXPECT_LT(text.size(), 2000U);
  }
}

}  // namespace
}  // namespace gato::model
