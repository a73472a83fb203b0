// SPDX-License-Identifier: Apache-2.0
#include "octet/data/glue.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/data/labelled_texts.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

TEST(Glue, LabelsAreThoseOfTheDataSet) {
  ASSERT_EQ(glue_tasks().size(), 9);
  EXPECT_EQ(find_glue_task("sts-b"), nullptr);
  const struct {
    const char *task, *label;
    std::optional<int64_t> number;
  } cases[] = {
      {"cola", "acceptable", 1},
      {"sst2", "positive", 1},
      {"mrpc", "equivalent", 1},
      {"qqp", "duplicate", 1},
      {"mnli", "entailment", 0},
      {"mnli", "neutral", 1},
      {"mnli", "contradiction", 2},
      {"qnli", "entailment", 0},
      {"rte", "not_entailment", 1},
      {"wnli", "entailment", 1},
      {"rte", "0", 0},
      {"mnli", "2", 2},
      {"rte", "2", {}},
      {"rte", "-1", {}},
      {"rte", "0.5", {}},
      {"rte", "contradiction", {}},
      {"rte", "", {}},
  };
  for (const auto& c : cases)
    EXPECT_EQ(find_glue_task(c.task)->class_of(c.label), c.number) << c.task << " " << c.label;
  EXPECT_TRUE(find_glue_task("stsb")->is_regression());
  EXPECT_EQ(find_glue_task("stsb")->outputs(), 1);
  EXPECT_EQ(find_glue_task("mnli")->outputs(), 3);
}

TEST(Glue, AFolderStandsForTheTasksFiles) {
  const fs::path folder = fs::path(testing::TempDir()) / "glue_folder";
  fs::remove_all(folder);
  fs::create_directories(folder / "MNLI");
  fs::create_directories(folder / "RTE");
  for (const char* file : {"MNLI/dev_matched.tsv", "MNLI/dev_mismatched.tsv", "MNLI/train.tsv", "RTE/dev.tsv"})
    std::ofstream(folder / file) << "x";
  const GlueTask& mnli = *find_glue_task("mnli");
  for (const fs::path& data : {folder, folder / "MNLI"}) {
    const std::vector<GlueTask::DevFile> files = mnli.dev_files(data);
    ASSERT_EQ(files.size(), 2);
    EXPECT_EQ(files[0].path, folder / "MNLI/dev_matched.tsv");
    EXPECT_EQ(files[0].suffix, "");
    EXPECT_EQ(files[1].path, folder / "MNLI/dev_mismatched.tsv");
    EXPECT_EQ(files[1].suffix, "_mismatched");
    EXPECT_EQ(mnli.train_file(data), folder / "MNLI/train.tsv");
  }
  EXPECT_EQ(mnli.dev_files("some.csv").front().path, "some.csv");
  EXPECT_EQ(find_glue_task("rte")->dev_files(folder).front().path, folder / "RTE/dev.tsv");
  EXPECT_THROW(find_glue_task("rte")->train_file(folder), Error);
  EXPECT_THROW(find_glue_task("cola")->dev_files(folder), Error);
  fs::remove_all(folder);
}

TEST(Glue, RealFilesHaveTheTasksLabels) {
  const char* shared = std::getenv("OCTET_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set";
  const struct {
    const char* task;
    size_t train, dev, positives_of_dev;
    bool pairs;
  } cases[] = {{"mrpc", 3667, 408, 279, true}, {"rte", 2490, 277, 131, true}, {"sst2", 67349, 872, 444, false}};
  for (const auto& c : cases) {
    const GlueTask& task = *find_glue_task(c.task);
    EXPECT_EQ(read_labelled_texts(task.train_file(fs::path(shared) / "glue")).size(), c.train) << c.task;
    const LabelledTexts dev = read_labelled_texts(task.dev_files(fs::path(shared) / "glue").front().path);
    EXPECT_EQ(dev.size(), c.dev) << c.task;
    EXPECT_EQ(dev.in_pairs(), c.pairs) << c.task;
    EXPECT_EQ(std::ranges::count_if(dev.labels, [&](const auto& label) { return task.class_of(label) == 1; }),
              c.positives_of_dev)
        << c.task;
  }
}

}  // namespace
}  // namespace octet
