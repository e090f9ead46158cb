#pragma once
// What programs share that measure on command, so that they can take turns with others: a line in, a line of JSON out.
#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "gato/core/error.h"

namespace gato::bench {

using Json = nlohmann::ordered_json;

/// By the first word of a line; a command reads what follows it.
using Commands = std::map<std::string, std::function<Json(std::istream& arguments)>>;

/// The number that comes next, or `otherwise` at the end of the line.
inline int64_t read_count(std::istream& arguments, int64_t otherwise = 1) {
  int64_t count = otherwise;
  if (!(arguments >> count) && !arguments.eof()) throw ConfigError("expected a number behind the command");
  return arguments.fail() ? otherwise : count;
}

/// Prints `facts`, then answers the lines of standard input until it ends or one says quit. Throws ConfigError for a
/// command that there is not.
inline void serve_commands(const Json& facts, const Commands& commands) {
  std::cout << facts << std::endl;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream arguments(line);
    std::string name;
    arguments >> name;
    const auto command = commands.find(name);
    if (command == commands.end()) throw ConfigError(cat("no such command: ", line));
    std::cout << command->second(arguments) << std::endl;
  }
}

/// What main() of program `name` returns; errors go to standard error.
template <class Body>
int run_bench(const char* name, const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    std::cerr << name << ": " << error.what() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace gato::bench
