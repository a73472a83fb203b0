// SPDX-License-Identifier: Apache-2.0
#include "octet/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/ptq/quantize_model.h"
#include "octet/train/data_order.h"
#include "octet/train/quantized_run.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using testing::HasSubstr;

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Training : public ScratchFolder {
 protected:
  // Twelve texts that say whether they are of animals.
  void SetUp() override {
    ScratchFolder::SetUp();
    const char* const texts[] = {"the dog ran home", "a red car",       "the cat sat",
                                 "a big house",      "my horse is old", "the road"};
    std::ofstream file(data());
    file << "sentence\tlabel\n";
    for (int i = 0; i < 12; ++i) file << texts[i % 6] << (i < 6 ? "" : " again") << '\t' << (i + 1) % 2 << '\n';
  }
  fs::path data() const { return folder_ / "data.tsv"; }

  // With `changes`, keys and values of a JSON object.
  TrainConfig config(const std::string& changes = "") const {
    nlohmann::json json = {{"task", "classification"},
                           {"model", OCTET_DEMO_ENCODER},
                           {"train_data", data().string()},
                           {"eval_data", data().string()},
                           {"epochs", 2},
                           {"batch_size", 4},
                           {"learning_rate", 0.001},
                           {"dropout", 0.1},
                           {"eval_steps", 2},
                           {"log_steps", 1},
                           {"gradient_accumulation", 2}};
    json.update(parse_json("{" + changes + "}", "the test"));
    return TrainConfig::parse(json_text(json), "config");
  }
  // A recipe of static activations.
  static std::string few_bits(int weights, int activations, bool symmetric) {
    const nlohmann::json recipe = {{"weights", {{"bits", weights}}},
                                   {"activations",
                                    {{"bits", activations},
                                     {"mode", "static"},
                                     {"symmetric", symmetric},
                                     {"range", "percentile"},
                                     {"percentile", 99.9}}}};
    return json_text(nlohmann::json(json_text(recipe)));
  }
  TrainReport run(const TrainConfig& config, const fs::path& out, int threads = 1, bool resume = false,
                  int64_t killed_after = -1) const {
    TrainOptions options{.out = out, .resume = resume};
    options.cpu.threads = threads;
    options.after_step = [killed_after](const TrainingStep& step) {
      if (step.step == killed_after) throw std::runtime_error("killed");
    };
    return train(config, *make_training_task(config), options);
  }
};

TEST_F(Training, GoesOnAfterAKillWithTheSameBitsOnAnyThreads) {
  for (const std::string& changes :
       {""s, R"("recipe": "qat_int8", "pact_a_lr": 0.01)"s, R"("recipe": "qat_int8", "qat_start": 3)"s,
        R"("recipe": "qat_uint8", "pact_a_lr": 0.01)"s,
        R"("recipe": "w4a8_g32_dynamic", "weight_clips": "lsq", "pact_a_lr": 0.01)"s,
        R"("weight_clips": "lsq", "pact_a_lr": 0.01, "recipe": )" + few_bits(2, 4, true),
        R"("weights_dtype": "bf16", "moments_dtype": "fp16")"s,
        R"("weights_dtype": "fp16", "moments_dtype": "bf16", "recipe": "qat_int8", "qat_start": 3)"s}) {
    const fs::path whole = folder_ / ("whole" + std::to_string(changes.size())),
                   cut = folder_ / ("cut" + std::to_string(changes.size()));
    const TrainReport report = run(config(changes), whole);
    EXPECT_EQ(report.steps, 6);
    EXPECT_EQ(fs::exists(whole / "checkpoint-6" / kTrainedRecipe), changes.find("recipe") != changes.npos);
    EXPECT_THROW(run(config(changes), cut, 2, false, 5), std::runtime_error);
    const TrainReport rest = run(config(changes), cut, 2, true);
    EXPECT_EQ(rest.resumed_from, 4);
    EXPECT_EQ(rest.evaluations.size(), report.evaluations.size());
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "training_state.json"})
      EXPECT_TRUE(bytes_of(whole / "checkpoint-6" / file) == bytes_of(cut / "checkpoint-6" / file)) << file << changes;
    EXPECT_TRUE(bytes_of(whole / "best" / "model.safetensors") == bytes_of(cut / "best" / "model.safetensors"));
    EXPECT_TRUE(bytes_of(whole / "log.csv") == bytes_of(cut / "log.csv"));
  }
}

// Before its first checkpoint, but after it was judged as it came.
TEST_F(Training, GoesOnAfterAKillAtTheVeryBeginning) {
  const std::string changes = R"("recipe": "qat_int8", "eval_first": true)";
  run(config(changes), folder_ / "whole");
  EXPECT_THROW(run(config(changes), folder_ / "cut", 1, false, 1), std::runtime_error);
  run(config(changes), folder_ / "cut", 1, true);
  EXPECT_TRUE(bytes_of(folder_ / "whole" / "log.csv") == bytes_of(folder_ / "cut" / "log.csv"));
  const fs::path state = fs::path("checkpoint-6") / "training_state.json";
  EXPECT_EQ(bytes_of(folder_ / "whole" / state), bytes_of(folder_ / "cut" / state));
}

TEST_F(Training, BecomesQuantizedAtAStepWithTheSameBitsAfterAKillThere) {
  const std::string changes = R"("recipe": "qat_int8", "qat_start": 3)";
  const TrainReport report = run(config(changes), folder_ / "whole");
  std::vector<int64_t> judged;
  for (const Evaluation& evaluation : report.evaluations) judged.push_back(evaluation.step);
  EXPECT_THAT(judged, testing::ElementsAre(2, 3, 4, 6));
  // The float checkpoint of step 3 is the last one when this is killed.
  EXPECT_THROW(run(config(changes + R"(, "max_steps": 6)"), folder_ / "cut", 1, false, 4), std::runtime_error);
  run(config(changes + R"(, "max_steps": 6)"), folder_ / "cut", 1, true);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "qat_recipe.json"})
    EXPECT_TRUE(bytes_of(folder_ / "whole" / "checkpoint-6" / file) ==
                bytes_of(folder_ / "cut" / "checkpoint-6" / file));
}

TEST_F(Training, LogsClipsAndTheHistogramsThatAreAskedFor) {
  const auto events = [this](const std::string& changes, const char* name) {
    run(config(changes), folder_ / name);
    std::string all;
    for (const auto& entry : fs::directory_iterator(folder_ / name)) {
      if (entry.path().filename().string().starts_with("events.")) all += bytes_of(entry.path());
    }
    return all;
  };
  const std::string quantized = events(R"("recipe": "qat_int8", "histogram_steps": 2)", "quantized");
  for (const char* tag : {"clips/bert.encoder.layer.0.intermediate.dense.input_clip",
                          "weights/bert.encoder.layer.0.attention.self.key.weight", "weights/classifier.bias",
                          "gradients/bert.encoder.layer.0.attention.self.value.bias"}) {
    EXPECT_THAT(quantized, HasSubstr(tag));
  }
  EXPECT_THAT(events("", "float"), testing::Not(HasSubstr("weights/")));
}

TEST_F(Training, AScaleOfTheLossChangesNoBit) {
  run(config(), folder_ / "plain");
  const fs::path model = fs::path("checkpoint-6") / "model.safetensors";
  for (const std::string scale : {"1024", "0"}) {
    run(config(R"("loss_scale": )" + scale), folder_ / scale);
    EXPECT_TRUE(bytes_of(folder_ / "plain" / model) == bytes_of(folder_ / scale / model)) << scale;
    EXPECT_TRUE(bytes_of(folder_ / "plain" / "log.csv") == bytes_of(folder_ / scale / "log.csv")) << scale;
  }
  EXPECT_THAT(bytes_of(folder_ / "0" / "checkpoint-6" / "training_state.json"), HasSubstr(R"("loss_scale": 65536)"));
  EXPECT_THAT(message_of<FormatError>([&] { config(R"("loss_scale": -1)"); }), HasSubstr("it may be from 0"));
}

TEST(LossScale, GrowsAfterManyStepsAndShrinksAtOne) {
  LossScale scale = LossScale::dynamic();
  for (int64_t i = 0; i < LossScale::kStepsUntilDoubled; ++i) {
    EXPECT_EQ(scale.value(), LossScale::kFirst);
    scale.grow();
  }
  EXPECT_EQ(scale.value(), 2 * LossScale::kFirst);
  EXPECT_EQ(scale.steps(), 0);
  for (double value = LossScale::kFirst; value >= 1; value /= 2) {
    EXPECT_TRUE(scale.shrink());
    EXPECT_EQ(scale.value(), value);
  }
  EXPECT_FALSE(scale.shrink()) << "1 is the least";
  LossScale fixed(8);
  fixed.grow();
  EXPECT_FALSE(fixed.shrink());
  EXPECT_EQ(fixed.value(), 8);
}

TEST_F(Training, LearnsInSixteenBits) {
  for (const std::string dtype : {"bf16", "fp16"}) {
    const fs::path out = folder_ / dtype;
    const TrainReport report = run(
        config(fmt::format(
            R"("epochs": 20, "dropout": 0, "eval_steps": 60, "weights_dtype": "{0}", "moments_dtype": "{0}")", dtype)),
        out);
    EXPECT_EQ(report.best_value, 1);
    const Checkpoint best = Checkpoint::open(out / "best");
    for (const std::string& name : best.names()) {
      const StoredTensor tensor = best.describe(name);
      const DType expected = tensor.shape.rank() == 1 ? DType::kF32 : dtype == "bf16" ? DType::kBF16 : DType::kF16;
      EXPECT_EQ(tensor.dtype, expected) << name;
    }
  }
  EXPECT_THAT(message_of<FormatError>([&] { config(R"("moments_dtype": "int8")"); }), HasSubstr("'bf16' are known"));
  EXPECT_THAT(message_of<UsageError>([&] { config(R"("weights_dtype": "bf16", "weight_clips": "lsq")"); }),
              HasSubstr("learned of fp32 ones"));
}

TEST_F(Training, LearnsTheTextsThatItIsShown) {
  const TrainReport report = run(config(R"("epochs": 20, "dropout": 0, "eval_steps": 60)"), folder_ / "out");
  EXPECT_EQ(report.best_value, 1);
  EXPECT_FALSE(fs::exists(folder_ / "out" / "best" / "optimizer.safetensors"));
  EXPECT_FALSE(fs::exists(folder_ / "out" / "checkpoint-0")) << "one checkpoint is kept";
}

// Its own labels all say the opposite, and count for nothing.
TEST_F(Training, AStudentSaysWhatItsTeacherSays) {
  run(config(R"("epochs": 20, "dropout": 0, "eval_steps": 60)"), folder_ / "teacher");
  std::string text = bytes_of(data());
  for (char& c : text) {
    if (c == '0' || c == '1') c = static_cast<char>('0' + '1' - c);
  }
  std::ofstream(data()) << text;
  const std::string teacher = (folder_ / "teacher" / "best").string();
  const TrainReport report = run(
      config(fmt::format(R"("epochs": 20, "eval_steps": 60, "seed": 9, "teacher": "{}", "distill_alpha": 1)", teacher)),
      folder_ / "student");
  EXPECT_EQ(report.best_value, 0);
  EXPECT_THAT(message_of<UsageError>(
                  [&] { run(config(fmt::format(R"("labels": 3, "teacher": "{}")", teacher)), folder_ / "three"); }),
              HasSubstr("the same outputs"));
}

TEST_F(Training, AStudentThinksAsItsTeacherDoes) {
  run(config(R"("epochs": 20, "dropout": 0, "eval_steps": 60)"), folder_ / "teacher");
  const std::string teacher = (folder_ / "teacher" / "best").string();
  const auto distance = [&](const fs::path& student) {
    TokenBatch batch;
    batch.add(std::vector<int32_t>{2, 40, 70, 3});
    std::vector<std::vector<float>> states;
    for (const fs::path& model : {fs::path(teacher), student}) {
      Session session(model, {.cpu = {.threads = 1}});
      const Workspace::Scope scope(session.workspace());
      Context context = session.context();
      const Activation x = session.model().hidden_states(context, upload(context, batch));
      session.backend().download(x, states.emplace_back(static_cast<size_t>(x.rows * x.cols)));
    }
    double sum = 0;
    for (size_t i = 0; i < states[0].size(); ++i) sum += std::pow(states[0][i] - states[1][i], 2);
    return sum;
  };
  const std::string changes = fmt::format(
      R"("epochs": 20, "dropout": 0, "eval_steps": 60, "seed": 9, "teacher": "{}", "distill_alpha": 1)", teacher);
  run(config(changes), folder_ / "outputs");
  run(config(changes + R"(, "distill_hidden": 10)"), folder_ / "states");
  EXPECT_LT(distance(folder_ / "states" / "best"), 0.5 * distance(folder_ / "outputs" / "best"));
  EXPECT_THAT(message_of<UsageError>([&] { config(R"("distill_hidden": 1)"); }), HasSubstr("needs a 'teacher'"));
  const std::string other =
      fmt::format(R"("distill_hidden": 1, "teacher": "{}/bert_sequence_classification")", OCTET_GOLDEN);
  EXPECT_THAT(message_of<UsageError>([&] { run(config(other), folder_ / "other"); }), HasSubstr("of width"));
}

TEST_F(Training, LoweredModelsHaveTheBitsThatWereTrained) {
  const std::string learned = R"(, "weight_clips": "lsq")";
  const std::string with_attention =
      json_text(nlohmann::json(R"({"weights": {"bits": 8}, "activations": {"bits": 8}, "attention": 8})"));
  for (const std::string& recipe : {R"("qat_int8")"s, R"("w8a8_dynamic")"s, R"("w4a8_g32_dynamic")"s, R"("qat_uint8")"s,
                                    R"("qat_int8")" + learned, R"("w4a8_g32_dynamic")" + learned, with_attention,
                                    few_bits(2, 4, true), few_bits(5, 3, false), few_bits(3, 2, true) + learned}) {
    const std::string name = "recipe" + std::to_string(recipe.size());
    const fs::path out = folder_ / name, lowered = folder_ / (name + "_lowered");
    run(config(fmt::format(R"("recipe": {}, "clips": "lsq", "pact_a_lr": 0.01)", recipe)), out);
    const fs::path trained = out / "checkpoint-6";
    const Recipe found = Recipe::load((trained / kTrainedRecipe).string(), {});
    quantize_model(Checkpoint::open(trained), found, lowered);

    const Checkpoint checkpoint = Checkpoint::open(trained);
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
    Workspace workspace(*backend), kept(*backend);
    Trainables trainables(*backend);
    const std::unique_ptr<Model> model = load_model(checkpoint, &found);
    model->train(trainables);
    TokenBatch batch;
    batch.add(std::vector<int32_t>{2, 40, 70, 3});
    batch.add(std::vector<int32_t>{2, 9, 3});
    Context context{*backend, workspace};
    octet::Training training{.context = context, .kept = kept};
    const Workspace::Scope scope(workspace), kept_scope(kept);
    const DeviceBatch on_device = upload(context, batch);
    const std::unique_ptr<TrainingPass> pass = model->forward(training, on_device);
    std::vector<float> logits(static_cast<size_t>(pass->output.rows * pass->output.cols));
    backend->download(pass->output, logits);
    const Tensor served = Session(lowered).run(batch);
    EXPECT_TRUE(std::ranges::equal(logits, served.as<float>())) << recipe;
  }
}

TEST_F(Training, LearnsInFewBitsAndUsesNoOtherCodes) {
  const fs::path out = folder_ / "few", lowered = folder_ / "lowered";
  const TrainReport report = run(config(fmt::format(
                                     R"("recipe": {}, "clips": "lsq", "pact_a_lr": 0.01, "epochs": 40, "dropout": 0,
                                        "eval_steps": 20, "gradient_accumulation": 1)",
                                     few_bits(2, 4, true))),
                                 out);
  EXPECT_GT(report.best_value, 0.9) << report.metric;
  const fs::path best = out / "best";
  quantize_model(Checkpoint::open(best), Recipe::load((best / kTrainedRecipe).string(), {}), lowered);
  const Checkpoint written = Checkpoint::open(lowered);
  int64_t layers = 0;
  const std::unique_ptr<Model> model = load_model(written, nullptr);
  for (const Linear::Part* part : model->linear_parts()) {
    if (!part->weight.scheme) continue;
    ++layers;
    EXPECT_EQ(part->weight.scheme->activation_bits, 4);
    EXPECT_EQ(part->weight.input.bits, 4);
    for (const int8_t code : written.stored_weight(part->weight.layer).codes.as<int8_t>()) {
      ASSERT_GE(code, -2);
      ASSERT_LE(code, 1);
    }
  }
  EXPECT_GE(layers, 12);
}

TEST_F(Training, SaysWhatIsWrong) {
  const fs::path out = folder_ / "out";
  run(config(R"("max_steps": 1)"), out);
  EXPECT_THAT(message_of<UsageError>([&] { run(config(R"("max_steps": 1)"), out); }), HasSubstr("--resume"));
  EXPECT_THAT(message_of<UsageError>([&] { run(config(R"("max_steps": 1, "seed": 2)"), out, 1, true); }),
              HasSubstr("another 'seed' (1 there, 2 here)"));
  EXPECT_THAT(message_of<FormatError>([&] { config(R"("learning_rat": 1)"); }), HasSubstr("'learning_rate'"));
  EXPECT_THAT(message_of<UsageError>([&] { run(config(R"("recipe": "w4a16_g128_gptq")"), folder_ / "g"); }),
              HasSubstr("training finds them itself"));
  std::string older = bytes_of(out / "train_config.json");
  const std::string key = R"(  "moments_dtype": "fp32",)";
  ASSERT_NE(older.find(key), older.npos);
  std::ofstream(out / "train_config.json") << older.erase(older.find(key), key.size());
  EXPECT_EQ(run(config(R"("max_steps": 1)"), out, 1, true).resumed_from, 1) << "a run that is older than a key";
  const fs::path far = folder_ / "far";
  EXPECT_THAT(message_of<NumericError>([&] { run(config(R"("learning_rate": 1e30, "max_grad_norm": 0)"), far); }),
              HasSubstr("is not finite"));
  std::ofstream(data(), std::ios::app) << "no number\tx\n";
  EXPECT_THAT(message_of<FormatError>([&] { run(config(R"("labels": 1)"), folder_ / "l"); }), HasSubstr("line 14"));
}

TEST(DataOrder, VisitsEveryExampleOnceAnEpochInTheSameOrderEachRun) {
  for (const bool by_length : {false, true}) {
    const DataOrder order{.examples = 1003, .batch_size = 8, .seed = 5, .by_length = by_length};
    const auto length = [](size_t i) { return static_cast<int64_t>(i % 17); };
    const auto batches = order.epoch(1, length);
    EXPECT_EQ(std::ssize(batches), order.batches());
    std::vector<size_t> seen;
    for (const auto& batch : batches) seen.insert(seen.end(), batch.begin(), batch.end());
    EXPECT_NE(seen.front() + 1, seen[1]);
    std::ranges::sort(seen);
    std::vector<size_t> all(1003);
    std::iota(all.begin(), all.end(), size_t{0});
    EXPECT_EQ(seen, all);
    EXPECT_EQ(order.epoch(1, length), batches);
    EXPECT_NE(order.epoch(2, length), batches);
  }
  const DataOrder as_it_lies{.examples = 5, .batch_size = 2, .shuffled = false};
  EXPECT_EQ(as_it_lies.epoch(3, {}), (std::vector<std::vector<size_t>>{{0, 1}, {2, 3}, {4}}));
}

}  // namespace
}  // namespace octet
