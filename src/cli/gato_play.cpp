#include <torch/version.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/env/environment.h"
#include "gato/eval/evaluate.h"
#include "gato/eval/talk.h"
#include "gato/kernels/device.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::string checkpoint, device = "cpu", image, question, task, animation;
  eval::WritingOptions writing;
  uint64_t episode = 0;
  int threads = 0;
};

eval::Agent open_agent(const Arguments& arguments) {
  set_thread_budget(arguments.threads);
  return eval::Agent(eval::resolve_checkpoint(arguments.checkpoint), std::nullopt,
                     kernels::open_device(arguments.device));
}

episode::Image read_image(const std::string& path) {
  const std::string bytes = read_file(path, uint64_t{64} << 20);
  return episode::decode_image(std::as_bytes(std::span(bytes)), path);
}

int chat(const Arguments& arguments) {
  const eval::Agent agent = open_agent(arguments);
  eval::Conversation conversation(agent, arguments.writing);
  std::cerr << (conversation.task().empty() ? "The agent goes on writing after what you say"
                                            : cat("The agent answers as in ", conversation.task()))
            << "; an empty line or the end of input ends it.\n";
  std::string words;
  while (std::cerr << "> " && std::getline(std::cin, words) && !trim(words).empty()) {
    std::cout << conversation.say(words) << std::endl;  // at once: somebody waits for it
  }
  return kDone;
}

int caption(const Arguments& arguments) {
  const episode::Image image = read_image(arguments.image);
  const eval::Agent agent = open_agent(arguments);
  std::cout << eval::describe_image(agent, image, std::nullopt, arguments.task) << "\n";
  return kDone;
}

int ask(const Arguments& arguments) {
  const episode::Image image = read_image(arguments.image);
  const eval::Agent agent = open_agent(arguments);
  std::cout << eval::describe_image(agent, image, arguments.question, arguments.task) << "\n";
  return kDone;
}

int watch(const Arguments& arguments) {
  static_cast<void>(env::find_task(arguments.task));  // an unknown one is said before the model is loaded
  const eval::Agent agent = open_agent(arguments);
  const int64_t most_steps = env::make_environment(arguments.task)->spec().max_steps;
  const auto stride = static_cast<int>(std::max<int64_t>(1, most_steps / 200));
  const env::RolloutResult played = eval::watch_episode(agent, arguments.task, arguments.episode, stride);
  std::cout << arguments.task << ", seed " << played.seed << ": return " << played.episode_return << ", "
            << played.length << (played.length == 1 ? " step" : " steps");
  if (played.success) std::cout << (*played.success ? ", success" : ", no success");
  std::cout << "\n";
  if (!played.reference.empty()) {
    std::cout << "says: " << played.answer << "\nright: " << played.reference << "\n";
  }
  if (!played.failure.empty()) throw DataError(cat("the environment failed: ", played.failure));
  if (!arguments.animation.empty()) {
    eval::write_animation(arguments.animation, played.frames);
    std::cout << "animation: " << arguments.animation << "\n";
  }
  return kDone;
}

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--checkpoint", arguments.checkpoint, "Checkpoint folder, or run folder for its newest one")
      ->required();
  app.add_option("--device", arguments.device, "Where the model acts: auto, cpu, cuda or cuda:N")
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "0: all processors")->check(CLI::Range(0, 4096));
  app.fallthrough();
  app.require_subcommand(1);
}

using Verb = std::function<int()>;

Verb add_chat(CLI::App& app, const std::shared_ptr<Arguments>& arguments) {
  auto* verb = app.add_subcommand("chat", "Talk with the agent, a line at a time; or let it go on with a text");
  eval::WritingOptions& writing = arguments->writing;
  verb->add_option("--tokens", writing.most_tokens, "Longest answer")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_option("--temperature", writing.temperature, "Of what it goes on writing")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  verb->add_option("--top-p", writing.top_p, "Only the likeliest pieces that together have this probability")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str();
  verb->add_option("--seed", writing.seed, "Of the sampling");
  return [=] { return verb->parsed() ? chat(*arguments) : -1; };
}

Verb add_pictures(CLI::App& app, const std::shared_ptr<Arguments>& arguments) {
  auto* say = app.add_subcommand("caption", "What the agent says of a picture (PNG or JPEG)");
  auto* answer = app.add_subcommand("ask", "What the agent answers to a question about a picture");
  for (CLI::App* verb : {say, answer}) {
    verb->add_option("IMAGE", arguments->image, "PNG or JPEG file")->required()->check(CLI::ExistingFile);
    verb->add_option("--task", arguments->task, "As in this task it was trained on; default: the first that fits");
  }
  answer->add_option("QUESTION", arguments->question, "In the words of its training")->required();
  return [=] { return say->parsed() ? caption(*arguments) : answer->parsed() ? ask(*arguments) : -1; };
}

Verb add_watch(CLI::App& app, const std::shared_ptr<Arguments>& arguments) {
  auto* verb = app.add_subcommand("watch", "Play an episode of a task and say how it went");
  verb->add_option("TASK", arguments->task, "As gato-eval tasks lists them")->required();
  verb->add_option("--gif", arguments->animation, "File for an animation: .gif, or .mp4 where ffmpeg is in PATH");
  verb->add_option("--episode", arguments->episode, "Which one: the evaluation seed");
  return [=] { return verb->parsed() ? watch(*arguments) : -1; };
}

int program(int argc, char** argv) {
  std::vector<std::string> libraries = base_libraries();
  libraries.emplace_back("LibTorch " TORCH_VERSION);
  return run_program(argc, argv, "Uses a trained agent: chat, captions and answers about pictures, watching it act.",
                     libraries, [](CLI::App& app) -> std::function<int()> {
                       const auto arguments = std::make_shared<Arguments>();
                       add_options(app, *arguments);
                       const std::vector<Verb> verbs = {add_chat(app, arguments), add_pictures(app, arguments),
                                                        add_watch(app, arguments)};
                       return [verbs] {
                         for (const Verb& verb : verbs) {
                           if (const int code = verb(); code >= 0) return code;
                         }
                         return static_cast<int>(kUsage);
                       };
                     });
}

}  // namespace
}  // namespace gato::cli

int main(int argc, char** argv) { return gato::cli::program(argc, argv); }
