// What the lanes of a warp do together: __syncwarp, shuffles, votes, ldmatrix, mma.
#include <bit>
#include <cstring>

#include "cuda_emulation/machine.h"
#include "gato/core/text.h"

namespace gato::cuda_emulation {
namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;

uint32_t bit(int index) { return 1u << index; }

/// Calls `act(lane index)` for each lane of `mask`.
template <class Act>
void for_each_lane(uint32_t mask, const Act& act) {
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) act(std::countr_zero(rest));
}

std::string hexadecimal(uint32_t mask) {
  std::string digits = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[mask >> shift & 15];
  return digits;
}

}  // namespace

const char* operation_name(Operation operation) {
  switch (operation) {
    case Operation::kSyncWarp:
      return "__syncwarp";
    case Operation::kShuffle:
      return "a shuffle";
    case Operation::kVote:
      return "a vote";
    case Operation::kMma:
      return "mma";
    case Operation::kLdmatrix:
      return "ldmatrix";
  }
  return "?";
}

template <class Act>
void Block::meet(Thread& thread, Operation operation, uint32_t mask, Site site, const Act& act) {
  Warp& warp = *thread.warp;
  const auto diverged = [&](const std::string& what) { report({FaultKind::kDivergence, what, site, "", 0}, true); };
  mask &= warp.lanes;
  if ((mask & bit(thread.lane)) == 0) {
    diverged(cat(operation_name(operation), ": the calling lane is not in the mask ", hexadecimal(mask)));
  }
  if ((mask & warp.exited) != 0) {
    diverged(cat(operation_name(operation), " is not reached by all of its mask: lanes ",
                 hexadecimal(mask & warp.exited), " have ended"));
  }
  thread.operation = operation;
  thread.mask = mask;
  thread.site = site;
  warp.waiting |= bit(thread.lane);
  warp.runnable &= ~bit(thread.lane);
  if ((warp.waiting & mask) != mask) return suspend(thread);

  for_each_lane(mask, [&](int index) {
    const Thread& other = lane(warp, index);
    if (other.operation == operation && other.mask == mask && other.site == site) return;
    const SourceLine place = source_line(other.site);
    diverged(cat("a warp diverged: lane ", thread.lane, " is at ", operation_name(operation), " with mask ",
                 hexadecimal(mask), ", lane ", other.lane, " at ", operation_name(other.operation), " of ", place.file,
                 ":", place.line, " with mask ", hexadecimal(other.mask)));
  });
  if (mask == warp.lanes) flush_log(warp);
  ++counters.warp_operations;
  act(mask);
  warp.waiting &= ~mask;
  warp.runnable |= mask;
  if (at_random()) suspend(thread);
}

// ------------------------------------------------------------------------------------------ __syncwarp, votes,
// shuffles

void sync_warp(uint32_t mask, Site site) {
  const Instruction instruction;
  Warp& warp = *instruction.thread().warp;
  instruction.block().meet(instruction.thread(), Operation::kSyncWarp, mask, site, [&](uint32_t lanes) {
    if (lanes == warp.lanes) ++warp.step;  // a part of the warp is not taken to order anything
  });
}

uint32_t ballot(uint32_t mask, bool predicate, Site site) {
  const Instruction instruction;
  Thread& thread = instruction.thread();
  Block& block = instruction.block();
  thread.predicate = predicate;
  block.meet(thread, Operation::kVote, mask, site, [&](uint32_t lanes) {
    uint32_t votes = 0;
    for_each_lane(lanes, [&](int index) { votes |= block.lane(*thread.warp, index).predicate ? bit(index) : 0; });
    for_each_lane(lanes, [&](int index) { block.lane(*thread.warp, index).word = votes; });
  });
  return static_cast<uint32_t>(thread.word);
}

namespace {

/// The lane that lane `own` reads; as in CUDA's guide, a source outside the lane's segment of `width` gives its own.
int shuffle_source(int own, const ShuffleOperands& operands) {
  const int segment = own & ~(operands.width - 1);
  int source = own;
  switch (operands.kind) {
    case Shuffle::kIndex:
      return segment + (operands.argument & (operands.width - 1));
    case Shuffle::kXor:
      source = own ^ operands.argument;
      return source < segment + operands.width ? source : own;
    case Shuffle::kDown:
      source = own + operands.argument;
      return source < segment + operands.width ? source : own;
    case Shuffle::kUp:
      source = own - operands.argument;
      return source >= segment ? source : own;
  }
  return own;
}

}  // namespace

uint64_t shuffle(uint32_t mask, uint64_t value, Shuffle kind, int argument, int width, Site site) {
  const Instruction instruction;
  Thread& thread = instruction.thread();
  Block& block = instruction.block();
  const bool bad_width = width < 1 || width > kWarpLanes || !std::has_single_bit(static_cast<unsigned>(width));
  const bool bad_argument = kind != Shuffle::kIndex && (argument < 0 || argument >= kWarpLanes);
  if (bad_width || bad_argument) {
    block.report({FaultKind::kBadInstruction,
                  cat("a shuffle with width ", width, " and argument ", argument,
                      ": the width is a power of two up to 32, the argument 0..31"),
                  site, "", 0},
                 true);
  }
  thread.shuffle = {value, kind, argument, width};
  block.meet(thread, Operation::kShuffle, mask, site, [&](uint32_t lanes) {
    for_each_lane(lanes, [&](int index) {
      Thread& reader = block.lane(*thread.warp, index);
      const int source = shuffle_source(index, reader.shuffle);
      if (source >= kWarpLanes || (lanes >> source & 1) == 0) {
        block.report(
            {FaultKind::kDivergence,
             cat("a shuffle: lane ", index, " reads lane ", source, ", which does not take part"), site, "", 0},
            true);
      }
      reader.word = block.lane(*thread.warp, source).shuffle.value;
    });
  });
  return thread.word;
}

// ------------------------------------------------------------------------------------------ ldmatrix

Uint4 ldmatrix(const void* row, int count, bool transposed, Site site) {
  const Instruction instruction;
  Thread& thread = instruction.thread();
  Block& block = instruction.block();
  thread.ldmatrix = {row, count, transposed};
  block.ldmatrix_access(thread, row, thread.lane < 8 * count, site);
  block.meet(thread, Operation::kLdmatrix, kAllLanes, site, [&](uint32_t lanes) {
    if (lanes != kAllLanes) {
      block.report({FaultKind::kDivergence, "ldmatrix in a warp of less than 32 threads", site, "", 0}, true);
    }
    for (int i = 0; i < count; ++i) {
      uint16_t matrix[8][8];
      for (int r = 0; r < 8; ++r) std::memcpy(matrix[r], block.lane(*thread.warp, 8 * i + r).ldmatrix.row, 16);
      for (int index = 0; index < kWarpLanes; ++index) {
        const int group = index / 4;
        const int pair = 2 * (index % 4);
        const uint32_t low = transposed ? matrix[pair][group] : matrix[group][pair];
        const uint32_t high = transposed ? matrix[pair + 1][group] : matrix[group][pair + 1];
        block.lane(*thread.warp, index).matrix.v[i] = low | high << 16;
      }
    }
    ++block.counters.ldmatrix;
  });
  return thread.matrix;
}

// ------------------------------------------------------------------------------------------ mma

namespace {

using Row = float __attribute__((vector_size(8 * sizeof(float))));

struct Matrices {
  float a[16][16];
  alignas(64) float b[16][8];
  alignas(64) float d[16][8];
};

template <class T>
void widen_pair(uint32_t bits, float& low, float& high) {
  low = widen(T{static_cast<uint16_t>(bits)});
  high = widen(T{static_cast<uint16_t>(bits >> 16)});
}

/// The fragments of lane `lane` into whole matrices: PTX ISA, "Matrix Fragments for mma.m16n8k16".
template <class T>
void gather(const MmaOperands& operands, size_t lane, Matrices& m) {
  const size_t group = lane / 4;
  const size_t pair = 2 * (lane % 4);
  for (size_t r = 0; r < 4; ++r) {
    float* a = &m.a[group + (r % 2) * 8][pair + (r / 2) * 8];
    widen_pair<T>(operands.a.v[r], a[0], a[1]);
  }
  for (size_t r = 0; r < 2; ++r) {
    widen_pair<T>(operands.b[r], m.b[pair + 8 * r][group], m.b[pair + 8 * r + 1][group]);
  }
  for (size_t r = 0; r < 4; ++r) m.d[group + (r / 2) * 8][pair + r % 2] = operands.d.v[r];
}

Float4 scatter(size_t lane, const Matrices& m) {
  const size_t group = lane / 4;
  const size_t pair = 2 * (lane % 4);
  return {{m.d[group][pair], m.d[group][pair + 1], m.d[group + 8][pair], m.d[group + 8][pair + 1]}};
}

// Products of 16-bit floats are exact in fp32; tensor cores then add them in an order and width of their own, which is
// not modelled: here k rises. Rows in registers, for half of a kernel's time is spent here.
void multiply(Matrices& m) {
  Row d[16];
  std::memcpy(d, m.d, sizeof d);
  for (size_t k = 0; k < 16; ++k) {
    Row b;
    std::memcpy(&b, m.b[k], sizeof b);
    for (size_t row = 0; row < 16; ++row) d[row] += m.a[row][k] * b;
  }
  std::memcpy(m.d, d, sizeof d);
}

}  // namespace

Float4 mma_m16n8k16(Float4 d, Uint4 a, uint32_t b0, uint32_t b1, bool bfloat16, Site site) {
  const Instruction instruction;
  Thread& thread = instruction.thread();
  Block& block = instruction.block();
  thread.mma = {d, a, {b0, b1}};
  block.meet(thread, Operation::kMma, kAllLanes, site, [&](uint32_t lanes) {
    if (lanes != kAllLanes) {
      block.report({FaultKind::kDivergence, "mma in a warp of less than 32 threads", site, "", 0}, true);
    }
    Matrices m;
    for (int i = 0; i < kWarpLanes; ++i) {
      const MmaOperands& operands = block.lane(*thread.warp, i).mma;
      bfloat16 ? gather<BFloat16>(operands, static_cast<size_t>(i), m)
               : gather<Float16>(operands, static_cast<size_t>(i), m);
    }
    multiply(m);
    for (int i = 0; i < kWarpLanes; ++i) block.lane(*thread.warp, i).sum = scatter(static_cast<size_t>(i), m);
    ++block.counters.mma;
  });
  return thread.sum;
}

}  // namespace gato::cuda_emulation
