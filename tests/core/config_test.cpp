#include "gato/core/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "gato/core/file.h"
#include "gato/core/random.h"
#include "support/cpu_time.h"
#include "support/every_config_type.h"
#include "support/temp_folder.h"

namespace gato {
namespace {

using test::EveryConfigType;
using test::Inner;
using test::Shade;
using test::TempFolder;

/// The message of the ConfigError that `call` throws, "" when it throws none.
template <class Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

std::string yaml_refusal(const std::string& text) {
  return refusal([&] { static_cast<void>(parse_yaml(text, "a.yaml")); });
}

std::string read_refusal(const std::string& text) {
  return refusal([&] { static_cast<void>(read_config<EveryConfigType>(parse_yaml(text, "a.yaml"))); });
}

EveryConfigType read(const std::string& text) { return read_config<EveryConfigType>(parse_yaml(text, "a.yaml")); }

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << "it says: " << (message)

// --- YAML ---

TEST(YamlTest, ReadsScalarsListsAndMapsWithTheirOrigin) {
  const ConfigNode root = parse_yaml("a: 1\nb:\n  - x\n  - \"2\"\nc: {d: [ ], e: ~}\nf: |\n  two\n  lines\n", "a.yaml");
  ASSERT_EQ(root.kind, ConfigNode::Kind::kMap);
  ASSERT_EQ(root.map.size(), 4u);
  EXPECT_EQ(root.map[0].key, "a");
  EXPECT_EQ(root.find("a")->scalar, "1");
  EXPECT_FALSE(root.find("a")->quoted);
  EXPECT_EQ(root.find("a")->origin, "a.yaml:1");
  const ConfigNode& list = *root.find("b");
  ASSERT_EQ(list.kind, ConfigNode::Kind::kList);
  EXPECT_EQ(list.list[1].scalar, "2");
  EXPECT_TRUE(list.list[1].quoted);
  EXPECT_EQ(list.list[1].origin, "a.yaml:4");
  EXPECT_EQ(root.find("c")->find("d")->kind, ConfigNode::Kind::kList);
  EXPECT_EQ(root.find("c")->find("e")->kind, ConfigNode::Kind::kNull);
  EXPECT_EQ(root.find("f")->scalar, "two\nlines\n");
  EXPECT_TRUE(root.find("f")->quoted);
  EXPECT_EQ(root.find("none"), nullptr);
}

TEST(YamlTest, EmptyTextsAreNull) {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "~", "\xEF\xBB\xBF"}) {
    EXPECT_EQ(parse_yaml(text, "x").kind, ConfigNode::Kind::kNull) << text;
  }
}

TEST(YamlTest, WindowsTextAndByteOrderMarkAreRead) {
  const ConfigNode root = parse_yaml(
      "\xEF\xBB\xBF"
      "a: 1\r\nb: x y\r\n",
      "x");
  EXPECT_EQ(root.find("a")->scalar, "1");
  EXPECT_EQ(root.find("b")->scalar, "x y");
  EXPECT_EQ(root.find("b")->origin, "x:2");
}

TEST(YamlTest, RefusalsNameLineAndColumn) {
  EXPECT_SAYS(yaml_refusal("a: 1\nb: [1, 2\nc: 3\n"), "a.yaml:");
  EXPECT_SAYS(yaml_refusal("a: 1\n\ta: 2\n"), "a.yaml:2:");
  EXPECT_SAYS(yaml_refusal("a: 1\nb: 2\na: 3\n"), "a.yaml:3:1: duplicate key \"a\"");
  EXPECT_SAYS(yaml_refusal("x:\n  a: 1\n  \"a\": 2\n"), "a.yaml:3:3: duplicate key \"a\"");
  EXPECT_SAYS(yaml_refusal("{a: 1, a: 2}"), "duplicate key \"a\"");
  for (const char* text : {"a: \"open", "a: 'open"}) EXPECT_SAYS(yaml_refusal(text), "not valid YAML");
  // The library lets these pass.
  for (const char* text :
       {"a: \"open\n", "a: 'open\n", "a: 'it''s\n", "a: \"x\\\"\n", "é: 'x\nb: 1\n", "- x\n- 'y\n"}) {
    EXPECT_SAYS(yaml_refusal(text), "never closed");
  }
  for (const char* text : {"a: 1\nb\n", "{a: 1, b}", "{a:1}", "? a\n", "? |\n  a\n: 1\n"}) {
    EXPECT_SAYS(yaml_refusal(text), "no colon behind the key");
  }
  for (const char* text :
       {"a:", "a : 1", "{\"a\":1}", "'it''s' : 1", "é: 'é'\nà: \"é\"\n", "\"\\\"\": 1", "? a\n: 1\n", "[a: 1]"}) {
    EXPECT_EQ(yaml_refusal(text), "");
  }
  EXPECT_SAYS(yaml_refusal("- a\nb: 1\n"), "a.yaml:2:1: this does not belong to what stands above");
  EXPECT_SAYS(yaml_refusal("a: b: c"), "a.yaml:1:");
}

TEST(YamlTest, RefusesWhatIsNoConfiguration) {
  EXPECT_SAYS(yaml_refusal("a: &x 1\nb: *x\n"), "anchors are not allowed");
  EXPECT_SAYS(yaml_refusal("a: &x [1]\nb: 2\n"), "anchors are not allowed");
  EXPECT_SAYS(yaml_refusal("a: *x\n"), "quote text that begins with *");
  EXPECT_SAYS(yaml_refusal("pattern: *\n"), "quote text that begins with *");
  EXPECT_SAYS(yaml_refusal("a: !!int 1\n"), "tags are not allowed");
  EXPECT_SAYS(yaml_refusal("a: !x 1\n"), "tags are not allowed");
  EXPECT_SAYS(yaml_refusal("a: ! 1\n"), "tags are not allowed");
  EXPECT_SAYS(yaml_refusal("a: ! \"1\"\n"), "tags are not allowed");
  EXPECT_SAYS(yaml_refusal("a: !!seq [1]\n"), "tags are not allowed");
  EXPECT_SAYS(yaml_refusal("!!map {a: 1}\n"), "tags are not allowed");
  EXPECT_SAYS(yaml_refusal("[1, 2]: x\n"), "a key must be text");
  EXPECT_SAYS(yaml_refusal("{a: 1}: x\n"), "a key must be text");
  EXPECT_SAYS(yaml_refusal("? [1]\n: x\n"), "a key must be text");
  EXPECT_SAYS(yaml_refusal("~: x\n"), "a key must be text");
  EXPECT_SAYS(yaml_refusal("null: x\n"), "a key must be text");
  EXPECT_SAYS(yaml_refusal(": x\n"), "a key must be text");
  EXPECT_SAYS(yaml_refusal("a: 1\n---\nb: 2\n"), "begins a second document");
  EXPECT_SAYS(yaml_refusal(std::string(129, 'k') + ": x\n"), "has 129 bytes where at most 128");
  EXPECT_EQ(yaml_refusal(std::string(128, 'k') + ": x\n"), "");
  EXPECT_EQ(yaml_refusal("a: ' *x'\nb: \"&y\"\nc: '!z'\n"), "");
}

TEST(YamlTest, RefusesBytesThatAreNotText) {
  EXPECT_SAYS(yaml_refusal("a: 1\nb: \xFFx\n"), "a.yaml:2:4: invalid UTF-8");
  EXPECT_SAYS(yaml_refusal(std::string("a: 1\nb: x\0y\n", 12)), "a.yaml:2:5: a control character");
  EXPECT_SAYS(yaml_refusal("a: 1\x04 b: ["), "a.yaml:1:5: a control character");
  EXPECT_SAYS(yaml_refusal("a\x01: \xFF"), "a.yaml:1:2: a control character");
  EXPECT_SAYS(yaml_refusal("a\xFF: \x01"), "a.yaml:1:2: invalid UTF-8");
  EXPECT_SAYS(yaml_refusal("a: \"x\\0y\"\n"), "NUL");
  EXPECT_SAYS(yaml_refusal("a: \"\\ud800\"\n"), "not valid YAML");
  EXPECT_SAYS(yaml_refusal(std::string("\xFF\xFE"
                                       "a\0:\0",
                                       6)),
              "invalid UTF-8");  // UTF-16
}

TEST(YamlTest, LimitsSizeDepthAndCount) {
  const std::string megabyte = "a: " + std::string((1 << 20) - 3, 'x');
  EXPECT_EQ(yaml_refusal(megabyte), "");
  EXPECT_SAYS(yaml_refusal(megabyte + "x"), "1048577 bytes where at most 1048576");
  const auto flow = [](size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  EXPECT_EQ(yaml_refusal(flow(32)), "");
  EXPECT_SAYS(yaml_refusal(flow(33)), "more than 32 levels");
  std::string block;
  for (size_t level = 0; level < 33; ++level) block += std::string(level, ' ') + "a:\n";
  EXPECT_EQ(yaml_refusal(block.substr(0, block.size())), "a.yaml:33:33: more than 32 levels of nesting");
  std::string list;
  for (int i = 0; i < 100'001; ++i) list += "- 1\n";
  EXPECT_SAYS(yaml_refusal(list), "more than 100000 values");
}

TEST(YamlTest, HostileTextsEndSoon) {
  const auto repeat = [](const std::string& piece) {
    std::string text;
    while (text.size() + piece.size() <= (1 << 18)) text += piece;
    return text;
  };
  for (const char* piece :
       {"[",   "{", "- ", "? ",  "- - ", "a: ",     "a:\n ", "{a: ", "[[],", "\"",           "'",  "&a ", "*", "!",
        "|\n", "%", "#",  "x\n", "\n",   "a\n b\n", "---\n", "{}",   "[]: ", "\xE2\x98\x83", "\r", ": ",  ",", "\\"}) {
    const double start = test::cpu_seconds();
    static_cast<void>(yaml_refusal(repeat(piece)));
    EXPECT_LT(test::cpu_seconds() - start, 10) << piece;
  }
}

TEST(YamlTest, FilesAreNamedWhenTheyCannotBeRead) {
  const TempFolder folder("config");
  EXPECT_THROW(static_cast<void>(load_yaml((folder / "none.yaml").string())), IoError);
  write_file_atomic(folder / "big.yaml", std::string((1 << 20) + 1, '#'));
  EXPECT_SAYS(refusal([&] { static_cast<void>(load_yaml((folder / "big.yaml").string())); }), "big.yaml");
  write_file_atomic(folder / "bad.yaml", "a: [");
  EXPECT_SAYS(refusal([&] { static_cast<void>(load_yaml((folder / "bad.yaml").string())); }), "bad.yaml:");
}

TEST(YamlTest, TruncatedAndDamagedTextsNeverCrash) {
  const std::string text =
      dump_config(EveryConfigType{}, nullptr, true) + "x: \"q\\\"\\x41\"\ny: {a: [1, 2], 'b': ~}\n";
  ASSERT_EQ(yaml_refusal(text), "");
  for (size_t size = 0; size < text.size(); ++size) static_cast<void>(read_refusal(text.substr(0, size)));
  Rng rng(1);
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = text;
    for (int64_t n = rng.below(4); n >= 0; --n) {
      damaged[static_cast<size_t>(rng.below(static_cast<int64_t>(text.size())))] =
          "\xFF\x00{}[]:,-?&*!|>'\"%@`#~\n\t x\\"[rng.below(27)];
    }
    static_cast<void>(read_refusal(damaged));
  }
}

// --- merging and overrides ---

TEST(MergeTest, MapsMergeAndEverythingElseIsReplaced) {
  ConfigNode base = parse_yaml("a: {x: 1, y: 2}\nb: [1, 2]\nc: 3\n", "base");
  merge_config(base, parse_yaml("a: {y: 5, z: 6}\nb: [7]\nd: {e: 1}\nc: {f: 2}\n", "over"));
  EXPECT_EQ(base.find("a")->find("x")->scalar, "1");
  EXPECT_EQ(base.find("a")->find("y")->scalar, "5");
  EXPECT_EQ(base.find("a")->find("y")->origin, "over:1");
  EXPECT_EQ(base.find("a")->find("z")->scalar, "6");
  EXPECT_EQ(base.find("b")->list.size(), 1u);
  EXPECT_EQ(base.find("c")->find("f")->scalar, "2");
  EXPECT_EQ(base.find("d")->find("e")->scalar, "1");
  merge_config(base, parse_yaml("a: ~\n", "over"));
  EXPECT_EQ(base.find("a")->kind, ConfigNode::Kind::kNull);
}

TEST(MergeTest, LargeMapsTakeLinearTime) {
  std::string text;
  for (int i = 0; i < 90'000; ++i) text += cat("k", i, ": 1\n");
  ConfigNode base = parse_yaml(text, "x");
  const ConfigNode over = base;
  const double start = test::cpu_seconds();
  merge_config(base, over);
  EXPECT_LT(test::cpu_seconds() - start, 10);
  EXPECT_EQ(base.map.size(), 90'000u);
}

TEST(OverrideTest, ValuesAreYaml) {
  ConfigNode root = parse_yaml("inner: {count: 1}\ntext: old\n", "a.yaml");
  apply_override(root, "inner.count=5");
  apply_override(root, "inner.names=[a, \"b=c\"]");
  apply_override(root, "text=x = y");
  apply_override(root, "maybe_whole=null");
  apply_override(root, "inner_of.some.count=9");
  const auto config = read_config<EveryConfigType>(root);
  EXPECT_EQ(config.inner.count, 5);
  EXPECT_EQ(config.inner.names, (std::vector<std::string>{"a", "b=c"}));
  EXPECT_EQ(config.text, "x = y");
  EXPECT_FALSE(config.maybe_whole.has_value());
  EXPECT_EQ(config.inner_of.at("some").count, 9);
  EXPECT_EQ(root.find("inner")->find("count")->origin, "command line");
}

TEST(OverrideTest, MalformedOnesAreRefused) {
  ConfigNode root;
  for (const char* text : {"", "a", "=1", "a.=1", ".a=1", "a..b=1", " a=1", "a =1", "a. b=1", "\xFF=1"}) {
    EXPECT_SAYS(refusal([&] { apply_override(root, text); }), "write key.path=value") << text;
  }
  EXPECT_SAYS(refusal([&] { apply_override(root, "a=[1"); }), "command line");
  EXPECT_SAYS(refusal([&] { apply_override(root, "a=[1"); }), "(in \"a=[1\")");
  EXPECT_SAYS(refusal([&] { apply_override(root, "a=*x"); }), "quote text that begins with *");
  EXPECT_EQ(root.kind, ConfigNode::Kind::kNull);
}

TEST(LoadConfigTest, LaterFilesAndOverridesWin) {
  const TempFolder folder("config");
  write_file_atomic(folder / "a.yaml", "whole: 1\nnumber: 1\ntext: a\n");
  write_file_atomic(folder / "b.yaml", "number: 2\ntext: b\n");
  write_file_atomic(folder / "empty.yaml", "# nothing\n");
  const std::vector<std::string> files = {(folder / "a.yaml").string(), (folder / "b.yaml").string(),
                                          (folder / "empty.yaml").string()};
  const auto config = read_config<EveryConfigType>(load_config(files, {"text=c", "text=d"}));
  EXPECT_EQ(config.whole, 1);
  EXPECT_EQ(config.number, 2);
  EXPECT_EQ(config.text, "d");
  EXPECT_EQ(read_config<EveryConfigType>(load_config({}, {})), EveryConfigType{});
  write_file_atomic(folder / "list.yaml", "- 1\n");
  EXPECT_SAYS(refusal([&] { static_cast<void>(load_config({(folder / "list.yaml").string()}, {})); }), "list.yaml:1");
}

// --- typed reading ---

TEST(ReadConfigTest, DefaultsStayWhereNothingIsSaid) {
  EXPECT_EQ(read(""), EveryConfigType{});
  EXPECT_EQ(read("inner:\n"), EveryConfigType{});
  const EveryConfigType config = read("inners: [{rate: 2}]\ninner: {rate: 3}\n");
  EXPECT_EQ(config.inners.at(0).count, 3);
  EXPECT_EQ(config.inners.at(0).rate, 2.0);
  EXPECT_EQ(config.inner.count, 3);
}

TEST(ReadConfigTest, ReadsEveryType) {
  const EveryConfigType config = read(R"(
flag: false
whole: -1_000
number: 1e-3
text: 12
shade: none
extent: 3x4
maybe_whole: ~
maybe_text: ""
maybe_inner: {count: 2}
maybe_list: []
flags: [false]
wholes: [+1, 0, 9223372036854775807, -9223372036854775808]
numbers: [.5, 5., -.inf, +2e3, 1_0.5]
shades: [light, dark]
table: [[a], []]
inners: [{names: [x]}, ~]
holes: [1, ~]
weights: {a.b: 1, "": 2}
inner_of: {x: {count: 4}}
deep: {a: {b: [1]}}
)");
  EXPECT_FALSE(config.flag);
  EXPECT_EQ(config.whole, -1000);
  EXPECT_EQ(config.number, 0.001);
  EXPECT_EQ(config.text, "12");
  EXPECT_EQ(config.shade, Shade::kNone);
  EXPECT_EQ(config.extent, (test::Extent{3, 4}));
  EXPECT_FALSE(config.maybe_whole.has_value());
  EXPECT_EQ(config.maybe_text, "");
  EXPECT_EQ(config.maybe_inner->count, 2);
  EXPECT_TRUE(config.maybe_list->empty());
  EXPECT_EQ(config.flags, std::vector<bool>{false});
  EXPECT_EQ(config.wholes,
            (std::vector<int64_t>{1, 0, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}));
  EXPECT_EQ(config.numbers, (std::vector<double>{0.5, 5, -HUGE_VAL, 2000, 10.5}));
  EXPECT_EQ(config.shades, (std::vector<Shade>{Shade::kLight, Shade::kDark}));
  EXPECT_EQ(config.table, (std::vector<std::vector<std::string>>{{"a"}, {}}));
  EXPECT_EQ(config.inners.at(0).names.at(0), "x");
  EXPECT_EQ(config.inners.at(1), Inner{});
  EXPECT_EQ(config.holes, (std::vector<std::optional<int64_t>>{1, std::nullopt}));
  EXPECT_EQ(config.weights, (std::map<std::string, double>{{"a.b", 1}, {"", 2}}));
  EXPECT_EQ(config.inner_of.at("x").count, 4);
  EXPECT_EQ(config.deep.at("a").at("b"), std::vector<int64_t>{1});
}

TEST(ReadConfigTest, IllTypedValuesNamePathExpectationValueAndOrigin) {
  EXPECT_EQ(read_refusal("whole: 1.5\n"), "configuration: whole: expected a whole number, got \"1.5\" (a.yaml:1)");
  EXPECT_EQ(read_refusal("inner:\n  count: abc\n"),
            "configuration: inner.count: expected a whole number, got \"abc\" (a.yaml:2)");
  EXPECT_EQ(read_refusal("inners: [{}, {names: 1}]\n"),
            "configuration: inners[1].names: expected a list, got \"1\" (a.yaml:1)");
  EXPECT_EQ(read_refusal("whole: '1'\n"),
            "configuration: whole: expected a whole number, got the text \"1\" (a.yaml:1)");
  EXPECT_EQ(read_refusal("shade: grey\n"),
            "configuration: shade: expected one of light, dark, none, got \"grey\" (a.yaml:1)");
  EXPECT_EQ(read_refusal("extent: 3\n"), "configuration: extent: expected a size such as 3x4, got \"3\" (a.yaml:1)");
  EXPECT_SAYS(read_refusal("deep: {a: {b: [x]}}\n"), "deep.a.b[0]: expected a whole number");
  EXPECT_SAYS(read_refusal("weights: [1]\n"), "weights: expected a map, got a list");
  EXPECT_SAYS(read_refusal("[1]\n"), "expected a map, got a list");
  EXPECT_SAYS(read_refusal("text: ~\n"), "text: expected text (\"\" for none), got nothing");
  EXPECT_SAYS(read_refusal("text: [a]\n"), "text: expected text, got a list");
  for (const char* value :
       {"1.0", "1e3", "0x10", "010", "1__0", "_1", "1_", "+", "--1", "+-1", "-+1", "", "true", "9 9"}) {
    EXPECT_SAYS(read_refusal(cat("whole: ", value, "\n")), "whole: expected a whole number") << value;
  }
  EXPECT_SAYS(read_refusal("whole: 9223372036854775808\n"), "of at most 63 bits");
  for (const char* value :
       {"abc", "inf", "nan", ".nan", "1e", "1.2.3", "e5", ".", "0x1p3", "1,5", "'1'", "1e5x", "007", "1_"}) {
    EXPECT_SAYS(read_refusal(cat("number: ", value, "\n")), "number: expected a number") << value;
  }
  EXPECT_SAYS(read_refusal("number: 1e999\n"), "a number that fits a double");
  for (const char* value : {"yes", "no", "on", "1", "'true'", "~", "tRue"}) {
    EXPECT_SAYS(read_refusal(cat("flag: ", value, "\n")), "flag: expected true or false") << value;
  }
}

TEST(ReadConfigTest, UnknownKeysSuggestTheNearest) {
  EXPECT_EQ(read_refusal("inner:\n  coutn: 1\n"),
            "configuration: inner.coutn: unknown key; did you mean \"count\"? (a.yaml:2)");
  EXPECT_EQ(read_refusal("inner: {zzzzzzzz: 1}\n"),
            "configuration: inner.zzzzzzzz: unknown key; known here: count, rate, names (a.yaml:1)");
  EXPECT_SAYS(read_refusal("inner_of: {x: {cuont: 1}}\n"), "inner_of.x.cuont: unknown key; did you mean \"count\"?");
}

TEST(ReadConfigTest, ReportsEveryProblemAtOnce) {
  const std::string message = read_refusal("whole: x\nnumbr: 1\ninner: {count: y}\n");
  EXPECT_SAYS(message, "3 problems");
  EXPECT_SAYS(message, "\n  whole: ");
  EXPECT_SAYS(message, "\n  numbr: ");
  EXPECT_SAYS(message, "\n  inner.count: ");
}

TEST(ReadConfigTest, ValidationNamesPathAndOriginOfEveryStruct) {
  EXPECT_EQ(read_refusal("inner:\n  count: 0\n"), "configuration: inner.count: must be > 0, got 0 (a.yaml:2)");
  const std::string message = read_refusal(
      "maybe_inner: {count: -1}\ninners:\n  - count: 1\n  - count: -2\ninner_of:\n  a.b:\n    count: -3\n");
  EXPECT_SAYS(message, "maybe_inner.count: must be > 0, got -1 (a.yaml:1)");
  EXPECT_SAYS(message, "inners[1].count: must be > 0, got -2 (a.yaml:4)");
  EXPECT_SAYS(message, "inner_of.a.b.count: must be > 0, got -3 (a.yaml:7)");
}

TEST(ReadConfigTest, ManyProblemsStayReadableAndQuick) {
  std::string text;
  for (int i = 0; i < 90'000; ++i) text += cat("x", i, ": 1\n");
  const double start = test::cpu_seconds();
  const std::string message = read_refusal(text);
  EXPECT_LT(test::cpu_seconds() - start, 10);
  EXPECT_SAYS(message, "90000 problems");
  EXPECT_SAYS(message, "and 89950 more");
  EXPECT_LT(message.size(), 50'000u);
  EXPECT_LT(read_refusal("whole: " + std::string(1'000'000, 'x')).size(), 200u);
}

// --- dumping ---

/// Some configuration with awkward contents.
EveryConfigType random_config(Rng& rng) {
  const auto text = [&rng] {
    const std::vector<std::string> pieces = {"a",  "null", "~",        "true",         "1", "-",  "#", ": ",
                                             "\"", "\\",   "\n",       "\t",           " ", "\r", "é", "\x7F",
                                             "☃",  "\x01", "\xC2\x85", "\xE2\x80\xA8", "*", "&",  "!", "{",
                                             "]",  "'",    "%",        "\xEF\xBB\xBF"};
    std::string out;
    for (int64_t n = rng.below(5); n > 0; --n)
      out += pieces[static_cast<size_t>(rng.below(static_cast<int64_t>(pieces.size())))];
    return out;
  };
  const auto number = [&rng] {
    return rng.below(4) == 0 ? HUGE_VAL : rng.normal() * std::pow(10.0, rng.uniform(-300, 300));
  };
  const auto inner = [&] {
    Inner value{rng.below(1000) + 1, std::nullopt, {}};
    if (rng.below(2) == 0) value.rate = number();
    for (int64_t n = rng.below(3); n > 0; --n) value.names.push_back(text());
    return value;
  };
  EveryConfigType config;
  config.flag = rng.below(2) == 0;
  config.whole = static_cast<int64_t>(rng.next_u64());
  config.number = number();
  config.text = text();
  config.shade = static_cast<Shade>(rng.below(3));
  config.extent = {rng.below(100), rng.below(100)};
  config.maybe_whole.reset();
  if (rng.below(2) == 0) config.maybe_text = text();
  if (rng.below(2) == 0) config.maybe_inner = inner();
  if (rng.below(2) == 0) config.maybe_list = std::vector<int64_t>(static_cast<size_t>(rng.below(3)), rng.below(9));
  config.flags.assign(static_cast<size_t>(rng.below(4)), rng.below(2) == 0);
  config.numbers.assign(static_cast<size_t>(rng.below(4)), number());
  config.shades.assign(static_cast<size_t>(rng.below(3)), Shade::kLight);
  for (int64_t n = rng.below(3); n > 0; --n) config.table.push_back({text(), text()});
  config.table.emplace_back();
  config.inners.clear();
  for (int64_t n = rng.below(3); n > 0; --n) config.inners.push_back(inner());
  config.holes = {std::nullopt, rng.below(100)};
  for (int64_t n = rng.below(4); n > 0; --n) config.weights[text()] = number();
  for (int64_t n = rng.below(3); n > 0; --n) config.inner_of[text()] = inner();
  for (int64_t n = rng.below(3); n > 0; --n) config.deep[text()][text()] = {rng.below(5)};
  config.inner = inner();
  return config;
}

TEST(DumpConfigTest, ReadsBackToTheSameValue) {
  Rng rng(5);
  for (int i = 0; i < 500; ++i) {
    const EveryConfigType config = random_config(rng);
    for (const bool with_docs : {false, true}) {
      const std::string text = dump_config(config, nullptr, with_docs);
      ASSERT_EQ(read_refusal(text), "") << text;
      ASSERT_EQ(read(text), config) << text;
    }
  }
}

TEST(DumpConfigTest, SaysWhereValuesCameFrom) {
  ConfigNode root = parse_yaml("whole: 3\ninner:\n  names: [x]\nweights: {a.b: 2}\n", "a.yaml");
  apply_override(root, "number=4");
  const std::string text = dump_config(read_config<EveryConfigType>(root), &root);
  const auto line = [&text](const std::string& start) {
    const size_t begin = text.find("\n" + start) + 1;
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  EXPECT_EQ(line("whole:"), "whole: 3                                # a.yaml:1");
  EXPECT_EQ(line("number:"), "number: 4                               # command line");
  EXPECT_EQ(line("shade:"), "shade: dark                             # default");
  EXPECT_EQ(line("    - x"), "    - x                                 # a.yaml:3");
  EXPECT_EQ(line("  a.b:"), "  a.b: 2                                # a.yaml:4");
  EXPECT_EQ(line("inner:"), "inner:");
  EXPECT_EQ(read(text), read_config<EveryConfigType>(root));
  EXPECT_NE(dump_config(read_config<EveryConfigType>(root), &root, true).find("# A whole number. (a.yaml:1)"),
            std::string::npos);
}

TEST(DumpConfigTest, OriginsWithAwkwardNamesStayInTheirComment) {
  const ConfigNode root = parse_yaml("whole: 3\n", "odd\nnumber: 7 #.yaml");
  const EveryConfigType config = read_config<EveryConfigType>(root);
  EXPECT_EQ(read(dump_config(config, &root)), config);
}

TEST(DumpConfigTest, RefusesTextThatIsNotUtf8) {
  EveryConfigType config;
  config.text = "\xFF";
  EXPECT_THROW(static_cast<void>(dump_config(config)), ContractError);
}

TEST(VisitFieldsTest, VisitsInOrderWithDocumentation) {
  Inner inner;
  std::vector<std::string> seen;
  visit_fields(inner, [&](const char* name, const auto&, const char* doc) { seen.push_back(cat(name, "=", doc)); });
  EXPECT_EQ(seen, (std::vector<std::string>{"count=How many; > 0.", "rate=Per second.", "names=Names."}));
  EXPECT_EQ(detail::aggregate_field_count<EveryConfigType>(), 21u);
}

TEST(ConfigProblemsTest, PathsFollowTheEnteredKeys) {
  ConfigProblems problems;
  EXPECT_NO_THROW(problems.throw_if_any());
  problems.push("a");
  problems.push("[2]");
  problems.push("b");
  EXPECT_EQ(problems.path("c"), "a[2].b.c");
  EXPECT_EQ(problems.path(""), "a[2].b");
  problems.pop();
  problems.add("d", "is wrong", "here");
  EXPECT_EQ(problems.list().at(0), "a[2].d: is wrong (here)");
  EXPECT_THROW(problems.throw_if_any(), ConfigError);
}

}  // namespace
}  // namespace gato
