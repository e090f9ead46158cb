#include "env/remote/frame.h"
#include "env/remote/messages.h"
#include "env/remote/values.h"
#include "gato/env/fields.h"
#include "gato/env/remote.h"

namespace gato::env {

namespace {

using namespace remote;

TaskSpec small_task() {
  TaskSpec spec;
  spec.id = "test/small";
  spec.observation = {text_field("words"), image_field("picture", 2, 2), discrete_field("cells", 5, {3}),
                      continuous_field("state", 2, -1, 1)};
  spec.action = {discrete_field("button", 4), continuous_field("push", 2, -1, 1)};
  return spec;
}

/// The values of an answer, read for as many slots as its first column may mean.
void read_values(const std::vector<episode::FieldSpec>& fields, const Columns& columns) {
  constexpr size_t kMostSlots = 3;
  for (size_t count = 1; count <= kMostSlots; ++count) {
    try {
      for (const StepValues& values : unpack(fields, columns, count)) static_cast<void>(problem_with(fields, values));
    } catch (const DataError&) {  // another count may fit
    }
  }
}

void read_answer(const TaskSpec& spec, const Reply& reply) {
  if (const auto* observations = std::get_if<Observations>(&reply))
    read_values(spec.observation, observations->columns);
  if (const auto* actions = std::get_if<Actions>(&reply)) read_values(spec.action, actions->columns);
  if (const auto* steps = std::get_if<Steps>(&reply)) {
    try {
      static_cast<void>(read_results(spec, *steps, steps->reward.size()));
    } catch (const DataError&) {
    }
  }
}

}  // namespace

size_t read_worker_bytes(std::string_view bytes) {
  static const TaskSpec spec = small_task();
  FrameReader reader(FrameType::kReply);
  size_t answers = 0;
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, 1 + bytes.size() / 2);  // as it might come
    reader.append(piece);
    bytes.remove_prefix(piece.size());
    while (const auto body = reader.next()) {
      read_answer(spec, parse_reply(*body));
      ++answers;
    }
  }
  return answers;
}

}  // namespace gato::env
