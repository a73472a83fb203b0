// SPDX-License-Identifier: Apache-2.0
#include "octet/train/csv_log.h"

#include <limits>

#include "tests/io/scratch.h"
#include "tests/train/full_disk.h"

namespace octet {
namespace {

using testing::HasSubstr;

class CsvLogFile : public ScratchFolder {
 protected:
  std::string text() const { return files_in(folder_).at("log.csv"); }
  std::filesystem::path path() const { return folder_ / "log.csv"; }
};

TEST_F(CsvLogFile, HasALineAStepAndEmptyCellsForWhatWasNotGiven) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  CsvLog log(path(), {"epoch", "loss", "validation loss"}, std::nullopt);
  EXPECT_EQ(text(), "step,epoch,loss,validation loss\n");
  log.add(1, {{"epoch", 0.1}, {"loss", 2.5}});
  EXPECT_EQ(text(), "step,epoch,loss,validation loss\n1,0.1,2.5,\n");  // there at once, not when the log ends
  log.add(5, {{"validation loss", kInfinity}, {"loss", -std::numeric_limits<double>::quiet_NaN()}});
  log.add(6, {});
  log.add(std::numeric_limits<int64_t>::max(), {{"loss", -std::numeric_limits<double>::min()}});
  EXPECT_EQ(text(),
            "step,epoch,loss,validation loss\n1,0.1,2.5,\n5,,-nan,inf\n6,,,\n"
            "9223372036854775807,,-2.2250738585072014e-308,\n");
}

TEST_F(CsvLogFile, GoesOnAfterTheStepThatIsResumed) {
  {
    CsvLog log(path(), {"loss"}, std::nullopt);
    for (int step = 1; step <= 9; ++step) log.add(step, {{"loss", double(step)}});
  }
  const std::string nine_steps = text();
  {
    CsvLog log(path(), {"loss"}, 9);
    EXPECT_EQ(text(), nine_steps);
  }
  {
    CsvLog log(path(), {"loss"}, 4);
    EXPECT_EQ(text(), "step,loss\n1,1\n2,2\n3,3\n4,4\n");
    EXPECT_THAT(message_of<Error>([&] { log.add(4, {}); }), HasSubstr("step 4 cannot come after step 4"));
    log.add(5, {{"loss", 50}});
  }
  EXPECT_EQ(text(), "step,loss\n1,1\n2,2\n3,3\n4,4\n5,50\n");
  { CsvLog log(path(), {"loss"}, 0); }
  EXPECT_EQ(text(), "step,loss\n");
}

TEST_F(CsvLogFile, LosesOnlyTheLineThatAProcessWasKilledIn) {
  write("log.csv", "step,loss\n1,1\n2,2.5");
  { CsvLog log(path(), {"loss"}, 2); }
  EXPECT_EQ(text(), "step,loss\n1,1\n");
  for (const std::string cut : {"", "st", "step,loss"}) {
    write("log.csv", cut);
    CsvLog log(path(), {"loss"}, 2);
    EXPECT_EQ(text(), "step,loss\n") << cut;
  }
  std::filesystem::remove(path());
  CsvLog log(path(), {"loss"}, 7);
  log.add(8, {{"loss", 1}});
  EXPECT_EQ(text(), "step,loss\n8,1\n");
}

TEST_F(CsvLogFile, RefusesWhatIsNoTableOfThisRunAndLeavesItAlone) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"step,epoch,loss\n1,1,1\n", "its columns are not those of this run, 'step,loss'"},
      {"step,loss\n1,1\nx,2\n3,3\n", "line 3 is no line of this table"},
      {"step,loss\n1,1\n2,2,2\n", "line 3 is no line of this table"},
      {"step,loss\n1,1\n2 2\n", "line 3 is no line of this table"},
      {"step,loss\n\n", "line 2 is no line of this table"},
      {"step,loss\n5,1\n5,1\n", "line 3 is no line of this table"},
      {"step,loss\n99999999999999999999,1\n", "line 2 is no line of this table"},
      {"step,loss\n1," + std::string(1 << 20, '1') + "\n", "line 2 is no line of this table"},
      {"step,loss\n1," + std::string(1 << 20, '1'), "line 2 is no line of this table"},
      {std::string(1 << 20, 's'), "its columns are not those of this run"},
  };
  for (const auto& [bytes, message] : cases) {
    write("log.csv", bytes);
    try {
      CsvLog log(path(), {"loss"}, 9);
      ADD_FAILURE() << "read " << bytes.substr(0, 50);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(message)) << bytes.substr(0, 50);
    }
    EXPECT_EQ(text(), bytes);
  }
  EXPECT_THAT(message_of<Error>([&] { CsvLog(path(), {"loss"}, std::nullopt); }), HasSubstr("exists already"));
  EXPECT_THAT(message_of<Error>([&] { CsvLog(folder_ / "none" / "log.csv", {"loss"}, std::nullopt); }),
              HasSubstr("cannot write here"));
}

TEST_F(CsvLogFile, RefusesColumnsThatAreNoneOrAreThereTwice) {
  for (const std::string name : {"", "a,b", "a\"", "a\nb", "step", "loss"}) {
    EXPECT_THAT(message_of<Error>([&] {
                  CsvLog(path(), {"loss", name}, std::nullopt);
                }),
                HasSubstr("'" + name + "' cannot be a column's name"));
  }
  CsvLog log(path(), {"loss"}, std::nullopt);
  EXPECT_THAT(message_of<Error>([&] { log.add(1, {{"los", 1}}); }), HasSubstr("there is no column 'los'"));
  EXPECT_THAT(message_of<Error>([&] { log.add(1, {{"loss", 1}, {"loss", 1}}); }), HasSubstr("two values of 'loss'"));
  log.add(1, {{"loss", 1}});
  EXPECT_EQ(text(), "step,loss\n1,1\n");
}

TEST_F(CsvLogFile, KeepsWholeLinesOnAFullDisk) {
  CsvLog log(path(), {"loss"}, std::nullopt);
  {
    const FullDisk full(14);  // "step,loss\n" and half of the line
    EXPECT_THAT(message_of<Error>([&] { log.add(1, {{"loss", 0.125}}); }), HasSubstr("log.csv: cannot write: "));
  }
  EXPECT_EQ(text(), "step,loss\n");
  log.add(1, {{"loss", 0.125}});
  EXPECT_EQ(text(), "step,loss\n1,0.125\n");
}

}  // namespace
}  // namespace octet
