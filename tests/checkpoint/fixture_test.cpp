#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "small_checkpoint.h"
#include "support/temp_folder.h"

// Checkpoints as released versions wrote them must be read for ever, and by readers that are not ours.
namespace gato::checkpoint {
namespace {

const Path kFolder = Path(GATO_SOURCE_DIR) / "tests" / "checkpoint";

struct Output {
  int status = 0;
  std::string text;
};

/// Runs the reader that was written from docs/formats/checkpoint.md alone.
Output run_python_reader(const Path& checkpoint) {
  const std::string command =
      cat("python3 '", (kFolder / "read_checkpoint.py").string(), "' '", checkpoint.string(), "' 2>&1");
  Output output;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return {-1, "popen failed"};
  std::array<char, 4096> buffer{};
  for (size_t count; (count = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    output.text.append(buffer.data(), count);
  }
  output.status = ::pclose(pipe);
  return output;
}

bool have_python() { return std::system("python3 -c '' > /dev/null 2>&1") == 0; }

TEST(CheckpointFixtureTest, Version1IsRead) {
  const CheckpointInfo fixture{7, kFolder / "fixtures" / "v1" / "step-00000007"};
  for (const Damage& damage : verify_checkpoint(fixture.path)) ADD_FAILURE() << damage.describe();
  EXPECT_TRUE(test::is_as_saved(fixture));
  const Checkpoint checkpoint(fixture.path);
  EXPECT_EQ(checkpoint.manifest().facts, (std::map<std::string, std::string>{{"attempt", "1"}}));
  EXPECT_EQ(SafetensorsReader(checkpoint.file("model.safetensors")).metadata().at("step"), "7");
}

TEST(CheckpointFixtureTest, WritingItAgainGivesTheSameBytes) {
  const gato::test::TempFolder folder("checkpoint");
  const CheckpointInfo saved = test::save(folder.path(), 7);
  const Path fixture = kFolder / "fixtures" / "v1" / "step-00000007";
  for (const char* name : {"model.safetensors", "training_state.json", "demos/grid.txt"}) {
    EXPECT_EQ(read_file(saved.path / name), read_file(fixture / name)) << name;
  }
  EXPECT_EQ(Checkpoint(saved.path).manifest().files, Checkpoint(fixture).manifest().files);
}

TEST(CheckpointFixtureTest, AReaderWrittenFromTheSpecificationAgrees) {
  if (!have_python()) GTEST_SKIP() << "python3 is not installed";
  const gato::test::TempFolder folder("checkpoint");
  const CheckpointInfo saved = test::save(folder.path(), 7);
  const Output output = run_python_reader(saved.path);
  EXPECT_EQ(output.status, 0) << output.text;
  EXPECT_EQ(output.text, "model.safetensors weights F32 100 704.834\n");

  test::flip_byte(saved.path / "model.safetensors", 200);
  EXPECT_NE(run_python_reader(saved.path).status, 0);
  EXPECT_EQ(run_python_reader(saved.path).text, "model.safetensors at offset 0: damaged\n");
  test::flip_byte(saved.path / "MANIFEST.json", 40);
  EXPECT_EQ(run_python_reader(saved.path).text, "MANIFEST.json: damaged\n");
}

}  // namespace
}  // namespace gato::checkpoint
