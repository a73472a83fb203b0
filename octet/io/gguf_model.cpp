// SPDX-License-Identifier: Apache-2.0
#include "octet/io/gguf_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

using nlohmann::json;

// One architecture's metadata.
class Metadata {
 public:
  Metadata(const GgufFile& file, const GgufArchitecture& architecture) : file_(file), architecture_(architecture) {}

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_.name, name); }
  bool has(std::string_view name) const { return file_.has(key(name)); }

  /// Some are lists, a number a block; all must be the same.
  int64_t integer(std::string_view name) const {
    const std::string full = key(name);
    if (!file_.is_array(full)) return file_.integer(full);
    const std::vector<int64_t> values = file_.integers(full);
    if (values.empty() || std::ranges::adjacent_find(values, std::not_equal_to()) != values.end()) {
      fail<FormatError>("{}: metadata key {} differs from block to block, which is not supported",
                        file_.path().string(), quote_name(full));
    }
    return values.front();
  }
  double number(std::string_view name) const { return file_.number(key(name)); }
  double number(std::string_view name, double otherwise) const { return file_.number(key(name), otherwise); }
  std::string text(std::string_view name, std::string_view otherwise) const {
    return std::string(file_.text(key(name), otherwise));
  }

  [[noreturn]] void refuse(std::string_view name, std::string_view what) const {
    fail<FormatError>("{}: metadata key {}: {}", file_.path().string(), quote_name(key(name)), what);
  }

 private:
  const GgufFile& file_;
  const GgufArchitecture& architecture_;
};

// What would change the model's arithmetic in ways that Octet does not have.
void refuse_what_octet_has_not(const Metadata& metadata) {
  if (metadata.has("expert_count") && metadata.integer("expert_count") > 0)
    metadata.refuse("expert_count", "mixtures of experts are not supported");
  for (const char* factor : {"logit_scale", "embedding_scale", "residual_scale", "attention.scale"}) {
    const double neutral = std::string_view(factor) == "attention.scale" ? 0 : 1;
    if (metadata.number(factor, neutral) != neutral) metadata.refuse(factor, "a factor of its own is not supported");
  }
  for (const char* bound : {"attention.clamp_kqv", "attn_logit_softcapping", "final_logit_softcapping"}) {
    if (metadata.number(bound, 0) != 0) metadata.refuse(bound, "bounds on activations are not supported");
  }
}

// transformers' rope_scaling, or null.
json rope_scaling(const GgufFile& file, const Metadata& metadata) {
  const std::string type = metadata.text("rope.scaling.type", "none");
  const double factor = metadata.number("rope.scaling.factor", metadata.number("rope.scale_linear", 1));
  json out;
  if (type == "linear" || (type == "none" && !metadata.has("rope.scaling.type") && factor != 1)) {
    if (factor != 1) out = {{"rope_type", "linear"}, {"factor", factor}};
  } else if (type == "yarn") {
    out = {{"rope_type", "yarn"}, {"factor", factor}};
    if (metadata.has("rope.scaling.original_context_length"))
      out["original_max_position_embeddings"] = metadata.integer("rope.scaling.original_context_length");
    for (const auto& [ours, theirs] : std::array<std::pair<const char*, const char*>, 2>{
             {{"rope.scaling.yarn_beta_fast", "beta_fast"}, {"rope.scaling.yarn_beta_slow", "beta_slow"}}}) {
      if (metadata.has(ours)) out[theirs] = metadata.number(ours);
    }
    // llama.cpp's is a factor on what transformers computes where it is not told.
    if (metadata.has("rope.scaling.attn_factor")) {
      out["attention_factor"] = metadata.number("rope.scaling.attn_factor") * (0.1 * std::log(factor) + 1);
    }
  } else if (type != "none") {
    metadata.refuse("rope.scaling.type",
                    fmt::format("{} is not supported; none, linear and yarn are", quote_name(type)));
  }
  const auto divisors = file.tensors().find(gguf_keys::kRotaryFactors);
  if (divisors == file.tensors().end()) return out;
  if (!out.is_null()) {
    metadata.refuse("rope.scaling.type", fmt::format("{} and the tensor '{}' in one file are not supported",
                                                     quote_name(type), gguf_keys::kRotaryFactors));
  }
  std::vector<float> values(static_cast<size_t>(divisors->second.shape.elements()));
  decode_values(divisors->second.type, file.blocks(divisors->second), values);
  if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value) && value > 0; })) {
    fail<FormatError>("{}: tensor '{}' must hold positive finite numbers", file.path().string(),
                      gguf_keys::kRotaryFactors);
  }
  return {{"rope_type", "divided"}, {"frequency_divisors", values}};
}

// Tokens that end a text: the one that the metadata name, and control tokens that end a turn or a message of a chat,
// which llama.cpp finds by their names too.
json end_tokens(const GgufFile& file) {
  std::vector<int64_t> ids;
  const auto add = [&ids](int64_t id) {
    if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  };
  for (const std::string_view key : {gguf_keys::kEosId, std::string_view("tokenizer.ggml.eot_token_id"),
                                     std::string_view("tokenizer.ggml.eom_token_id")}) {
    if (file.has(key)) add(file.integer(key, {0, int64_t{1} << 31}));
  }
  if (file.has(gguf_keys::kTokens) && file.has(gguf_keys::kTokenTypes)) {
    constexpr std::array<std::string_view, 6> kEnds = {"<|eot_id|>", "<|eom_id|>",    "<|im_end|>",
                                                       "<|end|>",    "<end_of_turn>", "<|endoftext|>"};
    const std::vector<std::string_view> tokens = file.texts(gguf_keys::kTokens);
    const std::vector<int64_t> types = file.integers(gguf_keys::kTokenTypes);
    for (size_t id = 0; id < std::min(tokens.size(), types.size()); ++id) {
      if (types[id] == static_cast<int64_t>(GgufTokenType::kControl) &&
          std::ranges::find(kEnds, tokens[id]) != kEnds.end())
        add(static_cast<int64_t>(id));
    }
  }
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? json(ids.front()) : json(ids);
}

Config read_config(const GgufFile& file, const GgufArchitecture& architecture) {
  const std::string source = file.path().string();
  const Metadata metadata(file, architecture);
  refuse_what_octet_has_not(metadata);
  json config = parse_json(architecture.constants, source);
  config["architectures"] = {architecture.hugging_face};
  for (const GgufKeyName& name : architecture.keys) {
    if (name.need == GgufKeyName::Need::kOptional && !metadata.has(name.gguf)) continue;
    if (name.kind == GgufKeyName::Kind::kInteger) {
      config[name.hugging_face] = metadata.integer(name.gguf);
    } else {
      config[name.hugging_face] = metadata.number(name.gguf);
    }
  }
  const auto table = file.tensors().find("token_embd.weight");
  if (table == file.tensors().end() || table->second.shape.rank() != 2) {
    fail<FormatError>("{}: holds no table of embeddings ('token_embd.weight')", source);
  }
  config["vocab_size"] = table->second.shape[0];
  config["tie_word_embeddings"] = !file.tensors().contains("output.weight");
  if (architecture.rotary) {
    if (const json scaling = rope_scaling(file, metadata); !scaling.is_null()) config["rope_scaling"] = scaling;
  }
  if (file.has(gguf_keys::kBosId)) config["bos_token_id"] = file.integer(gguf_keys::kBosId, {0, int64_t{1} << 31});
  if (const json ends = end_tokens(file); !ends.is_null()) config["eos_token_id"] = ends;
  if (file.has(gguf_keys::kChatTemplate)) config["chat_template"] = file.text(gguf_keys::kChatTemplate);
  std::string text;
  try {
    text = json_text(config);
  } catch (const json::exception&) {
    fail<FormatError>("{}: metadata key '{}' is not UTF-8", source, gguf_keys::kChatTemplate);
  }
  return Config::parse(text, source);
}

// Rows of one head, of a llama's; 0 for an architecture that has nothing in that order.
int64_t interleaved_head_width(const GgufFile& file, const GgufArchitecture& architecture, const Config& config) {
  const Metadata metadata(file, architecture);
  if (!architecture.rotary) return 0;
  const int64_t heads = config.integer("num_attention_heads", {1, int64_t{1} << 24});
  const int64_t width = config.integer("head_dim", config.integer("hidden_size") / heads);
  if (width < 2 || width % 2 != 0) {
    metadata.refuse("attention.head_count", fmt::format("heads of {} columns cannot be rotary", width));
  }
  if (metadata.has("attention.value_length") && metadata.integer("attention.value_length") != width)
    metadata.refuse("attention.value_length", "values of another width than keys are not supported");
  if (metadata.has("rope.dimension_count") && metadata.integer("rope.dimension_count") != width) {
    metadata.refuse("rope.dimension_count",
                    fmt::format("only all {} columns of a head can be rotary in this architecture", width));
  }
  return width;
}

}  // namespace

GgufModel GgufModel::open(const std::filesystem::path& path) {
  GgufFile file = GgufFile::open(path);
  const std::string source = path.string();
  const GgufArchitecture& architecture = find_gguf_architecture(file.text(gguf_keys::kArchitecture), source);
  Config config = read_config(file, architecture);
  const int64_t head_width = interleaved_head_width(file, architecture, config);
  GgufModel model(std::move(file), std::move(config));
  for (const auto& [gguf_name, stored] : model.file_.tensors()) {
    if (gguf_name == gguf_keys::kRotaryFactors && architecture.rotary) continue;
    const std::optional<GgufTensorName> name = hugging_face_name(architecture, gguf_name);
    if (!name) {
      fail<FormatError>("{}: tensor {} is none that Octet's {} has, so the model would not be what the file means",
                        source, quote_name(gguf_name), architecture.hugging_face);
    }
    const bool interleaved = name->rows != GgufRows::kSame;
    if (interleaved && (stored.shape.rank() == 0 || stored.shape[0] % head_width != 0)) {
      fail<FormatError>("{}: tensor {} has the shape {}; its rows are to be heads of {}", source, quote_name(gguf_name),
                        to_string(stored.shape), head_width);
    }
    model.entries_.emplace(name->name, Entry{&stored, interleaved ? head_width : 0});
  }
  return model;
}

std::vector<std::string> GgufModel::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

StoredTensor GgufModel::describe(const std::string& name) const {
  const Entry& entry = entries_.at(name);
  return {.type = std::string(find_block(entry.stored->type)->name),
          .dtype = plain_dtype(entry.stored->type).value_or(DType::kF32),
          .shape = entry.stored->shape,
          .bytes = entry.stored->bytes,
          .decoded = entry.head_width != 0 || !plain_dtype(entry.stored->type)};
}

std::string GgufModel::where(const std::string& name) const {
  return fmt::format("{}: tensor {}", file_.path().string(), quote_name(name));
}

// Row `index` in Hugging Face's order; of a vector an element.
const std::byte* GgufModel::row(const Entry& entry, int64_t index) const {
  const GgufFile::TensorEntry& stored = *entry.stored;
  const int64_t place = entry.head_width == 0 ? index : interleaved_row(index, entry.head_width);
  return file_.blocks(stored).data() + place * (stored.bytes / stored.shape[0]);
}

Tensor GgufModel::tensor(const std::string& name) const {
  const Entry& entry = entries_.at(name);
  const GgufFile::TensorEntry& stored = *entry.stored;
  const std::span<const std::byte> blocks = file_.blocks(stored);
  const std::optional<DType> dtype = plain_dtype(stored.type);
  if (dtype && entry.head_width == 0) {
    if (stored.offset % byte_size(*dtype) == 0)
      return Tensor::mapped(file_.file(), stored.offset, *dtype, stored.shape);
    return Tensor::copy_of({*dtype, stored.shape, blocks.data()});
  }
  if (stored.type == GgufType::kI16) fail<FormatError>("{} is I16, which no model needs", where(name));
  Tensor out(dtype.value_or(DType::kF32), stored.shape);
  if (stored.bytes == 0) return out;
  const int64_t rows = stored.shape.rank() == 0 ? 1 : stored.shape[0];
  const auto row_bytes = static_cast<size_t>(stored.bytes / rows);
  const int64_t columns = stored.shape.elements() / rows;
  for (int64_t r = 0; r < rows; ++r) {
    if (dtype) {
      std::memcpy(out.mutable_view().data + static_cast<size_t>(r) * row_bytes, row(entry, r), row_bytes);
    } else {
      const auto values =
          out.mutable_as<float>().subspan(static_cast<size_t>(r * columns), static_cast<size_t>(columns));
      decode_values(stored.type, {row(entry, r), row_bytes}, values);
    }
  }
  file_.file()->release(blocks);
  return out;
}

std::optional<WeightScheme> GgufModel::scheme_of(const std::string& name) const {
  const auto entry = entries_.find(name);
  if (entry == entries_.end() || entry->second.stored->shape.rank() != 2) return std::nullopt;
  return code_scheme(entry->second.stored->type);
}

QTensor GgufModel::codes(const std::string& name) const {
  const Entry& entry = entries_.at(name);
  const GgufFile::TensorEntry& stored = *entry.stored;
  QTensor out{.scheme = *scheme_of(name), .codes = Tensor(DType::kI8, stored.shape), .scales = {}};
  const Shape per_group{out.rows(), out.groups()};
  out.scales = Tensor(DType::kF32, per_group);
  const bool has_minima = out.scheme.mapping == CodeMapping::kMinimum;
  if (has_minima) out.minima = Tensor(DType::kF32, per_group);
  const auto columns = static_cast<size_t>(out.cols()), groups = static_cast<size_t>(out.groups());
  for (int64_t r = 0; r < out.rows(); ++r) {
    const auto at = static_cast<size_t>(r);
    decode_codes(stored.type, {row(entry, r), static_cast<size_t>(stored.bytes / out.rows())},
                 out.codes.mutable_as<int8_t>().subspan(at * columns, columns),
                 out.scales.mutable_as<float>().subspan(at * groups, groups),
                 has_minima ? out.minima.mutable_as<float>().subspan(at * groups, groups) : std::span<float>());
  }
  file_.file()->release(file_.blocks(stored));
  try {
    check(out, where(name));
  } catch (const NumericError& error) {
    throw FormatError(error.what());
  }
  return out;
}

}  // namespace octet
