#include "replica_check.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/profile.h"
#include "gato/train/trainer.h"

namespace gato::train {
namespace {

std::span<const std::byte> bytes_of(const at::Tensor& values) {
  return {static_cast<const std::byte*>(values.const_data_ptr()), static_cast<size_t>(values.nbytes())};
}

}  // namespace

std::string digest_of(const at::Tensor& values) {
  GATO_CHECK(values.is_contiguous(), "parameters lie in one piece");
  if (values.is_cpu()) return digest128(bytes_of(values));
  constexpr int64_t kPiece = int64_t{16} << 20;  // values copied at a time
  std::string digests;
  for (int64_t begin = 0; begin < values.numel(); begin += kPiece) {
    const at::Tensor piece = values.flatten().slice(0, begin, std::min(values.numel(), begin + kPiece)).cpu();
    digests += digest128(bytes_of(piece));
  }
  return digest128(digests);
}

std::vector<int64_t> odd_ranks(const std::vector<std::string>& digests) {
  std::map<std::string, size_t> counts;
  for (const std::string& digest : digests) ++counts[digest];
  if (counts.size() <= 1) return {};
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const bool is_majority = 2 * most->second > digests.size();
  std::vector<int64_t> odd;
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    if (!is_majority || digests[rank] != most->first) odd.push_back(static_cast<int64_t>(rank));
  }
  return odd;
}

void check_replicas(Communicator& communicator, const std::vector<at::Tensor>& parameters, int64_t step) {
  if (communicator.alone()) return;
  const profile::Scope scope("comparing parameters");
  std::string digests;
  for (const at::Tensor& buffer : parameters) digests += digest_of(buffer);
  const std::vector<int64_t> odd = odd_ranks(communicator.gather(digests, "digests of the parameters"));
  if (odd.empty()) return;
  std::vector<std::string> names;
  for (const int64_t rank : odd) names.push_back(cat(rank));
  const bool nobody_knows = odd.size() == static_cast<size_t>(communicator.size());
  throw DivergedError(
      cat("after step ", step, " the parameters of rank", names.size() == 1 ? " " : "s ", join(names, ", "),
          nobody_knows ? " differ from one another" : " differ from all others'",
          ", though all made the same updates: memory or processor of that host err, or what it computes "
          "is not the same twice. Nothing of it is saved; the same command goes on from the last "
          "checkpoint. Take the host out, or compare it by `gato-train replay`"));
}

}  // namespace gato::train
