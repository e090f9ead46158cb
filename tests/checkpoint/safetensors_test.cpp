#include "gato/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <thread>

#include "checkpoint/safetensors_header.h"
#include "gato/core/error.h"
#include "gato/core/random.h"
#include "safetensors_cases.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

namespace gato::checkpoint {
namespace {

using gato::test::TempFolder;
using testing_hooks::FileFault;
using testing_hooks::FileOperation;
using testing_hooks::ScopedFileFault;

std::string little_endian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

std::string file_bytes(const std::string& header, size_t data_bytes) {
  return little_endian(header.size()) + header + std::string(data_bytes, '\x5a');
}

void put(const Path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

template <class T>
TensorView view(const std::string& name, Dtype dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  return {name, dtype, std::move(shape), std::as_bytes(std::span(values))};
}

/// The message of the CheckpointError that opening `path` gives; "" when it opens.
std::string refusal(const Path& path, SafetensorsLimits limits = {}) {
  try {
    const SafetensorsReader reader(path, limits);
    return "";
  } catch (const CheckpointError& error) {
    return error.what();
  }
}

class AcceptedHeaderTest : public testing::TestWithParam<test::HeaderCase> {};

TEST_P(AcceptedHeaderTest, Opens) {
  const TempFolder folder("safetensors");
  put(folder / "file", file_bytes(GetParam().header, GetParam().data_bytes));
  EXPECT_EQ(refusal(folder / "file"), "");
}

class RefusedHeaderTest : public testing::TestWithParam<test::HeaderCase> {};

TEST_P(RefusedHeaderTest, NamesFileAndRule) {
  const TempFolder folder("safetensors");
  put(folder / "weights.safetensors", file_bytes(GetParam().header, GetParam().data_bytes));
  const std::string message = refusal(folder / "weights.safetensors");
  EXPECT_NE(message.find(GetParam().problem), std::string::npos) << message;
  EXPECT_NE(message.find("weights.safetensors"), std::string::npos) << message;
  EXPECT_LT(message.size(), 600u) << "a message must not repeat what may be a megabyte";
}

std::string case_name(const testing::TestParamInfo<test::HeaderCase>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Headers, AcceptedHeaderTest, testing::ValuesIn(test::accepted_headers()), case_name);
INSTANTIATE_TEST_SUITE_P(Headers, RefusedHeaderTest, testing::ValuesIn(test::refused_headers()), case_name);

TEST(SafetensorsTest, CasesAreMany) {
  EXPECT_GE(test::accepted_headers().size() + test::refused_headers().size(), 60u);
}

TEST(SafetensorsTest, RefusesLengthsThatLie) {
  const TempFolder folder("safetensors");
  const auto message = [&](const std::string& bytes) {
    put(folder / "file", bytes);
    return refusal(folder / "file");
  };
  EXPECT_NE(message("").find("ends at offset 0"), std::string::npos);
  EXPECT_NE(message("1234567").find("ends at offset 7"), std::string::npos);
  EXPECT_NE(message(little_endian(0)).find("does not begin with '{'"), std::string::npos);
  EXPECT_NE(message(little_endian(3) + "{}").find("does not fit into the file of 10 bytes"), std::string::npos);
  EXPECT_NE(message(little_endian(UINT64_MAX) + "{}").find("33554432 are allowed"), std::string::npos);
  EXPECT_NE(message(little_endian((uint64_t{32} << 20) + 1) + "{}").find("33554432 are allowed"), std::string::npos);
  EXPECT_NE(message(little_endian(uint64_t{32} << 20) + "{}").find("does not fit"), std::string::npos);
}

TEST(SafetensorsTest, LimitsAreThoseGiven) {
  const TempFolder folder("safetensors");
  put(folder / "file",
      file_bytes("{" + test::tensor("a", "U8", "1,1", "0,1") + "," + test::tensor("bb", "U8", "1", "1,2") + "}", 2));
  EXPECT_EQ(refusal(folder / "file"), "");
  EXPECT_NE(refusal(folder / "file", {.max_header_bytes = 20}), "");
  EXPECT_NE(refusal(folder / "file", {.max_tensors = 1}).find("more than 1 tensors"), std::string::npos);
  EXPECT_NE(refusal(folder / "file", {.max_name_bytes = 1}).find("\"bb\""), std::string::npos);
  EXPECT_NE(refusal(folder / "file", {.max_rank = 1}).find("more than 1 dimensions"), std::string::npos);
}

TEST(SafetensorsTest, RoundTripKeepsEveryBit) {
  const TempFolder folder("safetensors");
  const std::vector<float> floats = {0.0f, -0.0f, 1.5f, 3.4e38f, 1e-45f, 6.0f};
  const std::vector<int64_t> integers = {INT64_MIN, INT64_MAX};
  const std::vector<uint8_t> bytes = {0, 255, 7};
  const std::vector<uint16_t> halves = {0x7f80, 0x1234};
  const std::vector<TensorView> tensors = {view("layer/bytes", Dtype::kU8, {3}, bytes),
                                           view("layer/weight", Dtype::kF32, {2, 3}, floats),
                                           view("half", Dtype::kBF16, {2, 1}, halves),
                                           view("step", Dtype::kI64, {2}, integers),
                                           {"empty", Dtype::kF32, {0, 4}, {}}};
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"quote\"\n", "\xc3\xa9"}};
  write_safetensors(folder / "model.safetensors", tensors, metadata);

  const SafetensorsReader reader(folder / "model.safetensors");
  EXPECT_EQ(reader.metadata(), metadata);
  EXPECT_EQ(reader.names(), (std::vector<std::string>{"step", "layer/weight", "empty", "half", "layer/bytes"}));
  for (const TensorView& tensor : tensors) {
    const TensorInfo& info = reader.info(tensor.name);
    EXPECT_EQ(info.shape, tensor.shape);
    EXPECT_EQ(info.dtype, tensor.dtype);
    EXPECT_EQ(info.dtype_name, dtype_name(tensor.dtype));
    EXPECT_EQ(info.size, tensor.data.size());
    EXPECT_EQ(info.offset % static_cast<uint64_t>(dtype_bits(tensor.dtype) / 8), 0u);
    const std::vector<std::byte> data = reader.read(tensor.name);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), tensor.data.begin(), tensor.data.end())) << tensor.name;
  }
  EXPECT_EQ(reader.read_all().size(), tensors.size());
  EXPECT_EQ(reader.info("layer/weight").num_elements(), 6);
}

TEST(SafetensorsTest, BytesAreAsTheFormatSays) {
  const std::vector<uint8_t> values = {1, 2};
  std::string bytes;
  const std::vector<TensorView> tensors = {view("a", Dtype::kU8, {2}, values)};
  write_safetensors(
      [&](std::span<const std::byte> piece) {
        bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      },
      tensors, {{"k", "v"}});
  const std::string header = R"({"__metadata__":{"k":"v"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  const std::string padding(8 - header.size() % 8, ' ');
  EXPECT_EQ(bytes, little_endian(header.size() + padding.size()) + header + padding + "\x01\x02");
}

TEST(SafetensorsTest, ReadsPartsOfATensor) {
  const TempFolder folder("safetensors");
  const std::vector<uint8_t> values = {10, 11, 12, 13, 14};
  write_safetensors(folder / "file", std::vector{view("a", Dtype::kU8, {5}, values)});
  const SafetensorsReader reader(folder / "file");
  std::array<std::byte, 2> part{};
  reader.read_range("a", 3, part);
  EXPECT_EQ(std::to_integer<int>(part[0]), 13);
  EXPECT_EQ(std::to_integer<int>(part[1]), 14);
  EXPECT_THROW(reader.read_range("a", 4, part), ContractError);
  EXPECT_THROW(reader.read_range("a", UINT64_MAX, part), ContractError);
  EXPECT_THROW(reader.read("a", part), ContractError);
}

TEST(SafetensorsTest, NamesTheNearestTensor) {
  const TempFolder folder("safetensors");
  const std::vector<uint8_t> values = {1};
  write_safetensors(folder / "file", std::vector{view("block.0.weight", Dtype::kU8, {1}, values)});
  const SafetensorsReader reader(folder / "file");
  EXPECT_TRUE(reader.has("block.0.weight"));
  EXPECT_FALSE(reader.has("block.0.weigth"));
  try {
    static_cast<void>(reader.info("block.0.weigth"));
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("nearest name is \"block.0.weight\""), std::string::npos) << error.what();
  }
}

TEST(SafetensorsTest, UnknownDtypeIsAnErrorOnlyWhenRead) {
  const TempFolder folder("safetensors");
  put(folder / "file",
      file_bytes("{" + test::tensor("odd", "Q3_K", "5", "0,2") + "," + test::tensor("b", "U8", "1", "2,3") + "}", 3));
  const SafetensorsReader reader(folder / "file");
  EXPECT_EQ(reader.read("b").size(), 1u);
  EXPECT_EQ(reader.info("odd").dtype, std::nullopt);
  EXPECT_THROW(static_cast<void>(reader.read("odd")), CheckpointError);
  EXPECT_THROW(static_cast<void>(reader.read_all()), CheckpointError);
}

TEST(SafetensorsTest, RefusesEveryTruncationAndExtension) {
  const TempFolder folder("safetensors");
  const std::vector<float> values = {1, 2, 3};
  write_safetensors(folder / "file", std::vector{view("a", Dtype::kF32, {3}, values)}, {{"k", "v"}});
  const std::string whole = read_file(folder / "file");
  for (size_t size = whole.size(); size-- > 0;) {
    std::filesystem::resize_file(folder / "file", size);
    EXPECT_NE(refusal(folder / "file"), "") << size;
  }
  put(folder / "file", whole + "x");
  EXPECT_NE(refusal(folder / "file"), "");
}

TEST(SafetensorsTest, FlippedHeaderBytesNeverCrash) {
  const TempFolder folder("safetensors");
  const std::vector<float> values = {1, 2, 3};
  write_safetensors(folder / "file", std::vector{view("a", Dtype::kF32, {3}, values)}, {{"k", "v"}});
  const std::string whole = read_file(folder / "file");
  const SafetensorsLimits limits;
  for (size_t i = 8; i < whole.size() - 12; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole.substr(8, whole.size() - 20);
      flipped[i - 8] = static_cast<char>(flipped[i - 8] ^ (1 << bit));
      try {
        const SafetensorsHeader header = parse_safetensors_header(flipped, whole.size(), "file", limits);
        ASSERT_LE(header.tensors.size(), 1u);
        for (const TensorInfo& tensor : header.tensors) ASSERT_EQ(tensor.offset + tensor.size, whole.size());
      } catch (const CheckpointError&) {
      }
    }
  }
}

TEST(SafetensorsTest, FileCutWhileOpenIsAnErrorAndNoCrash) {
  const TempFolder folder("safetensors");
  const std::vector<float> values(1000, 1.0f);
  write_safetensors(folder / "file", std::vector{view("a", Dtype::kF32, {1000}, values)});
  const SafetensorsReader reader(folder / "file");
  std::filesystem::resize_file(folder / "file", 200);
  EXPECT_THROW(static_cast<void>(reader.read("a")), DataError);
}

TEST(SafetensorsTest, ManyTensorsOpenQuickly) {
  const TempFolder folder("safetensors");
  const std::vector<uint8_t> byte = {1};
  std::vector<TensorView> tensors;
  for (int i = 0; i < 50'000; ++i) tensors.push_back(view("tensor." + std::to_string(i), Dtype::kU8, {1}, byte));
  write_safetensors(folder / "file", tensors);
  const SafetensorsReader reader(folder / "file");
  EXPECT_EQ(reader.tensors().size(), tensors.size());
  EXPECT_EQ(reader.info("tensor.47777").shape, std::vector<int64_t>{1});
}

TEST(SafetensorsTest, ReadsFromManyThreads) {
  const TempFolder folder("safetensors");
  std::vector<std::vector<uint8_t>> data;
  for (int i = 0; i < 16; ++i) data.emplace_back(static_cast<size_t>(1000 + i), static_cast<uint8_t>(i));
  std::vector<TensorView> tensors;
  for (size_t i = 0; i < data.size(); ++i) {
    tensors.push_back(view(std::to_string(i), Dtype::kU8, {static_cast<int64_t>(data[i].size())}, data[i]));
  }
  write_safetensors(folder / "file", tensors);
  const SafetensorsReader reader(folder / "file");
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (const TensorView& tensor : tensors) {
        const std::vector<std::byte> read = reader.read(tensor.name);
        wrong += !std::equal(read.begin(), read.end(), tensor.data.begin(), tensor.data.end());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(SafetensorsTest, WriterRefusesBrokenViews) {
  const ByteSink nowhere = [](std::span<const std::byte>) {};
  const std::vector<uint8_t> bytes = {1, 2};
  const auto write = [&](std::vector<TensorView> tensors) { write_safetensors(nowhere, tensors); };
  EXPECT_THROW(write({view("", Dtype::kU8, {2}, bytes)}), ContractError);
  EXPECT_THROW(write({view("__metadata__", Dtype::kU8, {2}, bytes)}), ContractError);
  EXPECT_THROW(write({view("\xff", Dtype::kU8, {2}, bytes)}), ContractError);
  EXPECT_THROW(write({view(std::string(1025, 'n'), Dtype::kU8, {2}, bytes)}), ContractError);
  EXPECT_THROW(write({view("a", Dtype::kU8, {3}, bytes)}), ContractError);
  EXPECT_THROW(write({view("a", Dtype::kF32, {2}, bytes)}), ContractError);
  EXPECT_THROW(write({view("a", Dtype::kU8, {-2}, bytes)}), ContractError);
  EXPECT_THROW(write({view("a", Dtype::kF4, {3}, bytes)}), ContractError);
  EXPECT_THROW(write({view("a", Dtype::kU8, std::vector<int64_t>(17, 1), bytes)}), ContractError);
  EXPECT_THROW(write({view("a", Dtype::kU8, {2}, bytes), view("a", Dtype::kI8, {2}, bytes)}), ContractError);
  EXPECT_THROW(write_safetensors(nowhere, {}, {{"k", "\xff"}}), ContractError);
  EXPECT_NO_THROW(write({view("a", Dtype::kF4, {4}, bytes)}));
}

TEST(SafetensorsTest, EveryFailingCallLeavesTheOldFile) {
  const TempFolder folder("safetensors");
  const Path path = folder / "file";
  const std::vector<float> old_values(10, 1.0f);
  const std::vector<float> new_values(200'000, 2.0f);  // several writes
  write_safetensors(path, std::vector{view("a", Dtype::kF32, {10}, old_values)});
  const std::string before = read_file(path);
  for (const FileOperation operation :
       {FileOperation::kOpen, FileOperation::kWrite, FileOperation::kFsync, FileOperation::kRename}) {
    for (const FileFault::Effect effect : {FileFault::Effect::kError, FileFault::Effect::kTornThenError}) {
      if (operation != FileOperation::kWrite && effect != FileFault::Effect::kError) continue;
      const ScopedFileFault fault({.operation = operation,
                                   .nth = 1,
                                   .all_after = true,
                                   .effect = effect,
                                   .error_number = ENOSPC,
                                   .path_contains = folder.path().string()});
      EXPECT_THROW(write_safetensors(path, std::vector{view("a", Dtype::kF32, {200'000}, new_values)}), IoError);
      testing_hooks::clear_file_fault();
      EXPECT_EQ(read_file(path), before);
      const auto entries = std::filesystem::directory_iterator(folder.path());
      EXPECT_EQ(std::distance(entries, {}), 1) << "a temporary file was left behind";
    }
  }
  const ScopedFileFault short_writes(
      {.operation = FileOperation::kWrite, .nth = 1, .all_after = true, .effect = FileFault::Effect::kShortWrite});
  write_safetensors(path, std::vector{view("a", Dtype::kF32, {200'000}, new_values)});
  const auto read = SafetensorsReader(path).read("a");
  EXPECT_EQ(std::memcmp(read.data(), new_values.data(), read.size()), 0);
}

TEST(SafetensorsTest, DtypeNamesRoundTrip) {
  for (int i = 0; i <= static_cast<int>(Dtype::kU64); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
    EXPECT_GE(dtype_bits(dtype), 4);
    EXPECT_LE(dtype_bits(dtype), 64);
  }
  EXPECT_EQ(dtype_from_name("f32"), std::nullopt);
  EXPECT_EQ(dtype_from_name(""), std::nullopt);
}

}  // namespace
}  // namespace gato::checkpoint
