#include "gato/data/quarantine.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"
#include "gato/core/text.h"

namespace gato::data {
namespace {

constexpr int64_t kSmallestBudget = 3;
constexpr size_t kLoggedEntries = 10;
constexpr uint64_t kMaxListBytes = uint64_t{256} << 20;

std::string line_of(const QuarantineEntry& entry) {
  Json json = Json::object();
  json["source"] = entry.source;
  json["shard"] = entry.shard;
  json["fingerprint"] = entry.fingerprint;
  json["episode"] = entry.episode;
  json["id"] = entry.id;
  json["offset"] = entry.offset ? Json(*entry.offset) : Json(nullptr);
  json["row"] = entry.row;
  json["message"] = entry.message;
  // Ids and messages may quote damaged bytes.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

QuarantineEntry entry_of(const std::string& line, const std::string& where) {
  const Json json = parse_json(line, where);
  JsonFields fields(json, where);
  QuarantineEntry entry;
  entry.source = fields.text("source");
  entry.shard = fields.text("shard");
  entry.fingerprint = fields.text("fingerprint");
  entry.episode = fields.integer("episode", 0);
  entry.id = fields.text("id");
  if (!fields.value("offset").is_null()) entry.offset = fields.unsigned_integer("offset");
  entry.row = fields.integer("row", 0);
  entry.message = fields.text("message");
  fields.finish();
  return entry;
}

}  // namespace

std::string to_lines(const std::vector<QuarantineEntry>& entries) {
  std::string text;
  for (const QuarantineEntry& entry : entries) text += line_of(entry) + "\n";
  return text;
}

std::vector<QuarantineEntry> parse_quarantine(const std::string& lines, const std::string& origin) {
  std::vector<QuarantineEntry> entries;
  size_t begin = 0;
  for (int64_t number = 1; begin < lines.size(); ++number) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    entries.push_back(entry_of(lines.substr(begin, end - begin), cat(origin, ":", number)));
    begin = end + 1;
  }
  return entries;
}

int64_t quarantine_budget(double share, int64_t episodes) {
  if (share <= 0) return 0;
  return std::max(kSmallestBudget, static_cast<int64_t>(std::floor(share * static_cast<double>(episodes))));
}

Quarantine::Quarantine(Path path, int64_t budget, bool writes)
    : path_(std::move(path)), budget_(budget), writes_(writes) {
  GATO_CHECK(budget_ >= 0, "budget ", budget_);
  if (!path_.empty()) load();
}

std::string Quarantine::place() const { return path_.empty() ? "the quarantine list" : path_.string(); }

void Quarantine::load() {
  std::error_code ignored;
  if (!std::filesystem::exists(path_, ignored)) return;
  const std::string text = read_file(path_, kMaxListBytes);
  size_t begin = 0;
  for (int64_t number = 1; begin < text.size(); ++number) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // A kill cut the last line short: its episode will be found again.
    QuarantineEntry entry = entry_of(text.substr(begin, end - begin), cat(path_.string(), ":", number));
    const auto [found, is_new] = entries_.try_emplace({entry.fingerprint, entry.episode}, entry);
    if (!is_new && entry.row < found->second.row) found->second = std::move(entry);
    begin = end + 1;
  }
  if (begin < text.size()) whole_bytes_ = begin;
  if (!entries_.empty()) version_.store(1, std::memory_order_release);
  check_budget(entries_.empty() ? "" : entries_.rbegin()->second.message);
}

void Quarantine::check_budget(const std::string& last_message) const {
  if (static_cast<int64_t>(entries_.size()) <= budget_) return;
  throw DataError(cat(place(), ": ", entries_.size(), " episodes cannot be read, data.quarantine_budget allows ",
                      budget_,
                      "; restore the damaged files (`gato-data verify` lists all damage) and remove the list, ",
                      "or raise the budget. Last: ", last_message));
}

bool Quarantine::holds(const std::string& fingerprint, int64_t episode, int64_t row) const {
  const std::shared_lock lock(mutex_);
  const auto found = entries_.find({fingerprint, episode});
  return found != entries_.end() && row >= found->second.row;
}

/// Only when something is added: those who merely read the list of a run at work must not write to it.
void Quarantine::cut_torn_line() {
  if (!whole_bytes_) return;
  std::error_code problem;
  std::filesystem::resize_file(path_, *whole_bytes_, problem);
  if (problem) {
    throw IoError(cat(path_.string(), ": cannot take off the last line, which is not whole: ", problem.message()),
                  problem.value());
  }
  whole_bytes_.reset();
}

bool Quarantine::add(const QuarantineEntry& entry) {
  const std::unique_lock lock(mutex_);
  if (!insert(entry)) return false;
  news_.push_back(entry);
  check_budget(entry.message);
  return true;
}

bool Quarantine::merge(const std::vector<QuarantineEntry>& found) {
  const std::unique_lock lock(mutex_);
  bool changed = false;
  for (const QuarantineEntry& entry : found) changed = insert(entry) || changed;
  if (changed) check_budget(found.back().message);
  return changed;
}

std::vector<QuarantineEntry> Quarantine::take_news() {
  const std::unique_lock lock(mutex_);
  return std::exchange(news_, {});
}

size_t Quarantine::num_news() const {
  const std::shared_lock lock(mutex_);
  return news_.size();
}

/// Whether it was new, or holds for an earlier row now. With the lock held.
bool Quarantine::insert(const QuarantineEntry& entry) {
  const auto [found, is_new] = entries_.try_emplace({entry.fingerprint, entry.episode}, entry);
  if (!is_new) {
    if (found->second.row <= entry.row) return false;
    found->second = entry;
  }
  // On disk before any row does without the episode.
  if (!path_.empty() && writes_) {
    cut_torn_line();
    append_line(path_, line_of(entry), true);
  }
  version_.fetch_add(1, std::memory_order_acq_rel);
  // One bad block of texts takes dozens of episodes with it: after some, the list tells enough.
  if (is_new && (entries_.size() <= kLoggedEntries || entries_.size() % 100 == 0)) {
    log::warning("data", "episode ", entry.id, " of ", entry.source, " is left out from row ", entry.row,
                 " on: ", entry.message, " (", entries_.size(), " of at most ", budget_, " in ", place(), ")");
  }
  return true;
}

std::vector<QuarantineEntry> Quarantine::entries() const {
  const std::shared_lock lock(mutex_);
  std::vector<QuarantineEntry> list;
  for (const auto& [key, entry] : entries_) list.push_back(entry);
  return list;
}

}  // namespace gato::data
