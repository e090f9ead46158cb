#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gato/episode/spec.h"

/// What frames say (src/env/remote.proto), without protobuf. Parsing checks what can be checked without knowing the
/// task; values.h checks the rest.
namespace gato::env::remote {

/// The values of one field in all named slots.
struct Column {
  std::string numbers;
  std::vector<std::string> text;
  std::string pixels;
  bool operator==(const Column&) const = default;
};
using Columns = std::vector<Column>;

/// A task as a worker offers it. The specification is checked.
struct TaskOffer {
  episode::TaskSpec spec;
  bool has_expert = false;
  bool operator==(const TaskOffer&) const = default;
};

/// The environment of the slot at `index` of the request raised an error.
struct Failure {
  uint32_t index = 0;
  std::string message;
  bool operator==(const Failure&) const = default;
};

struct Hello {
  uint32_t protocol = 0;
  std::string family;
  uint64_t memory_bytes = 0;
  bool operator==(const Hello&) const = default;
};
struct ListTasks {
  bool operator==(const ListTasks&) const = default;
};
struct Open {
  std::string task;
  uint32_t slots = 0;
  bool operator==(const Open&) const = default;
};
struct Reset {
  std::vector<uint32_t> slots;
  std::vector<uint64_t> seeds;
  bool operator==(const Reset&) const = default;
};
struct Step {
  std::vector<uint32_t> slots;
  Columns actions;
  bool operator==(const Step&) const = default;
};
struct Act {
  std::vector<uint32_t> slots;
  bool operator==(const Act&) const = default;
};
struct Look {
  uint32_t slot = 0;
  bool operator==(const Look&) const = default;
};
struct Close {
  bool operator==(const Close&) const = default;
};
using Request = std::variant<Hello, ListTasks, Open, Reset, Step, Act, Look, Close>;

struct Refused {
  std::string message;
  bool operator==(const Refused&) const = default;
};
struct Welcome {
  uint32_t protocol = 0, process_id = 0;
  std::map<std::string, std::string> packages;
  bool operator==(const Welcome&) const = default;
};
struct Tasks {
  std::vector<TaskOffer> tasks;
  bool operator==(const Tasks&) const = default;
};
struct Opened {
  TaskOffer task;
  bool operator==(const Opened&) const = default;
};
struct Observations {
  Columns columns;
  std::vector<Failure> failures;
  bool operator==(const Observations&) const = default;
};
struct Steps {
  Columns columns;
  std::vector<double> reward;
  std::string terminated, truncated, success;  ///< One byte per slot.
  std::vector<Failure> failures;
  bool operator==(const Steps&) const = default;
};
struct Actions {
  Columns columns;
  std::vector<Failure> failures;
  bool operator==(const Actions&) const = default;
};
struct Picture {
  uint32_t height = 0, width = 0;
  bool operator==(const Picture&) const = default;
};
struct Closed {
  bool operator==(const Closed&) const = default;
};
using Reply = std::variant<Refused, Welcome, Tasks, Opened, Observations, Steps, Actions, Picture, Closed>;

/// Bodies of frames.
[[nodiscard]] std::string encode(const Request& request);
[[nodiscard]] std::string encode(const Reply& reply);
/// Throws DataError saying what is wrong.
[[nodiscard]] Request parse_request(std::string_view body);
[[nodiscard]] Reply parse_reply(std::string_view body);

}  // namespace gato::env::remote
