// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <span>

#include <fmt/format.h>

#include "octet/base/error.h"
#include "octet/eval/benchmark.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

// A model that is trained, in float, with what a step needs.
class Trained {
 public:
  explicit Trained(const std::filesystem::path& folder, int threads = 1, float dropout = 0)
      : checkpoint_(Checkpoint::open(folder)),
        backend_(make_cpu_backend({.threads = threads})),
        workspace_(*backend_),
        kept_(*backend_),
        trainables_(*backend_),
        dropout_(dropout),
        model_(load_model(checkpoint_, nullptr)) {
    model_->train(trainables_);
  }

  Backend& backend() { return *backend_; }
  const Model& model() const { return *model_; }
  const Trainables& trainables() const { return trainables_; }

  // Σ weights ∘ outputs, for weights that depend on their place alone; and, if asked, its gradients.
  double loss(const TokenBatch& batch, bool gradients, std::vector<float>* outputs = nullptr) {
    Context context{*backend_, workspace_};
    Training training{.context = context,
                      .kept = kept_,
                      .dropout = dropout_,
                      .attention_dropout = dropout_,
                      .seed = 7,
                      .recomputes_blocks = recomputes_blocks,
                      .output_rows = output_rows};
    const Workspace::Scope kept(kept_), scope(workspace_);
    const DeviceBatch on_device = upload(context, batch);
    double inside = 0;
    std::vector<std::vector<float>> states;
    if (has_loss_of_pieces) {
      training.after_piece = [&](int64_t piece, const Activation& x) {
        EXPECT_EQ(piece, std::ssize(states));
        std::vector<float>& values = states.emplace_back(static_cast<size_t>(x.rows * x.cols));
        backend_->download(x, values);
        for (float& value : values) {
          inside += 0.05 * static_cast<double>(piece + 1) * value * value;
          value *= 0.1f * static_cast<float>(piece + 1);
        }
      };
      training.add_gradient = [&](int64_t piece, const Activation& d) {
        const Workspace::Scope inner(workspace_);
        const Activation own = workspace_.take_matrix(d.rows, d.cols);
        backend_->upload(std::as_bytes(std::span(states[static_cast<size_t>(piece)])), own.memory);
        backend_->add({.x = own, .y = d});
      };
    }
    const std::unique_ptr<TrainingPass> pass = model_->forward(training, on_device);
    std::vector<float> y(static_cast<size_t>(pass->output.rows * pass->output.cols)), weights(y.size());
    backend_->download(pass->output, y);
    std::mt19937 engine(3);
    std::normal_distribution<float> normal;
    for (float& weight : weights) weight = normal(engine);
    if (gradients) {
      for (const auto& trainable : trainables_.all()) trainable->zero_gradient(*backend_);
      const Activation d = workspace_.take_matrix(pass->output.rows, pass->output.cols);
      backend_->upload(std::as_bytes(std::span(weights)), d.memory);
      model_->backward(training, on_device, *pass, d);
    }
    if (outputs != nullptr) *outputs = y;
    return std::inner_product(y.begin(), y.end(), weights.begin(), inside);
  }

  std::vector<std::vector<float>> gradients() {
    std::vector<std::vector<float>> all;
    for (const auto& trainable : trainables_.all()) all.push_back(gradient(*trainable));
    return all;
  }

  std::vector<float> gradient(const Trainable& trainable) {
    std::vector<float> out(static_cast<size_t>(trainable.elements()));
    backend_->download(trainable.gradient(), out);
    return out;
  }
  void set(const Trainable& trainable, std::span<const float> values) {
    backend_->upload(std::as_bytes(values), trainable.values().memory);
    model_->lay_out_trained(*backend_);
  }

  int64_t kept_bytes() const { return kept_.bytes(); }

  bool recomputes_blocks = false;
  std::vector<int32_t> output_rows;
  bool has_loss_of_pieces = false;  ///< Σ (piece + 1) · 0.05 x² besides, of what each piece gives

 private:
  Checkpoint checkpoint_;
  std::unique_ptr<Backend> backend_;
  Workspace workspace_, kept_;
  Trainables trainables_;
  float dropout_;
  std::unique_ptr<Model> model_;
};

const char* const kModels[] = {"bert_base",
                               "bert_relu_odd_sizes",
                               "bert_masked_lm",
                               "bert_question_answering",
                               "bert_sequence_classification",
                               "distilbert_sequence_classification",
                               "electra_sequence_classification",
                               "roberta_masked_lm",
                               "gpt2",
                               "gpt_neox",
                               "gpt_neox_sequential",
                               "gptj",
                               "llama_base",
                               "llama_tied",
                               "llama_bias",
                               "mistral_window",
                               "opt",
                               "opt_projected",
                               "phi",
                               "qwen2"};

TokenBatch sequences(const Model& model) {
  TokenBatch batch;
  for (const int64_t length : {5, 1, 9}) {
    const TokenBatch one = random_batch(model.info(), 1, length);
    batch.add(one.ids, one.type_ids);
  }
  return batch;
}

TEST(TrainingPass, ForwardHasTheBitsOfServing) {
  for (const char* name : kModels) {
    Trained trained(golden(name));
    const TokenBatch batch = sequences(trained.model());
    std::vector<float> outputs;
    trained.loss(batch, false, &outputs);
    Session session(golden(name), {.cpu = {.threads = 1}});
    const Tensor want = session.run(batch);
    ASSERT_EQ(outputs.size(), want.as<float>().size()) << name;
    EXPECT_EQ(std::memcmp(outputs.data(), want.as<float>().data(), outputs.size() * sizeof(float)), 0) << name;
  }
}

void check_gradients(std::span<const char* const> models, bool has_loss_of_pieces, float dropout = 0,
                     const std::vector<int32_t>& output_rows = {}) {
  for (const char* name : models) {
    Trained trained(golden(name), 1, dropout);
    trained.output_rows = output_rows;
    trained.has_loss_of_pieces = has_loss_of_pieces;
    const TokenBatch batch = sequences(trained.model());
    trained.loss(batch, true);
    const std::vector<std::vector<float>> gradients = trained.gradients();
    std::mt19937 engine(5);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < gradients.size(); ++i) {
      const Trainable& trainable = *trained.trainables().all()[i];
      const std::vector<float> values = trainable.download(trained.backend());
      std::vector<float> direction(values.size()), moved(values.size());
      for (float& d : direction) d = normal(engine);
      const double norm = std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
      const double step = 2e-3 * std::max(norm, 0.1) / std::sqrt(static_cast<double>(values.size()));
      const auto at = [&](double by) {
        for (size_t k = 0; k < values.size(); ++k) moved[k] = values[k] + static_cast<float>(by) * direction[k];
        trained.set(trainable, moved);
        return trained.loss(batch, false);
      };
      const double measured = (at(step) - at(-step)) / (2 * step);
      trained.set(trainable, values);
      const double expected = std::inner_product(direction.begin(), direction.end(), gradients[i].begin(), 0.0);
      // What a gradient of this length gives along a random direction; steps across the kinks of ReLU cost a few %.
      const double scale =
          std::sqrt(std::inner_product(gradients[i].begin(), gradients[i].end(), gradients[i].begin(), 0.0));
      EXPECT_NEAR(expected, measured, 0.05 * scale + 1e-3) << name << ", " << trainable.parts().front().tensor;
    }
  }
}

TEST(TrainingPass, GradientsOfEveryParameterOfEveryArchitecture) { check_gradients(kModels, false); }

TEST(TrainingPass, GradientsAreOfThatWhichDropoutLeft) {
  check_gradients(std::array{"bert_sequence_classification", "gpt2", "gptj", "llama_base", "opt_projected"}, false,
                  0.3f);
}

TEST(TrainingPass, SomeRowsOfTheOutputMayBeAllThatIsWanted) {
  const std::array models = {"bert_masked_lm", "bert_question_answering", "bert_base", "opt_projected", "llama_tied"};
  const std::vector<int32_t> wanted = {0, 5, 6, 14};
  check_gradients(models, false, 0, wanted);
  for (const char* name : models) {
    Trained trained(golden(name));
    const TokenBatch batch = sequences(trained.model());
    std::vector<float> all, some;
    trained.loss(batch, false, &all);
    trained.output_rows = wanted;
    trained.loss(batch, false, &some);
    const size_t cols = all.size() / static_cast<size_t>(batch.tokens());
    ASSERT_EQ(some.size(), wanted.size() * cols) << name;
    for (size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_TRUE(std::ranges::equal(std::span(some).subspan(i * cols, cols),
                                     std::span(all).subspan(static_cast<size_t>(wanted[i]) * cols, cols)))
          << name << ", row " << wanted[i];
    }
    trained.output_rows = {15};
    EXPECT_THROW(trained.loss(batch, false), ShapeError);
  }
  Trained classifier(golden("bert_sequence_classification"));
  classifier.output_rows = wanted;
  EXPECT_THROW(classifier.loss(sequences(classifier.model()), false), UsageError);
}

TEST(TrainingPass, HiddenStatesMayHaveLossesOfTheirOwn) {
  check_gradients(std::array{"bert_sequence_classification", "gptj", "opt_projected", "llama_base"}, true);
}

TEST(TrainingPass, GradientsDoNotDependOnThreads) {
  for (const float dropout : {0.0f, 0.2f}) {
    std::vector<std::vector<float>> first;
    for (const int threads : {1, 3}) {
      Trained trained(golden("bert_sequence_classification"), threads, dropout);
      const TokenBatch batch = random_batch(trained.model().info(), 40, 12);
      trained.loss(batch, true);
      const std::vector<std::vector<float>> all = trained.gradients();
      if (first.empty()) first = all;
      EXPECT_EQ(all, first) << threads << " threads, dropout " << dropout;
    }
  }
}

TEST(TrainingPass, RecomputedBlocksGiveTheSameBits) {
  for (const char* name : kModels) {
    std::vector<std::vector<float>> kept;
    int64_t kept_bytes = 0;
    for (const bool recomputes : {false, true}) {
      Trained trained(golden(name), 1, 0.2f);
      trained.recomputes_blocks = recomputes;
      const TokenBatch batch = random_batch(trained.model().info(), 24, 16);
      trained.loss(batch, true);
      trained.loss(batch, true);  // now that the workspace has its size
      if (recomputes) {
        EXPECT_EQ(trained.gradients(), kept) << name;
        if (trained.model().info().blocks > 1) {
          EXPECT_LT(trained.kept_bytes(), kept_bytes) << name;
        }
      } else {
        kept = trained.gradients();
        kept_bytes = trained.kept_bytes();
      }
    }
  }
}

TEST(TrainingPass, QuantizedModelsAreRefused) {
  const Checkpoint checkpoint = Checkpoint::open(golden("gptq"));
  const std::unique_ptr<Backend> backend = make_cpu_backend({});
  Trainables trainables(*backend);
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  EXPECT_THROW(model->train(trainables), UsageError);
}

}  // namespace
}  // namespace octet
