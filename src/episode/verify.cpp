#include <system_error>

#include "episode/column_file.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/inspect.h"

namespace gato::episode {
namespace {

/// What is wrong with an episode's values, "" when nothing is.
std::string problem_of_episode(const ShardReader& shard, int64_t episode) {
  const TaskSpec& task = shard.tasks()[shard.index()[static_cast<size_t>(episode)].task];
  try {
    check_episode(task, shard.read(episode));
  } catch (const DataError& error) {
    const std::string file = shard.path().string(), message = error.what();
    return message.starts_with(file) ? message : cat(file, ": ", message);
  }
  return "";
}

std::vector<std::string> messages_of(const std::vector<ShardDamage>& damages) {
  std::vector<std::string> messages;
  for (const ShardDamage& damage : damages) messages.push_back(damage.message);
  return messages;
}

/// Damages of a file that does not open: all its damaged blocks where the footer is whole, else the reason.
std::vector<std::string> verify_unopened(const Path& path, FileKind kind, const DataError& reason) {
  std::vector<std::string> messages;
  try {
    for (const DamagedBlock& block : ColumnFile(path, kind).damaged_blocks()) messages.push_back(block.message);
  } catch (const DataError&) {
    // The same reason again.
  }
  if (messages.empty()) messages.push_back(reason.what());
  return messages;
}

std::vector<std::string> verify_shard(const Path& path, const VerifyOptions& options, std::string& fingerprint) {
  try {
    const ShardReader shard(path);
    fingerprint = shard.fingerprint();
    std::vector<std::string> messages = messages_of(shard.verify());
    if (!messages.empty() || !options.contents) return messages;
    for (int64_t i = 0; i < static_cast<int64_t>(shard.index().size()); ++i) {
      if (std::string message = problem_of_episode(shard, i); !message.empty()) messages.push_back(std::move(message));
    }
    return messages;
  } catch (const DataError& error) {
    return verify_unopened(path, FileKind::kShard, error);
  }
}

std::vector<std::string> verify_tokens(const Path& path, const std::string& shard_fingerprint) {
  try {
    const TokenColumnsReader tokens(path);
    std::vector<std::string> messages = messages_of(tokens.verify());
    if (messages.empty() && !shard_fingerprint.empty() && tokens.shard_fingerprint() != shard_fingerprint) {
      messages.push_back(cat(path.string(),
                             ": these token columns were made for another version of the shard, which now has ",
                             "the fingerprint ", shard_fingerprint, "; make them again with gato-data tokenize"));
    }
    return messages;
  } catch (const DataError& error) {
    return verify_unopened(path, FileKind::kTokenColumns, error);
  }
}

}  // namespace

std::vector<std::string> verify_files(const Path& shard, const VerifyOptions& options) {
  std::string fingerprint;
  std::vector<std::string> messages = verify_shard(shard, options, fingerprint);
  const Path tokens = token_columns_path(shard);
  std::error_code ignored;
  if (std::filesystem::exists(tokens, ignored)) {
    for (std::string& message : verify_tokens(tokens, fingerprint)) messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace gato::episode
