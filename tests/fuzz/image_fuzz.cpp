// Pictures that nobody vouches for: decode_image either gives pixels of the size it says or throws DataError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "gato/core/error.h"
#include "gato/episode/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gato::episode;
  // Below the defaults, so that a hostile size shows as memory or time within the fuzzer's own limits.
  constexpr ImageLimits kLimits{.max_side = 4096, .max_pixels = int64_t{1} << 22};
  try {
    const Image image = decode_image(std::as_bytes(std::span(data, size)), "fuzz", kLimits);
    const auto pixels = static_cast<size_t>(image.height) * static_cast<size_t>(image.width);
    if (image.height < 1 || image.width < 1 || image.pixels.size() != pixels * 3) std::abort();
  } catch (const gato::DataError&) {
  }
  return 0;
}
