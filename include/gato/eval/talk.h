#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "gato/episode/image.h"
#include "gato/eval/agent.h"

/// An agent used by a person: writing, chatting, captions and answers about pictures, one episode of a task.
namespace gato::eval {

/// How texts are written: sampled, since the likeliest words alone soon go in circles.
struct WritingOptions {
  double temperature = 0.8;  ///< > 0.
  double top_p = 0.95;       ///< In (0, 1].
  int64_t most_tokens = 96;  ///< > 0; a row's room may end it earlier.
  uint64_t seed = 0;
};

/// How the agent goes on with a text: `begin` (not empty) and then as many tokens as asked, or to its own end. Of a
/// beginning that is longer than half a row the end is seen. ConfigError for agents without text and for an empty
/// beginning, DataError for invalid UTF-8.
[[nodiscard]] std::string go_on_writing(const Agent& agent, const std::string& begin, const WritingOptions& options);

/// A conversation. An agent that was trained on dialogues answers as there, with all that was said as its context;
/// another one goes on writing after what was said. The agent must outlive it. One thread.
class Conversation {
 public:
  /// ConfigError for agents without text.
  Conversation(const Agent& agent, const WritingOptions& options);
  ~Conversation();

  /// The task of dialogues it answers by; "" for one that goes on writing.
  [[nodiscard]] const std::string& task() const { return task_; }
  /// Says something (not empty) and returns the answer. DataError for invalid UTF-8.
  [[nodiscard]] std::string say(const std::string& words);

 private:
  const Agent& agent_;
  WritingOptions options_;
  std::string task_, said_;
  std::unique_ptr<env::Policy> policy_;
  uint64_t turns_ = 0;
};

/// What the agent says of a picture, or answers to a question about it, by the task it was trained on that has a
/// picture (and a question) and a text as its action: `task`, or the first by name. The picture is brought to the size
/// of that task. ConfigError naming the tasks there are when none fits.
[[nodiscard]] std::string describe_image(const Agent& agent, const episode::Image& image,
                                         const std::optional<std::string>& question, const std::string& task = "");

/// One episode of a task with a frame of every `frame_stride`-th step. ConfigError for unknown tasks.
[[nodiscard]] env::RolloutResult watch_episode(const Agent& agent, const std::string& task, uint64_t seed,
                                               int frame_stride = 1);

/// Frames as a GIF of about 200 pixels, or an MP4 where the name ends in ".mp4" (by the program ffmpeg). ConfigError
/// where there is no frame, or no ffmpeg.
void write_animation(const Path& path, const std::vector<episode::Image>& frames);

}  // namespace gato::eval
