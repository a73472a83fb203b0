// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/block_stream.h"

#include <cmath>
#include <cstring>
#include <map>

#include <gmock/gmock.h>

#include "octet/backend/forwarding.h"
#include "octet/base/error.h"
#include "octet/eval/benchmark.h"
#include "octet/quant/quantize.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const char* const kModels[] = {"llama_base",
                               "llama_tied",
                               "gpt2",
                               "opt_projected",
                               "gptj",
                               "gpt_neox",
                               "phi",
                               "bert_base",
                               "distilbert",
                               "electra",
                               "bert_sequence_classification",
                               "bert_masked_lm"};

const char* const kParallelModels[] = {"gptj", "gpt_neox", "phi"};

// Ragged, and more than a stream runs at once.
TokenBatch samples_for(const ModelInfo& info) {
  TokenBatch samples;
  for (const int64_t length : {13, 2, 1, 20}) {
    const TokenBatch batch = random_batch(info, 60, length);
    for (size_t b = 0; b < 60; ++b) {
      const auto begin = static_cast<size_t>(batch.offsets[b]), count = static_cast<size_t>(length);
      samples.add(std::span(batch.ids).subspan(begin, count), std::span(batch.type_ids).subspan(begin, count));
    }
  }
  return samples;
}

std::vector<float> hidden_states(Session& session, const TokenBatch& batch) {
  const Workspace::Scope scope(session.workspace());
  Context context = session.context();
  const Activation x = session.model().hidden_states(context, upload(context, batch));
  std::vector<float> states(static_cast<size_t>(x.rows * x.cols));
  session.backend().download(x, states);
  return states;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Counts products and attention.
class Counter final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void linear(const LinearOp& op) override {
    ++count;
    ForwardingBackend::linear(op);
  }
  void attention(const AttentionOp& op) override {
    ++count;
    ForwardingBackend::attention(op);
  }
  int64_t count = 0;
};

void quantize_parts(Linear& linear, const Recipe& recipe) {
  for (Linear::Part& part : linear.parts()) {
    part.weight.scheme = recipe.scheme_for(part.weight.layer, part.weight.shape[1]);
    part.weight.value = quantize_weight(FloatWeight(part.weight).view(), part.weight.scheme->weight, part.weight.layer);
  }
}

struct Streamed {
  explicit Streamed(const std::string& name)
      : checkpoint(Checkpoint::open(golden(name))),
        cpu(make_cpu_backend({})),
        backend(*cpu),
        model(load_model(checkpoint, nullptr)),
        samples(samples_for(model->info())),
        stream(*model, backend, samples) {}

  // Of the linear layers of the piece that is next.
  std::vector<int> sites() const {
    std::vector<int> ids;
    for (const Linear* linear : model->piece(stream.piece()).linears) ids.push_back(linear->site().id);
    return ids;
  }
  void run_to_head(BlockStream::Outputs outputs = BlockStream::Outputs::kTaken) {
    while (stream.piece() < model->pieces() - 1) stream.run(outputs);
  }

  Checkpoint checkpoint;
  std::unique_ptr<Backend> cpu;
  Counter backend;
  std::unique_ptr<Model> model;
  TokenBatch samples;
  BlockStream stream;
};

TEST(BlockStream, GivesTheBitsOfAForwardPass) {
  for (const char* name : kModels) {
    Streamed s(name);
    s.run_to_head();
    Session session(golden(name));
    EXPECT_TRUE(same_bits(s.stream.hidden_states(), hidden_states(session, s.samples))) << name;
    EXPECT_FALSE(s.stream.done());
    s.stream.run(BlockStream::Outputs::kTaken);
    EXPECT_TRUE(s.stream.done());
  }
}

TEST(BlockStream, WatchingChangesNoBit) {
  for (const char* name : kModels) {
    Streamed s(name), watched(name);
    s.run_to_head();
    while (watched.stream.piece() < watched.model->pieces() - 1) {
      const std::vector<int> sites = watched.sites();
      int64_t rows = 0;
      const auto visit = [&](const SiteInput& input) { rows += std::ssize(input.rows) / input.columns; };
      // A pass whose outputs are dropped leaves the stream where it was.
      watched.stream.run(BlockStream::Outputs::kDropped, sites, visit);
      watched.stream.run(BlockStream::Outputs::kTaken, sites, visit);
      EXPECT_EQ(rows, 2 * watched.samples.tokens() * std::ssize(sites)) << name;
    }
    EXPECT_TRUE(same_bits(s.stream.hidden_states(), watched.stream.hidden_states())) << name;
  }
}

// Keeps what products without more than a bias give.
class Outputs final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void linear(const LinearOp& op) override {
    ForwardingBackend::linear(op);
    if (op.residual || op.nonlinearity != Nonlinearity::kNone) return;
    std::vector<float> y(static_cast<size_t>(op.y.rows * op.y.cols));
    inner().download(op.y, y);
    std::vector<float>& all = by_site[op.site];
    all.insert(all.end(), y.begin(), y.end());
  }
  std::map<int, std::vector<float>> by_site;
};

TEST(BlockStream, WhatIsSeenIsWhatProductsRead) {
  for (const char* name : {"llama_base", "gpt2", "bert_base", "phi", "gptj"}) {
    const Checkpoint checkpoint = Checkpoint::open(golden(name));
    const std::unique_ptr<Backend> cpu = make_cpu_backend({});
    Outputs backend(*cpu);
    const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
    const TokenBatch samples = random_batch(model->info(), 3, 17);
    BlockStream stream(*model, backend, samples);
    stream.run(BlockStream::Outputs::kTaken);
    const Linear& qkv = *model->piece(1).linears.front();
    std::vector<float> rows;
    const std::vector<int> sites = {qkv.site().id};
    stream.run(BlockStream::Outputs::kTaken, sites,
               [&](const SiteInput& input) { rows.insert(rows.end(), input.rows.begin(), input.rows.end()); });
    const std::vector<float>& outputs = backend.by_site.at(qkv.site().id);
    ASSERT_EQ(std::ssize(rows), samples.tokens() * qkv.inputs());
    ASSERT_EQ(std::ssize(outputs), samples.tokens() * qkv.outputs());
    // By the contract of numerics: fma over ascending inputs, then the bias.
    int64_t column = 0;
    for (const Linear::Part& part : qkv.parts()) {
      const FloatWeight weight(part.weight);
      const Tensor values = to_f32(weight.view());
      const Tensor bias = part.bias ? to_f32(part.bias->view()) : Tensor(DType::kF32, {part.weight.shape[0]});
      const auto w = values.as<float>();
      for (int64_t o = 0; o < part.weight.shape[0]; ++o, ++column) {
        for (int64_t t = 0; t < samples.tokens(); ++t) {
          float sum = 0;
          for (int64_t i = 0; i < qkv.inputs(); ++i)
            sum = std::fma(rows[t * qkv.inputs() + i], w[o * qkv.inputs() + i], sum);
          ASSERT_EQ(outputs[t * qkv.outputs() + column], sum + bias.as<float>()[o]) << name << ", output " << column;
        }
      }
    }
  }
}

TEST(BlockStream, AttentionShowsItsHeadsSideBySide) {
  for (const char* name : {"llama_base", "gpt_neox"}) {
    Streamed s(name);
    s.stream.run(BlockStream::Outputs::kTaken);
    const std::vector<QuantSite>& all = s.model->sites().all();
    const auto site = std::ranges::find_if(all, [](const QuantSite& x) { return x.name.ends_with("attention"); });
    ASSERT_NE(site, all.end());
    const ModelInfo& info = s.model->info();
    std::map<SiteInput::Role, int64_t> values;
    const std::vector<int> sites = {site->id};
    s.stream.run(BlockStream::Outputs::kDropped, sites, [&](const SiteInput& input) {
      if (input.role != SiteInput::Role::kQuery) {
        EXPECT_EQ(input.columns, info.kv_heads * info.kv_head_width);
      }
      values[input.role] += std::ssize(input.rows);
    });
    EXPECT_EQ(values[SiteInput::Role::kKey], s.samples.tokens() * info.kv_heads * info.kv_head_width);
    EXPECT_EQ(values[SiteInput::Role::kValue], values[SiteInput::Role::kKey]);
    EXPECT_GE(values[SiteInput::Role::kQuery], values[SiteInput::Role::kKey]);
    EXPECT_EQ(values.count(SiteInput::Role::kInput), 0);
  }
}

TEST(BlockStream, APieceRunsAgainWithOtherWeights) {
  for (const char* name : {"llama_base", "gpt2", "bert_base"}) {
    Streamed s(name);
    const Recipe recipe = Recipe::load("w8a16", {});
    while (s.stream.piece() < s.model->pieces() - 1) {
      s.stream.run(BlockStream::Outputs::kDropped, s.sites(), [](const SiteInput&) {});
      for (Linear* linear : s.model->piece(s.stream.piece()).linears) quantize_parts(*linear, recipe);
      s.stream.run(BlockStream::Outputs::kTaken);
    }
    Session session(golden(name), {.recipe = recipe});
    EXPECT_TRUE(same_bits(s.stream.hidden_states(), hidden_states(session, s.samples))) << name;
  }
}

// Layer by layer: each is watched once those before it are quantized. What was seen, and then the hidden states.
struct ByLayer {
  ByLayer(const char* name, BlockStream::Outputs outputs) {
    Streamed s(name);
    const Recipe recipe = Recipe::load("w8a16", {});
    s.stream.run(BlockStream::Outputs::kTaken);
    s.backend.count = 0;
    while (s.stream.piece() < s.model->pieces() - 1) {
      for (Linear* linear : s.model->piece(s.stream.piece()).linears) {
        s.stream.run(outputs, std::vector<int>{linear->site().id},
                     [&](const SiteInput& input) { seen.insert(seen.end(), input.rows.begin(), input.rows.end()); });
        quantize_parts(*linear, recipe);
      }
      s.stream.run(BlockStream::Outputs::kTaken);
    }
    states.assign(s.stream.hidden_states().begin(), s.stream.hidden_states().end());
    operations = s.backend.count;
  }

  std::vector<float> seen, states;
  int64_t operations = 0;
};

int64_t operations_of_one_pass(const char* name) {
  Streamed s(name);
  s.stream.run(BlockStream::Outputs::kTaken);
  s.backend.count = 0;
  s.run_to_head();
  return s.backend.count;
}

TEST(BlockStream, WhatWasLeftGoesOnWithTheSameBits) {
  for (const char* name : kModels) {
    const ByLayer again(name, BlockStream::Outputs::kDropped), paused(name, BlockStream::Outputs::kPaused);
    EXPECT_TRUE(same_bits(again.seen, paused.seen)) << name;
    EXPECT_TRUE(same_bits(again.states, paused.states)) << name;
    // Every product and attention of a block runs once a batch, as in one pass, where a block runs its layers in the
    // order of the list.
    if (std::ranges::find(kParallelModels, name) == std::end(kParallelModels)) {
      EXPECT_EQ(paused.operations, operations_of_one_pass(name)) << name;
    }
    EXPECT_GT(again.operations, paused.operations) << name;
  }
}

TEST(BlockStream, ASiteBeforeThePlaceThatWasLeftBeginsAgain) {
  Streamed s("llama_base"), plain("llama_base");
  s.stream.run(BlockStream::Outputs::kTaken);
  plain.stream.run(BlockStream::Outputs::kTaken);
  const std::vector<int> sites = s.sites();
  int64_t seen = 0;
  const auto count = [&](const SiteInput& input) { seen += std::ssize(input.rows) / input.columns; };
  s.stream.run(BlockStream::Outputs::kPaused, std::span(sites).last(1), count);
  s.stream.run(BlockStream::Outputs::kPaused, std::span(sites).first(1), count);
  EXPECT_EQ(seen, 2 * s.samples.tokens());
  s.stream.run(BlockStream::Outputs::kTaken);
  plain.stream.run(BlockStream::Outputs::kTaken);
  EXPECT_TRUE(same_bits(s.stream.hidden_states(), plain.stream.hidden_states()));
}

TEST(BlockStream, GoesOnWhereItWasSaved) {
  Streamed whole("llama_base"), resumed("llama_base");
  whole.stream.run(BlockStream::Outputs::kTaken);
  whole.stream.run(BlockStream::Outputs::kTaken);
  const std::vector<float> saved(whole.stream.hidden_states().begin(), whole.stream.hidden_states().end());
  resumed.model->prepare_piece(resumed.backend, 0, Sources::kKept);
  resumed.stream.resume(2, saved);
  whole.run_to_head();
  resumed.run_to_head();
  EXPECT_TRUE(same_bits(whole.stream.hidden_states(), resumed.stream.hidden_states()));
  EXPECT_THROW(resumed.stream.resume(2, {1.0f}), ShapeError);
  EXPECT_THROW(resumed.stream.resume(0, saved), ShapeError);
}

TEST(BlockStream, NanAndInfinityAreFoundByLayerAndSample) {
  for (const float bad : {NAN, INFINITY}) {
    Streamed s("llama_base");
    s.stream.run(BlockStream::Outputs::kTaken);
    std::vector<float> states(s.stream.hidden_states().begin(), s.stream.hidden_states().end());
    const int64_t width = s.model->info().width, sample = 200;
    states[static_cast<size_t>(s.samples.offsets[sample] * width + 3)] = bad;
    s.stream.resume(1, states);
    const auto message = [&](std::span<const int> sites) -> std::string {
      try {
        s.stream.run(BlockStream::Outputs::kTaken, sites, [](const SiteInput&) {});
      } catch (const NumericError& error) {
        return error.what();
      }
      return "nothing";
    };
    EXPECT_THAT(message(s.sites()), AllOf(HasSubstr("model.layers.0.self_attn"), HasSubstr("sample 200")));
    EXPECT_THAT(message({}), AllOf(HasSubstr("block 0 gives"), HasSubstr("sample 200")));
  }
}

}  // namespace
}  // namespace octet
