#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "episode/import/byte_source.h"

namespace gato::episode {

/// The lines of a text file, without line ends (LF or CRLF) and without a byte order mark in front.
class LineReader {
 public:
  /// `origin` names the file in messages. A line longer than `max_line_bytes` is a DataError.
  LineReader(std::unique_ptr<ByteSource> source, std::string origin, size_t max_line_bytes);

  bool next(std::string& line);                                        ///< False at the end.
  [[nodiscard]] int64_t line_number() const { return line_number_; }   ///< Of the line last read; the first is 1.
  [[nodiscard]] uint64_t line_offset() const { return line_offset_; }  ///< Of its first byte, in the decompressed text.
  [[nodiscard]] uint64_t position() const { return source_->position(); }

 private:
  bool fill();

  std::unique_ptr<ByteSource> source_;
  std::string origin_;
  size_t max_line_bytes_;
  std::vector<char> piece_;
  size_t first_ = 0, last_ = 0;
  int64_t line_number_ = 0;
  uint64_t line_offset_ = 0, next_offset_ = 0;
};

}  // namespace gato::episode
