#include "gato/tokenizer/numbers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gato/core/error.h"

namespace gato::tokenizer {
namespace {

constexpr uint32_t kSignBit = 0x80000000u;
constexpr uint32_t kInfinityBits = 0x7f800000u;

bool is_nan_bits(uint32_t bits) { return (bits & ~kSignBit) > kInfinityBits; }

/// Floats in the order of their values as unsigned integers in a row (-0 comes just below +0), and back.
uint32_t order_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return (bits & kSignBit) != 0 ? ~bits : bits | kSignBit;
}

float float_at(uint32_t order) { return std::bit_cast<float>((order & kSignBit) != 0 ? order & ~kSignBit : ~order); }

/// Bin of y in [-1, 1] after clipping: 1024 uniform bins; +1 is the last one.
int32_t uniform_bin(double y) {
  const double scaled = std::floor((y + 1) * (static_cast<double>(kNumBins) / 2));
  return static_cast<int32_t>(std::clamp(scaled, 0.0, static_cast<double>(kNumBins - 1)));
}

double bin_centre(int32_t bin) { return (2.0 * bin + 1) / static_cast<double>(kNumBins) - 1; }

using Thresholds = std::array<float, kNumThresholds>;

/// The smallest float of bin `bin` or more, by bisection over all floats: the formula is monotone.
float threshold_of(int32_t bin) {
  uint32_t low = order_of(-std::numeric_limits<float>::infinity());  // below the threshold
  uint32_t high = order_of(std::numeric_limits<float>::infinity());  // at it or above
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    (observation_bin_by_formula(float_at(middle)) >= bin ? high : low) = middle;
  }
  return float_at(high);
}

const Thresholds& thresholds() {
  static const Thresholds table = [] {
    Thresholds made{};
    for (int32_t bin = 1; bin < kNumBins; ++bin) made[static_cast<size_t>(bin - 1)] = threshold_of(bin);
    return made;
  }();
  return table;
}

int32_t bin_by_thresholds(float value) {
  const Thresholds& table = thresholds();
  return static_cast<int32_t>(std::upper_bound(table.begin(), table.end(), value) - table.begin());
}

/// The fast path. All floats of a sign are cut into cells by their exponent and upper six mantissa bits, from 2^-13 to
/// 2^8; what lies outside belongs to the first or last cell. Six bits make neighbouring cells differ by a factor of at
/// most 1 + 1/64, bins by a factor above 1.02 at any magnitude, so a cell holds at most one threshold: a bin is one
/// lookup and one comparison. (build_cells checks this.)
struct Cell {
  float threshold;  ///< The threshold inside the cell; NaN, which no value reaches, where there is none.
  int32_t bin;      ///< Bin below the threshold.
};

constexpr int kCellShift = 23 - 6;
constexpr uint32_t kFirstCellBits = (127 - 13) << 23;  ///< 2^-13
constexpr uint32_t kLastCellBits = (127 + 8) << 23;    ///< 2^8
constexpr uint32_t kNumCells = ((kLastCellBits - kFirstCellBits) >> kCellShift) + 1;

using Cells = std::array<Cell, 2 * kNumCells>;  ///< Of the positive floats, then of the negative ones.

inline uint32_t cell_of(uint32_t bits) {
  const uint32_t magnitude = std::clamp(bits & ~kSignBit, kFirstCellBits, kLastCellBits);
  return ((magnitude - kFirstCellBits) >> kCellShift) + (bits >> 31) * kNumCells;
}

/// The cell of the floats with magnitude bits in [first, last] and the given sign.
Cell make_cell(uint32_t first, uint32_t last, uint32_t sign) {
  const float a = std::bit_cast<float>(first | sign), b = std::bit_cast<float>(last | sign);
  const int32_t low = bin_by_thresholds(std::min(a, b)), high = bin_by_thresholds(std::max(a, b));
  GATO_CHECK(high - low <= 1, "two thresholds between ", a, " and ", b);
  if (low == high) return {std::numeric_limits<float>::quiet_NaN(), low};
  return {thresholds()[static_cast<size_t>(low)], low};
}

Cells build_cells() {
  Cells cells{};
  for (uint32_t i = 0; i < kNumCells; ++i) {
    const uint32_t first = i == 0 ? 0 : kFirstCellBits + (i << kCellShift);
    const uint32_t last = i + 1 == kNumCells ? kInfinityBits : kFirstCellBits + ((i + 1) << kCellShift) - 1;
    cells[i] = make_cell(first, last, 0);
    cells[kNumCells + i] = make_cell(first, last, kSignBit);
  }
  return cells;
}

const Cells& cells() {
  static const Cells table = build_cells();
  return table;
}

inline int32_t bin_by_cell(const Cell* table, float value) {
  const Cell& cell = table[cell_of(std::bit_cast<uint32_t>(value))];
  return cell.bin + static_cast<int32_t>(value >= cell.threshold);
}

}  // namespace

double mu_law(double x) {
  return std::copysign(std::log(std::abs(x) * kMuLawMu + 1) / std::log(kMuLawM * kMuLawMu + 1), x);
}

double inverse_mu_law(double y) {
  return std::copysign(std::expm1(std::abs(y) * std::log1p(kMuLawM * kMuLawMu)) / kMuLawMu, y);
}

int32_t observation_bin_by_formula(float value) {
  if (std::isnan(value)) return -1;
  return uniform_bin(std::clamp(mu_law(value), -1.0, 1.0));
}

std::span<const float, kNumThresholds> observation_thresholds() { return thresholds(); }

int32_t observation_bin(float value) {
  if (std::isnan(value)) return -1;
  return bin_by_cell(cells().data(), value);
}

float observation_value(int32_t bin) {
  GATO_CHECK(bin >= 0 && bin < kNumBins, "bin ", bin, " is outside [0, ", kNumBins, ")");
  return static_cast<float>(inverse_mu_law(bin_centre(bin)));
}

int32_t action_bin(float value) {
  if (std::isnan(value)) return -1;
  return uniform_bin(std::clamp(static_cast<double>(value), -1.0, 1.0));
}

float action_value(int32_t bin) {
  GATO_CHECK(bin >= 0 && bin < kNumBins, "bin ", bin, " is outside [0, ", kNumBins, ")");
  return static_cast<float>(bin_centre(bin));
}

float normalize_action(float value, float low, float high) {
  const double span = static_cast<double>(high) - low;
  return static_cast<float>(2 * (static_cast<double>(value) - low) / span - 1);
}

float denormalize_action(float value, float low, float high) {
  const double span = static_cast<double>(high) - low;
  return static_cast<float>(low + (static_cast<double>(value) + 1) / 2 * span);
}

float bin_to_action(int32_t bin, float low, float high) {
  const float number = std::clamp(denormalize_action(action_value(bin), low, high), low, high);
  // Where bins are as narrow as the floats around them, rounding may leave the bin by one float.
  const int32_t back = action_bin(normalize_action(number, low, high));
  if (back == bin) return number;
  const float moved = std::nextafter(number, back > bin ? low : high);
  return action_bin(normalize_action(moved, low, high)) == bin ? moved : number;
}

int64_t observation_ids(std::span<const float> values, int32_t first_id, std::span<int32_t> ids) {
  GATO_CHECK(values.size() == ids.size(), values.size(), " values for ", ids.size(), " ids");
  const Cell* table = cells().data();
  uint32_t nan = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    nan |= static_cast<uint32_t>(is_nan_bits(std::bit_cast<uint32_t>(values[i])));
    ids[i] = first_id + bin_by_cell(table, values[i]);
  }
  if (nan == 0) return -1;
  const auto found = std::find_if(values.begin(), values.end(), [](float value) { return std::isnan(value); });
  return found - values.begin();
}

}  // namespace gato::tokenizer
