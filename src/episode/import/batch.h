#pragma once
#include <exception>
#include <string>
#include <vector>

#include "episode/import/import_state.h"
#include "gato/episode/import.h"

/// What travels through an import: records are read in order, parsed on all threads, written in order.
namespace gato::episode {

/// One record on its way.
struct ImportItem {
  ImportPosition position;
  RawRecord raw;
  ParsedRecord parsed;
  std::vector<std::string> filtered;  ///< Per episode: why the content filter keeps it out; empty: it does not.
  std::string damage;                 ///< The message of a DataError.
  std::exception_ptr failure;         ///< Any other exception.
};

struct ImportBatch {
  std::vector<ImportItem> items;
  std::exception_ptr failure;  ///< What ended the reading after these items.
  uint64_t bytes_read = 0;     ///< Of all units up to the end of the batch.
};

/// Reads the records of all units front to back.
class RecordReader {
 public:
  /// Begins at `from`, passing over what is before it by framing alone. `limit`: records in all, 0 for no limit.
  RecordReader(const ForeignFormat& format, std::vector<ImportUnit> units, ImportPosition from, int64_t records_before,
               int64_t limit);

  /// The next few records: some hundreds, or some MiB. False, with an empty batch, when there are none left. Errors are
  /// put into the batch, so that what was read before them is written first.
  bool read(ImportBatch& batch);

 private:
  bool next(ImportItem& item);
  void skip_to_start();

  const ForeignFormat& format_;
  std::vector<ImportUnit> units_;
  ImportPosition position_;
  uint64_t records_to_skip_;
  int64_t records_, limit_;
  uint64_t bytes_before_unit_ = 0;
  std::unique_ptr<RecordStream> stream_;
  bool ended_ = false;
};

/// Parses one record, checks its episodes, encodes their images and asks the content filter. Never throws.
void parse_item(const ForeignFormat& format, const ContentFilter& filter, ImportItem& item);

}  // namespace gato::episode
