#include "episode/import/csv_rows.h"

#include <algorithm>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 10;
constexpr size_t kMaxCells = 4096;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

/// Cells of one row from left to right.
class CellReader {
 public:
  CellReader(std::string_view row, char delimiter, const std::string& place)
      : row_(row), delimiter_(delimiter), place_(place) {}

  std::vector<std::string> all() {
    std::vector<std::string> cells;
    for (;;) {
      ++column_;
      if (column_ > kMaxCells) fail(cat("more than ", kMaxCells, " cells"));
      cells.push_back(at_ < row_.size() && row_[at_] == '"' ? quoted() : plain());
      if (at_ == row_.size()) return cells;
      ++at_;  // The delimiter.
    }
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(cat(place_, ", column ", column_, ": ", problem));
  }

  std::string plain() {
    const size_t end = std::min(row_.find(delimiter_, at_), row_.size());
    std::string cell(row_.substr(at_, end - at_));
    if (cell.find('"') != std::string::npos) {
      fail("a quote inside a cell that does not begin with one; quote the cell and double the quotes in it");
    }
    if (cell.find('\r') != std::string::npos) fail("a carriage return inside a cell that is not quoted");
    at_ = end;
    return cell;
  }

  std::string quoted() {
    std::string cell;
    for (++at_;;) {
      const size_t quote = row_.find('"', at_);
      if (quote == std::string_view::npos) fail("its quote is not closed");
      cell.append(row_, at_, quote - at_);
      at_ = quote + 1;
      if (at_ == row_.size() || row_[at_] == delimiter_) return cell;
      if (row_[at_] != '"') fail("text behind a closing quote; double the quotes inside a cell");
      cell += '"';
      ++at_;
    }
  }

  std::string_view row_;
  char delimiter_;
  const std::string& place_;
  size_t at_ = 0, column_ = 0;
};

}  // namespace

CsvRows::CsvRows(std::unique_ptr<ByteInput> input, std::string name)
    : input_(std::move(input)), name_(std::move(name)) {}

void CsvRows::fail(const std::string& problem) const {
  throw DataError(cat(name_, ", line ", row_line_, ": ", problem));
}

bool CsvRows::read_line(std::string& to) {
  const size_t before = to.size();
  for (;;) {
    if (used_ == filled_) {
      buffer_.resize(kBufferBytes);  // Once.
      filled_ = input_->read(buffer_.data(), buffer_.size());
      used_ = 0;
      if (filled_ == 0) break;
    }
    const std::string_view rest = std::string_view(buffer_).substr(0, filled_);
    const size_t line_end = rest.find('\n', used_);
    const size_t end = line_end == std::string_view::npos ? filled_ : line_end + 1;
    if (to.size() + (end - used_) > kMaxRowBytes) {
      fail(cat("a row of more than ", kMaxRowBytes, " bytes; is a quote not closed?"));
    }
    to.append(buffer_, used_, end - used_);
    used_ = end;
    if (line_end != std::string_view::npos) break;
  }
  if (to.size() == before) return false;
  ++next_line_;
  return true;
}

bool CsvRows::next(std::string& row) {
  for (;;) {
    row.clear();
    row_line_ = next_line_;
    if (!read_line(row)) return false;
    if (row_line_ == 1 && row.starts_with(kByteOrderMark)) row.erase(0, kByteOrderMark.size());
    // A row is whole when its quotes are even in number: a doubled quote counts twice.
    auto quotes = std::count(row.begin(), row.end(), '"');
    while (quotes % 2 != 0) {
      const size_t before = row.size();
      if (!read_line(row)) fail("a quote is not closed before the end of the file");
      quotes += std::count(row.begin() + static_cast<std::ptrdiff_t>(before), row.end(), '"');
    }
    if (row.find('\0') != std::string::npos) fail("a NUL byte; this is no text, or it is UTF-16 (save it as UTF-8)");
    if (row.ends_with('\n')) row.pop_back();
    if (row.ends_with('\r')) row.pop_back();
    if (!row.empty()) return true;
  }
}

std::vector<std::string> split_csv_row(std::string_view row, char delimiter, const std::string& place) {
  return CellReader(row, delimiter, place).all();
}

}  // namespace gato::episode
