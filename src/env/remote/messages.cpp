#include "env/remote/messages.h"

#include <google/protobuf/stubs/logging.h>

#include "env/remote.pb.h"
#include "gato/core/error.h"

namespace gato::env::remote {

namespace {

constexpr int kMaxSlots = 4096;
constexpr int kMaxTasks = 10'000;
constexpr size_t kMaxPackages = 256, kMaxNameBytes = 256, kMaxMessageBytes = size_t{64} << 10;

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw DataError(cat("a message that makes no sense: ", parts...));
}

void check_text(const std::string& text, size_t most, const char* what) {
  if (text.size() > most) refuse(what, " of ", text.size(), " bytes");
}

template <class Repeated>
void check_count(const Repeated& items, int most, const char* what) {
  if (items.size() > most) refuse(items.size(), " ", what, "; at most ", most, " are allowed");
}

// ------------------------------------------------------------------------------------------------------------- to wire

void set_field(const episode::FieldSpec& field, wire::Field& out) {
  out.set_name(field.name);
  out.set_modality(static_cast<uint32_t>(field.modality));
  for (const int64_t size : field.shape) out.add_shape(size);
  out.set_num_values(field.num_values);
  for (const float bound : field.low) out.add_low(bound);
  for (const float bound : field.high) out.add_high(bound);
  out.set_unit(field.unit);
}

void set_task(const TaskOffer& task, wire::Task& out) {
  out.set_id(task.spec.id);
  out.set_description(task.spec.description);
  for (const auto& field : task.spec.observation) set_field(field, *out.add_observation());
  for (const auto& field : task.spec.action) set_field(field, *out.add_action());
  out.set_max_steps(static_cast<uint64_t>(task.spec.max_steps));
  out.set_partial_view(task.spec.partial_view);
  out.set_has_expert(task.has_expert);
}

template <class Repeated>
void set_columns(const Columns& columns, Repeated& out) {
  for (const Column& column : columns) {
    wire::Column& added = *out.Add();
    added.set_numbers(column.numbers);
    for (const std::string& text : column.text) added.add_text(text);
    added.set_pixels(column.pixels);
  }
}

template <class Repeated>
void set_failures(const std::vector<Failure>& failures, Repeated& out) {
  for (const Failure& failure : failures) {
    wire::Failure& added = *out.Add();
    added.set_index(failure.index);
    added.set_message(failure.message);
  }
}

template <class Message>
void set_slots(const std::vector<uint32_t>& slots, Message& out) {
  for (const uint32_t slot : slots) out.add_slots(slot);
}

void write(const Hello& from, wire::Request& request) {
  wire::Hello& out = *request.mutable_hello();
  out.set_protocol(from.protocol);
  out.set_family(from.family);
  out.set_memory_bytes(from.memory_bytes);
}
void write(const ListTasks&, wire::Request& request) { static_cast<void>(request.mutable_list_tasks()); }
void write(const Open& from, wire::Request& request) {
  request.mutable_open()->set_task(from.task);
  request.mutable_open()->set_slots(from.slots);
}
void write(const Reset& from, wire::Request& request) {
  wire::Reset& out = *request.mutable_reset();
  set_slots(from.slots, out);
  for (const uint64_t seed : from.seeds) out.add_seeds(seed);
}
void write(const Step& from, wire::Request& request) {
  wire::Step& out = *request.mutable_step();
  set_slots(from.slots, out);
  set_columns(from.actions, *out.mutable_actions());
}
void write(const Act& from, wire::Request& request) { set_slots(from.slots, *request.mutable_act()); }
void write(const Look& from, wire::Request& request) { request.mutable_look()->set_slot(from.slot); }
void write(const Close&, wire::Request& request) { static_cast<void>(request.mutable_close()); }

void write(const Refused& from, wire::Reply& reply) { reply.mutable_refused()->set_message(from.message); }
void write(const Welcome& from, wire::Reply& reply) {
  wire::Welcome& out = *reply.mutable_welcome();
  out.set_protocol(from.protocol);
  out.set_process_id(from.process_id);
  for (const auto& [name, version] : from.packages) (*out.mutable_packages())[name] = version;
}
void write(const Tasks& from, wire::Reply& reply) {
  wire::Tasks& out = *reply.mutable_tasks();
  for (const TaskOffer& task : from.tasks) set_task(task, *out.add_tasks());
}
void write(const Opened& from, wire::Reply& reply) { set_task(from.task, *reply.mutable_opened()->mutable_task()); }
void write(const Observations& from, wire::Reply& reply) {
  wire::Observations& out = *reply.mutable_observations();
  set_columns(from.columns, *out.mutable_columns());
  set_failures(from.failures, *out.mutable_failures());
}
void write(const Steps& from, wire::Reply& reply) {
  wire::Steps& out = *reply.mutable_steps();
  set_columns(from.columns, *out.mutable_columns());
  for (const double reward : from.reward) out.add_reward(reward);
  out.set_terminated(from.terminated);
  out.set_truncated(from.truncated);
  out.set_success(from.success);
  set_failures(from.failures, *out.mutable_failures());
}
void write(const Actions& from, wire::Reply& reply) {
  wire::Actions& out = *reply.mutable_actions();
  set_columns(from.columns, *out.mutable_columns());
  set_failures(from.failures, *out.mutable_failures());
}
void write(const Picture& from, wire::Reply& reply) {
  reply.mutable_picture()->set_height(from.height);
  reply.mutable_picture()->set_width(from.width);
}
void write(const Closed&, wire::Reply& reply) { static_cast<void>(reply.mutable_closed()); }

// ----------------------------------------------------------------------------------------------------------- from wire

episode::FieldSpec read_field(const wire::Field& from) {
  episode::FieldSpec field;
  field.name = from.name();
  if (from.modality() > static_cast<uint32_t>(episode::Modality::kContinuous)) {
    refuse("field '", field.name, "' has modality ", from.modality());
  }
  check_count(from.shape(), 8, "dimensions of a field");
  check_count(from.low(), 1 << 20, "bounds of a field");
  check_count(from.high(), 1 << 20, "bounds of a field");
  field.modality = static_cast<episode::Modality>(from.modality());
  field.shape.assign(from.shape().begin(), from.shape().end());
  field.num_values = from.num_values();
  field.low.assign(from.low().begin(), from.low().end());
  field.high.assign(from.high().begin(), from.high().end());
  field.unit = from.unit();
  return field;
}

/// What the wire can carry: images of fixed size, and no more values than fit a frame.
void check_carried(const episode::TaskSpec& spec) {
  constexpr int64_t kMostElements = int64_t{1} << 24;
  for (const auto* group : {&spec.observation, &spec.action}) {
    for (const episode::FieldSpec& field : *group) {
      int64_t elements = 1;
      for (const int64_t size : field.shape) {
        if (size < 1 || size > kMostElements / elements) {
          refuse("task ", spec.id, ": field '", field.name, "' has a size of ", size, ", or too many elements");
        }
        elements *= size;
      }
    }
  }
}

TaskOffer read_task(const wire::Task& from) {
  TaskOffer task;
  check_text(from.id(), kMaxNameBytes, "a task's id");
  check_text(from.description(), kMaxMessageBytes, "a description");
  check_count(from.observation(), 256, "observation fields");
  check_count(from.action(), 256, "action fields");
  if (from.max_steps() > uint64_t{1} << 31) refuse("a limit of ", from.max_steps(), " steps");
  task.spec.id = from.id();
  task.spec.description = from.description();
  for (const auto& field : from.observation()) task.spec.observation.push_back(read_field(field));
  for (const auto& field : from.action()) task.spec.action.push_back(read_field(field));
  task.spec.max_steps = static_cast<int64_t>(from.max_steps());
  task.spec.partial_view = from.partial_view();
  task.has_expert = from.has_expert();
  check_carried(task.spec);
  try {
    episode::check_task_spec(task.spec);
  } catch (const ConfigError& error) {
    refuse(error.what());
  }
  return task;
}

template <class Repeated>
Columns read_columns(const Repeated& from) {
  check_count(from, 256, "columns");
  Columns columns;
  for (const wire::Column& column : from) {
    check_count(column.text(), kMaxSlots, "texts of a column");
    columns.push_back({column.numbers(), {column.text().begin(), column.text().end()}, column.pixels()});
  }
  return columns;
}

template <class Repeated>
std::vector<Failure> read_failures(const Repeated& from) {
  check_count(from, kMaxSlots, "failures");
  std::vector<Failure> failures;
  for (const wire::Failure& failure : from) {
    check_text(failure.message(), kMaxMessageBytes, "a failure's message");
    failures.push_back({failure.index(), failure.message()});
  }
  return failures;
}

template <class Message>
std::vector<uint32_t> read_slots(const Message& from) {
  check_count(from.slots(), kMaxSlots, "slots");
  return {from.slots().begin(), from.slots().end()};
}

Steps read_steps(const wire::Steps& from) {
  check_count(from.reward(), kMaxSlots, "rewards");
  Steps steps;
  steps.columns = read_columns(from.columns());
  steps.reward.assign(from.reward().begin(), from.reward().end());
  steps.terminated = from.terminated();
  steps.truncated = from.truncated();
  steps.success = from.success();
  steps.failures = read_failures(from.failures());
  return steps;
}

Welcome read_welcome(const wire::Welcome& from) {
  if (from.packages().size() > kMaxPackages) refuse(from.packages().size(), " packages");
  Welcome welcome;
  welcome.protocol = from.protocol();
  welcome.process_id = from.process_id();
  for (const auto& [name, version] : from.packages()) {
    check_text(name, kMaxNameBytes, "a package's name");
    check_text(version, kMaxNameBytes, "a package's version");
    welcome.packages.emplace(name, version);
  }
  return welcome;
}

Tasks read_tasks(const wire::Tasks& from) {
  check_count(from.tasks(), kMaxTasks, "tasks");
  Tasks tasks;
  for (const auto& task : from.tasks()) tasks.tasks.push_back(read_task(task));
  return tasks;
}

Refused read_refused(const wire::Refused& from) {
  check_text(from.message(), kMaxMessageBytes, "a message");
  return {from.message()};
}

template <class Message>
Message parse_message(std::string_view body) {
  const google::protobuf::LogSilencer silencer;  // The library would print its own lines on standard error.
  Message message;
  if (!message.ParseFromArray(body.data(), static_cast<int>(body.size()))) refuse("its bytes are damaged");
  return message;
}

}  // namespace

std::string encode(const Request& request) {
  wire::Request message;
  std::visit([&](const auto& call) { write(call, message); }, request);
  return message.SerializeAsString();
}

std::string encode(const Reply& reply) {
  wire::Reply message;
  std::visit([&](const auto& result) { write(result, message); }, reply);
  return message.SerializeAsString();
}

Request parse_request(std::string_view body) {
  const auto message = parse_message<wire::Request>(body);
  switch (message.call_case()) {
    case wire::Request::kHello:
      return Hello{message.hello().protocol(), message.hello().family(), message.hello().memory_bytes()};
    case wire::Request::kListTasks:
      return ListTasks{};
    case wire::Request::kOpen:
      return Open{message.open().task(), message.open().slots()};
    case wire::Request::kReset: {
      check_count(message.reset().seeds(), kMaxSlots, "seeds");
      const auto& seeds = message.reset().seeds();
      return Reset{read_slots(message.reset()), {seeds.begin(), seeds.end()}};
    }
    case wire::Request::kStep:
      return Step{read_slots(message.step()), read_columns(message.step().actions())};
    case wire::Request::kAct:
      return Act{read_slots(message.act())};
    case wire::Request::kLook:
      return Look{message.look().slot()};
    case wire::Request::kClose:
      return Close{};
    case wire::Request::CALL_NOT_SET:
      break;
  }
  refuse("a request that asks nothing");
}

Reply parse_reply(std::string_view body) {
  const auto message = parse_message<wire::Reply>(body);
  switch (message.result_case()) {
    case wire::Reply::kRefused:
      return read_refused(message.refused());
    case wire::Reply::kWelcome:
      return read_welcome(message.welcome());
    case wire::Reply::kTasks:
      return read_tasks(message.tasks());
    case wire::Reply::kOpened:
      return Opened{read_task(message.opened().task())};
    case wire::Reply::kObservations:
      return Observations{read_columns(message.observations().columns()),
                          read_failures(message.observations().failures())};
    case wire::Reply::kSteps:
      return read_steps(message.steps());
    case wire::Reply::kActions:
      return Actions{read_columns(message.actions().columns()), read_failures(message.actions().failures())};
    case wire::Reply::kPicture:
      return Picture{message.picture().height(), message.picture().width()};
    case wire::Reply::kClosed:
      return Closed{};
    case wire::Reply::RESULT_NOT_SET:
      break;
  }
  refuse("a reply that says nothing");
}

}  // namespace gato::env::remote
