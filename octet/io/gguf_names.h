// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// How GGUF files call what Hugging Face's files call otherwise: one table an architecture, read in both directions.
namespace octet {

/// In what order a weight's rows (and its bias) lie in a GGUF file. Interleaved: llama.cpp turns neighbouring columns
/// of a head of an architecture with that order, where Hugging Face turns columns half a head apart.
enum class GgufRows : uint8_t {
  kSame,
  kInterleavedHeads,    ///< in each of num_attention_heads
  kInterleavedKvHeads,  ///< in each of num_key_value_heads
};

/// A layer's name without ".weight" or ".bias": "attn_q" and "self_attn.q_proj".
struct GgufLayerName {
  std::string_view gguf, hugging_face;
  GgufRows rows = GgufRows::kSame;
};

/// A metadata key without the architecture's name before it, and a key of config.json.
struct GgufKeyName {
  enum class Kind : uint8_t { kInteger, kNumber };
  enum class Need : uint8_t { kRequired, kOptional };

  std::string_view gguf, hugging_face;
  Kind kind = Kind::kInteger;
  Need need = Need::kRequired;
};

struct GgufArchitecture {
  std::string_view name;                              ///< general.architecture: "llama"
  std::string_view hugging_face;                      ///< what its files are read as: "LlamaForCausalLM"
  std::span<const std::string_view> written_as_this;  ///< architectures whose models become such files
  std::string_view constants;                         ///< JSON: what config.json says and metadata do not
  std::span<const GgufKeyName> keys;
  std::string_view blocks;                      ///< what stands before a block's number there: "model.layers."
  std::span<const GgufLayerName> layers;        ///< outside of blocks, whole names
  std::span<const GgufLayerName> block_layers;  ///< inside
  std::string_view tied_head;                   ///< the output head, which a file with tied embeddings lacks
  bool tied_by_default = false;                 ///< where config.json does not say
  bool rotary = true;
};

/// Every architecture that Octet reads from GGUF files and writes to them. A new one adds its table and its line.
std::span<const GgufArchitecture> gguf_architectures();
/// Throws FormatError, naming `source` and the known ones, for a general.architecture that is not among them.
const GgufArchitecture& find_gguf_architecture(std::string_view name, const std::string& source);

struct GgufTensorName {
  std::string name;
  GgufRows rows;

  friend bool operator==(const GgufTensorName&, const GgufTensorName&) = default;
};
/// "blk.3.attn_q.weight" as "model.layers.3.self_attn.q_proj.weight"; none for a name that the architecture has not.
std::optional<GgufTensorName> hugging_face_name(const GgufArchitecture& architecture, std::string_view gguf_name);
/// The other way round.
std::optional<GgufTensorName> gguf_name(const GgufArchitecture& architecture, std::string_view hugging_face_name);

/// Where row `row` of Hugging Face's order lies in the interleaved one, in heads of `head_width` rows: r of a head at
/// 2 · r, the second half between.
constexpr int64_t interleaved_row(int64_t row, int64_t head_width) {
  const int64_t half = head_width / 2, in_head = row % head_width;
  return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

/// The keys of metadata that several parts of Octet know.
namespace gguf_keys {
inline constexpr std::string_view kArchitecture = "general.architecture";
inline constexpr std::string_view kTokenizerModel = "tokenizer.ggml.model";
inline constexpr std::string_view kPreTokenizer = "tokenizer.ggml.pre";
inline constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
inline constexpr std::string_view kTokenTypes = "tokenizer.ggml.token_type";
inline constexpr std::string_view kScores = "tokenizer.ggml.scores";
inline constexpr std::string_view kMerges = "tokenizer.ggml.merges";
inline constexpr std::string_view kBosId = "tokenizer.ggml.bos_token_id";
inline constexpr std::string_view kEosId = "tokenizer.ggml.eos_token_id";
inline constexpr std::string_view kUnknownId = "tokenizer.ggml.unknown_token_id";
inline constexpr std::string_view kPaddingId = "tokenizer.ggml.padding_token_id";
inline constexpr std::string_view kAddBos = "tokenizer.ggml.add_bos_token";
inline constexpr std::string_view kAddEos = "tokenizer.ggml.add_eos_token";
inline constexpr std::string_view kAddSpacePrefix = "tokenizer.ggml.add_space_prefix";
inline constexpr std::string_view kChatTemplate = "tokenizer.chat_template";
/// Divisors of the rotary frequencies, a tensor [head width / 2].
inline constexpr std::string_view kRotaryFactors = "rope_freqs.weight";
}  // namespace gguf_keys

/// Values of tokenizer.ggml.token_type, those of SentencePiece.
enum class GgufTokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

}  // namespace octet
