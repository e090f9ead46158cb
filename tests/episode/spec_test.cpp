#include "gato/episode/spec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "episode/sample_data.h"
#include "gato/core/error.h"

namespace gato::episode {
namespace {

using sample::continuous_field;
using sample::discrete_field;
using sample::image_field;
using sample::mixed_task;
using sample::text_field;

TEST(SpecTest, AcceptsEveryModality) {
  EXPECT_NO_THROW(check_task_spec(mixed_task()));
  EXPECT_NO_THROW(check_task_spec(sample::document_task()));
}

TEST(SpecTest, AcceptsUnboundedObservations) {
  TaskSpec task = mixed_task();
  const float infinity = std::numeric_limits<float>::infinity();
  task.observation[0].low = {-infinity};
  task.observation[0].high = {infinity};
  EXPECT_NO_THROW(check_task_spec(task));
  task.observation[0].low.clear();
  task.observation[0].high.clear();
  EXPECT_NO_THROW(check_task_spec(task));
}

struct Mistake {
  const char* name;
  const char* expected;  // Part of the message.
  std::function<void(TaskSpec&)> make;
};

class SpecMistakeTest : public testing::TestWithParam<Mistake> {};

TEST_P(SpecMistakeTest, IsNamed) {
  TaskSpec task = mixed_task();
  GetParam().make(task);
  const std::string message = sample::message_of<ConfigError>([&] { check_task_spec(task); });
  EXPECT_NE(message.find(GetParam().expected), std::string::npos) << "message: " << message;
  EXPECT_NE(message.find("task '"), std::string::npos) << "message: " << message;
}

const std::vector<Mistake> kMistakes = {
    {"EmptyId", "domain/name", [](TaskSpec& t) { t.id = ""; }},
    {"IdWithoutDomain", "domain/name", [](TaskSpec& t) { t.id = "reach"; }},
    {"IdWithEmptyPart", "domain/name", [](TaskSpec& t) { t.id = "metaworld//reach"; }},
    {"IdWithDots", "domain/name", [](TaskSpec& t) { t.id = "metaworld/.."; }},
    {"IdWithSpace", "domain/name", [](TaskSpec& t) { t.id = "meta world/reach"; }},
    {"IdTooLong", "domain/name", [](TaskSpec& t) { t.id = "a/" + std::string(300, 'b'); }},
    {"NoAction", "no action", [](TaskSpec& t) { t.action.clear(); }},
    {"DuplicateName", "twice", [](TaskSpec& t) { t.observation[1].name = "camera"; }},
    {"EmptyFieldName", "field name", [](TaskSpec& t) { t.action[0].name = ""; }},
    {"FieldNameWithNewline", "field name", [](TaskSpec& t) { t.action[0].name = "a\nb"; }},
    {"TooManyFields", "at most 256",
     [](TaskSpec& t) {
       for (int i = 0; i < 300; ++i) t.observation.push_back(text_field(cat("text", i)));
     }},
    {"TextWithShape", "text has no shape", [](TaskSpec& t) { t.observation[1].shape = {3}; }},
    {"ImageWithoutChannels", "{height, width, 3}",
     [](TaskSpec& t) {
       t.observation[2].shape = {6, 5};
     }},
    {"ImageOfFourChannels", "{height, width, 3}",
     [](TaskSpec& t) {
       t.observation[2].shape = {6, 5, 4};
     }},
    {"ImageSideNegative", "image side -1",
     [](TaskSpec& t) {
       t.observation[2].shape = {-1, 5, 3};
     }},
    {"ImageSideHuge", "image side 20000",
     [](TaskSpec& t) {
       t.observation[2].shape = {20000, 5, 3};
     }},
    {"ImagePixelsHuge", "pixels",
     [](TaskSpec& t) {
       t.observation[2].shape = {16384, 16384, 3};
     }},
    {"ZeroDimension", "dimension 0",
     [](TaskSpec& t) {
       t.observation[0].shape = {2, 0};
     }},
    {"NegativeDimension", "dimension -2", [](TaskSpec& t) { t.observation[0].shape = {-2}; }},
    {"OverflowingShape", "product",
     [](TaskSpec& t) {
       t.observation[0].shape = {int64_t{1} << 23, int64_t{1} << 23, int64_t{1} << 23};
     }},
    {"TooManyDimensions", "9 dimensions", [](TaskSpec& t) { t.observation[0].shape.assign(9, 1); }},
    {"NumValuesZero", "num_values is 0", [](TaskSpec& t) { t.action[0].num_values = 0; }},
    {"NumValuesLarge", "num_values is 1025", [](TaskSpec& t) { t.action[0].num_values = 1025; }},
    {"NumValuesOfText", "discrete fields only", [](TaskSpec& t) { t.action[2].num_values = 3; }},
    {"BoundsOfText", "continuous fields only", [](TaskSpec& t) { t.action[2].low = t.action[2].high = {0}; }},
    {"ActionWithoutBounds", "needs bounds",
     [](TaskSpec& t) {
       t.action[1].low.clear();
       t.action[1].high.clear();
     }},
    {"OnlyLowBounds", "must be equal", [](TaskSpec& t) { t.action[1].high.clear(); }},
    {"WrongNumberOfBounds", "one for all or one for each",
     [](TaskSpec& t) {
       t.action[1].low = {-1, -1, -1};
       t.action[1].high = {1, 1, 1};
     }},
    {"EqualBounds", "low < high", [](TaskSpec& t) { t.action[1].low = t.action[1].high; }},
    {"InfiniteActionBound", "finite", [](TaskSpec& t) { t.action[1].high[0] = HUGE_VALF; }},
    {"NanBound", "NaN", [](TaskSpec& t) { t.observation[0].low[0] = NAN; }},
    {"CrossedObservationBounds", "above upper", [](TaskSpec& t) { t.observation[0].low[0] = 3; }},
    {"ImageAction", "cannot be an image", [](TaskSpec& t) { t.action.push_back(image_field("drawing", 4, 4)); }},
    {"UnknownModality", "unknown modality", [](TaskSpec& t) { t.action[0].modality = static_cast<Modality>(9); }},
    {"UnknownCodec", "unknown image codec", [](TaskSpec& t) { t.observation[2].codec = static_cast<ImageCodec>(9); }},
    {"UnknownScoring", "unknown scoring", [](TaskSpec& t) { t.scoring = static_cast<Scoring>(9); }},
    {"ExactMatchWithoutText", "text action",
     [](TaskSpec& t) {
       t.scoring = Scoring::kExactMatch;
       t.action.pop_back();
     }},
    {"NegativeMaxSteps", "max_steps is -1", [](TaskSpec& t) { t.max_steps = -1; }},
    {"NanExpert", "expert", [](TaskSpec& t) { t.expert.mean = NAN; }},
    {"NegativeError", "random", [](TaskSpec& t) { t.random.standard_error = -1; }},
    {"BadDescription", "UTF-8", [](TaskSpec& t) { t.description = "\xff"; }},
    {"BadUnit", "UTF-8", [](TaskSpec& t) { t.observation[0].unit = "\xff"; }},
};

INSTANTIATE_TEST_SUITE_P(All, SpecMistakeTest, testing::ValuesIn(kMistakes),
                         [](const testing::TestParamInfo<Mistake>& mistake) {
                           return std::string(mistake.param.name);
                         });

TEST(SpecTest, BoundsAreOneForAllOrOneForEach) {
  FieldSpec field = continuous_field("x", {3}, -2.0f, 5.0f);
  EXPECT_EQ(field.low_of(2), -2.0f);
  EXPECT_EQ(field.high_of(2), 5.0f);
  field.low = {1, 2, 3};
  field.high = {4, 5, 6};
  EXPECT_EQ(field.low_of(1), 2.0f);
  EXPECT_EQ(field.high_of(2), 6.0f);
  field.low.clear();
  field.high.clear();
  EXPECT_EQ(field.low_of(0), -1.0f);
  EXPECT_EQ(field.high_of(2), 1.0f);
}

TEST(SpecTest, ElementsAreTheProductOfTheShape) {
  EXPECT_EQ(discrete_field("x", {}, 3).num_elements(), 1);
  EXPECT_EQ(discrete_field("x", {2, 3, 4}, 3).num_elements(), 24);
}

TEST(SpecTest, DomainIsTheFirstPartOfTheId) { EXPECT_EQ(mixed_task("atari/v5/pong").domain(), "atari"); }

TEST(SpecTest, CanonicalOrderIsTextImageTensorsSortedByName) {
  const std::vector<FieldSpec> fields = {
      continuous_field("b", {1}, 0, 1), image_field("z", 1, 1), text_field("y"),
      discrete_field("a", {}, 2),       text_field("x"),        image_field("c", 1, 1)};
  EXPECT_EQ(canonical_order(fields), (std::vector<int>{4, 2, 5, 1, 3, 0}));
  EXPECT_TRUE(canonical_order({}).empty());
}

TEST(SpecTest, ModalitiesHaveNames) {
  EXPECT_EQ(modality_name(Modality::kText), "text");
  EXPECT_EQ(modality_name(Modality::kImage), "image");
  EXPECT_EQ(modality_name(Modality::kDiscrete), "discrete");
  EXPECT_EQ(modality_name(Modality::kContinuous), "continuous");
}

}  // namespace
}  // namespace gato::episode
