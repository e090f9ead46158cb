#include "episode/import/batch.h"

#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

/// Enough for all threads, few enough to keep three batches in memory.
constexpr size_t kBatchRecords = 512;
constexpr size_t kBatchBytes = size_t{16} << 20;

size_t bytes_of(const RawRecord& record) {
  size_t bytes = 0;
  for (const auto& [name, content] : record.parts) bytes += name.size() + content.size();
  return bytes;
}

std::string filter_reason(const ContentFilter& filter, const std::vector<Column>& columns) {
  for (const Column& column : columns) {
    for (const std::string& text : column.text) {
      if (std::string reason = filter(text); !reason.empty()) return reason;
    }
  }
  return {};
}

std::string filter_reason(const ContentFilter& filter, const Episode& episode) {
  for (const auto* columns : {&episode.observation, &episode.action, &episode.label}) {
    if (std::string reason = filter_reason(filter, *columns); !reason.empty()) return reason;
  }
  return {};
}

}  // namespace

RecordReader::RecordReader(const ForeignFormat& format, std::vector<ImportUnit> units, ImportPosition from,
                           int64_t records_before, int64_t limit)
    : format_(format),
      units_(std::move(units)),
      position_{from.unit, 0, 0},
      records_to_skip_(from.record),
      records_(records_before),
      limit_(limit) {
  for (size_t i = 0; i < from.unit && i < units_.size(); ++i) bytes_before_unit_ += units_[i].bytes;
}

void RecordReader::skip_to_start() {
  RawRecord record;
  for (; records_to_skip_ > 0; --records_to_skip_) {
    throw_if_stopped("passing over the records that were imported before");
    if (!stream_->next(record)) {
      throw DataError(cat(units_[position_.unit].name,
                          ": has fewer records than when this import began; the source was changed: remove the "
                          "imported folder and import anew"));
    }
    ++position_.record;
  }
}

bool RecordReader::next(ImportItem& item) {
  if (limit_ > 0 && records_ >= limit_) return false;
  while (position_.unit < units_.size()) {
    if (!stream_) {
      stream_ = format_.open(position_.unit);
      skip_to_start();
    }
    if (stream_->next(item.raw)) {
      item.position = position_;
      ++position_.record;
      ++records_;
      return true;
    }
    stream_.reset();
    bytes_before_unit_ += units_[position_.unit].bytes;
    position_ = {position_.unit + 1, 0, 0};
  }
  return false;
}

bool RecordReader::read(ImportBatch& batch) {
  batch = {};
  if (ended_) return false;
  try {
    for (size_t bytes = 0; batch.items.size() < kBatchRecords && bytes < kBatchBytes;) {
      ImportItem item;
      if (!next(item)) {
        ended_ = true;
        break;
      }
      bytes += bytes_of(item.raw);
      batch.items.push_back(std::move(item));
    }
  } catch (...) {
    batch.failure = std::current_exception();
    ended_ = true;
  }
  batch.bytes_read = bytes_before_unit_ + (stream_ ? stream_->position() : 0);
  return !batch.items.empty() || batch.failure;
}

void parse_item(const ForeignFormat& format, const ContentFilter& filter, ImportItem& item) {
  try {
    item.parsed = format.parse(item.raw);
    item.raw.parts.clear();
    item.raw.parts.shrink_to_fit();
    for (ParsedRecord::Part& part : item.parsed.episodes) {
      GATO_CHECK(part.task >= 0 && static_cast<size_t>(part.task) < format.tasks().size(), "task ", part.task, " of ",
                 format.tasks().size());
      const TaskSpec& task = format.tasks()[static_cast<size_t>(part.task)];
      prepare_encoded_images(task, part.episode);
      check_episode(task, part.episode);
      item.filtered.push_back(filter ? filter_reason(filter, part.episode) : std::string());
    }
  } catch (const DataError& error) {
    item.damage = error.what();
  } catch (...) {
    item.failure = std::current_exception();
  }
}

}  // namespace gato::episode
