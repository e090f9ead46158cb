#include "gato/checkpoint/manifest.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoint/checksums.h"
#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"

namespace gato::checkpoint {
namespace {

constexpr std::string_view kFormat = "gato-checkpoint";
constexpr int64_t kVersion = 1;
constexpr size_t kDigestDigits = 32;
constexpr size_t kMaxFileNameBytes = 512;
constexpr std::string_view kChecksumKey = "manifest_crc32c";

/// The end of a manifest whose text before it has the checksum `crc`.
std::string tail_of(uint32_t crc) {
  std::array<char, 16> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x", crc);
  return cat(" \"", kChecksumKey, "\": \"", digits.data(), "\"\n}\n");
}

std::string entry_text(const FileEntry& file) {
  std::vector<std::string> checksums;
  checksums.reserve(file.crc32c.size());
  for (const uint32_t crc : file.crc32c) checksums.push_back(std::to_string(crc));
  return cat("  {\"name\": ", Json(file.name).dump(), ", \"size\": ", file.size, ", \"xxh3_128\": \"", file.xxh3_128,
             "\", \"crc32c\": [", join(checksums, ","), "]}");
}

bool is_digest(std::string_view text) {
  return text.size() == kDigestDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::vector<uint32_t> parse_checksums(JsonFields& fields, uint64_t size) {
  const Json& list = fields.array("crc32c");
  if (list.size() != num_chunks(size)) {
    fields.fail("crc32c", cat(list.size(), " checksums for ", num_chunks(size), " chunks"));
  }
  std::vector<uint32_t> checksums;
  checksums.reserve(list.size());
  for (const Json& value : list) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT32_MAX) {
      fields.fail("crc32c", "expected whole numbers of 32 bits");
    }
    checksums.push_back(value.get<uint32_t>());
  }
  return checksums;
}

FileEntry parse_entry(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  FileEntry file;
  file.name = fields.text("name");
  if (!is_valid_file_name(file.name)) {
    fields.fail("name", "a path that is relative, without \"..\" and below the checkpoint is expected");
  }
  file.size = fields.unsigned_integer("size");
  file.xxh3_128 = fields.text("xxh3_128");
  if (!is_digest(file.xxh3_128)) fields.fail("xxh3_128", "expected 32 lower-case hex digits");
  file.crc32c = parse_checksums(fields, file.size);
  fields.finish();
  return file;
}

std::map<std::string, std::string> parse_facts(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  std::map<std::string, std::string> facts;
  for (const auto& entry : json.items()) facts[entry.key()] = fields.text(entry.key());
  return facts;
}

Manifest parse_fields(const Json& json, const std::string& origin) {
  JsonFields fields(json, origin);
  if (fields.text("format") != kFormat) fields.fail("format", cat("expected \"", kFormat, "\""));
  const int64_t version = fields.integer("version", 1);
  if (version != kVersion) {
    fields.fail("version", cat("version ", version, " is not known to this program, which reads version ", kVersion,
                               "; use a newer one"));
  }
  if (fields.unsigned_integer("chunk_bytes") != kChunkBytes) fields.fail("chunk_bytes", cat("expected ", kChunkBytes));
  Manifest manifest;
  manifest.step = fields.integer("step", 0);
  manifest.time = fields.number("time");
  manifest.facts = parse_facts(fields.object("facts"), cat(origin, ": facts"));
  for (const Json& entry : fields.array("files")) {
    FileEntry file = parse_entry(entry, cat(origin, ": files[", manifest.files.size(), "]"));
    if (!manifest.files.empty() && !(manifest.files.back().name < file.name)) {
      fields.fail("files", cat("\"", file.name, "\" is listed twice or out of order"));
    }
    manifest.files.push_back(std::move(file));
  }
  static_cast<void>(fields.text(kChecksumKey));
  fields.finish();
  return manifest;
}

/// Compares the checksum line with the text before it.
void check_own_checksum(std::string_view text, const std::string& origin) {
  const size_t tail_bytes = tail_of(0).size();
  if (text.size() < tail_bytes) {
    throw CheckpointError(cat(origin, ": the manifest ends at offset ", text.size(), ": it was cut short"));
  }
  const std::string_view body = text.substr(0, text.size() - tail_bytes);
  if (text.substr(body.size()) != tail_of(crc32c(body))) {
    throw CheckpointError(cat(origin, ": the manifest of ", text.size(),
                              " bytes is damaged or was cut short: its checksum at offset ", body.size(), " differs"));
  }
}

constexpr int kMaxDepth = 4;

}  // namespace

std::string entries_to_text(const std::vector<FileEntry>& entries) {
  std::vector<std::string> texts;
  for (const FileEntry& entry : entries) texts.push_back(std::string(trim(entry_text(entry))));
  return "[" + join(texts, ", ") + "]";
}

std::vector<FileEntry> parse_entries(std::string_view text, const std::string& origin) {
  try {
    const Json json = parse_json(text, origin, {.max_bytes = kMaxManifestBytes, .max_depth = kMaxDepth});
    if (!json.is_array()) throw DataError(cat(origin, ": a list of files is expected"));
    std::vector<FileEntry> entries;
    for (const Json& entry : json) entries.push_back(parse_entry(entry, cat(origin, ": [", entries.size(), "]")));
    return entries;
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

const FileEntry* Manifest::find(std::string_view name) const {
  const auto found =
      std::lower_bound(files.begin(), files.end(), name,
                       [](const FileEntry& file, std::string_view wanted) { return file.name < wanted; });
  return found != files.end() && found->name == name ? &*found : nullptr;
}

bool is_valid_file_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxFileNameBytes || name == kManifestName || !is_valid_utf8(name)) return false;
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(name.begin(), name.end(), is_control)) return false;
  const std::vector<std::string> parts = split(name, '/');
  return std::none_of(parts.begin(), parts.end(),
                      [](const std::string& part) { return part.empty() || part == "." || part == ".."; });
}

std::string to_text(const Manifest& manifest) {
  std::vector<std::string> entries;
  entries.reserve(manifest.files.size());
  for (const FileEntry& file : manifest.files) entries.push_back(entry_text(file));
  const std::string body =
      cat("{\n \"format\": \"", kFormat, "\",\n \"version\": ", kVersion, ",\n \"step\": ", manifest.step,
          ",\n \"time\": ", Json(manifest.time).dump(), ",\n \"chunk_bytes\": ", kChunkBytes,
          ",\n \"facts\": ", Json(manifest.facts).dump(), ",\n \"files\": [\n", join(entries, ",\n"), "\n ],\n");
  return body + tail_of(crc32c(body));
}

Manifest parse_manifest(std::string_view text, const std::string& origin) {
  check_own_checksum(text, origin);
  try {
    return parse_fields(parse_json(text, origin, {.max_bytes = kMaxManifestBytes, .max_depth = kMaxDepth}), origin);
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

}  // namespace gato::checkpoint
