// Configuration files: whatever the bytes, parsing and typed reading end in a value or a ConfigError; what was read can
// be dumped, and the dump reads back to the same value.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "gato/core/config.h"
#include "support/every_config_type.h"

namespace {

using gato::ConfigError;
using gato::ConfigNode;
using gato::test::EveryConfigType;

void require(bool holds, const char* what, const std::string& text) {
  if (holds) return;
  std::fprintf(stderr, "%s:\n%s\n", what, text.c_str());
  std::abort();
}

std::optional<EveryConfigType> read(const ConfigNode& node) {
  try {
    return gato::read_config<EveryConfigType>(node);
  } catch (const ConfigError& error) {
    require(gato::is_valid_utf8(error.what()), "a message that is not UTF-8", error.what());
    return std::nullopt;
  }
}

void check_round_trip(const ConfigNode& node) {
  const std::optional<EveryConfigType> config = read(node);
  if (!config) return;
  for (const bool with_docs : {false, true}) {
    for (const ConfigNode* origins : {static_cast<const ConfigNode*>(nullptr), &node}) {
      const std::string text = gato::dump_config(*config, origins, with_docs);
      require(gato::read_config<EveryConfigType>(gato::parse_yaml(text, "dump")) == *config,
              "a dump that reads differently", text);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ConfigNode node;
  try {
    node = gato::parse_yaml(text, "input");
    check_round_trip(node);
  } catch (const ConfigError& error) {
    require(gato::is_valid_utf8(error.what()), "a message that is not UTF-8", error.what());
  }
  // The first line as an override of what the rest says.
  const size_t line_end = text.find('\n');
  if (line_end == std::string_view::npos) return 0;
  try {
    node = gato::parse_yaml(text.substr(line_end + 1), "input");
    gato::apply_override(node, text.substr(0, line_end));
    check_round_trip(node);
  } catch (const ConfigError& error) {
    require(gato::is_valid_utf8(error.what()), "a message that is not UTF-8", error.what());
  }
  return 0;
}
