#include <gtest/gtest.h>

#include <fstream>

#include "episode/sample_data.h"
#include "episode/stream_forge.h"
#include "gato/episode/formats.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

namespace forge = stream_forge;

TEST(StreamSlowTest, AnEpisodeOfManyEmptyTextsIsRefusedBeforeItFillsTheMemory) {
  // A text of no bytes costs 2 bytes in the message and 32 in memory.
  constexpr int kTexts = 34 << 20;
  std::string texts;
  for (int i = 0; i < kTexts; ++i) texts += std::string_view("\x1a\0", 2);
  const std::string bomb =
      forge::number(1, 0) + forge::bytes(2, "bomb") + forge::number(5, kTexts) + forge::bytes(7, texts);
  const test::TempFolder folder;
  std::ofstream(folder / "bomb.stream", std::ios::binary)
      << forge::frame(forge::kHeader, forge::header({sample::document_task()})) << forge::frame(forge::kEpisode, bomb);
  const OpenedStream stream = stream_format(folder / "bomb.stream");
  RawRecord record;
  ASSERT_TRUE(stream.format->open(0)->next(record));
  try {
    static_cast<void>(stream.format->parse(record));
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("takes more than 1073741824"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace gato::episode
