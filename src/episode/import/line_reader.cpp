#include "episode/import/line_reader.h"

#include <cstring>
#include <string_view>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteSource> source, std::string origin, size_t max_line_bytes)
    : source_(std::move(source)), origin_(std::move(origin)), max_line_bytes_(max_line_bytes), piece_(kPieceBytes) {}

bool LineReader::fill() {
  if (first_ == last_) {
    first_ = 0;
    last_ = source_->read(piece_);
  }
  return first_ != last_;
}

bool LineReader::next(std::string& line) {
  line.clear();
  if (!fill()) return false;
  ++line_number_;
  line_offset_ = next_offset_;
  for (bool ended = false; !ended && fill();) {
    const char* begin = piece_.data() + first_;
    const auto* end = static_cast<const char*>(std::memchr(begin, '\n', last_ - first_));
    const size_t count = end != nullptr ? static_cast<size_t>(end - begin) : last_ - first_;
    if (line.size() + count > max_line_bytes_) {
      throw DataError(cat(origin_, ", line ", line_number_, " at byte ", line_offset_, ": longer than ",
                          format_bytes(static_cast<double>(max_line_bytes_)), ", the most that is read at once"));
    }
    line.append(begin, count);
    ended = end != nullptr;
    first_ += count + (ended ? 1 : 0);
    next_offset_ += count + (ended ? 1 : 0);
  }
  if (line.ends_with('\r')) line.pop_back();
  if (line_number_ == 1 && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
  return true;
}

}  // namespace gato::episode
