#include "gato/checkpoint/checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "checkpoint/folder_names.h"
#include "gato/checkpoint/retention.h"
#include "gato/core/error.h"
#include "small_checkpoint.h"
#include "support/child_process.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

namespace gato::checkpoint {
namespace {

namespace fs = std::filesystem;
using gato::test::TempFolder;
using test::is_as_saved;
using test::names_in;
using test::save;
using test::save_one_file;

const DamageCallback kSilent = [](const CheckpointInfo&, const std::vector<Damage>&) {};

void put(const Path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(content.data(), static_cast<std::streamsize>(content.size()));
}

TEST(StepNameTest, RoundTrips) {
  EXPECT_EQ(step_name(1000), "step-00001000");
  EXPECT_EQ(step_name(123456789012), "step-123456789012");
  for (const int64_t step : {int64_t{0}, int64_t{1}, int64_t{99999999}, int64_t{100000000}, INT64_MAX}) {
    EXPECT_EQ(parse_step_name(step_name(step)), step);
  }
  for (const char* name : {"", "step-", "step-1", "step-0001000", "step-000001000", "step--0000001", "step-0000100a",
                           "step-00001000.tmp-1-1", "Step-00001000", "step-99999999999999999999", "step-+0001000"}) {
    EXPECT_EQ(parse_step_name(name), std::nullopt) << name;
  }
}

TEST(CheckpointTest, IsCompleteAfterCommit) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo saved = save(folder / "checkpoints", 1000);
  EXPECT_EQ(saved.step, 1000);
  EXPECT_EQ(saved.path, folder / "checkpoints" / "step-00001000");
  EXPECT_EQ(names_in(saved.path), (std::vector<std::string>{"MANIFEST.json", "demos", "empty.txt", "model.safetensors",
                                                            "training_state.json"}));
  EXPECT_EQ(names_in(folder / "checkpoints"), (std::vector<std::string>{"latest", "step-00001000"}));
  EXPECT_EQ(fs::read_symlink(folder / "checkpoints" / "latest"), "step-00001000");
  EXPECT_TRUE(verify_checkpoint(saved.path).empty());
  EXPECT_TRUE(verify_checkpoint(folder / "checkpoints" / "latest").empty());
  EXPECT_TRUE(is_as_saved(saved));

  const Checkpoint checkpoint(saved.path);
  EXPECT_EQ(checkpoint.manifest().facts.at("attempt"), "1");
  EXPECT_GT(checkpoint.manifest().time, 1.7e9);
  EXPECT_EQ(checkpoint.manifest().files.size(), 4u);
  EXPECT_EQ(checkpoint.read("empty.txt"), "");
  EXPECT_TRUE(checkpoint.has("demos/grid.txt"));
  EXPECT_FALSE(checkpoint.has("demos"));
}

TEST(CheckpointTest, IsAbsentWithoutCommit) {
  const TempFolder folder("checkpoint");
  {
    CheckpointWriter writer(folder.path(), 5);
    writer.add_file("a", "b");
    EXPECT_TRUE(fs::exists(writer.unfinished_path() / "a"));
    EXPECT_EQ(newest_valid(folder.path()), std::nullopt);
    EXPECT_TRUE(list_checkpoints(folder.path()).empty());
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(CheckpointTest, TakesFilesOfOtherProcesses) {
  const TempFolder folder("checkpoint");
  CheckpointWriter writer(folder.path(), 5);
  writer.add_file("model", "m");
  write_file_atomic(writer.unfinished_path() / "optimizer-00001", "rank 1");
  const CheckpointInfo saved = writer.commit();
  EXPECT_EQ(Checkpoint(saved.path).read("optimizer-00001"), "rank 1");
}

TEST(CheckpointTest, RefusesBadNamesAndOrder) {
  const TempFolder folder("checkpoint");
  EXPECT_THROW(CheckpointWriter(folder.path(), -1), ContractError);
  CheckpointWriter writer(folder.path(), 5);
  writer.add_file("a/b", "x");
  for (const char* name : {"a/b", "", "/etc/x", "../x", "a/../x", "MANIFEST.json"}) {
    EXPECT_THROW(writer.add_file(name, ""), ContractError) << name;
    EXPECT_THROW(static_cast<void>(writer.file_path(name)), ContractError) << name;
    EXPECT_THROW(writer.add_tensors(name, {}), ContractError) << name;
  }
  EXPECT_THROW(writer.set_fact("k", "\xff"), ContractError);
  static_cast<void>(writer.commit());
  EXPECT_THROW(writer.add_file("c", ""), ContractError);
  EXPECT_THROW(static_cast<void>(writer.commit()), ContractError);
}

TEST(CheckpointTest, RefusesAnnouncedFilesThatAreMissingAndLinks) {
  const TempFolder folder("checkpoint");
  {
    CheckpointWriter writer(folder.path(), 1);
    static_cast<void>(writer.file_path("never.txt"));
    EXPECT_THROW(static_cast<void>(writer.commit()), CheckpointError);
  }
  {
    CheckpointWriter writer(folder.path(), 1);
    fs::create_symlink("/etc/passwd", writer.unfinished_path() / "link");
    EXPECT_THROW(static_cast<void>(writer.commit()), CheckpointError);
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(CheckpointTest, AnswersWithTheNearestName) {
  const TempFolder folder("checkpoint");
  const Checkpoint checkpoint(save(folder.path(), 1).path);
  try {
    static_cast<void>(checkpoint.file("model.safetensor"));
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("\"model.safetensors\""), std::string::npos) << error.what();
  }
  EXPECT_THROW(static_cast<void>(checkpoint.read("model.safetensors", 10)), CheckpointError);
  EXPECT_THROW(static_cast<void>(checkpoint.file("MANIFEST.json")), CheckpointError);
}

TEST(VerifyTest, FindsEveryFlippedByteAndNamesFileAndOffset) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo saved = save(folder.path(), 7);
  for (const char* name : {"MANIFEST.json", "model.safetensors", "training_state.json", "demos/grid.txt"}) {
    const uint64_t size = fs::file_size(saved.path / name);
    for (uint64_t offset = 0; offset < size; ++offset) {
      test::flip_byte(saved.path / name, offset);
      const std::vector<Damage> damages = verify_checkpoint(saved.path);
      ASSERT_EQ(damages.size(), 1u) << name << " " << offset;
      EXPECT_EQ(damages[0].file, name);
      EXPECT_EQ(damages[0].offset, 0u) << "all in the first chunk";
      test::flip_byte(saved.path / name, offset);
    }
  }
  EXPECT_TRUE(verify_checkpoint(saved.path).empty());
}

TEST(VerifyTest, NamesTheChunkOfLargeFiles) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo saved = save(folder.path(), 7, 1'000'000);
  const Path model = saved.path / "model.safetensors";
  const uint64_t size = fs::file_size(model);
  ASSERT_GT(size, 3 * kChunkBytes);
  for (const uint64_t offset : {uint64_t{0}, kChunkBytes - 1, kChunkBytes, 2 * kChunkBytes + 17, size - 1}) {
    test::flip_byte(model, offset);
    const std::vector<Damage> damages = verify_checkpoint(saved.path);
    ASSERT_EQ(damages.size(), 1u);
    EXPECT_EQ(damages[0].offset, offset / kChunkBytes * kChunkBytes);
    EXPECT_NE(damages[0].describe().find(cat("model.safetensors at offset ", damages[0].offset)), std::string::npos);
    EXPECT_TRUE(verify_checkpoint(saved.path, VerifyDepth::kSizes).empty());
    EXPECT_THROW(static_cast<void>(Checkpoint(saved.path).read("model.safetensors")), CheckpointError);
    test::flip_byte(model, offset);
  }
  EXPECT_TRUE(is_as_saved(saved, 1'000'000));
}

TEST(VerifyTest, FindsTruncationAtEveryLength) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo saved = save(folder.path(), 7);
  for (const char* name : {"MANIFEST.json", "model.safetensors", "training_state.json", "demos/grid.txt"}) {
    const std::string whole = read_file(saved.path / name);
    for (size_t size = whole.size(); size-- > 0;) {
      fs::resize_file(saved.path / name, size);
      for (const VerifyDepth depth : {VerifyDepth::kSizes, VerifyDepth::kContent}) {
        const std::vector<Damage> damages = verify_checkpoint(saved.path, depth);
        ASSERT_EQ(damages.size(), 1u) << name << " " << size;
        EXPECT_EQ(damages[0].file, name);
        EXPECT_EQ(damages[0].offset, std::string(name) == "MANIFEST.json" ? 0 : size);
      }
    }
    put(saved.path / name, whole + "x");
    EXPECT_EQ(verify_checkpoint(saved.path).size(), 1u) << name;
    put(saved.path / name, whole);
  }
  EXPECT_TRUE(verify_checkpoint(saved.path).empty());
}

TEST(VerifyTest, FindsMissingFilesLinksAndFolders) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo saved = save(folder.path(), 7);
  const auto reason = [&] {
    const std::vector<Damage> damages = verify_checkpoint(saved.path);
    return damages.empty() ? "" : damages[0].describe();
  };
  const Path state = saved.path / "training_state.json";
  fs::rename(state, folder / "elsewhere");
  EXPECT_NE(reason().find("training_state.json at offset 0: the file is missing"), std::string::npos);
  fs::create_symlink(folder / "elsewhere", state);
  EXPECT_NE(reason().find("not a regular file"), std::string::npos);
  EXPECT_THROW(static_cast<void>(Checkpoint(saved.path).read("training_state.json")), CheckpointError);
  fs::remove(state);
  fs::create_directory(state);
  EXPECT_NE(reason().find("not a regular file"), std::string::npos);
  fs::remove(state);
  fs::rename(folder / "elsewhere", state);
  fs::rename(saved.path / "demos", folder / "demos");
  fs::create_directory_symlink(folder / "demos", saved.path / "demos");
  EXPECT_NE(reason().find("not a regular file"), std::string::npos) << "a link in the middle of a path";
  fs::remove(saved.path / "demos");
  fs::rename(folder / "demos", saved.path / "demos");
  EXPECT_EQ(reason(), "");
  fs::rename(saved.path / "MANIFEST.json", folder / "m");
  EXPECT_NE(reason().find("MANIFEST.json at offset 0"), std::string::npos);
  EXPECT_THROW(Checkpoint{saved.path}, CheckpointError);
  fs::create_symlink(folder / "m", saved.path / "MANIFEST.json");
  EXPECT_NE(reason().find("not a regular file"), std::string::npos);
  EXPECT_FALSE(verify_checkpoint(folder / "nothing").empty());
}

TEST(VerifyTest, SumsUpTheDamagesOfALargeFile) {
  const TempFolder folder("checkpoint");
  CheckpointWriter writer(folder.path(), 1);
  writer.add_file("big", std::string(40 * kChunkBytes, 'a'));
  const CheckpointInfo saved = writer.commit();
  put(saved.path / "big", std::string(40 * kChunkBytes, 'b'));
  const std::vector<Damage> damages = verify_checkpoint(saved.path);
  EXPECT_EQ(damages.size(), 17u);
  EXPECT_NE(damages.back().reason.find("24 more chunks"), std::string::npos);
}

TEST(VerifyTest, ARenamedCheckpointOfAnotherStepIsDamaged) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo saved = save(folder.path(), 7);
  fs::rename(saved.path, folder / "step-00000009");
  EXPECT_FALSE(verify_checkpoint(folder / "step-00000009").empty());
  fs::rename(folder / "step-00000009", folder / "best");
  EXPECT_TRUE(verify_checkpoint(folder / "best").empty());
}

TEST(NewestValidTest, PassesOverDamagedOnesAndNamesThem) {
  const TempFolder folder("checkpoint");
  EXPECT_EQ(newest_valid(folder / "missing"), std::nullopt);
  const CheckpointInfo first = save_one_file(folder.path(), 1);
  const CheckpointInfo second = save_one_file(folder.path(), 2);
  const CheckpointInfo third = save_one_file(folder.path(), 30);
  fs::create_directory(folder / "step-00000040");  // without a manifest it is none
  put(folder / "step-00000050", "a file");
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 4u);

  std::vector<int64_t> damaged;
  const auto note = [&](const CheckpointInfo& info, const std::vector<Damage>& damages) {
    EXPECT_FALSE(damages.empty());
    damaged.push_back(info.step);
  };
  EXPECT_EQ(newest_valid(folder.path(), note), third);
  EXPECT_EQ(damaged, std::vector<int64_t>{40});
  test::flip_byte(third.path / "state.json", 3);
  damaged.clear();
  EXPECT_EQ(newest_valid(folder.path(), note), second);
  EXPECT_EQ(damaged, (std::vector<int64_t>{40, 30}));
  EXPECT_EQ(newest_valid(folder.path(), note, VerifyDepth::kSizes), third);
  EXPECT_EQ(newest_valid(folder.path()), second) << "with the warning of the default";
  fs::remove(second.path / "MANIFEST.json");
  fs::resize_file(first.path / "state.json", 1);
  EXPECT_EQ(newest_valid(folder.path(), nullptr), std::nullopt);
  EXPECT_TRUE(fs::exists(third.path)) << "damaged checkpoints stay";
}

TEST(ReplaceTest, ADamagedCheckpointOfTheSameStepIsKeptAside) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo first = save_one_file(folder.path(), 3);
  test::flip_byte(first.path / "state.json", 3);
  EXPECT_TRUE(verify_checkpoint(save_one_file(folder.path(), 3).path).empty());
  test::flip_byte(first.path / "state.json", 4);
  EXPECT_TRUE(verify_checkpoint(save_one_file(folder.path(), 3).path).empty());
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"latest", "step-00000003", "step-00000003.damaged-1",
                                                               "step-00000003.damaged-2"}));
  EXPECT_TRUE(clean_checkpoints(folder.path()).empty());
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 1u);
}

TEST(ReplaceTest, AValidCheckpointOfTheSameStepIsReplaced) {
  const TempFolder folder("checkpoint");
  static_cast<void>(save_one_file(folder.path(), 3));
  CheckpointWriter writer(folder.path(), 3);
  writer.add_file("other", "content");
  const CheckpointInfo second = writer.commit();
  EXPECT_EQ(Checkpoint(second.path).read("other"), "content");
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"latest", "step-00000003"}));
}

std::vector<int64_t> steps_in(const Path& folder) {
  std::vector<int64_t> steps;
  for (const CheckpointInfo& info : list_checkpoints(folder)) steps.push_back(info.step);
  return steps;
}

TEST(PruneTest, KeepsTheNewestAndTheMultiples) {
  const TempFolder folder("checkpoint");
  for (const int64_t step : {0, 10, 20, 30, 40, 50, 60}) static_cast<void>(save_one_file(folder.path(), step));
  EXPECT_TRUE(prune(folder.path(), {.keep_last = 7}).empty());
  const std::vector<CheckpointInfo> deleted = prune(folder.path(), {.keep_last = 3, .keep_every = 20});
  ASSERT_EQ(deleted.size(), 2u);
  EXPECT_EQ(deleted[0].step, 10);
  EXPECT_EQ(deleted[1].step, 30);
  EXPECT_EQ(steps_in(folder.path()), (std::vector<int64_t>{60, 50, 40, 20, 0}));
  static_cast<void>(prune(folder.path(), {.keep_last = -5}));
  EXPECT_EQ(steps_in(folder.path()), (std::vector<int64_t>{60, 50})) << "never fewer than two";
  EXPECT_TRUE(prune(folder / "missing", {}).empty());
  EXPECT_EQ(names_in(folder.path()).size(), 3u) << "nothing half-deleted stays";
}

TEST(PruneTest, DamagedOnesNeitherCountNorGo) {
  const TempFolder folder("checkpoint");
  for (const int64_t step : {1, 2, 3, 4, 5}) static_cast<void>(save_one_file(folder.path(), step));
  test::flip_byte(folder / "step-00000005" / "state.json", 3);
  fs::remove(folder / "step-00000003" / "MANIFEST.json");
  const std::vector<CheckpointInfo> deleted = prune(folder.path(), {.keep_last = 2});
  ASSERT_EQ(deleted.size(), 1u);
  EXPECT_EQ(deleted[0].step, 1);
  EXPECT_EQ(steps_in(folder.path()), (std::vector<int64_t>{5, 4, 3, 2}));
  EXPECT_EQ(newest_valid(folder.path(), kSilent)->step, 4);
}

TEST(SetAsideTest, DamagedOnesGetAnotherNameUnreadableOnesStay) {
  const TempFolder folder("checkpoint");
  for (const int64_t step : {1, 2, 3}) static_cast<void>(save_one_file(folder.path(), step));
  test::flip_byte(folder / "step-00000003" / "state.json", 3);
  EXPECT_EQ(newest_valid(folder.path(), set_damaged_aside)->step, 2);
  EXPECT_EQ(steps_in(folder.path()), (std::vector<int64_t>{2, 1}));
  EXPECT_TRUE(fs::exists(folder / "step-00000003.damaged-1" / "state.json"));
  static_cast<void>(save_one_file(folder.path(), 3));
  test::flip_byte(folder / "step-00000003" / "state.json", 3);
  EXPECT_EQ(newest_valid(folder.path(), set_damaged_aside)->step, 2);
  EXPECT_TRUE(fs::exists(folder / "step-00000003.damaged-2"));
  EXPECT_TRUE(clean_checkpoints(folder.path()).empty());

  const testing_hooks::ScopedFileFault fault({.operation = testing_hooks::FileOperation::kRead,
                                              .nth = 1,
                                              .all_after = true,
                                              .path_contains = "step-00000002"});
  EXPECT_EQ(newest_valid(folder.path(), set_damaged_aside)->step, 1);
  EXPECT_EQ(steps_in(folder.path()), (std::vector<int64_t>{2, 1})) << "a disk that fails is no damage";
}

TEST(FreeSpaceTest, TooLittleIsToldBeforeAnythingIsWritten) {
  const TempFolder folder("checkpoint");
  check_free_space(folder / "not" / "made", 1);
  try {
    check_free_space(folder / "not" / "made", uint64_t{1} << 60);
    FAIL() << "there is room for an exbibyte";
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), ENOSPC);
    EXPECT_NE(std::string(error.what()).find("train.keep_checkpoints"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(fs::exists(folder / "not"));
  EXPECT_THROW(check_free_space(folder.path(), UINT64_MAX), IoError);
}

/// One rank's files in a checkpoint that another rank commits.
std::string write_part_of(const Path& folder, int64_t step, const std::string& tag, int rank) {
  CheckpointPart part(unfinished_path(folder, step, tag));
  part.add_file(cat("part-", rank), cat("of rank ", rank));
  return entries_to_text(part.entries());
}

TEST(PartsTest, SeveralProcessesWriteOneCheckpoint) {
  const TempFolder folder("checkpoint");
  const std::string tag = process_tag() + ".1";
  const std::string other = write_part_of(folder.path(), 4, tag, 1);  // before rank 0 begins
  CheckpointWriter writer(folder.path(), 4, tag);
  writer.add_file("state.json", "x");
  const std::string third = write_part_of(folder.path(), 4, tag, 2);
  for (const std::string& text : {third, other}) writer.add_entries(parse_entries(text, "a part"));
  EXPECT_THROW(writer.add_entries(parse_entries(third, "a part")), CheckpointError);
  const CheckpointInfo saved = writer.commit({.verify = true});
  EXPECT_TRUE(verify_checkpoint(saved.path).empty());
  const Checkpoint checkpoint(saved.path);
  EXPECT_EQ(checkpoint.read("part-1"), "of rank 1");
  EXPECT_EQ(checkpoint.read("part-2"), "of rank 2");
  EXPECT_EQ(checkpoint.manifest().files.size(), 3u);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"latest", "step-00000004"}));
}

TEST(PartsTest, APartThatIsNotThereOrNotWhatWasToldIsNoCheckpoint) {
  const TempFolder folder("checkpoint");
  const auto commit = [&](const std::string& tag, const auto& spoil) {
    const auto entries = parse_entries(write_part_of(folder.path(), 4, tag, 1), "a part");
    CheckpointWriter writer(folder.path(), 4, tag);
    spoil(writer.unfinished_path() / "part-1");
    writer.add_entries(entries);
    static_cast<void>(writer.commit({.verify = true}));
  };
  EXPECT_THROW(commit("a", [](const Path& part) { fs::remove(part); }), CheckpointError);
  EXPECT_THROW(commit("b", [](const Path& part) { fs::resize_file(part, 3); }), CheckpointError);
  EXPECT_THROW(commit("c", [](const Path& part) { test::flip_byte(part, 2); }), CheckpointError);
  EXPECT_TRUE(names_in(folder.path()).empty()) << "nothing is left of the tries";
  commit("d", [](const Path&) {});
}

TEST(PartsTest, EntriesAreCheckedLikeAManifest) {
  const TempFolder folder("checkpoint");
  const std::string text = write_part_of(folder.path(), 4, "a", 1);
  EXPECT_EQ(entries_to_text(parse_entries(text, "a part")), text);
  for (size_t length = 0; length < text.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_entries(text.substr(0, length), "a part")), CheckpointError) << length;
  }
  for (const char* bad : {"{}", "[1]", "[{}]", R"([{"name": "../x", "size": 0, "xxh3_128": "", "crc32c": []}])"}) {
    EXPECT_THROW(static_cast<void>(parse_entries(bad, "a part")), CheckpointError) << bad;
  }
}

TEST(CleanTest, RemovesWhatDeadProcessesLeftAndNothingElse) {
  const TempFolder folder("checkpoint");
  static_cast<void>(save_one_file(folder.path(), 1));
  std::string dead_tag;
  {
    const pid_t child = gato::test::start_child([] { return ::pause(); });
    dead_tag = cat(child, "-", 1);  // no process with this number started at tick 1
    EXPECT_FALSE(is_running(dead_tag));
    ::kill(child, SIGKILL);
    static_cast<void>(gato::test::wait_for_child(child));
  }
  for (const std::string& name :
       {cat("step-00000002.tmp-", dead_tag), cat("step-00000003.deleted-", dead_tag),
        cat("step-00000003.deleted-", dead_tag, ".1"), std::string("step-00000004.tmp-no tag")}) {
    fs::create_directory(folder / name);
    put(folder / name / "content", "x");
  }
  fs::create_symlink("step-00000001", folder / cat("latest.tmp-", dead_tag));
  // Of a living process, or not ours:
  const CheckpointWriter open_writer(folder.path(), 9);
  for (const char* name : {"notes.tmp-1-1", "step-00000001.damaged-1", "step-1.tmp-1-1", "best"}) {
    fs::create_directory(folder / name);
  }
  EXPECT_EQ(clean_checkpoints(folder.path()).size(), 5u);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"best", "latest", "notes.tmp-1-1", "step-00000001", "step-00000001.damaged-1",
                                      open_writer.unfinished_path().filename().string(), "step-1.tmp-1-1"}));
  EXPECT_TRUE(clean_checkpoints(folder / "missing").empty());
}

TEST(CleanTest, SettlesAReplacementThatWasCutShort) {
  const TempFolder folder("checkpoint");
  const CheckpointInfo saved = save_one_file(folder.path(), 1);
  fs::rename(saved.path, folder / "step-00000001.replaced");
  EXPECT_TRUE(clean_checkpoints(folder.path()).empty());
  EXPECT_EQ(newest_valid(folder.path()), saved);
  fs::copy(saved.path, folder / "step-00000001.replaced", fs::copy_options::recursive);
  EXPECT_EQ(clean_checkpoints(folder.path()).size(), 1u);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"latest", "step-00000001"}));
  fs::create_directory(folder / "step-00000001.replaced");
  EXPECT_TRUE(clean_checkpoints(folder.path()).empty());
  EXPECT_TRUE(fs::exists(folder / "step-00000001.damaged-1")) << "what is not valid is kept";
}

TEST(ProcessTagTest, TellsTheLivingFromTheDead) {
  EXPECT_TRUE(is_running(process_tag()));
  for (const char* tag : {"", "-", "1", "abc-1", "-1-1", "0-0", "99999999999-1", "4194305-1"}) {
    EXPECT_FALSE(is_running(tag)) << tag;
  }
  const pid_t child = gato::test::start_child([] { return 0; });
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);  // dead, but not yet buried
  std::ifstream stat(cat("/proc/", child, "/stat"));
  std::string field;
  for (int i = 0; i < 22; ++i) stat >> field;
  EXPECT_FALSE(is_running(cat(child, "-", field)));
  static_cast<void>(gato::test::wait_for_child(child));
}

TEST(CheckpointTest, FoldersThatRefuseAreNamed) {
  EXPECT_THROW(CheckpointWriter("/proc/gato-checkpoints", 1), IoError);
  const TempFolder folder("checkpoint");
  put(folder / "file", "x");
  try {
    CheckpointWriter writer(folder / "file" / "checkpoints", 1);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("file"), std::string::npos) << error.what();
  }
  if (::geteuid() == 0) return;  // nothing is read-only for the superuser
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_THROW(save(folder.path(), 1), IoError);
}

}  // namespace
}  // namespace gato::checkpoint
