#include "episode/import/stream_episode.h"

#include <google/protobuf/io/coded_stream.h>
#include <zlib.h>

#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "episode/group.h"
#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

using google::protobuf::io::CodedInputStream;

constexpr uint64_t kMaxDecodedBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxSteps = std::numeric_limits<int32_t>::max();

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

template <class... Args>
[[noreturn]] void fail(const Args&... problem) {
  throw DataError(cat(problem...));
}

/// One field of a message after the other.
class FieldWalker {
 public:
  explicit FieldWalker(std::string_view message)
      : message_(message),
        stream_(reinterpret_cast<const uint8_t*>(message.data()), static_cast<int>(message.size())) {}

  /// The next field's number and wire type; false at the end.
  bool next() {
    if (stream_.CurrentPosition() == static_cast<int>(message_.size())) return false;
    const uint32_t tag = stream_.ReadTag();
    number_ = tag >> 3;
    type_ = tag & 7u;
    if (number_ == 0) broken();
    return true;
  }
  [[nodiscard]] uint32_t number() const { return number_; }
  [[nodiscard]] uint32_t type() const { return type_; }
  [[nodiscard]] bool is(uint32_t number, WireType type) const { return number_ == number && type_ == type; }
  [[nodiscard]] bool at_end() const { return stream_.CurrentPosition() == static_cast<int>(message_.size()); }

  uint64_t varint() {
    uint64_t value = 0;
    if (!stream_.ReadVarint64(&value)) broken();
    return value;
  }
  uint32_t fixed32() {
    uint32_t value = 0;
    if (!stream_.ReadLittleEndian32(&value)) broken();
    return value;
  }
  std::string_view bytes() {
    const uint64_t size = varint();
    const auto begin = static_cast<size_t>(stream_.CurrentPosition());
    if (size > message_.size() - begin || !stream_.Skip(static_cast<int>(size))) broken();
    return message_.substr(begin, static_cast<size_t>(size));
  }
  void skip() {
    uint64_t eight = 0;
    switch (type_) {
      case kVarint:
        static_cast<void>(varint());
        return;
      case kFixed64:
        if (!stream_.ReadLittleEndian64(&eight)) broken();
        return;
      case kBytes:
        static_cast<void>(bytes());
        return;
      case kFixed32:
        static_cast<void>(fixed32());
        return;
      default:
        broken();
    }
  }

 private:
  [[noreturn]] void broken() {
    fail("no valid message: damaged near its byte ", stream_.CurrentPosition(), " of ", message_.size());
  }

  std::string_view message_;
  CodedInputStream stream_;
  uint32_t number_ = 0, type_ = 0;
};

/// Packed or single floats, up to `max` in all.
void read_floats(FieldWalker& walker, uint64_t max, std::vector<float>& to) {
  if (walker.type() == kFixed32) {
    if (to.size() >= max) fail("more than ", max, " numbers where that many are expected");
    to.push_back(std::bit_cast<float>(walker.fixed32()));
    return;
  }
  const std::string_view packed = walker.bytes();
  if (packed.size() % 4 != 0) fail("packed floats of ", packed.size(), " bytes, not a multiple of 4");
  const size_t count = packed.size() / 4, old = to.size();
  if (count > max - old) fail(old + count, " numbers where ", max, " are expected");
  if (count == 0) return;
  to.resize(old + count);
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(to.data() + old, packed.data(), packed.size());
}

void append_discrete(uint64_t value, uint64_t max, std::vector<int32_t>& to) {
  if (to.size() >= max) fail("more than ", max, " numbers where that many are expected");
  if (value > static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))
    fail("discrete value ", value, " is too large");
  to.push_back(static_cast<int32_t>(value));
}

void read_discrete(FieldWalker& walker, uint64_t max, std::vector<int32_t>& to) {
  if (walker.type() == kVarint) return append_discrete(walker.varint(), max, to);
  const std::string_view packed = walker.bytes();
  FieldWalker numbers(packed);
  while (!numbers.at_end()) append_discrete(numbers.varint(), max, to);
}

/// What the episode will take in memory beyond its message.
class Budget {
 public:
  void take(uint64_t bytes) {
    used_ += bytes;
    if (used_ > kMaxDecodedBytes) fail("the episode takes more than ", kMaxDecodedBytes, " bytes; cut it into parts");
  }

 private:
  uint64_t used_ = 0;
};

struct ColumnReader {
  const FieldSpec& field;
  uint64_t steps;
  Budget& budget;

  void append(std::string_view bytes, std::vector<std::string>& to) const {
    if (to.size() >= steps) fail("more than ", steps, " values for ", steps, " steps");
    budget.take(bytes.size() + sizeof(std::string));
    to.emplace_back(bytes);
  }

  /// How many numbers the column must have. They are bought with at least a byte of the message each.
  [[nodiscard]] uint64_t expected(std::string_view message) const {
    const auto elements = static_cast<uint64_t>(field.num_elements());
    if (steps > message.size() / elements) {
      fail("too few values: ", message.size(), " bytes for ", steps, " steps of ", elements, " values");
    }
    return steps * elements;
  }

  void read_numbers(std::string_view message, Column& column) const {
    const uint64_t count = expected(message);
    budget.take(4 * count);
    const bool continuous = field.modality == Modality::kContinuous;
    const uint32_t number = continuous ? 1 : 2;
    const WireType single = continuous ? kFixed32 : kVarint;
    if (continuous) {
      column.continuous.reserve(static_cast<size_t>(count));
    } else {
      column.discrete.reserve(static_cast<size_t>(count));
    }
    FieldWalker walker(message);
    while (walker.next()) {
      if (!walker.is(number, kBytes) && !walker.is(number, single)) {
        refuse_or_skip(walker);
      } else if (continuous) {
        read_floats(walker, count, column.continuous);
      } else {
        read_discrete(walker, count, column.discrete);
      }
    }
  }

  void read_pieces(std::string_view message, Column& column) const {
    const bool text = field.modality == Modality::kText;
    FieldWalker walker(message);
    while (walker.next()) {
      if (walker.is(text ? 3 : 4, kBytes)) {
        append(walker.bytes(), text ? column.text : column.encoded);
      } else {
        refuse_or_skip(walker);
      }
    }
  }

  /// Values of another modality are a mistake of the writer; numbers above 4 may be a later version's.
  void refuse_or_skip(FieldWalker& walker) const {
    constexpr std::string_view kMembers[] = {"", "continuous", "discrete", "text", "image"};
    if (walker.number() <= 4) {
      fail("holds '", kMembers[walker.number()], "', but the field is of modality ", modality_name(field.modality));
    }
    walker.skip();
  }

  [[nodiscard]] Column read(std::string_view message) const {
    Column column;
    if (field.modality == Modality::kContinuous || field.modality == Modality::kDiscrete) {
      read_numbers(message, column);
    } else {
      read_pieces(message, column);
    }
    return column;
  }
};

/// The parts of an Episode message, columns not yet read.
struct EpisodeParts {
  uint64_t task = 0;
  std::vector<std::string_view> columns[3];  ///< By Group.
};

constexpr size_t kMaxColumns = 256;  // As check_task_spec.

void read_scalar(FieldWalker& walker, Episode& episode, EpisodeParts& parts) {
  const uint64_t value = walker.varint();
  switch (walker.number()) {
    case 1:
      parts.task = value;
      return;
    case 4:
      episode.seed = value;
      return;
    case 5:
      if (value < 1 || value > kMaxSteps) fail("num_steps is ", value, ", must be in [1, ", kMaxSteps, "]");
      episode.num_steps = static_cast<int64_t>(value);
      return;
    case 10:
      episode.terminated = value != 0;
      return;
    case 11:
      episode.truncated = value != 0;
      return;
    case 12:
      episode.success = value != 0;
      return;
    default:
      return;
  }
}

void read_part(FieldWalker& walker, std::string_view message, Episode& episode, EpisodeParts& parts) {
  const uint32_t number = walker.number();
  if (number == 9 && (walker.type() == kBytes || walker.type() == kFixed32)) {
    read_floats(walker, message.size() / 4, episode.reward);  // How many there must be, check_episode knows.
  } else if (walker.type() == kVarint) {
    read_scalar(walker, episode, parts);
  } else if (walker.is(2, kBytes)) {
    episode.id = walker.bytes();
  } else if (walker.is(3, kBytes)) {
    episode.source_agent = walker.bytes();
  } else if (number >= 6 && number <= 8 && walker.type() == kBytes) {
    auto& columns = parts.columns[number - 6];
    if (columns.size() >= kMaxColumns) fail("more than ", kMaxColumns, " columns in a group");
    columns.push_back(walker.bytes());
  } else {
    walker.skip();
  }
}

std::vector<Column> read_columns(const TaskSpec& task, Group group, const std::vector<std::string_view>& messages,
                                 uint64_t steps, Budget& budget) {
  const std::vector<FieldSpec>& fields = fields_of(task, group);
  if (group == Group::kLabel && messages.empty()) return {};
  if (messages.size() != fields.size()) {
    fail("task '", task.id, "': ", messages.size(), " ", group_name(group), " columns, the task has ", fields.size(),
         " fields");
  }
  std::vector<Column> columns;
  for (size_t i = 0; i < fields.size(); ++i) {
    try {
      columns.push_back(ColumnReader{fields[i], steps, budget}.read(messages[i]));
    } catch (const DataError& error) {
      fail("task '", task.id, "', ", group_name(group), " field '", fields[i].name, "': ", error.what());
    }
  }
  return columns;
}

}  // namespace

FrameView view_frame(std::string_view frame) {
  FrameView view;
  bool found = false;
  FieldWalker walker(frame);
  while (walker.next()) {
    if (walker.is(5, kFixed32)) {
      view.crc32 = walker.fixed32();
    } else if (walker.number() >= 1 && walker.number() <= 4 && walker.type() == kBytes) {
      if (found) fail("a frame with two contents");
      found = true;
      view.kind = static_cast<FrameKind>(walker.number());
      view.content = walker.bytes();
    } else {
      walker.skip();
    }
  }
  return view;
}

void check_frame(const FrameView& frame) {
  if (!frame.crc32) return;
  const auto found =
      static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(frame.content.data()), frame.content.size()));
  if (found != *frame.crc32) {
    fail("damaged: its checksum is ", std::hex, found, ", written was ", *frame.crc32, "; make the stream again");
  }
}

EpisodeHead read_episode_head(std::string_view content) {
  EpisodeHead head;
  FieldWalker walker(content);
  while (walker.next()) {
    if (walker.is(2, kBytes)) {
      head.id = walker.bytes();
    } else if (walker.is(5, kVarint)) {
      head.num_steps = walker.varint();
    } else {
      walker.skip();
    }
  }
  return head;
}

Episode read_stream_episode(std::string_view content, const std::vector<TaskSpec>& tasks, int& task) {
  Episode episode;
  EpisodeParts parts;
  FieldWalker walker(content);
  while (walker.next()) read_part(walker, content, episode, parts);
  if (parts.task >= tasks.size()) {
    fail("task number ", parts.task, ", but the header has ", tasks.size(), " tasks, counted from 0");
  }
  if (episode.num_steps == 0) fail("num_steps is missing");
  task = static_cast<int>(parts.task);
  const TaskSpec& spec = tasks[static_cast<size_t>(task)];
  Budget budget;
  std::vector<Column>* const groups[] = {&episode.observation, &episode.action, &episode.label};
  for (const Group group : kGroups) {
    const auto index = static_cast<size_t>(group);
    *groups[index] = read_columns(spec, group, parts.columns[index], static_cast<uint64_t>(episode.num_steps), budget);
  }
  return episode;
}

}  // namespace gato::episode
