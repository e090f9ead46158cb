#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "gato/core/random.h"
#include "gato/model/decoder.h"

namespace gato::model::testing {

/// One sequence as the decoder's plain arrays.
struct Tokens {
  std::vector<int32_t> ids;
  std::vector<int16_t> locals;
  std::vector<uint8_t> patches, rows, columns;

  [[nodiscard]] DecoderInput part(size_t begin, size_t end) const {
    const auto patches_before = [&](size_t at) {
      return static_cast<size_t>(
          std::count_if(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(at), [](int32_t id) { return id < 0; }));
    };
    const size_t first = patches_before(begin), count = patches_before(end) - first;
    return {std::span(ids).subspan(begin, end - begin), std::span(locals).subspan(begin, end - begin),
            std::span(patches).subspan(first * 768, count * 768), std::span(rows).subspan(first, count),
            std::span(columns).subspan(first, count)};
  }

  /// Tokens [begin, end) as a sequence of its own.
  [[nodiscard]] Tokens cut(size_t begin, size_t end) const {
    const DecoderInput of = part(begin, end);
    return {{of.ids.begin(), of.ids.end()},
            {of.local_positions.begin(), of.local_positions.end()},
            {of.patches.begin(), of.patches.end()},
            {of.patch_rows.begin(), of.patch_rows.end()},
            {of.patch_columns.begin(), of.patch_columns.end()}};
  }
};

/// The same length with ids in place of patches, whose convolutions round otherwise in batches of other sizes.
inline Tokens without_patches(Tokens t) {
  for (int32_t& id : t.ids) id = std::max(id, 0);
  t.patches.clear();
  t.rows.clear();
  t.columns.clear();
  return t;
}

inline Tokens make_tokens(int64_t length, uint64_t seed) {
  Tokens t;
  Rng rng(seed);
  for (int64_t i = 0; i < length; ++i) {
    const bool patch = rng.below(4) == 0;
    t.ids.push_back(patch ? -1 : static_cast<int32_t>(rng.below(90)));
    t.locals.push_back(static_cast<int16_t>(rng.below(514) - 1));
    if (!patch) continue;
    for (int i_pixel = 0; i_pixel < 768; ++i_pixel) t.patches.push_back(static_cast<uint8_t>(rng.below(256)));
    t.rows.push_back(static_cast<uint8_t>(rng.below(128)));
    t.columns.push_back(static_cast<uint8_t>(rng.below(128)));
  }
  return t;
}

}  // namespace gato::model::testing
