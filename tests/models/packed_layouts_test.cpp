// SPDX-License-Identifier: Apache-2.0
// Models as GPTQ's and AWQ's tools store them: tests/golden/make_quantized.py makes them.
#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/ptq/export_gguf.h"
#include "octet/ptq/quantize_model.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::vector<std::string> kModels = {"gptq", "gptq_act_order", "gptq_v2_8_bits", "awq_gemm", "awq_gemv"};

std::map<std::string, std::string> schemes_of(const Session& session) {
  std::map<std::string, std::string> schemes;
  for (const Linear::Part* part : session.model().linear_parts())
    schemes[part->weight.layer] = part->weight.scheme ? to_string(*part->weight.scheme) : "float";
  return schemes;
}

TEST(PackedLayoutModels, LogitsAreThoseOfTheValuesThatCodesStandFor) {
  for (const std::string& name : kModels) {
    Session session(golden(name));
    for (const char* which : {"right", "full"}) {
      const TokenBatch batch = golden_batch(golden(name), which);
      const Tensor want = read_npy(golden(name) / (std::string(which) + ".logits.npy"));
      EXPECT_LT(error_share(session.run(batch), want, batch, true), 2e-6) << name << " " << which;
    }
  }
}

TEST(PackedLayoutModels, ARecipeForActivationsQuantizesThem) {
  for (const std::string& name : kModels) {
    Session session(golden(name), {.recipe = Recipe::load("a8_dynamic", {})});
    const TokenBatch batch = golden_batch(golden(name), "full");
    const double off = error_share(session.run(batch), read_npy(golden(name) / "full.logits.npy"), batch, true);
    EXPECT_GT(off, 1e-5) << name;
    EXPECT_LT(off, 0.1) << name;  // the worst of all logits, of random weights
    EXPECT_THAT(schemes_of(session)["model.layers.0.self_attn.q_proj"], HasSubstr("int8 activations per token"));
  }
}

TEST(PackedLayoutModels, EachLayerHasTheSchemeThatIsStored) {
  const std::string q = "model.layers.0.self_attn.q_proj", o = "model.layers.0.self_attn.o_proj";
  EXPECT_EQ(schemes_of(Session(golden("gptq")))[q], "int4 weights in groups of 32, float activations");
  EXPECT_EQ(schemes_of(Session(golden("gptq_act_order")))[q],
            "int4 weights in groups of 32 reordered columns with zero points, float activations");
  auto mixed = schemes_of(Session(golden("gptq_v2_8_bits")));
  EXPECT_EQ(mixed[q], "int8 weights per channel, float activations");
  EXPECT_EQ(mixed["model.layers.0.self_attn.v_proj"], "float");
  EXPECT_EQ(mixed["model.layers.0.mlp.down_proj"], "int4 weights in groups of 32, float activations");
  EXPECT_EQ(mixed["lm_head"], "int8 weights per channel, float activations");
  auto awq = schemes_of(Session(golden("awq_gemm")));
  EXPECT_EQ(awq[q], "int4 weights in groups of 32 with zero points, float activations");
  EXPECT_EQ(awq[o], "float");
  EXPECT_EQ(awq["lm_head"], "float");
}

TEST(PackedLayoutModels, CodesAreNotQuantizedAgainNorExported) {
  const fs::path out = fs::path(testing::TempDir()) / "packed_layout_models";
  for (const std::string& name : kModels) {
    const Checkpoint checkpoint = Checkpoint::open(golden(name));
    try {
      quantize_model(checkpoint, Recipe::load("w8a8_dynamic", {}), out);
      ADD_FAILURE() << name << ": no UsageError";
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr("is quantized already: layer 'model.layers.0.self_attn.q_proj'"));
    }
    EXPECT_THROW(export_gguf(checkpoint, GgufType::kQ8_0, out, {}, 1), UsageError);
    EXPECT_FALSE(fs::exists(out));
  }
}

}  // namespace
}  // namespace octet
