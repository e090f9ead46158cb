#include <utility>

#include "env/canvas.h"
#include "env/native.h"
#include "env/pictures/picture.h"
#include "env/snapshot.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/fields.h"

namespace gato::env {

namespace {

using pictures::Content;
using pictures::Question;

enum class Kind { kCaption, kQuestion };

TaskSpec make_spec(Kind kind, bool held_out) {
  TaskSpec spec;
  spec.id = cat("pictures/", kind == Kind::kCaption ? "caption" : "question", held_out ? "_heldout" : "");
  spec.description = kind == Kind::kCaption ? "Say what a picture shows: a coloured shape at one of nine places."
                                            : "Answer a question about a picture: its shape, the colour or the place.";
  if (held_out) spec.description += " Only combinations of colour, shape and place that no training picture shows.";
  spec.observation = {image_field("image", pictures::kPictureSide, pictures::kPictureSide)};
  if (kind == Kind::kQuestion) spec.observation.push_back(text_field("question"));
  spec.action = {text_field("text")};
  spec.scoring = episode::Scoring::kExactMatch;
  spec.max_steps = 1;
  return spec;
}

struct PictureState {
  uint64_t seed = 0;
  bool open = false;  // whether an answer is awaited
};

/// One picture per episode, answered with text in its only step.
class PictureEnvironment final : public Environment {
 public:
  PictureEnvironment(Kind kind, bool held_out) : spec_(make_spec(kind, held_out)), kind_(kind), held_out_(held_out) {}

  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }

  StepValues reset(uint64_t seed) override {
    state_ = {seed, true};
    return observe();
  }

  StepResult step(const StepValues& action) override {
    check_action(spec_, action);
    GATO_CHECK(state_.open, spec_.id, " was stepped before reset or after its end");
    StepResult result;
    result.success = action[0].text == answer();
    result.reward = *result.success ? 1.0 : 0.0;
    result.terminated = true;
    state_.open = false;
    return result;
  }

  [[nodiscard]] std::optional<std::string> reference_answer() const override {
    if (!state_.open) return std::nullopt;
    return answer();
  }

  std::optional<Image> frame() override {
    constexpr int kScale = 8, kCaption = 24, kSide = pictures::kPictureSide * kScale;
    const bool asks = kind_ == Kind::kQuestion;
    Canvas canvas(kSide, kSide + (asks ? kCaption : 0), {250, 250, 250});
    if (asks) canvas.text(4, 4, pictures::question_text(question()), {40, 44, 52}, 2);
    canvas.enlarged(0, asks ? kCaption : 0, picture(), kScale);
    return std::move(canvas).take();
  }

  [[nodiscard]] std::optional<std::string> snapshot() const override { return pack_snapshot(spec_.id, state_); }
  void restore(const std::string& snapshot) override { state_ = unpack_snapshot<PictureState>(spec_.id, snapshot); }

 private:
  [[nodiscard]] Content content() const { return pictures::draw_content(state_.seed, held_out_); }
  [[nodiscard]] Question question() const { return pictures::draw_question(state_.seed); }
  [[nodiscard]] Image picture() const { return pictures::draw_picture(content(), state_.seed); }

  [[nodiscard]] std::string answer() const {
    return kind_ == Kind::kCaption ? pictures::caption_of(content()) : pictures::answer_to(question(), content());
  }

  [[nodiscard]] StepValues observe() const {
    StepValues observation(spec_.observation.size());
    observation[0].image = picture();
    if (kind_ == Kind::kQuestion) observation[1].text = pictures::question_text(question());
    return observation;
  }

  TaskSpec spec_;
  Kind kind_;
  bool held_out_;
  PictureState state_;
};

TaskEntry make_entry(Kind kind, bool held_out) {
  TaskEntry entry;
  entry.id = make_spec(kind, held_out).id;
  entry.make = [=] { return std::make_unique<PictureEnvironment>(kind, held_out); };
  entry.make_expert = make_answering_expert;
  return entry;
}

}  // namespace

std::vector<TaskEntry> picture_tasks() {
  std::vector<TaskEntry> tasks;
  for (const Kind kind : {Kind::kCaption, Kind::kQuestion}) {
    for (const bool held_out : {false, true}) tasks.push_back(make_entry(kind, held_out));
  }
  return tasks;
}

}  // namespace gato::env
