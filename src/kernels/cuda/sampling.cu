#include "kernels/cuda/sampling.h"

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/block_reduce.h"
#include "kernels/cuda/device.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 512;

/// The mass of the likeliest id. The sum of kMostSampledIds masses stays below 2^63.
constexpr uint64_t kFullMass = uint64_t{1} << 47;

/// A number that is the larger, the likelier an id is, and of equally likely ids the lower: the logit's bits in an
/// order of integers, then the id. NaN is less likely than anything.
__device__ __forceinline__ uint64_t rank_of(float logit, int32_t id) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 becomes +0
  const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{logit == logit ? ordered : 0} << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

/// Index in [0, num_ids) of the likeliest id.
template <class T>
__device__ __forceinline__ int32_t find_best(const T* logits, int32_t num_ids, BlockReducer<uint64_t>& reducer) {
  uint64_t best = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < num_ids; i += kThreads) {
    best = Maximum{}(best, rank_of(to_float(logits[i]), i));
  }
  best = reducer.reduce(best, Maximum{});
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best));
}

__device__ __forceinline__ double relative_probability(float logit, float top, double temperature) {
  return exp((static_cast<double>(logit) - static_cast<double>(top)) / temperature);
}

/// The ids that a thread looks at where their order matters: neighbours, and before those of the next thread.
struct Share {
  int32_t begin, end;
};
__device__ __forceinline__ Share share_of_thread(int32_t num_ids) {
  const int32_t each = (num_ids + kThreads - 1) / kThreads;
  const int32_t begin = static_cast<int32_t>(threadIdx.x) * each;
  return {begin < num_ids ? begin : num_ids, begin + each < num_ids ? begin + each : num_ids};
}

/// The likeliest ids that together reach a mass: all above `limit`, and the first `num_equal` of those at it.
struct Nucleus {
  uint64_t limit;
  uint64_t num_equal;
};

/// Bisects, in proportion, for the largest limit whose ids reach `wanted` > 0 of the total. Both ends move to masses
/// that occur, so that about log2(num_ids) steps do.
__device__ __forceinline__ Nucleus find_nucleus(const uint64_t* masses, int32_t num_ids, uint64_t wanted,
                                                BlockReducer<uint64_t>& reducer) {
  uint64_t low = 1;               // ids of this mass and up reach it
  uint64_t high = kFullMass + 1;  // ids of this mass and up do not
  uint64_t above = 0;             // their sum
  while (high - low > 1) {
    auto middle = static_cast<uint64_t>(sqrt(static_cast<double>(low) * static_cast<double>(high)));
    middle = middle <= low ? low + 1 : middle >= high ? high - 1 : middle;
    uint64_t sum = 0, lowest = kFullMass, highest = 0;  // of the masses from middle on, and the highest below it
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < num_ids; i += kThreads) {
      const uint64_t mass = masses[i];
      if (mass >= middle) {
        sum += mass;
        lowest = Minimum{}(lowest, mass);
      } else {
        highest = Maximum{}(highest, mass);
      }
    }
    sum = reducer.reduce(sum, Sum{});
    if (sum >= wanted) {
      low = reducer.reduce(lowest, Minimum{});
    } else {
      high = reducer.reduce(highest, Maximum{}) + 1;
      above = sum;
    }
  }
  return {low, (wanted - above + low - 1) / low};
}

/// The id whose cumulative mass inside the nucleus, in the order of ids, is the first to exceed uniform x its total.
/// The thread that has it writes it.
__device__ __forceinline__ void draw(const uint64_t* masses, int32_t num_ids, const Nucleus& nucleus, double uniform,
                                     BlockReducer<uint64_t>& reducer, int32_t first_id, int32_t* id) {
  const Share share = share_of_thread(num_ids);
  uint64_t equal = 0;
  for (int32_t i = share.begin; i < share.end; ++i) equal += masses[i] == nucleus.limit ? 1 : 0;
  uint64_t total;
  const uint64_t equal_before = reducer.exclusive_sum(equal, &total);
  const auto mass_of = [&](int32_t i, uint64_t& seen) -> uint64_t {
    if (masses[i] != nucleus.limit) return masses[i] > nucleus.limit ? masses[i] : 0;
    return seen++ < nucleus.num_equal ? masses[i] : 0;
  };
  uint64_t own = 0;
  uint64_t seen = equal_before;
  for (int32_t i = share.begin; i < share.end; ++i) own += mass_of(i, seen);
  const uint64_t before = reducer.exclusive_sum(own, &total);
  const double place = uniform * static_cast<double>(total);
  uint64_t target = 0;  // also for a number that is none
  if (place > 0) target = place < static_cast<double>(total) ? static_cast<uint64_t>(place) : total;
  if (target >= total) target = total - 1;  // rounded up
  if (target < before || target >= before + own) return;
  uint64_t cumulative = before;
  seen = equal_before;
  for (int32_t i = share.begin; i < share.end; ++i) {
    cumulative += mass_of(i, seen);
    if (cumulative > target) {
      *id = first_id + i;
      return;
    }
  }
}

/// The bin of the expected value over bins of [-1, 1]: gato/tokenizer/numbers.h, action_value and action_bin.
template <class T>
__device__ __forceinline__ int32_t mean_bin(const T* logits, float top, double temperature, double* scratch) {
  double mass = 0, weighted = 0;
  for (int32_t bin = static_cast<int32_t>(threadIdx.x); bin < kNumValueBins; bin += kThreads) {
    const double p = relative_probability(to_float(logits[bin]), top, temperature);
    mass += p;
    weighted += p * ((2.0 * bin + 1) / kNumValueBins - 1);
  }
  mass = block_reduce(mass, scratch, Sum{});
  weighted = block_reduce(weighted, scratch + kMaxWarps, Sum{});
  const auto mean = static_cast<double>(static_cast<float>(weighted / mass));
  const double scaled = floor((fmin(fmax(mean, -1.0), 1.0) + 1) * (kNumValueBins / 2));
  return static_cast<int32_t>(fmin(fmax(scaled, 0.0), kNumValueBins - 1.0));
}

__device__ __forceinline__ bool is_possible(const Sampling& call, const TokenChoice& request) {
  const int64_t begin = request.first_id - call.first_id;
  if (request.num_ids <= 0 || begin < 0 || begin + request.num_ids > call.columns) return false;
  if (request.choice == Choice::kGreedy) return true;
  return request.temperature > 0 &&
         (request.choice == Choice::kMean ? request.num_ids == kNumValueBins : request.num_ids <= kMostSampledIds);
}

/// A block per slot.
template <class T>
__global__ void __launch_bounds__(kThreads) sample_ids_kernel(Sampling call, int64_t masses_per_slot) {
  GATO_SHARED(uint64_t, scratch, 2 * kMaxWarps);
  GATO_SHARED(double, doubles, 2 * kMaxWarps);
  const int64_t slot = blockIdx.x;
  const TokenChoice request = call.requests[(call.round == nullptr ? 0 : call.round[slot]) * call.slots + slot];
  int32_t* const id = call.ids + slot;
  if (!is_possible(call, request)) {
    if (threadIdx.x == 0) *id = -1;
    return;
  }
  const T* logits = static_cast<const T*>(call.logits) + slot * call.stride + (request.first_id - call.first_id);
  BlockReducer<uint64_t> reducer(scratch);
  const int32_t best = find_best(logits, request.num_ids, reducer);
  if (request.choice == Choice::kGreedy) {
    if (threadIdx.x == 0) *id = request.first_id + best;
    return;
  }
  const float top = to_float(logits[best]);
  if (request.choice == Choice::kMean) {
    const int32_t bin = mean_bin(logits, top, request.temperature, doubles);
    if (threadIdx.x == 0) *id = request.first_id + bin;
    return;
  }
  auto* masses = static_cast<uint64_t*>(call.workspace) + slot * masses_per_slot;
  uint64_t own = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < request.num_ids; i += kThreads) {
    const double p = relative_probability(to_float(logits[i]), top, request.temperature);
    masses[i] = p > 0 ? static_cast<uint64_t>(p * static_cast<double>(kFullMass) + 0.5) : 0;  // 0 for NaN
    own += masses[i];
  }
  const uint64_t total = reducer.reduce(own, Sum{});
  if (total == 0) {  // no logit is a number above -inf
    if (threadIdx.x == 0) *id = request.first_id + best;
    return;
  }
  Nucleus nucleus{0, 0};
  if (request.top_p < 1) {
    const double wanted = ceil(request.top_p * static_cast<double>(total));
    nucleus = find_nucleus(masses, request.num_ids, wanted > 1 ? static_cast<uint64_t>(wanted) : 1, reducer);
  }
  draw(masses, request.num_ids, nucleus, request.uniform, reducer, request.first_id, id);
}

constexpr int kFeedBackThreads = 128;

/// A thread per slot.
__global__ void __launch_bounds__(kFeedBackThreads) feed_back_kernel(FeedBack call) {
  const int64_t slot = static_cast<int64_t>(blockIdx.x) * kFeedBackThreads + threadIdx.x;
  if (slot >= call.slots) return;
  const int32_t round = call.round[slot];
  if (call.runs[slot].count == 0 || round >= call.rounds) return;
  const int64_t place = round * call.slots + slot;
  const int32_t id = call.ids[slot];
  call.chosen[place] = id;
  call.local_positions[slot] = call.requests[place].local_position;
  call.runs[slot].position += 1;
  if (id < 0 || id == call.requests[place].end_id) call.runs[slot].count = 0;
  call.round[slot] = round + 1;
}

}  // namespace

size_t sampling_workspace(int64_t slots, int64_t columns) {
  check_range(slots, 0, int64_t{1} << 31, "slots");
  check_range(columns, 1, int64_t{1} << 31, "columns");
  const int64_t ids = columns < kMostSampledIds ? columns : kMostSampledIds;
  return static_cast<size_t>(slots * ids) * sizeof(uint64_t);
}

void sample_ids(const Sampling& call, Stream stream) {
  check_range(call.slots, 0, int64_t{1} << 31, "slots");
  check_range(call.columns, 1, int64_t{1} << 31, "columns");
  check_range(call.first_id, 0, int64_t{1} << 31, "first_id");
  GATO_CHECK(call.stride >= call.columns, "logits ", call.stride, " elements apart overlap: a slot has ", call.columns);
  if (call.slots == 0) return;
  check_pointer(call.logits, element_bytes(call.element), "logits");
  check_pointer(call.requests, "requests");
  check_optional(call.round, "round");
  check_pointer(call.ids, "ids");
  check_pointer(call.workspace, 16, "workspace");
  const Launch shape{"sample_ids", num_blocks(call.slots, 1), kThreads, 0, stream};
  const auto masses = static_cast<int64_t>(sampling_workspace(1, call.columns) / sizeof(uint64_t));
  switch (call.element) {
    case Element::kFloat32:
      return launch(shape, sample_ids_kernel<float>, call, masses);
    case Element::kBFloat16:
      return launch(shape, sample_ids_kernel<BFloat16>, call, masses);
    case Element::kFloat16:
      return launch(shape, sample_ids_kernel<Float16>, call, masses);
  }
}

void feed_back(const FeedBack& call, Stream stream) {
  check_range(call.slots, 0, int64_t{1} << 31, "slots");
  check_range(call.rounds, 0, int64_t{1} << 31, "rounds");
  if (call.slots == 0 || call.rounds == 0) return;
  check_pointer(call.requests, "requests");
  check_pointer(call.ids, "ids");
  check_pointer(call.round, "round");
  check_pointer(call.runs, "runs");
  check_pointer(call.local_positions, "local_positions");
  check_pointer(call.chosen, "chosen");
  launch({"feed_back", num_blocks(call.slots, kFeedBackThreads), kFeedBackThreads, 0, stream}, feed_back_kernel, call);
}

}  // namespace gato::kernels::cuda
