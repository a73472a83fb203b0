// SPDX-License-Identifier: Apache-2.0
#include "octet/train/training_log.h"

#include <array>
#include <cstdio>
#include <cstdlib>

#include "octet/base/json.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class TrainingLogs : public ScratchFolder {
 protected:
  std::filesystem::path run() const { return folder_ / "run"; }
};

TEST_F(TrainingLogs, WritesATableAndAnEventFileAPart) {
  {
    TrainingLog log(run(), {"loss", "learning_rate"});
    log.record(1, {{"loss", 2}, {"learning_rate", 0.5}});
    log.flush();
  }
  { TrainingLog log(run(), {"loss", "learning_rate"}, 1); }
  EXPECT_EQ(files_in(run()).at("log.csv"), "step,loss,learning_rate\n1,2,0.5\n");
  EXPECT_THAT(files_in(run()), SizeIs(3));
}

TEST_F(TrainingLogs, RefuseAFolderOfAnotherRunAndLeaveItAlone) {
  { TrainingLog log(run(), {"loss"}); }
  const auto files = files_in(run());
  EXPECT_THAT(message_of<Error>([&] { TrainingLog(run(), {"loss"}); }), HasSubstr("log.csv: exists already"));
  EXPECT_THAT(message_of<Error>([&] { TrainingLog(run(), {"accuracy"}, 3); }), HasSubstr("its columns are not"));
  EXPECT_THAT(message_of<Error>([&] { TrainingLog(run(), {"loss"}, -1); }), HasSubstr("cannot go on after step -1"));
  EXPECT_EQ(files_in(run()), files);
}

TEST_F(TrainingLogs, SayWhereAFolderCannotBeMadeOrWritten) {
  const std::filesystem::path file = write("a file", "");
  EXPECT_THAT(message_of<Error>([&] { TrainingLog(file / "run", {"loss"}); }), HasSubstr("a file"));
  EXPECT_THAT(message_of<Error>([&] { TrainingLog(file, {"loss"}); }), HasSubstr("a file"));
  // A folder that not even root may write.
  EXPECT_THAT(message_of<Error>([&] { TrainingLog("/proc", {"loss"}); }),
              HasSubstr("/proc/log.csv: cannot write here"));
}

// What the tensorboard package reads in a folder. OCTET_PYTHON names an interpreter that has it; otherwise python3.
class TensorBoard : public TrainingLogs {
 protected:
  void SetUp() override {
    TrainingLogs::SetUp();
    const char* const named = std::getenv("OCTET_PYTHON");
    python_ = named == nullptr ? "python3" : named;
    const int status = std::system(fmt::format("'{}' -c 'import tensorboard' 2>/dev/null", python_).c_str());
    if (status != 0) GTEST_SKIP() << python_ << " has no tensorboard (OCTET_PYTHON names another interpreter)";
  }

  nlohmann::json read() const {
    const std::string command = fmt::format("'{}' '{}/read_events.py' '{}'", python_, OCTET_TEST_FILES, run().string());
    FILE* const pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) throw Error("cannot run " + command);
    std::string output;
    std::array<char, 4096> part;
    for (size_t size = 0; (size = std::fread(part.data(), 1, part.size(), pipe)) > 0;) output.append(part.data(), size);
    EXPECT_EQ(::pclose(pipe), 0) << command;
    return parse_json(output, "the test");
  }

  std::string python_;
};

TEST_F(TensorBoard, ReadsScalarsAndHistograms) {
  {
    TrainingLog log(run(), {"loss", "learning_rate"});
    for (int step = 1; step <= 300; ++step) log.record(step, {{"loss", 1.0 / step}, {"learning_rate", 0.25}});
    log.scalar("validation/loss", 300, 0.125);
    log.histogram("gradients/h.0.mlp", 300, std::vector<float>{-2, 0.5f, 0.5f, 0, 8});
  }
  const nlohmann::json found = read();
  EXPECT_EQ(found["scalars"].size(), 3u);
  ASSERT_EQ(found["scalars"]["loss"].size(), 300u);
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(found["scalars"]["loss"][i], nlohmann::json::array({i + 1, double{static_cast<float>(1.0 / (i + 1))}}));
  }
  EXPECT_EQ(found["scalars"]["learning_rate"][299], nlohmann::json::array({300, 0.25}));
  EXPECT_EQ(found["scalars"]["validation/loss"], parse_json("[[300, 0.125]]", "the test"));
  EXPECT_EQ(found["histograms"]["gradients/h.0.mlp"],
            parse_json("[[300, [[-2, -2, 1], [-2, 0, 0], [0, 0, 1], [0, 0.5, 0], [0.5, 0.625, 2],"
                       " [0.625, 8, 0], [8, 8, 1]]]]",
                       "the test"));
}

TEST_F(TensorBoard, ReadsARunThatWasKilledAndWentOnAsOne) {
  const auto run_from = [&](std::optional<int64_t> resumed_step, int last, double loss) {
    TrainingLog log(run(), {"loss"}, resumed_step);
    for (int64_t step = resumed_step.value_or(0) + 1; step <= last; ++step) log.record(step, {{"loss", loss}});
  };
  run_from(std::nullopt, 10, 1);
  for (const auto& entry : std::filesystem::directory_iterator(run())) {  // the end of its last record is missing
    if (entry.path().filename() != "log.csv") std::filesystem::resize_file(entry.path(), entry.file_size() - 3);
  }
  run_from(6, 8, 2);
  run_from(7, 9, 3);
  EXPECT_EQ(read()["scalars"]["loss"],
            parse_json("[[1, 1], [2, 1], [3, 1], [4, 1], [5, 1], [6, 1], [7, 2], [8, 3], [9, 3]]", "the test"));
  EXPECT_EQ(files_in(run()).at("log.csv"), "step,loss\n1,1\n2,1\n3,1\n4,1\n5,1\n6,1\n7,2\n8,3\n9,3\n");
}

}  // namespace
}  // namespace octet
