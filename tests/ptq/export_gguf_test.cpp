// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/export_gguf.h"

#include <cmath>
#include <cstring>
#include <fstream>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/io/gguf_reader.h"
#include "octet/io/gguf_writer.h"
#include "octet/io/safetensors.h"
#include "octet/models/session.h"
#include "octet/ptq/quantize_model.h"
#include "octet/quant/quantize.h"
#include "octet/text/tokenizer.h"
#include "tests/io/scratch.h"
#include "tests/json_file.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;

fs::path tests() { return fs::path(OCTET_TEST_FILES).parent_path(); }

class ExportGguf : public ScratchFolder {
 protected:
  // A golden model with the byte-level BPE of the tokenizer tests, cut to its vocabulary.
  fs::path model(const std::string& name, const nlohmann::json& changes = {}) {
    const fs::path from = tests() / "golden" / name, to = folder_ / ("hf_" + name);
    fs::create_directory(to);
    fs::copy_file(from / "model.safetensors", to / "model.safetensors");
    nlohmann::json config = read_json(from / "config.json");
    if (!changes.is_null()) config.update(changes);
    std::ofstream(to / "config.json") << json_text(config);
    nlohmann::json tokenizer = read_json(tests() / "text/bpe_byte_level.json");
    nlohmann::json vocabulary = nlohmann::json::object();
    for (const auto& [token, id] : tokenizer["model"]["vocab"].items()) {
      if (id.get<int64_t>() < config["vocab_size"].get<int64_t>()) vocabulary[token] = id;
    }
    tokenizer["model"]["vocab"] = vocabulary;
    tokenizer["model"]["merges"] = nlohmann::json::array();
    std::ofstream(to / "tokenizer.json") << json_text(tokenizer);
    std::ofstream(to / "tokenizer_config.json") << R"({"bos_token": "<|end|>", "chat_template": "{{ a }}"})";
    return to;
  }

  static TokenBatch batch() {
    TokenBatch batch;
    batch.add(std::vector<int32_t>{3, 1, 4, 1, 5, 9, 2, 6});
    batch.add(std::vector<int32_t>{30, 0});
    return batch;
  }
};

std::string logits(const fs::path& model) {
  Session session(model);
  return bytes_of(session.run([] {
    TokenBatch batch;
    batch.add(std::vector<int32_t>{3, 1, 4, 1, 5, 9, 2, 6});
    batch.add(std::vector<int32_t>{30, 0});
    return batch;
  }()));
}

TEST_F(ExportGguf, HalvesGiveTheBitsOfTheDirectory) {
  for (const std::string name : {"llama_tied", "gpt2"}) {  // fp16, as F16 is
    SCOPED_TRACE(name);
    const fs::path from = model(name), to = folder_ / (name + ".gguf");
    const ExportReport report = export_gguf(Checkpoint::open(from), GgufType::kF16, to);
    EXPECT_EQ(report.bytes, Checkpoint::open(to).bytes());
    EXPECT_EQ(logits(to), logits(from));
    const Tokenizer want = Tokenizer::load(from), got = Tokenizer::load(to);
    for (const char* text : {"the cat 12 <|end|>", "don't\n\n  x"})
      EXPECT_EQ(got.encode(text).ids, want.encode(text).ids);
    EXPECT_EQ(got.bos_id(), want.bos_id());
    EXPECT_EQ(Checkpoint::open(to).config().text("chat_template"), "{{ a }}");
  }
}

TEST_F(ExportGguf, RotaryScalingsStay) {
  for (const std::string name :
       {"llama_rope_llama3", "llama_rope_linear", "llama_rope_yarn", "llama_rope_yarn_options"}) {
    SCOPED_TRACE(name);
    const fs::path from = model(name), to = folder_ / (name + ".gguf");
    if (name == "llama_rope_yarn_options") {
      EXPECT_THAT(message_of<UsageError>([&] { export_gguf(Checkpoint::open(from), GgufType::kF16, to); }),
                  HasSubstr("cannot say"));
      continue;
    }
    export_gguf(Checkpoint::open(from), GgufType::kF16, to);
    Session first(from), second(to);
    const Tensor want = first.run(batch()), got = second.run(batch());
    double largest = 0, highest = 0;
    for (int64_t i = 0; i < want.shape().elements(); ++i) {
      largest = std::max(largest, std::abs(double{got.as<float>()[i]} - want.as<float>()[i]));
      highest = std::max(highest, std::abs(double{want.as<float>()[i]}));
    }
    EXPECT_LT(largest / highest, 2e-3);  // bf16 weights as fp16 lose nothing; frequencies are rounded elsewhere
  }
}

TEST_F(ExportGguf, CodesAreThoseOfTheDefinition) {
  const fs::path from = model("llama_base");
  const Checkpoint floats = Checkpoint::open(from);
  for (const GgufType type : {GgufType::kQ8_0, GgufType::kQ4_0}) {
    const fs::path to = folder_ / (std::string(find_block(type)->name) + ".gguf");
    const ExportReport report = export_gguf(floats, type, to);
    const Checkpoint written = Checkpoint::open(to);
    int coded = 0, narrow = 0;
    for (const ExportedTensor& tensor : report.tensors) {
      coded += tensor.type == type ? 1 : 0;
      narrow += tensor.type == GgufType::kF16 ? 1 : 0;
      EXPECT_EQ(tensor.reason == ExportedTensor::Reason::kRows, tensor.type == GgufType::kF16) << tensor.name;
    }
    EXPECT_EQ(coded, 2 * 6 + 2);  // all but down_proj, whose rows have 41; and table and head
    EXPECT_EQ(narrow, 2);
    for (const std::string& name : floats.names()) {
      const Tensor want = to_f32(floats.tensor(name).view()), got = written.tensor(name);
      const std::string layer = name.substr(0, name.rfind('.'));
      if (!written.stored_scheme(layer)) continue;
      const QTensor codes = written.stored_weight(layer);
      for (int64_t block = 0; block < codes.scales.shape().elements(); ++block) {
        const auto values = want.as<float>().subspan(static_cast<size_t>(block) * 32, 32);
        const float extreme = *std::ranges::max_element(values, {}, [](float x) { return std::abs(x); });
        const float d = type == GgufType::kQ8_0 ? std::abs(extreme) / 127 : extreme / -8, inverse = 1.0f / d;
        ASSERT_EQ(codes.scales.as<float>()[block], to_float(to_half(d))) << name;
        for (int64_t i = 0; i < 32; ++i) {
          const float scaled = values[static_cast<size_t>(i)] * inverse;
          const int code = type == GgufType::kQ8_0 ? static_cast<int>(std::lround(scaled))
                                                   : std::min(15, static_cast<int>(scaled + 8.5f)) - 8;
          ASSERT_EQ(codes.codes.as<int8_t>()[block * 32 + i], code) << name << " " << block << " " << i;
        }
      }
    }
    Session session(to);  // it runs
    EXPECT_EQ(session.run(batch()).shape()[0], 10);
  }
}

TEST_F(ExportGguf, CodesThatAreThereStay) {
  const fs::path to = folder_ / "again.gguf";
  const Checkpoint from = Checkpoint::open(tests() / "golden/gguf/llama_base_codes.gguf");
  const ExportReport report = export_gguf(from, GgufType::kQ8_0, to);
  const Checkpoint again = Checkpoint::open(to);
  for (const std::string& name : from.names()) {
    const std::string layer = name.substr(0, name.rfind('.'));
    ASSERT_EQ(again.stored_scheme(layer).has_value() || !from.stored_scheme(layer), true);
    if (!from.stored_scheme(layer)) continue;
    const QTensor want = from.stored_weight(layer), got = again.stored_weight(layer);
    EXPECT_EQ(bytes_of(got.codes), bytes_of(want.codes)) << name;
    EXPECT_EQ(bytes_of(got.scales), bytes_of(want.scales)) << name;
    EXPECT_EQ(bytes_of(got.minima), bytes_of(want.minima)) << name;
  }
  const fs::path quantized = folder_ / "w8a16";
  quantize_model(Checkpoint::open(model("llama_base")), Recipe::load("w8a16", {}), quantized);
  EXPECT_THAT(message_of<UsageError>([&] { export_gguf(Checkpoint::open(quantized), GgufType::kQ8_0, folder_ / "x"); }),
              HasSubstr("is quantized in a layout whose codes"));
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(ExportGguf, WhatCannotBeWrittenIsRefused) {
  const auto refusal = [&](const fs::path& from, const fs::path& to) {
    return message_of<Error>([&] { export_gguf(Checkpoint::open(from), GgufType::kQ8_0, to); });
  };
  EXPECT_THAT(refusal(tests() / "golden/bert_base", folder_ / "x"),
              HasSubstr("'BertModel' cannot be written as a GGUF file"));
  const fs::path gelu = model("llama_tied", {{"hidden_act", "gelu"}});
  EXPECT_THAT(refusal(gelu, folder_ / "x"), HasSubstr("'hidden_act' is \"gelu\""));
  const fs::path there = write("there.gguf", "mine");
  EXPECT_THAT(refusal(model("llama_base"), there), HasSubstr("exists already"));
  EXPECT_EQ(fs::file_size(there), 4u);
  fs::remove(folder_ / "hf_llama_base/tokenizer.json");
  EXPECT_THAT(refusal(folder_ / "hf_llama_base", folder_ / "x"), HasSubstr("no tokenizer.json"));
  EXPECT_THAT(message_of<UsageError>([] { parse_gguf_type("q8_1"); }), HasSubstr("Did you mean 'q8_0'?"));
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(ExportGguf, WeightsThatAreNoNumbersAreNamed) {
  const fs::path from = model("llama_base");
  SafetensorsWriter writer;
  {
    const SafetensorsFile file = SafetensorsFile::open(from / "model.safetensors");
    for (const std::string& name : file.names()) {
      Tensor tensor = Tensor::copy_of(file.tensor(name).view());
      if (name == "model.layers.1.mlp.up_proj.weight") tensor.mutable_as<float>()[2 * 32 + 7] = NAN;
      writer.add(name, std::move(tensor));
    }
  }
  writer.write(from / "model.safetensors");
  EXPECT_THAT(message_of<NumericError>([&] { export_gguf(Checkpoint::open(from), GgufType::kQ4_0, folder_ / "x"); }),
              AllOf(HasSubstr("'model.layers.1.mlp.up_proj.weight': row 2 holds NaN"), HasSubstr("fp16")));
  EXPECT_EQ(entries(), 1);  // nothing half-written
}

TEST_F(ExportGguf, TheWriterRefusesWhatTheFormatHasNot) {
  GgufWriter writer;
  writer.add_text("a", "b");
  EXPECT_THAT(message_of<Error>([&] { writer.add_flag("a", true); }), HasSubstr("have the key 'a'"));
  const auto none = [] { return std::vector<std::byte>(); };
  EXPECT_THAT(message_of<Error>([&] {
                writer.add({std::string(65, 'n'), GgufType::kF32, {1}, none});
              }),
              HasSubstr("names have up to 64 bytes"));
  EXPECT_THAT(message_of<Error>([&] {
                writer.add({"t", GgufType::kQ8_0, {2, 33}, none});
              }),
              HasSubstr("rows of 33 elements"));
  writer.add({"t", GgufType::kF32, {2}, none});
  EXPECT_THAT(message_of<Error>([&] { writer.write(folder_ / "x"); }), HasSubstr("announced with 8 bytes but has 0"));
  EXPECT_EQ(entries(), 0);
}

}  // namespace
}  // namespace octet
