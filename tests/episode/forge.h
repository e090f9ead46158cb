#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// Column files with right checksums and wrong content, made from good ones without the module's own code: what a
/// hostile writer could send. docs/formats/shard.md.
namespace gato::episode::forge {

/// One field of a protocol buffer message: a varint or bytes (other wire types as their raw bytes).
struct WireField {
  uint32_t number = 0;
  uint32_t type = 0;  // 0 varint, 1 fixed 64 bits, 2 bytes, 5 fixed 32 bits
  uint64_t varint = 0;
  std::string bytes;
};
using Message = std::vector<WireField>;

inline void put_varint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(static_cast<unsigned char>(value | 0x80));
  to += static_cast<char>(static_cast<unsigned char>(value));
}

inline uint64_t get_varint(std::string_view& from) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (from.empty()) throw std::runtime_error("varint ends early");
    const auto byte = static_cast<unsigned char>(from[0]);
    from.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  throw std::runtime_error("varint too long");
}

inline Message parse(std::string_view from) {
  Message message;
  const auto take = [&](uint64_t size) {
    if (size > from.size()) throw std::runtime_error("field ends early");
    const std::string bytes(from.substr(0, size));
    from.remove_prefix(size);
    return bytes;
  };
  while (!from.empty()) {
    const uint64_t tag = get_varint(from);
    WireField field{static_cast<uint32_t>(tag >> 3), static_cast<uint32_t>(tag & 7), 0, ""};
    if (field.type == 0) field.varint = get_varint(from);
    if (field.type == 1) field.bytes = take(8);
    if (field.type == 2) field.bytes = take(get_varint(from));
    if (field.type == 5) field.bytes = take(4);
    message.push_back(field);
  }
  return message;
}

inline std::string serialize(const Message& message) {
  std::string to;
  for (const WireField& field : message) {
    put_varint(to, uint64_t{field.number} << 3 | field.type);
    if (field.type == 0) {
      put_varint(to, field.varint);
    } else {
      if (field.type == 2) put_varint(to, field.bytes.size());
      to += field.bytes;
    }
  }
  return to;
}

/// Sets a number, wherever it stood.
inline void set(Message& message, uint32_t number, uint64_t value) {
  std::erase_if(message, [&](const WireField& field) { return field.number == number; });
  message.push_back({number, 0, value, ""});
}

inline void set(Message& message, uint32_t number, const std::string& value) {
  std::erase_if(message, [&](const WireField& field) { return field.number == number; });
  message.push_back({number, 2, 0, value});
}

inline uint64_t number_of(const Message& message, uint32_t number) {
  for (const WireField& field : message) {
    if (field.number == number) return field.varint;
  }
  return 0;
}

/// Applies `edit` to the index-th submessage `number`.
inline void edit(Message& message, uint32_t number, size_t index, const std::function<void(Message&)>& change) {
  for (WireField& field : message) {
    if (field.number != number || index-- != 0) continue;
    Message inner = parse(field.bytes);
    change(inner);
    field.bytes = serialize(inner);
    return;
  }
  throw std::runtime_error("no such submessage");
}

template <class T>
T load(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.substr(offset, sizeof(T)).data(), sizeof(T));
  return value;
}

template <class T>
void store(std::string& bytes, size_t offset, T value) {
  bytes.replace(offset, sizeof(T), std::string(reinterpret_cast<const char*>(&value), sizeof(T)));
}

/// A column file taken apart.
struct Parts {
  std::string payload;  // Header and columns.
  Message footer;
};

constexpr size_t kTrailerBytes = 32;

inline Parts take_apart(const std::string& file) {
  const size_t trailer = file.size() - kTrailerBytes;
  const size_t footer = trailer - load<uint64_t>(file, trailer);
  return {file.substr(0, footer), parse(std::string_view(file).substr(footer, trailer - footer))};
}

/// The file of `parts`, with the checksums that it should have, unless `keep_crcs`.
inline std::string put_together(Parts parts, bool keep_crcs = false) {
  std::string crcs;
  for (size_t begin = 0; begin < parts.payload.size(); begin += 65536) {
    const uint32_t crc = crc32c(std::string_view(parts.payload).substr(begin, 65536));
    crcs.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
  }
  if (!keep_crcs) {
    set(parts.footer, 3, crcs);
    set(parts.footer, 1, parts.payload.size());
  }
  const std::string footer = serialize(parts.footer);
  std::string trailer(kTrailerBytes, '\0');
  store<uint64_t>(trailer, 0, footer.size());
  store<uint64_t>(trailer, 8, parts.payload.size() + footer.size() + kTrailerBytes);
  store<uint32_t>(trailer, 16, crc32c(footer));
  store<uint32_t>(trailer, 20, crc32c(std::string_view(trailer).substr(0, 20)));
  trailer.replace(24, 8, "GATOEND\n");
  return parts.payload + footer + trailer;
}

}  // namespace gato::episode::forge
