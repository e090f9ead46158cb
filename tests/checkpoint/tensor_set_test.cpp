#include "gato/checkpoint/tensor_set.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/error.h"
#include "support/temp_folder.h"

namespace gato::checkpoint {
namespace {

namespace fs = std::filesystem;
using gato::test::TempFolder;

/// Tensors "a" to "e" of 100 floats each.
class TensorSetTest : public testing::Test {
 protected:
  TensorSetTest() {
    for (size_t i = 0; i < 5; ++i) {
      values_.emplace_back(100, static_cast<float>(i));
      views_.push_back({std::string(1, static_cast<char>('a' + i)), Dtype::kF32, {4, 25}, {}});
    }
    for (size_t i = 0; i < 5; ++i) views_[i].data = std::as_bytes(std::span(values_[i]));
  }
  void expect_all(const TensorSet& set) const {
    ASSERT_EQ(set.names(), (std::vector<std::string>{"a", "b", "c", "d", "e"}));
    for (const TensorView& view : views_) {
      const auto found = set.read(view.name);
      EXPECT_TRUE(std::equal(found.begin(), found.end(), view.data.begin(), view.data.end())) << view.name;
      EXPECT_EQ(set.info(view.name).shape, view.shape);
    }
  }
  std::vector<std::vector<float>> values_;
  std::vector<TensorView> views_;
  TempFolder folder_;
};

TEST_F(TensorSetTest, OneFileOrSeveralGiveTheSameTensors) {
  EXPECT_EQ(write_tensor_set(folder_ / "one", views_, 2000), (std::vector<std::string>{"model.safetensors"}));
  expect_all(TensorSet(folder_ / "one"));
  expect_all(TensorSet(folder_ / "one" / "model.safetensors"));
  EXPECT_EQ(write_tensor_set(folder_ / "some", views_, 800),
            (std::vector<std::string>{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                      "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  expect_all(TensorSet(folder_ / "some"));
  EXPECT_EQ(write_tensor_set(folder_ / "many", views_, 1).size(), 6u) << "a tensor above the limit has its own file";
  expect_all(TensorSet(folder_ / "many"));
  EXPECT_EQ(write_tensor_set(folder_ / "none", {}, 1).size(), 1u);
  EXPECT_TRUE(TensorSet(folder_ / "none").names().empty());
}

TEST_F(TensorSetTest, ABadIndexIsRefusedWithItsReason) {
  static_cast<void>(write_tensor_set(folder_ / "some", views_, 800));
  const Path index = folder_ / "some" / kTensorIndexName;
  const std::string good = read_file(index);
  const auto expect_error = [&](const std::string& text, const std::string& reason) {
    write_file_atomic(index, text);
    try {
      static_cast<void>(TensorSet(folder_ / "some"));
      ADD_FAILURE() << "taken: " << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  };
  const auto replaced = [&](const std::string& what, const std::string& by) {
    std::string text = good;
    return text.replace(text.find(what), what.size(), by);
  };
  expect_error(replaced("\"a\"", "\"x\""), "\"x\" is not in");
  expect_error(replaced("model-00001-of-00003", "../model"), "not the plain name");
  expect_error(replaced("model-00001-of-00003", "model-00002-of-00003"), "\"a\" is not in");
  expect_error(replaced("\"e\": \"model-00003-of-00003.safetensors\"", "\"d\": \"model-00002-of-00003.safetensors\""),
               "d");
  expect_error("{\"weight_map\": {}}", "");
  expect_error("{\"weight_map\": {\"a\": 3}}", "no file name");
  expect_error("{}", "weight_map");
  for (size_t length = 0; length + 2 < good.size(); length += 7) expect_error(good.substr(0, length), "");
  write_file_atomic(index, good);
  fs::remove(folder_ / "some" / "model-00002-of-00003.safetensors");
  EXPECT_THROW(static_cast<void>(TensorSet(folder_ / "some")), IoError);
}

TEST_F(TensorSetTest, WhereThereIsNothingTheMessageSaysWhatToGive) {
  EXPECT_THROW(static_cast<void>(TensorSet(folder_.path())), ConfigError);
  EXPECT_THROW(static_cast<void>(TensorSet(folder_ / "none.safetensors")), IoError);
  static_cast<void>(write_tensor_set(folder_.path(), views_, 2000));
  EXPECT_THROW(static_cast<void>(TensorSet(folder_.path()).info("f")), CheckpointError);
}

TEST(ToFloatsTest, EveryKindIsConverted) {
  const auto convert = [](Dtype dtype, const auto& stored) {
    return to_floats(dtype, std::as_bytes(std::span(stored)), "here");
  };
  EXPECT_EQ(convert(Dtype::kF32, std::vector<float>{1.5F, -2}), (std::vector<float>{1.5F, -2}));
  EXPECT_EQ(convert(Dtype::kF64, std::vector<double>{0.25}), (std::vector<float>{0.25F}));
  EXPECT_EQ(convert(Dtype::kBF16, std::vector<uint16_t>{0x3fc0, 0xc000}), (std::vector<float>{1.5F, -2}));
  const auto halves =
      convert(Dtype::kF16, std::vector<uint16_t>{0x3e00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000, 0x7e00});
  EXPECT_EQ(std::vector<float>(halves.begin(), halves.begin() + 6),
            (std::vector<float>{1.5F, -2, 5.9604645e-8F, 65504, INFINITY, -0.0F}));
  EXPECT_TRUE(std::isnan(halves[6]));
  EXPECT_THROW(convert(Dtype::kI64, std::vector<int64_t>{1}), CheckpointError);
}

}  // namespace
}  // namespace gato::checkpoint
