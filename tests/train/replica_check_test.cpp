#include "train/replica_check.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gato/train/trainer.h"

namespace gato::train {
namespace {

using Ranks = std::vector<int64_t>;

TEST(ReplicaCheckTest, OneFlippedBitIsAnotherDigest) {
  at::Tensor values = at::arange(1000, at::kFloat);
  const std::string before = digest_of(values);
  EXPECT_EQ(digest_of(values.clone()), before);
  values.view(at::kInt)[700] += 1;
  EXPECT_NE(digest_of(values), before);
}

TEST(ReplicaCheckTest, NamesTheMinority) {
  EXPECT_EQ(odd_ranks({"a", "a", "a"}), Ranks{});
  EXPECT_EQ(odd_ranks({"a", "b", "a"}), Ranks{1});
  EXPECT_EQ(odd_ranks({"b", "a", "a", "a", "c"}), (Ranks{0, 4}));
}

TEST(ReplicaCheckTest, NamesAllWhereNobodyHasAMajority) {
  EXPECT_EQ(odd_ranks({"a", "b"}), (Ranks{0, 1}));
  EXPECT_EQ(odd_ranks({"a", "a", "b", "b"}), (Ranks{0, 1, 2, 3}));
}

TEST(ReplicaCheckTest, AloneThereIsNothingToCompare) {
  Communicator alone;
  EXPECT_NO_THROW(check_replicas(alone, {at::zeros({4})}, 1));
}

}  // namespace
}  // namespace gato::train
