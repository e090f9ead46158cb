#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/episode/episode.h"

/// The messages of src/episode/stream.proto, taken apart without believing any count in them.
namespace gato::episode {

/// Which content a frame has: the numbers of the message Frame.
enum class FrameKind { kOther = 0, kHeader = 1, kEpisode = 2, kDropped = 3, kEnd = 4 };

/// A frame's content as bytes of the frame, and its checksum.
struct FrameView {
  FrameKind kind = FrameKind::kOther;  ///< kOther: a content that this version does not know.
  std::string_view content;
  std::optional<uint32_t> crc32;
};

/// Throws DataError (without a place) for what is no protobuf message, or has several contents.
[[nodiscard]] FrameView view_frame(std::string_view frame);

/// Throws DataError when the frame has a checksum and it is not that of the content.
void check_frame(const FrameView& frame);

/// What is needed of an episode to count it.
struct EpisodeHead {
  std::string id;
  uint64_t num_steps = 0;
};
[[nodiscard]] EpisodeHead read_episode_head(std::string_view content);  ///< Throws DataError (without a place).

/// The episode, images as encoded columns. Throws DataError (without a place) for what is no such message, for a task
/// that is not in `tasks`, for numbers of values that do not fit the task, and for more than 1 GiB in memory; nothing
/// is taken that the message's size does not pay for. Values are not checked: check_episode. `task` receives the index.
[[nodiscard]] Episode read_stream_episode(std::string_view content, const std::vector<TaskSpec>& tasks, int& task);

}  // namespace gato::episode
