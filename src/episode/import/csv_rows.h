#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "episode/import/stream_input.h"

/// Comma-separated values as RFC 4180 has them, read row by row.
namespace gato::episode {

/// Cuts a table into rows without looking into cells: a line end inside quotes is no end of a row. Reads LF and CRLF,
/// passes over a byte order mark and empty lines.
class CsvRows {
 public:
  static constexpr size_t kMaxRowBytes = size_t{16} << 20;

  CsvRows(std::unique_ptr<ByteInput> input, std::string name);

  /// The next row without its line end; false at the end. Throws DataError naming file and line for an open quote at
  /// the end, a NUL byte, and a row over the limit.
  bool next(std::string& row);
  [[nodiscard]] int64_t line() const { return row_line_; }  ///< Where the last row begins, counted from 1.
  [[nodiscard]] uint64_t position() const { return input_->position(); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  bool read_line(std::string& to);  ///< Appends a line with its end; false when nothing is left.
  [[noreturn]] void fail(const std::string& problem) const;

  std::unique_ptr<ByteInput> input_;
  std::string name_;
  std::string buffer_;
  size_t used_ = 0, filled_ = 0;  ///< Of the buffer.
  int64_t next_line_ = 1, row_line_ = 1;
};

/// The cells of a row, unquoted. `place` ("FILE, line 7") is for messages. Throws DataError naming it and the column's
/// number for a quote inside a cell that is not quoted, text behind a closing quote, and more than 4096 cells.
[[nodiscard]] std::vector<std::string> split_csv_row(std::string_view row, char delimiter, const std::string& place);

}  // namespace gato::episode
