#include "gato/core/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "gato/core/error.h"

namespace gato {
namespace {

using Values = std::map<std::string, std::string>;

EnvironmentVariables lookup(Values values) {
  return [values = std::move(values)](std::string_view name) -> std::optional<std::string> {
    const auto found = values.find(std::string(name));
    return found == values.end() ? std::nullopt : std::optional(found->second);
  };
}

Values with(Values base, const Values& changes) {
  for (const auto& [name, value] : changes) base[name] = value;
  return base;
}

Values without(Values base, const std::string& name) {
  base.erase(name);
  return base;
}

const Values kTorchrun = {{"TORCHELASTIC_RUN_ID", "42"},
                          {"TORCHELASTIC_RESTART_COUNT", "1"},
                          {"RANK", "3"},
                          {"WORLD_SIZE", "16"},
                          {"LOCAL_RANK", "3"},
                          {"LOCAL_WORLD_SIZE", "8"},
                          {"GROUP_RANK", "0"},
                          {"GROUP_WORLD_SIZE", "2"},
                          {"MASTER_ADDR", "gpu-a"},
                          {"MASTER_PORT", "29500"}};
const Values kSlurm = {{"SLURM_JOB_ID", "1234"},       {"SLURM_STEP_ID", "0"},
                       {"SLURM_PROCID", "5"},          {"SLURM_NTASKS", "11"},
                       {"SLURM_LOCALID", "1"},         {"SLURM_NODEID", "1"},
                       {"SLURM_NNODES", "3"},          {"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"},
                       {"SLURM_NTASKS_PER_NODE", "8"}, {"SLURM_STEP_NODELIST", "n[07-09]"}};
const Values kBatchScript = {{"SLURM_JOB_ID", "7"},  {"SLURM_PROCID", "0"},           {"SLURM_NTASKS", "4"},
                             {"SLURM_LOCALID", "0"}, {"SLURM_NODEID", "0"},           {"SLURM_NNODES", "2"},
                             {"SLURM_NNODES", "2"},  {"SLURM_JOB_NODELIST", "n[1-2]"}};
const Values kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "2"},
                         {"OMPI_COMM_WORLD_SIZE", "4"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                         {"OMPI_UNIVERSE_SIZE", "4"},
                         {"PMIX_RANK", "2"},
                         {"MASTER_ADDR", "gpu-a"}};
const Values kPmi = {{"PMI_RANK", "1"},        {"PMI_SIZE", "4"},        {"MPI_LOCALRANKID", "1"},
                     {"MPI_LOCALNRANKS", "2"}, {"MASTER_ADDR", "gpu-a"}, {"MASTER_PORT", "1234"}};
const Values kPlain = {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "2222"}};
const Values kTrainJob = {{"PET_NNODES", "2"},
                          {"PET_NPROC_PER_NODE", "1"},
                          {"PET_NODE_RANK", "1"},
                          {"PET_MASTER_ADDR", "job-0"},
                          {"PET_MASTER_PORT", "29400"}};

struct Row {
  std::string name;
  Values variables;
  std::string expected;      ///< describe()
  std::string address = {};  ///< "host:port"
};

class LaunchRowTest : public testing::TestWithParam<Row> {};

TEST_P(LaunchRowTest, IsDetected) {
  const Launch launch = detect_launch(lookup(GetParam().variables));
  EXPECT_EQ(describe(launch), GetParam().expected);
  if (!GetParam().address.empty()) {
    EXPECT_EQ(cat(launch.master_address, ":", launch.master_port), GetParam().address);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Launchers, LaunchRowTest,
    testing::Values(
        Row{"Alone", {}, "launcher=none rank 0/1 local 0/1 node 0/1 restart 0"},
        Row{"EmptyVariablesAreUnset",
            {{"RANK", ""}, {"WORLD_SIZE", ""}},
            "launcher=none rank 0/1 local 0/1 node 0/1 restart 0"},
        Row{"Torchrun", kTorchrun, "launcher=torchrun rank 3/16 local 3/8 node 0/2 restart 1", "gpu-a:29500"},
        Row{"TorchrunInsideSrun", with(kTorchrun, kSlurm), "launcher=torchrun rank 3/16 local 3/8 node 0/2 restart 1",
            "gpu-a:29500"},
        Row{"TorchrunInPod", with(with(kTorchrun, kTrainJob), {{"PET_NPROC_PER_NODE", "8"}}),
            "launcher=torchrun rank 3/16 local 3/8 node 0/2 restart 1", "gpu-a:29500"},
        Row{"Slurm", kSlurm, "launcher=slurm rank 5/11 local 1/4 node 1/3 restart 0"},
        Row{"SlurmRestarted", with(kSlurm, {{"SLURM_RESTART_COUNT", "2"}}),
            "launcher=slurm rank 5/11 local 1/4 node 1/3 restart 2"},
        Row{"SlurmWithMaster", with(kSlurm, {{"MASTER_ADDR", "head"}, {"MASTER_PORT", "7777"}}),
            "launcher=slurm rank 5/11 local 1/4 node 1/3 restart 0", "head:7777"},
        Row{"SlurmTasksPerNodeOfJob",
            with(without(kSlurm, "SLURM_STEP_TASKS_PER_NODE"), {{"SLURM_TASKS_PER_NODE", "4(x3)"}}),
            "launcher=slurm rank 5/11 local 1/4 node 1/3 restart 0"},
        Row{"SlurmTasksPerNodeAsAsked", without(kSlurm, "SLURM_STEP_TASKS_PER_NODE"),
            "launcher=slurm rank 5/11 local 1/8 node 1/3 restart 0"},
        Row{"SlurmStepOfFewerTasks", with(kSlurm, {{"SLURM_STEP_NUM_TASKS", "11"}, {"SLURM_NTASKS", "40"}}),
            "launcher=slurm rank 5/11 local 1/4 node 1/3 restart 0"},
        Row{"SlurmOneTask",
            {{"SLURM_JOB_ID", "9"},
             {"SLURM_STEP_ID", "0"},
             {"SLURM_PROCID", "0"},
             {"SLURM_NTASKS", "1"},
             {"SLURM_LOCALID", "0"},
             {"SLURM_NODEID", "0"},
             {"SLURM_NNODES", "1"},
             {"SLURM_TASKS_PER_NODE", "1"}},
            "launcher=slurm rank 0/1 local 0/1 node 0/1 restart 0"},
        Row{"SbatchWithoutSrun", kBatchScript, "launcher=none rank 0/1 local 0/1 node 0/1 restart 0"},
        Row{"BatchStepWithoutSrun", with(kBatchScript, {{"SLURM_STEP_ID", "4294967291"}}),
            "launcher=none rank 0/1 local 0/1 node 0/1 restart 0"},
        Row{"OpenMpi", kOpenMpi, "launcher=openmpi rank 2/4 local 0/2 node 1/2 restart 0", "gpu-a:29500"},
        Row{"OpenMpiHostsInTurn",
            with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "4"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "6"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}),
            "launcher=openmpi rank 4/6 local 1/2 node 1/3 restart 0"},
        Row{"OpenMpiOnOneHost",
            with(without(kOpenMpi, "MASTER_ADDR"),
                 {{"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "2"}}),
            "launcher=openmpi rank 2/4 local 2/4 node 0/1 restart 0", "127.0.0.1:29500"},
        Row{"OpenMpiOwnStepInSlurm", with(kSlurm, kOpenMpi), "launcher=openmpi rank 2/4 local 0/2 node 1/2 restart 0",
            "gpu-a:29500"},
        Row{"OpenMpiInBatchScript", with(kBatchScript, kOpenMpi),
            "launcher=openmpi rank 2/4 local 0/2 node 1/2 restart 0", "gpu-a:29500"},
        Row{"Pmi", kPmi, "launcher=pmi rank 1/4 local 1/2 node 0/2 restart 0", "gpu-a:1234"},
        Row{"SrunWithPmi", with(kSlurm, {{"PMI_RANK", "5"}, {"PMI_SIZE", "11"}}),
            "launcher=slurm rank 5/11 local 1/4 node 1/3 restart 0"},
        Row{"MpiexecStepInSlurm", with(kSlurm, kPmi), "launcher=pmi rank 1/4 local 1/2 node 0/2 restart 0"},
        Row{"CrayPals",
            {{"PMI_RANK", "3"},
             {"PMI_SIZE", "4"},
             {"PALS_LOCAL_RANKID", "1"},
             {"PMI_LOCAL_SIZE", "2"},
             {"MASTER_ADDR", "x1"}},
            "launcher=pmi rank 3/4 local 1/2 node 1/2 restart 0",
            "x1:29500"},
        Row{"Mvapich",
            {{"MV2_COMM_WORLD_RANK", "1"},
             {"MV2_COMM_WORLD_SIZE", "2"},
             {"MV2_COMM_WORLD_LOCAL_RANK", "1"},
             {"MV2_COMM_WORLD_LOCAL_SIZE", "2"}},
            "launcher=pmi rank 1/2 local 1/2 node 0/1 restart 0",
            "127.0.0.1:29500"},
        Row{"PmiOneHostEach",
            {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MASTER_ADDR", "x1"}},
            "launcher=pmi rank 1/2 local 0/1 node 1/2 restart 0",
            "x1:29500"},
        Row{"Plain", kPlain, "launcher=env rank 1/2 local 0/1 node 1/2 restart 0", "10.0.0.1:2222"},
        Row{"PlainWithLocal", with(kPlain, {{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}}),
            "launcher=env rank 1/2 local 1/2 node 0/1 restart 0", "10.0.0.1:2222"},
        Row{"PlainAlone", {{"RANK", "0"}, {"WORLD_SIZE", "1"}}, "launcher=env rank 0/1 local 0/1 node 0/1 restart 0"},
        Row{"PyTorchJob", with(kPlain, {{"PET_NNODES", "2"}, {"PET_NODE_RANK", "1"}, {"PET_NPROC_PER_NODE", "auto"}}),
            "launcher=env rank 1/2 local 0/1 node 1/2 restart 0", "10.0.0.1:2222"},
        Row{"TrainJob", kTrainJob, "launcher=env rank 1/2 local 0/1 node 1/2 restart 0", "job-0:29400"}),
    [](const auto& row) { return row.param.name; });

struct Malformed {
  std::string name;
  Values variables;
  std::string names;  ///< What the message must hold.
};

class LaunchErrorTest : public testing::TestWithParam<Malformed> {};

TEST_P(LaunchErrorTest, NamesTheVariable) {
  try {
    static_cast<void>(detect_launch(lookup(GetParam().variables)));
    FAIL() << "was accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(GetParam().names), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("comm.launcher=none"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Launchers, LaunchErrorTest,
    testing::Values(
        Malformed{"NoNumber", with(kTorchrun, {{"RANK", "x"}}), "RANK is \"x\""},
        Malformed{"Trailing", with(kTorchrun, {{"RANK", "3 "}}), "RANK is \"3 \""},
        Malformed{"Negative", with(kPlain, {{"RANK", "-1"}}), "RANK is \"-1\""},
        Malformed{"TooMany", with(kPlain, {{"WORLD_SIZE", "99999999999999999999"}}), "WORLD_SIZE is \"9999"},
        Malformed{"NoProcess", with(kPlain, {{"WORLD_SIZE", "0"}}), "rank 1 of 0"},
        Malformed{"RankBeyond", with(kPlain, {{"RANK", "2"}}), "rank 2 of 2"},
        Malformed{"LocalRankBeyond", with(kTorchrun, {{"LOCAL_RANK", "8"}}), "local rank 8 of 8"},
        Malformed{"NodeBeyond", with(kTorchrun, {{"GROUP_RANK", "2"}}), "node 2 of 2"},
        Malformed{"MoreHereThanInAll", with(kTorchrun, {{"LOCAL_WORLD_SIZE", "17"}}), "17 processes on this host"},
        Malformed{"PortBeyond", with(kPlain, {{"MASTER_PORT", "65536"}}), "MASTER_PORT is \"65536\""},
        Malformed{"PortZero", with(kPlain, {{"MASTER_PORT", "0"}}), "MASTER_PORT is 0"},
        Malformed{"OnlyLocalRank", {{"LOCAL_RANK", "0"}}, "RANK is not set"},
        Malformed{"HalfLocal", with(kPlain, {{"LOCAL_RANK", "0"}}), "LOCAL_WORLD_SIZE is not set"},
        Malformed{"HalfLocalOtherHalf", with(kPlain, {{"LOCAL_WORLD_SIZE", "2"}}), "LOCAL_RANK is not set"},
        Malformed{"OnlyPmixRank", {{"PMIX_RANK", "0"}}, "PMI_SIZE is not set"},
        Malformed{"MpiOnSeveralHosts", without(kOpenMpi, "MASTER_ADDR"), "MASTER_ADDR is not set"},
        Malformed{"PodOfSeveral", with(kPlain, {{"PET_NPROC_PER_NODE", "8"}}), "PET_NPROC_PER_NODE is \"8\""},
        Malformed{"TrainJobAuto", with(kTrainJob, {{"PET_NPROC_PER_NODE", "auto"}}), "PET_NPROC_PER_NODE is \"auto\""},
        Malformed{"TrainJobElastic", with(kTrainJob, {{"PET_NNODES", "1:4"}}), "PET_NNODES is \"1:4\""}),
    [](const auto& row) { return row.param.name; });

struct Complete {
  std::string name;
  Values variables;
  std::vector<std::string> needed;
};

class HalfSetTest : public testing::TestWithParam<Complete> {};

TEST_P(HalfSetTest, EveryMissingVariableIsNamed) {
  for (const std::string& name : GetParam().needed) {
    try {
      static_cast<void>(detect_launch(lookup(without(GetParam().variables, name))));
      ADD_FAILURE() << "went on without " << name;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(name + " is not set"), std::string::npos) << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Launchers, HalfSetTest,
    testing::Values(Complete{"Torchrun",
                             kTorchrun,
                             {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
                              "MASTER_ADDR", "MASTER_PORT"}},
                    Complete{"Slurm",
                             kSlurm,
                             {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NNODES",
                              "SLURM_STEP_NODELIST", "SLURM_JOB_ID"}},
                    Complete{"OpenMpi",
                             kOpenMpi,
                             {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                              "OMPI_COMM_WORLD_LOCAL_SIZE", "MASTER_ADDR"}},
                    Complete{
                        "Pmi", kPmi, {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "MASTER_ADDR"}},
                    Complete{"Plain", kPlain, {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}},
                    Complete{"TrainJob", kTrainJob, {"PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}}),
    [](const auto& row) { return row.param.name; });

TEST(LaunchTest, SlurmJobsHavePortsOfTheirOwn) {
  const Launch one = detect_launch(lookup(kSlurm));
  const Launch other = detect_launch(lookup(with(kSlurm, {{"SLURM_JOB_ID", "1235"}})));
  EXPECT_EQ(one.master_address, "n07");
  EXPECT_EQ(one.master_port, detect_launch(lookup(with(kSlurm, {{"SLURM_PROCID", "6"}}))).master_port);
  EXPECT_NE(one.master_port, other.master_port);
  for (const Launch& launch : {one, other}) {
    EXPECT_GE(launch.master_port, 1024);
    EXPECT_LT(launch.master_port, 32768);
  }
}

TEST(LaunchTest, SaysWhenSrunIsMissing) {
  const Launch launch = detect_launch(lookup(kBatchScript));
  ASSERT_EQ(launch.notes.size(), 1U);
  EXPECT_NE(launch.notes[0].find("srun"), std::string::npos);
  EXPECT_TRUE(detect_launch(lookup(kBatchScript), "none").notes.empty());
}

TEST(LaunchTest, TheStoreOfTheAgentIsBelievedWordByWord) {
  EXPECT_FALSE(detect_launch(lookup(kTorchrun)).agent_store);
  EXPECT_FALSE(detect_launch(lookup(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "true"}}))).agent_store);
  EXPECT_TRUE(detect_launch(lookup(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}}))).agent_store);
}

TEST(LaunchTest, AttemptsHaveKeysOfTheirOwn) {
  const Launch first = detect_launch(lookup(kTorchrun));
  const Launch restarted = detect_launch(lookup(with(kTorchrun, {{"TORCHELASTIC_RESTART_COUNT", "2"}})));
  const Launch smaller = detect_launch(lookup(with(kTorchrun, {{"WORLD_SIZE", "8"}, {"GROUP_WORLD_SIZE", "1"}})));
  EXPECT_NE(first.store_prefix(), restarted.store_prefix());
  EXPECT_NE(first.store_prefix(), smaller.store_prefix());
}

TEST(LaunchTest, AnExplicitLauncherDecides) {
  EXPECT_EQ(detect_launch(lookup(kTorchrun), "none").size, 1);
  EXPECT_EQ(detect_launch(lookup(with(kTorchrun, kSlurm)), "slurm").size, 11);
  EXPECT_THROW(static_cast<void>(detect_launch(lookup({}), "slurm")), ConfigError);
  EXPECT_THROW(static_cast<void>(detect_launch(lookup({}), "mpirun")), ConfigError);
}

using Hosts = std::vector<std::string>;

TEST(HostListTest, Expands) {
  EXPECT_EQ(expand_host_list("n[1-3,7],gpu-a"), (Hosts{"n1", "n2", "n3", "n7", "gpu-a"}));
  EXPECT_EQ(expand_host_list("gpu-a"), Hosts{"gpu-a"});
  EXPECT_EQ(expand_host_list("n[08-11]"), (Hosts{"n08", "n09", "n10", "n11"}));
  EXPECT_EQ(expand_host_list("r[0-1]n[1,3].site"), (Hosts{"r0n1.site", "r0n3.site", "r1n1.site", "r1n3.site"}));
  EXPECT_EQ(expand_host_list("127.0.0.[1-2]"), (Hosts{"127.0.0.1", "127.0.0.2"}));
  EXPECT_EQ(expand_host_list("n[1-65536]").size(), 65536U);
}

TEST(HostListTest, RefusesWhatIsNoList) {
  for (const char* list : {"",     ",",     "a,",    ",a",     "n[",    "n[]",      "n[1",
                           "n[1-", "n[1-]", "n[-1]", "n[2-1]", "n[1,]", "n[a]",     "n[1[2]]",
                           "n]",   "n[1]]", "a b",   "a\nb",   "a;b",   "n[1-2-3]", "n[1111111111111111111]"}) {
    EXPECT_THROW(static_cast<void>(expand_host_list(list)), ConfigError) << list;
  }
  EXPECT_THROW(static_cast<void>(expand_host_list(std::string("a\0b", 3))), ConfigError);
}

TEST(HostListTest, RefusesMoreHostsThanAskedForBeforeMakingThem) {
  for (const char* list : {"n[0-999999999999999999]", "a[0-99999]b[0-99999]c[0-99999]", "n[1-3],m[1-3]", "a,b,c,d,e",
                           "n[1-2,3-5]", "r[1-2]n[1-3]"}) {
    EXPECT_THROW(static_cast<void>(expand_host_list(list, 4)), ConfigError) << list;
  }
  EXPECT_EQ(expand_host_list("a[1-2]b[1-2]", 4).size(), 4U);
  EXPECT_THROW(static_cast<void>(expand_host_list(std::string(300, 'a'))), ConfigError);
  EXPECT_THROW(static_cast<void>(expand_host_list(std::string(size_t{2} << 20, 'a'))), ConfigError);
}

TEST(TasksPerNodeTest, Reads) {
  const std::vector<int64_t> expected = {4, 4, 3};
  for (size_t node = 0; node < expected.size(); ++node) {
    EXPECT_EQ(tasks_of_node("4(x2),3", static_cast<int64_t>(node)), expected[node]);
  }
  EXPECT_EQ(tasks_of_node("2", 0), 2);
  EXPECT_EQ(tasks_of_node("2(x9223372036854775807)", 1000000), 2);
}

TEST(TasksPerNodeTest, RefusesWhatIsNoList) {
  for (const char* text : {"", "x", "4(x2", "4(", "4(2)", "-4", "4,", "4(x2)3", "4(x-2),1", "99999999999999999999"}) {
    EXPECT_THROW(static_cast<void>(tasks_of_node(text, 2)), ConfigError) << text;
  }
  EXPECT_THROW(static_cast<void>(tasks_of_node("4(x2)", 2)), ConfigError);
}

}  // namespace
}  // namespace gato
