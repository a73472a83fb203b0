// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/data/prepare_tokens.h"
#include "octet/ptq/quantize_model.h"
#include "octet/train/quantized_run.h"
#include "octet/train/trainer.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// Runs of the tasks that read questions and plain texts.
class TrainingTasks : public ScratchFolder {
 protected:
  // `changes`: keys and values of a JSON object.
  static TrainConfig config(const json& changes) {
    json all = {{"epochs", 1}, {"batch_size", 4}, {"learning_rate", 0.002}, {"dropout", 0.1},
                {"seed", 3},   {"eval_steps", 4}, {"log_steps", 1}};
    all.update(changes);
    return TrainConfig::parse(json_text(all), "config");
  }
  static TrainReport run(const TrainConfig& config, const fs::path& out, bool resume = false,
                         int64_t killed_after = -1) {
    TrainOptions options{.out = out, .resume = resume};
    options.cpu.threads = 1;
    options.after_step = [killed_after](const TrainingStep& step) {
      if (step.step == killed_after) throw std::runtime_error("killed");
    };
    return train(config, *make_training_task(config), options);
  }
  // A golden model with a vocabulary of letters.
  fs::path model(const std::string& name) const {
    fs::copy(fs::path(OCTET_GOLDEN) / name, folder_ / name);
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (char c = 'a'; c <= 'z'; ++c) vocabulary += std::string(1, c) + "\n##" + std::string(1, c) + "\n";
    write(name + "/vocab.txt", vocabulary);
    return folder_ / name;
  }
  static std::string bytes_of(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

// The answer to "k ?" is the two words behind k.
std::string questions(int count) {
  json paragraphs = json::array();
  for (int i = 0; i < count; ++i) {
    const std::string context = std::string("a b c d e f g h i j ").substr(2 * (i % 5)) + "k l m n o p";
    const size_t start = context.find('l');
    paragraphs.push_back({{"context", context},
                          {"qas",
                           {{{"id", std::to_string(i)},
                             {"question", "k ?"},
                             {"answers", {{{"text", "l m"}, {"answer_start", start}}}}}}}});
  }
  return json_text(json({{"data", {{{"paragraphs", paragraphs}}}}}));
}

TEST_F(TrainingTasks, QuestionsAreLearnedInIntegersAndServedWithTheSameFigures) {
  write("train-v1.1.json", questions(20));
  write("dev.json", questions(10));
  const json squad = {{"task", "squad"}, {"model", OCTET_DEMO_ENCODER},
                      {"data", folder_}, {"max_length", 24},
                      {"doc_stride", 4}, {"by_length", true},
                      {"max_steps", 24}, {"eval_steps", 12},
                      {"epochs", 10},    {"dropout", 0}};
  const fs::path floats = folder_ / "float", integers = folder_ / "qat", lowered = folder_ / "int8";
  const TrainReport report = run(config(squad), floats);
  EXPECT_EQ(report.metric, "f1");
  EXPECT_NEAR(report.best_value, 1, 1e-9);
  json qat = squad;
  qat.update({{"model", floats / "best"}, {"recipe", "qat_int8"}, {"max_steps", 4}, {"calibration_batches", 2}});
  const TrainReport trained = run(config(qat), integers);
  EXPECT_GT(trained.best_value, 0.5);

  const fs::path best = integers / "best";
  quantize_model(Checkpoint::open(best), Recipe::load((best / kTrainedRecipe).string(), {}), lowered);
  Session session(lowered);
  TaskInput input{.model = lowered, .data = folder_ / "dev.json"};
  input.windows.window = 24;
  input.overlap = 4;
  const TaskResult served = find_task("squad").run(session, input);
  ASSERT_EQ(trained.evaluations.back().metrics.size(), served.metrics.size());
  for (size_t i = 0; i < served.metrics.size(); ++i)
    EXPECT_EQ(trained.evaluations.back().metrics[i], std::pair(served.metrics[i].name, served.metrics[i].value));
}

TEST_F(TrainingTasks, WindowsOfQuestionsPointAtAnswersThatTheyHold) {
  write("train.json", questions(1));
  write("dev.json", questions(1));
  const json squad = {
      {"task", "squad"}, {"model", OCTET_DEMO_ENCODER}, {"data", folder_}, {"max_length", 12}, {"doc_stride", 2}};
  const std::unique_ptr<TrainingTask> task = make_training_task(config(squad));
  // [CLS] k ? [SEP] and [SEP] leave 7 of 16 words: a to g, f to l, k to p.
  ASSERT_EQ(task->examples(), 3);
  const LabelledBatch batch = task->batch(std::vector<size_t>{0, 1, 2}, 0);
  EXPECT_EQ(batch.tokens.tokens(), 12 + 12 + 11);
  const std::pair<int32_t, int32_t> none = {0, 0};
  EXPECT_THAT(batch.answers, testing::ElementsAre(none, none, std::pair<int32_t, int32_t>(5, 6)));
  EXPECT_THAT(task->notes(), testing::ElementsAre(HasSubstr("3 windows of at most 12 tokens; 2 do not hold")));

  fs::remove(folder_ / "dev.json");
  EXPECT_THAT(message_of<Error>([&] { make_training_task(config(squad)); }),
              AllOf(HasSubstr("dev-v1.1.json"), HasSubstr("'eval_data'")));
  EXPECT_THAT(message_of<UsageError>([&] {
                make_training_task(config({{"task", "squad"}, {"model", "m"}}));
              }),
              HasSubstr("needs 'data'"));
}

TEST_F(TrainingTasks, MasksGoOnAfterAKillAsIfItHadNotBeen) {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += std::string(1, static_cast<char>('a' + i * i % 26)) + (i % 20 == 19 ? "\n" : " ");
  const json mlm = {{"task", "mlm"},
                    {"model", model("bert_masked_lm")},
                    {"train_data", write("train.txt", text)},
                    {"eval_data", write("eval.txt", text)},
                    {"documents", "lines"},
                    {"max_length", 16},
                    {"gradient_accumulation", 2}};
  const TrainReport whole = run(config(mlm), folder_ / "whole");
  EXPECT_EQ(whole.steps, 10) << "20 lines of 20 tokens are 40 windows of 14 and [CLS], [SEP]";
  EXPECT_EQ(whole.metric, "loss");
  EXPECT_LT(whole.best_value, whole.evaluations.front().metrics.front().second);
  EXPECT_THROW(run(config(mlm), folder_ / "cut", false, 6), std::runtime_error);
  EXPECT_EQ(run(config(mlm), folder_ / "cut", true).resumed_from, 4);
  EXPECT_EQ(bytes_of(folder_ / "whole/checkpoint-10/model.safetensors"),
            bytes_of(folder_ / "cut/checkpoint-10/model.safetensors"));
  EXPECT_EQ(bytes_of(folder_ / "whole/log.csv"), bytes_of(folder_ / "cut/log.csv"));

  // The same figures from the task by itself, and only masked tokens count.
  const fs::path best = folder_ / "whole/best";
  Session session(best);
  TaskInput input{.model = best, .data = folder_ / "eval.txt"};
  input.windows = {.documents = Documents::kLines, .window = 16};
  const TaskResult result = find_task("mlm").run(session, input);
  EXPECT_EQ(result.metrics.front().value, whole.best_value);
  EXPECT_NEAR(result.metrics[1].value, std::exp(whole.best_value), 1e-9);
  EXPECT_EQ(result.examples, 40);
  EXPECT_NEAR(static_cast<double>(result.counts.front().second), 0.15 * 400, 25);
  const std::unique_ptr<TrainingTask> task = make_training_task(config(mlm));
  const std::vector<size_t> some = {3, 17};
  const LabelledBatch batch = task->batch(some, 5);
  EXPECT_EQ(batch.labels.size(), batch.tokens.ids.size());
  EXPECT_EQ(batch.labels[0], -1) << "[CLS] is never masked";
  EXPECT_NE(batch.labels, task->batch(some, 6).labels);
  const std::vector<int32_t> alone = task->batch(std::vector<size_t>{17}, 5).labels;
  EXPECT_TRUE(std::ranges::equal(alone, std::span(batch.labels).last(alone.size()))) << "whatever the batch is";

  json other = mlm;
  other["model"] = OCTET_DEMO_ENCODER;
  EXPECT_THAT(message_of<UsageError>([&] { make_training_task(config(other)); }), HasSubstr("BertForMaskedLM"));
}

TEST_F(TrainingTasks, AFileOfTokensGivesTheBatchesOfItsText) {
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += std::string(1 + i % 3, static_cast<char>('a' + i * 7 % 26)) + (i % 37 ? " " : "\n");
  const fs::path file = write("train.txt", text), tokens = folder_ / "train.npy";
  const auto labels_of = [&](const json& run_config) {
    const std::unique_ptr<TrainingTask> task = make_training_task(config(run_config));
    std::vector<int32_t> all;
    for (size_t i = 0; std::cmp_less(i, task->examples()); ++i) {
      const LabelledBatch batch = task->batch(std::vector<size_t>{i}, 2);
      all.insert(all.end(), batch.tokens.ids.begin(), batch.tokens.ids.end());
      all.insert(all.end(), batch.labels.begin(), batch.labels.end());
      EXPECT_EQ(batch.tokens.tokens(), task->tokens(i));
    }
    return all;
  };
  const std::pair<std::string, fs::path> tasks[] = {{"lm", OCTET_DEMO_DECODER}, {"mlm", model("bert_masked_lm")}};
  for (const auto& [task, model] : tasks) {
    for (const std::string documents : {"whole", "lines"}) {
      const std::vector<fs::path> texts = {file};
      prepare_tokens(texts, Tokenizer::load(model), tokens, {.documents = parse_documents(documents)});
      for (const int limit : {0, 2}) {
        json of_text = {{"task", task},           {"model", model},   {"train_data", file}, {"eval_data", file},
                        {"documents", documents}, {"max_length", 16}, {"limit", limit}};
        json of_tokens = of_text;
        of_tokens["train_data"] = tokens;
        const std::vector<int32_t> expected = labels_of(of_text);
        EXPECT_GT(expected.size(), 20);
        EXPECT_EQ(labels_of(of_tokens), expected) << task << ' ' << documents << ' ' << limit;
        if (task == "mlm") continue;
        of_tokens["eval_data"] = tokens;
        EXPECT_THAT(message_of<UsageError>([&] { make_training_task(config(of_tokens)); }),
                    HasSubstr("'eval_data' is to be a text"));
      }
    }
  }
  EXPECT_THAT(message_of<UsageError>([&] {
                make_training_task(config(
                    {{"task", "lm"}, {"model", OCTET_DEMO_DECODER}, {"train_data", tokens}, {"eval_data", file}}));
              }),
              HasSubstr("another tokenizer"));
}

}  // namespace
}  // namespace octet
