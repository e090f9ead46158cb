#include "gato/core/error.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "gato/core/version.h"

namespace gato {
namespace {

TEST(ErrorTest, CheckThrowsWithPlaceConditionAndMessage) {
  const int rows = -3;
  GATO_CHECK(rows < 0, "never shown");
  try {
    GATO_CHECK(rows > 0, "rows is ", rows);
    FAIL() << "no exception";
  } catch (const ContractError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("rows > 0: rows is -3"), std::string::npos) << message;
    EXPECT_EQ(message.find("tests/core/error_test.cpp:"), 0u) << message;
  }
}

TEST(ErrorTest, DebugCheckIsOnInCheckedBuildsOnly) {
  int evaluated = 0;
  const auto fails = [&evaluated] { return ++evaluated == 0; };
  static_cast<void>(fails);
#ifdef GATO_DCHECKS
  EXPECT_THROW(GATO_DCHECK(fails(), "x"), ContractError);
  EXPECT_EQ(evaluated, 1);
#else
  GATO_DCHECK(fails(), "x");
  EXPECT_EQ(evaluated, 0);
#endif
}

TEST(ErrorTest, FamilyHasOneBase) {
  EXPECT_THROW(throw ConfigError("x"), Error);
  EXPECT_THROW(throw DataError("x"), Error);
  EXPECT_THROW(throw CheckpointError("x"), Error);
  EXPECT_THROW(throw DeviceError("x"), Error);
  EXPECT_THROW(throw Interrupted("x"), Error);
  EXPECT_THROW(throw ContractError("x"), Error);
  EXPECT_EQ(IoError("full", ENOSPC).error_number(), ENOSPC);
}

TEST(VersionTest, NamesReleaseAndCompiler) {
  EXPECT_EQ(split(version(), '.').size(), 3u) << version();
  EXPECT_NE(compiler_version().find("++ "), std::string::npos) << compiler_version();
}

}  // namespace
}  // namespace gato
