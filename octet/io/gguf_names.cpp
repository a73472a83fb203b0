// SPDX-License-Identifier: Apache-2.0
#include "octet/io/gguf_names.h"

#include <algorithm>
#include <array>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/suggest.h"

namespace octet {
namespace {

using Kind = GgufKeyName::Kind;
using Need = GgufKeyName::Need;

constexpr std::string_view kBlock = "blk.";

constexpr std::array kLlamaKeys = {
    GgufKeyName{"block_count", "num_hidden_layers"},
    GgufKeyName{"context_length", "max_position_embeddings"},
    GgufKeyName{"embedding_length", "hidden_size"},
    GgufKeyName{"feed_forward_length", "intermediate_size"},
    GgufKeyName{"attention.head_count", "num_attention_heads"},
    GgufKeyName{"attention.head_count_kv", "num_key_value_heads", Kind::kInteger, Need::kOptional},
    GgufKeyName{"attention.key_length", "head_dim", Kind::kInteger, Need::kOptional},
    GgufKeyName{"attention.sliding_window", "sliding_window", Kind::kInteger, Need::kOptional},
    GgufKeyName{"attention.layer_norm_rms_epsilon", "rms_norm_eps", Kind::kNumber},
    GgufKeyName{"rope.freq_base", "rope_theta", Kind::kNumber, Need::kOptional},
};
constexpr std::array kLlamaLayers = {
    GgufLayerName{"token_embd", "model.embed_tokens"},
    GgufLayerName{"output_norm", "model.norm"},
    GgufLayerName{"output", "lm_head"},
};
constexpr std::array kLlamaBlockLayers = {
    GgufLayerName{"attn_norm", "input_layernorm"},
    GgufLayerName{"attn_q", "self_attn.q_proj", GgufRows::kInterleavedHeads},
    GgufLayerName{"attn_k", "self_attn.k_proj", GgufRows::kInterleavedKvHeads},
    GgufLayerName{"attn_v", "self_attn.v_proj"},
    GgufLayerName{"attn_output", "self_attn.o_proj"},
    GgufLayerName{"ffn_norm", "post_attention_layernorm"},
    GgufLayerName{"ffn_gate", "mlp.gate_proj"},
    GgufLayerName{"ffn_up", "mlp.up_proj"},
    GgufLayerName{"ffn_down", "mlp.down_proj"},
};
constexpr std::array<std::string_view, 2> kWrittenAsLlama = {"LlamaForCausalLM", "MistralForCausalLM"};

constexpr std::array kQwen2BlockLayers = {
    GgufLayerName{"attn_norm", "input_layernorm"},    GgufLayerName{"attn_q", "self_attn.q_proj"},
    GgufLayerName{"attn_k", "self_attn.k_proj"},      GgufLayerName{"attn_v", "self_attn.v_proj"},
    GgufLayerName{"attn_output", "self_attn.o_proj"}, GgufLayerName{"ffn_norm", "post_attention_layernorm"},
    GgufLayerName{"ffn_gate", "mlp.gate_proj"},       GgufLayerName{"ffn_up", "mlp.up_proj"},
    GgufLayerName{"ffn_down", "mlp.down_proj"},
};
constexpr std::array<std::string_view, 1> kWrittenAsQwen2 = {"Qwen2ForCausalLM"};

constexpr std::array kGpt2Keys = {
    GgufKeyName{"block_count", "n_layer"},
    GgufKeyName{"context_length", "n_positions"},
    GgufKeyName{"embedding_length", "n_embd"},
    GgufKeyName{"feed_forward_length", "n_inner"},
    GgufKeyName{"attention.head_count", "n_head"},
    GgufKeyName{"attention.layer_norm_epsilon", "layer_norm_epsilon", Kind::kNumber},
};
constexpr std::array kGpt2Layers = {
    GgufLayerName{"token_embd", "transformer.wte"},
    GgufLayerName{"position_embd", "transformer.wpe"},
    GgufLayerName{"output_norm", "transformer.ln_f"},
    GgufLayerName{"output", "lm_head"},
};
constexpr std::array kGpt2BlockLayers = {
    GgufLayerName{"attn_norm", "ln_1"},          GgufLayerName{"attn_qkv", "attn.c_attn"},
    GgufLayerName{"attn_output", "attn.c_proj"}, GgufLayerName{"ffn_norm", "ln_2"},
    GgufLayerName{"ffn_up", "mlp.c_fc"},         GgufLayerName{"ffn_down", "mlp.c_proj"},
};
constexpr std::array<std::string_view, 1> kWrittenAsGpt2 = {"GPT2LMHeadModel"};

constexpr std::array kArchitectures = {
    GgufArchitecture{.name = "llama",
                     .hugging_face = "LlamaForCausalLM",
                     .written_as_this = kWrittenAsLlama,
                     .constants = R"({"model_type": "llama", "hidden_act": "silu"})",
                     .keys = kLlamaKeys,
                     .blocks = "model.layers.",
                     .layers = kLlamaLayers,
                     .block_layers = kLlamaBlockLayers,
                     .tied_head = "lm_head"},
    GgufArchitecture{.name = "qwen2",
                     .hugging_face = "Qwen2ForCausalLM",
                     .written_as_this = kWrittenAsQwen2,
                     .constants = R"({"model_type": "qwen2", "hidden_act": "silu"})",
                     .keys = kLlamaKeys,
                     .blocks = "model.layers.",
                     .layers = kLlamaLayers,
                     .block_layers = kQwen2BlockLayers,
                     .tied_head = "lm_head"},
    GgufArchitecture{.name = "gpt2",
                     .hugging_face = "GPT2LMHeadModel",
                     .written_as_this = kWrittenAsGpt2,
                     .constants = R"({"model_type": "gpt2", "activation_function": "gelu_new"})",
                     .keys = kGpt2Keys,
                     .blocks = "transformer.h.",
                     .layers = kGpt2Layers,
                     .block_layers = kGpt2BlockLayers,
                     .tied_head = "lm_head",
                     .tied_by_default = true,
                     .rotary = false},
};

// One spelling of an architecture's names, to be read by its side in both directions.
using Side = std::string_view GgufLayerName::*;

struct Spelling {
  std::string_view blocks;
  Side name;
};

std::optional<GgufTensorName> translated(const GgufArchitecture& architecture, std::string_view name, Spelling from,
                                         Spelling to) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view part = name.substr(dot);  // ".weight"
  if (part != ".weight" && part != ".bias") return std::nullopt;
  std::string_view layer = name.substr(0, dot);
  std::span<const GgufLayerName> known = architecture.layers;
  std::string path;
  if (layer.starts_with(from.blocks)) {
    layer.remove_prefix(from.blocks.size());
    const size_t digits = std::min(layer.find_first_not_of("0123456789"), layer.size());
    if (digits == 0 || !layer.substr(digits).starts_with('.')) return std::nullopt;
    path = fmt::format("{}{}.", to.blocks, layer.substr(0, digits));
    layer.remove_prefix(digits + 1);
    known = architecture.block_layers;
  }
  const auto found = std::ranges::find(known, layer, from.name);
  if (found == known.end()) return std::nullopt;
  return GgufTensorName{fmt::format("{}{}{}", path, (*found).*to.name, part), found->rows};
}

}  // namespace

std::span<const GgufArchitecture> gguf_architectures() { return kArchitectures; }

const GgufArchitecture& find_gguf_architecture(std::string_view name, const std::string& source) {
  const auto found = std::ranges::find(kArchitectures, name, &GgufArchitecture::name);
  if (found != kArchitectures.end()) return *found;
  std::vector<std::string> known;
  for (const GgufArchitecture& architecture : kArchitectures) known.emplace_back(architecture.name);
  fail<FormatError>("{}: the architecture {} cannot be read from a GGUF file.{}", source, quote_name(name),
                    did_you_mean(name, known));
}

std::optional<GgufTensorName> hugging_face_name(const GgufArchitecture& architecture, std::string_view gguf_name) {
  return translated(architecture, gguf_name, {kBlock, &GgufLayerName::gguf},
                    {architecture.blocks, &GgufLayerName::hugging_face});
}

std::optional<GgufTensorName> gguf_name(const GgufArchitecture& architecture, std::string_view hugging_face_name) {
  return translated(architecture, hugging_face_name, {architecture.blocks, &GgufLayerName::hugging_face},
                    {kBlock, &GgufLayerName::gguf});
}

}  // namespace octet
