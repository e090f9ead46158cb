#include "gato/eval/talk.h"

#include <algorithm>

#include "film.h"
#include "gato/core/error.h"
#include "gif.h"

namespace gato::eval {
namespace {

using episode::Modality;

int64_t fields_of(const std::vector<episode::FieldSpec>& fields, Modality modality) {
  return std::count_if(fields.begin(), fields.end(), [&](const auto& field) { return field.modality == modality; });
}

bool says_one_text(const episode::TaskSpec& task) {
  return task.action.size() == 1 && task.action[0].modality == Modality::kText;
}

bool is_dialogue(const episode::TaskSpec& task) {
  return says_one_text(task) && task.observation.size() == 1 && task.observation[0].modality == Modality::kText &&
         task.max_steps != 1;
}

/// Tasks that have a picture, a text as their action, and a question or not.
bool describes(const episode::TaskSpec& task, bool with_question) {
  const auto fields = static_cast<int64_t>(task.observation.size());
  return says_one_text(task) && fields_of(task.observation, Modality::kImage) == 1 &&
         fields_of(task.observation, Modality::kText) == (with_question ? 1 : 0) && fields == (with_question ? 2 : 1);
}

std::string all_tasks(const Agent& agent) {
  std::vector<std::string> ids;
  for (const auto& [id, task] : agent.trained_tasks()) ids.push_back(id);
  return join(ids, ", ");
}

const episode::TaskSpec& describing_task(const Agent& agent, bool with_question, const std::string& wanted) {
  for (const auto& [id, task] : agent.trained_tasks()) {
    if (describes(task, with_question) && (wanted.empty() || wanted == id)) return task;
  }
  throw ConfigError(cat(agent.path().string(), wanted.empty() ? "" : cat(": ", wanted), " was not trained to ",
                        with_question ? "answer about" : "caption", " pictures; its tasks are ", all_tasks(agent)));
}

/// `image` as the task sees pictures.
episode::Image as_seen(const episode::Image& image, const episode::FieldSpec& field) {
  const auto side = [](int64_t wanted, int32_t is) { return wanted > 0 ? static_cast<int32_t>(wanted) : is; };
  return episode::resize_image(image, side(field.shape.at(0), image.height), side(field.shape.at(1), image.width));
}

}  // namespace

Conversation::Conversation(const Agent& agent, const WritingOptions& options) : agent_(agent), options_(options) {
  if (agent.text() == nullptr) throw ConfigError(cat(agent.path().string(), " was trained without text"));
  for (const auto& [id, task] : agent.trained_tasks()) {
    if (!is_dialogue(task)) continue;
    task_ = id;
    PolicyOptions policy;
    policy.max_text_tokens = options.most_tokens;
    policy_ = make_model_policy(agent, task, 1, policy);
    policy_->begin_episode(0, options.seed);
    return;
  }
}

Conversation::~Conversation() = default;

std::string Conversation::say(const std::string& words) {
  if (policy_) {
    episode::StepValues observation(1);
    observation[0].text = words;
    return policy_->act(std::vector<int>{0}, {&observation, 1}).at(0).at(0).text;
  }
  said_ += (said_.empty() ? "" : "\n") + words;
  WritingOptions options = options_;
  options.seed = options_.seed + turns_++;
  const std::string answer = go_on_writing(agent_, said_, options);
  said_ += answer;
  return answer;
}

std::string describe_image(const Agent& agent, const episode::Image& image, const std::optional<std::string>& question,
                           const std::string& task) {
  const episode::TaskSpec& spec = describing_task(agent, question.has_value(), task);
  episode::StepValues observation;
  for (const episode::FieldSpec& field : spec.observation) {
    episode::FieldValue& value = observation.emplace_back();
    if (field.modality == Modality::kImage) {
      value.image = as_seen(image, field);
    } else {
      value.text = *question;
    }
  }
  const auto policy = make_model_policy(agent, spec, 1);
  policy->begin_episode(0, 0);
  return policy->act(std::vector<int>{0}, {&observation, 1}).at(0).at(0).text;
}

env::RolloutResult watch_episode(const Agent& agent, const std::string& task, uint64_t seed, int frame_stride) {
  const auto batch = env::make_environment_batch(task, 1);
  const auto policy = make_model_policy(agent, batch->spec(), 1);
  env::RolloutOptions options;
  options.seeds = {env::seed_for(env::SeedUse::kEvaluation, seed, task, 0)};
  options.record_frames = 1;
  options.frame_stride = frame_stride;
  return env::roll_out(*batch, *policy, options).at(0);
}

void write_animation(const Path& path, const std::vector<episode::Image>& frames) {
  if (frames.empty()) throw ConfigError("there are no pictures: this environment shows nothing");
  const int scale = std::max(1, 200 / std::max(1, std::max(frames[0].width, frames[0].height)));
  if (path.extension() != ".mp4") return write_file_atomic(path, encode_gif(frames, 7, scale, 100));
  if (!can_make_films())
    throw ConfigError("an MP4 needs the program ffmpeg, which is not in PATH; give a .gif instead");
  if (!write_film(path, frames, 14, scale)) throw DataError(cat(path.string(), " could not be made, see above"));
}

}  // namespace gato::eval
