#include "gato/run/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <limits>
#include <string_view>
#include <system_error>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "run/clock.h"
#include "run/event_file.h"

namespace gato::run {
namespace {

// Wire types and field numbers of tensorflow/core/util/event.proto and tensorflow/core/framework/summary.proto.
constexpr int kVarint = 0;
constexpr int kFixed64 = 1;
constexpr int kBytes = 2;
constexpr int kFixed32 = 5;
constexpr int kEventWallTime = 1;
constexpr int kEventStep = 2;
constexpr int kEventFileVersion = 3;
constexpr int kEventSummary = 5;
constexpr int kEventSessionLog = 7;
constexpr int kSessionLogStatus = 1;
constexpr int kSessionLogStart = 1;
constexpr int kSummaryValue = 1;
constexpr int kValueTag = 1;
constexpr int kValueSimple = 2;

/// Appends fields in the encoding of Protocol Buffers.
class Message {
 public:
  Message& varint(int field, uint64_t value) {
    key(field, kVarint);
    put_varint(value);
    return *this;
  }
  Message& fixed64(int field, double value) {
    key(field, kFixed64);
    bytes_ += little_endian(std::bit_cast<uint64_t>(value), 8);
    return *this;
  }
  Message& fixed32(int field, float value) {
    key(field, kFixed32);
    bytes_ += little_endian(std::bit_cast<uint32_t>(value), 4);
    return *this;
  }
  Message& bytes(int field, std::string_view value) {
    key(field, kBytes);
    put_varint(value.size());
    bytes_.append(value);
    return *this;
  }
  [[nodiscard]] const std::string& text() const { return bytes_; }

 private:
  void key(int field, int type) { put_varint(static_cast<uint64_t>(field << 3 | type)); }
  void put_varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7f) | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "host";
  return name.data();
}

[[noreturn]] void throw_io(const Path& path, std::string_view action, int error_number) {
  throw IoError(cat(path.string(), ": cannot ", action, ": ", std::generic_category().message(error_number),
                    "; check free space and permissions, or turn TensorBoard files off"),
                error_number);
}

/// Numbers that a float cannot hold become infinite, as TensorBoard shows them.
float to_float(double value) {
  if (std::isfinite(value) && std::abs(value) > static_cast<double>(std::numeric_limits<float>::max())) {
    value = std::copysign(std::numeric_limits<double>::infinity(), value);
  }
  return static_cast<float>(value);
}

}  // namespace

std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string tfrecord(std::string_view data) {
  const std::string length = little_endian(data.size(), 8);
  std::string record = length + little_endian(masked_crc32c(length), 4);
  record.append(data);
  return record + little_endian(masked_crc32c(data), 4);
}

std::string version_event(double time) {
  return Message().fixed64(kEventWallTime, time).bytes(kEventFileVersion, "brain.Event:2").text();
}

std::string start_event(double time, int64_t step) {
  const Message log = Message().varint(kSessionLogStatus, kSessionLogStart);
  return Message()
      .fixed64(kEventWallTime, time)
      .varint(kEventStep, static_cast<uint64_t>(step))
      .bytes(kEventSessionLog, log.text())
      .text();
}

std::string scalars_event(double time, int64_t step, const MetricValues& values) {
  Message summary;
  for (const auto& [name, value] : values) {
    summary.bytes(kSummaryValue, Message().bytes(kValueTag, name).fixed32(kValueSimple, to_float(value)).text());
  }
  return Message()
      .fixed64(kEventWallTime, time)
      .varint(kEventStep, static_cast<uint64_t>(step))
      .bytes(kEventSummary, summary.text())
      .text();
}

TensorBoardWriter::TensorBoardWriter(const Path& folder, int64_t attempt, int64_t resume_step) {
  GATO_CHECK(attempt >= 0 && resume_step >= 0, "attempt ", attempt, ", step ", resume_step);
  make_folders(folder);
  const double now = seconds_since_1970();
  const std::string name =
      cat("events.out.tfevents.", static_cast<int64_t>(now), ".", host_name(), ".", ::getpid(), ".", attempt);
  path_ = folder / name;
  // Two writers of one process in one second: the second takes the next free name.
  for (int number = 1;
       (descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666)) < 0; ++number) {
    if (errno != EEXIST) throw_io(path_, "make the file", errno);
    path_ = folder / cat(name, ".", number);
  }
  try {
    append(version_event(now));
    // TensorBoard drops what it has from the start event's step on; the point at the resume step itself stays true.
    append(start_event(now, resume_step == 0 ? 0 : resume_step + 1));
  } catch (const IoError&) {
    ::close(descriptor_);
    throw;
  }
}

TensorBoardWriter::~TensorBoardWriter() { ::close(descriptor_); }

void TensorBoardWriter::write(int64_t step, const MetricValues& values) {
  GATO_CHECK(step >= 0, "step ", step);
  if (!values.empty()) append(scalars_event(seconds_since_1970(), step, values));
}

void TensorBoardWriter::append(const std::string& event) {
  const std::string record = tfrecord(event);
  for (size_t done = 0; done < record.size();) {
    const ssize_t count = ::write(descriptor_, record.data() + done, record.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error_number = count < 0 ? errno : ENOSPC;
      static_cast<void>(::ftruncate(descriptor_, static_cast<off_t>(size_)) == 0);  // readers stall at a torn record
      throw_io(path_, "append an event", error_number);
    }
    done += static_cast<size_t>(count);
  }
  size_ += record.size();
}

}  // namespace gato::run
