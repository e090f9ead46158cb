#pragma once
#include <string>
#include <vector>

/// Headers that readers must accept or refuse, with what the refusal must say.
namespace gato::checkpoint::test {

struct HeaderCase {
  std::string name;
  std::string header;
  size_t data_bytes = 0;
  std::string problem = {};  ///< "" for valid files; otherwise part of the message.
};

inline std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                          const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets + "]}";
}

inline std::string repeated(const std::string& text, size_t times, const std::string& separator) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += (i == 0 ? "" : separator) + text;
  return all;
}

inline std::vector<HeaderCase> accepted_headers() {
  return {
      {"NoTensors", "{}"},
      {"NoTensorsWithSpaces", "{}      "},
      {"SpacesInside", "{ \"a\" : { \"dtype\" : \"U8\" , \"shape\" : [ 2 ] , \"data_offsets\" : [ 0 , 2 ] } }", 2},
      {"MetadataOnly", "{\"__metadata__\":{\"format\":\"pt\"}}"},
      {"EmptyMetadata", "{\"__metadata__\":{}}"},
      {"MetadataLast", "{" + tensor("a", "U8", "1", "0,1") + ",\"__metadata__\":{\"k\":\"v\"}}", 1},
      {"MetadataWithEscapes", R"({"__metadata__":{"\u00e9\n":"\ud83d\ude00"}})"},
      {"Scalar", "{" + tensor("a", "F32", "", "0,4") + "}", 4},
      {"EmptyTensor", "{" + tensor("a", "F32", "0,7", "0,0") + "}", 0},
      {"EmptyTensorBetween",
       "{" + tensor("a", "U8", "2", "0,2") + "," + tensor("b", "F32", "0", "2,2") + "," +
           tensor("c", "U8", "1", "2,3") + "}",
       3},
      {"EmptyTensorWithHugeOtherSize", "{" + tensor("a", "F64", "0,4611686018427387904", "0,0") + "}"},
      {"KeysInOtherOrder", R"({"a":{"data_offsets":[0,4],"shape":[1],"dtype":"I32"}})", 4},
      {"TensorsInOtherOrder", "{" + tensor("b", "U8", "3", "2,5") + "," + tensor("a", "U8", "2", "0,2") + "}", 5},
      {"MetadataNameAsMetadataKey", R"({"__metadata__":{"__metadata__":"x"}})"},
      {"EmptyName", "{" + tensor("", "U8", "1", "0,1") + "}", 1},
      {"UnicodeName", "{" + tensor("gewicht \xc3\xa4\xe2\x82\xac", "U8", "1", "0,1") + "}", 1},
      {"LongestName", "{" + tensor(std::string(1024, 'n'), "U8", "1", "0,1") + "}", 1},
      {"HighestRank", "{" + tensor("a", "U8", repeated("1", 16, ","), "0,1") + "}", 1},
      {"FourBitPair", "{" + tensor("a", "F4", "2", "0,1") + "}", 1},
      {"SixBitQuad", "{" + tensor("a", "F6_E2M3", "4", "0,3") + "}", 3},
      {"Bool", "{" + tensor("a", "BOOL", "3", "0,3") + "}", 3},
      {"BFloat16", "{" + tensor("a", "BF16", "2,2", "0,8") + "}", 8},
      {"Complex", "{" + tensor("a", "C64", "1", "0,8") + "}", 8},
      {"UnknownDtype", "{" + tensor("a", "Q3_K", "5", "0,2") + "," + tensor("b", "U8", "1", "2,3") + "}", 3},
  };
}

inline std::vector<HeaderCase> refused_headers() {
  const std::string maximum = "18446744073709551615";
  return {
      {"EmptyHeader", "", 0, "does not begin with '{'"},
      {"LeadingSpace", " {}", 0, "does not begin with '{'"},
      {"ByteOrderMark", "\xef\xbb\xbf{}", 0, "does not begin with '{'"},
      {"List", "[]", 0, "does not begin with '{'"},
      {"Number", "7", 0, "does not begin with '{'"},
      {"Unclosed", "{", 0, "not valid JSON at offset 9"},
      {"TwoObjects", "{}{}", 0, "not valid JSON at offset 10"},
      {"TrailingComma", "{\"__metadata__\":{},}", 0, "not valid JSON"},
      {"TrailingLetter", "{}x", 0, "not valid JSON at offset 10"},
      {"TrailingNul", std::string("{}\0", 3), 0, "NUL in the header at offset 10"},
      {"NulThenObject", std::string("{}\0{}", 5), 0, "NUL"},
      {"Comment", "{/* */}", 0, "not valid JSON"},
      {"SingleQuotes", "{'a':1}", 0, "not valid JSON"},
      {"InvalidUtf8", "{" + tensor("\xff", "U8", "1", "0,1") + "}", 1, "not valid JSON"},
      {"OverlongUtf8", "{" + tensor("\xc0\xaf", "U8", "1", "0,1") + "}", 1, "not valid JSON"},
      {"LoneSurrogate", R"({"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "not valid JSON"},
      {"RawControlCharacter", "{\"a\nb\":{}}", 0, "not valid JSON"},
      {"TensorIsNumber", "{\"a\":1}", 0, "\"a\" holds a number and not an object"},
      {"TensorIsNull", "{\"a\":null}", 0, "\"a\" holds null"},
      {"TensorIsBoolean", "{\"a\":true}", 0, "\"a\" holds true or false"},
      {"TensorIsText", "{\"a\":\"b\"}", 0, "\"a\" holds a text"},
      {"TensorIsList", "{\"a\":[]}", 0, "\"a\" holds a list"},
      {"TensorIsEmpty", "{\"a\":{}}", 0, "tensor \"a\": the key \"dtype\" is missing"},
      {"MissingShape", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "\"shape\" is missing"},
      {"MissingOffsets", R"({"a":{"dtype":"U8","shape":[1]}})", 1, "\"data_offsets\" is missing"},
      {"UnknownKey", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}})", 1, "unknown key \"x\""},
      {"DtypeIsNumber", R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype holds a number"},
      {"DtypeIsNull", R"({"a":{"dtype":null,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype holds null"},
      {"DtypeTooLong", "{" + tensor("a", std::string(65, 'F'), "1", "0,1") + "}", 1, "dtype of 65 bytes"},
      {"ShapeIsNumber", R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "shape holds a number"},
      {"ShapeIsText", R"({"a":{"dtype":"U8","shape":"1","data_offsets":[0,1]}})", 1, "shape holds a text"},
      {"ShapeIsObject", R"({"a":{"dtype":"U8","shape":{},"data_offsets":[0,1]}})", 1, "shape holds an object"},
      {"ShapeNested", "{" + tensor("a", "U8", "[1]", "0,1") + "}", 1, "shape holds a list"},
      {"NegativeSize", "{" + tensor("a", "U8", "-1", "0,1") + "}", 1, "shape holds a negative number"},
      {"FractionalSize", "{" + tensor("a", "U8", "1.0", "0,1") + "}", 1, "not whole"},
      {"ExponentSize", "{" + tensor("a", "U8", "1e0", "0,1") + "}", 1, "not whole"},
      {"SizeAboveInt64", "{" + tensor("a", "U8", "9223372036854775808", "0,1") + "}", 1, "is too large"},
      {"SizeAboveUint64", "{" + tensor("a", "U8", "18446744073709551616", "0,1") + "}", 1, "above 1844"},
      {"RankTooHigh", "{" + tensor("a", "U8", repeated("1", 17, ","), "0,1") + "}", 1, "more than 16 dimensions"},
      {"ElementsOverflow", "{" + tensor("a", "U8", "4294967296,4294967296", "0,1") + "}", 1, "overflows"},
      {"OverflowBeforeZero", "{" + tensor("a", "U8", "4294967296,4294967296,0", "0,0") + "}", 0, "overflows"},
      {"BytesOverflow", "{" + tensor("a", "F64", "4611686018427387904", "0,0") + "}", 0, "do not fill whole bytes"},
      {"HalfAByte", "{" + tensor("a", "F4", "3", "0,2") + "}", 2, "do not fill whole bytes"},
      {"OneOffset", "{" + tensor("a", "U8", "1", "0") + "}", 1, "data_offsets needs two numbers"},
      {"ThreeOffsets", "{" + tensor("a", "U8", "1", "0,1,1") + "}", 1, "data_offsets needs two numbers"},
      {"NoOffsets", "{" + tensor("a", "U8", "1", "") + "}", 1, "data_offsets needs two numbers"},
      {"NegativeOffset", "{" + tensor("a", "U8", "1", "-1,0") + "}", 1, "data_offsets holds a negative number"},
      {"FractionalOffset", "{" + tensor("a", "U8", "1", "0,1.5") + "}", 1, "not whole"},
      {"TextOffset", "{" + tensor("a", "U8", "1", "\"0\",1") + "}", 1, "data_offsets holds a text"},
      {"OffsetsBackwards", "{" + tensor("a", "U8", "1", "1,0") + "}", 1, "before they begin"},
      {"OffsetsHuge", "{" + tensor("a", "U8", "1", maximum + "," + maximum) + "}", 1, "data_offsets give 0"},
      {"EmptyTensorFarAway", "{" + tensor("a", "U8", "0", maximum + "," + maximum) + "}", 0, "leaves a gap"},
      {"SizeTooSmall", "{" + tensor("a", "F32", "2", "0,4") + "}", 4, "need 8 bytes, data_offsets give 4"},
      {"SizeTooLarge", "{" + tensor("a", "F32", "1", "0,8") + "}", 8, "need 4 bytes, data_offsets give 8"},
      {"GapAtStart", "{" + tensor("a", "U8", "1", "1,2") + "}", 2, "leaves a gap"},
      {"GapBetween", "{" + tensor("a", "U8", "1", "0,1") + "," + tensor("b", "U8", "1", "2,3") + "}", 3,
       "leaves a gap"},
      {"Overlap", "{" + tensor("a", "U8", "2", "0,2") + "," + tensor("b", "U8", "2", "1,3") + "}", 3,
       "overlaps another"},
      {"SameBytesTwice", "{" + tensor("a", "U8", "2", "0,2") + "," + tensor("b", "U8", "2", "0,2") + "}", 2,
       "overlaps another"},
      {"EmptyTensorInside", "{" + tensor("a", "U8", "2", "0,2") + "," + tensor("b", "U8", "0", "1,1") + "}", 2,
       "overlaps"},
      {"DataBehindTensors", "{" + tensor("a", "U8", "1", "0,1") + "}", 2, "its tensors end at offset"},
      {"DataWithoutTensors", "{}", 1, "its tensors end at offset"},
      {"DataMissing", "{" + tensor("a", "U8", "2", "0,2") + "}", 1, "cut short"},
      {"UnknownDtypeGap", "{" + tensor("a", "Q3_K", "1", "1,2") + "}", 2, "leaves a gap"},
      {"UnknownDtypeOverflow", "{" + tensor("a", "Q3_K", "4294967296,4294967296", "0,1") + "}", 1, "overflows"},
      {"DuplicateTensor", "{" + tensor("a", "U8", "1", "0,1") + "," + tensor("a", "U8", "1", "1,2") + "}", 2,
       "duplicate tensor \"a\""},
      {"DuplicateTensorByEscape", "{" + tensor("a", "U8", "1", "0,1") + "," + tensor("\\u0061", "U8", "1", "1,2") + "}",
       2, "duplicate tensor \"a\""},
      {"DuplicateDtype", R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, "duplicate key"},
      {"DuplicateShape", R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1, "duplicate key"},
      {"DuplicateMetadata", R"({"__metadata__":{},"__metadata__":{}})", 0, "duplicate key \"__metadata__\""},
      {"DuplicateMetadataKey", R"({"__metadata__":{"a":"1","a":"2"}})", 0, "duplicate key \"a\" in __metadata__"},
      {"MetadataIsText", R"({"__metadata__":"x"})", 0, "\"__metadata__\" holds a text"},
      {"MetadataIsNull", R"({"__metadata__":null})", 0, "\"__metadata__\" holds null"},
      {"MetadataNumber", R"({"__metadata__":{"a":1}})", 0, "\"a\" in __metadata__ holds a number"},
      {"MetadataNested", R"({"__metadata__":{"a":{}}})", 0, "\"a\" in __metadata__ holds an object"},
      {"MetadataList", R"({"__metadata__":{"a":[]}})", 0, "\"a\" in __metadata__ holds a list"},
      {"MetadataNull", R"({"__metadata__":{"a":null}})", 0, "\"a\" in __metadata__ holds null"},
      {"NameTooLong", "{" + tensor(std::string(1025, 'n'), "U8", "1", "0,1") + "}", 1, "1025 bytes where at most 1024"},
      {"DeepNesting", "{\"a\":" + std::string(100'000, '['), 0, "\"a\" holds a list"},
      {"DeepObjects", repeated("{\"a\":", 100'000, ""), 0, "unknown key \"a\""},
  };
}

}  // namespace gato::checkpoint::test
