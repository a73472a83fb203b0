// SPDX-License-Identifier: Apache-2.0
#include "octet/data/glue.h"

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/eval/text_labels.h"
#include "octet/io/config.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelClasses classes(const char* task, const std::string& config, int64_t outputs) {
  return classes_of_model(*find_glue_task(task), Config::parse(config, "config.json"), outputs);
}

TEST(GlueEvaluation, ClassesGoByTheNamesOfTheModel) {
  const ModelClasses named =
      classes("mnli", R"({"id2label": {"0": "CONTRADICTION", "1": "ENTAILMENT", "2": "NEUTRAL"}})", 3);
  EXPECT_THAT(named.numbers, ElementsAre(1, 2, 0));
  EXPECT_EQ(named.note, "");
  EXPECT_THAT(classes("rte", R"({"id2label": {"0": "not_entailment", "1": "entailment"}})", 2).numbers,
              ElementsAre(1, 0));
}

TEST(GlueEvaluation, ClassesWithoutTheTasksNamesGoByItsOrder) {
  for (const char* config : {"{}", R"({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})"}) {
    EXPECT_THAT(classes("rte", config, 2).numbers, ElementsAre(0, 1)) << config;
    EXPECT_EQ(classes("rte", config, 2).note, "") << config;
  }
  const ModelClasses other = classes("rte", R"({"id2label": {"0": "not_entailment", "1": "yes"}})", 2);
  EXPECT_THAT(other.numbers, ElementsAre(0, 1));
  EXPECT_THAT(other.note, HasSubstr("'not_entailment', 'yes'"));
  EXPECT_THAT([] { classes("rte", "{}", 3); },
              testing::ThrowsMessage<Error>(HasSubstr("3 outputs; the task 'rte' needs 2")));
  EXPECT_THAT(classes("stsb", "{}", 1).numbers, ElementsAre());
}

TEST(GlueEvaluation, GivesTheTasksMetricsTheDecidingOneFirst) {
  const std::vector<int64_t> predicted = {1, 1, 0, 0, 1}, labels = {1, 0, 0, 1, 1};
  const auto names_of = [&](const char* task) {
    std::vector<std::string> names;
    for (const TaskResult::Metric& metric : glue_metrics(*find_glue_task(task), predicted, labels))
      names.push_back(metric.name);
    return names;
  };
  EXPECT_THAT(names_of("mrpc"), ElementsAre("f1", "accuracy"));
  EXPECT_THAT(names_of("cola"), ElementsAre("matthews"));
  EXPECT_THAT(names_of("rte"), ElementsAre("accuracy"));
  const auto mrpc = glue_metrics(*find_glue_task("mrpc"), predicted, labels);
  EXPECT_DOUBLE_EQ(mrpc[0].value, 2.0 / 3);
  EXPECT_DOUBLE_EQ(mrpc[1].value, 0.6);
  EXPECT_DOUBLE_EQ(*mrpc[1].standard_error, std::sqrt(0.6 * 0.4 / 4));
  const auto stsb = glue_metrics(*find_glue_task("stsb"), std::vector<double>{1, 2, 3}, std::vector<double>{1, 2, 9});
  ASSERT_EQ(stsb.size(), 2);
  EXPECT_EQ(stsb[0].name, "spearman");
  EXPECT_DOUBLE_EQ(stsb[0].value, 1);
  for (const GlueTask& task : glue_tasks()) {
    const auto metrics = task.is_regression() ? glue_metrics(task, std::vector<double>{1, 2}, std::vector<double>{1, 2})
                                              : glue_metrics(task, predicted, labels);
    EXPECT_EQ(metrics.size(), task.metrics.size()) << task.name;
  }
}

TEST(GlueEvaluation, LabelsOfAFileAreChecked) {
  const LabelledTexts texts{.first = {"a", "b"}, .second = {}, .labels = {"entailment", "maybe"}, .lines = {2, 3}};
  EXPECT_THAT([&] { glue_classes(*find_glue_task("rte"), texts, "f.tsv"); },
              testing::ThrowsMessage<FormatError>(testing::AllOf(HasSubstr("f.tsv: line 3"), HasSubstr("'maybe'"))));
  EXPECT_THAT([&] { glue_grades(*find_glue_task("stsb"), texts, "f.tsv"); },
              testing::ThrowsMessage<FormatError>(HasSubstr("f.tsv: line 2")));
}

}  // namespace
}  // namespace octet
