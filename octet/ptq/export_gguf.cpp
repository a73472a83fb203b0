// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/export_gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numbers>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/parallel.h"
#include "octet/base/suggest.h"
#include "octet/io/gguf_names.h"
#include "octet/io/gguf_writer.h"
#include "octet/models/model.h"
#include "octet/text/gguf_tokenizer.h"

namespace octet {
namespace {

using nlohmann::json;
using Reason = ExportedTensor::Reason;

constexpr std::array<std::pair<const char*, GgufType>, 3> kTypes = {
    {{"f16", GgufType::kF16}, {"q8_0", GgufType::kQ8_0}, {"q4_0", GgufType::kQ4_0}}};

// Values of general.file_type (llama.h, llama_ftype).
uint32_t file_type(GgufType type) { return type == GgufType::kF16 ? 1 : type == GgufType::kQ8_0 ? 7 : 2; }

const GgufArchitecture& architecture_of(const Checkpoint& checkpoint) {
  const std::vector<std::string> names = checkpoint.config().texts("architectures");
  const std::string name = names.size() == 1 ? names.front() : "";
  std::vector<std::string> known;
  for (const GgufArchitecture& architecture : gguf_architectures()) {
    for (const std::string_view one : architecture.written_as_this) {
      if (one == name) return architecture;
      known.emplace_back(one);
    }
  }
  fail<UsageError>("{}: the architecture {} cannot be written as a GGUF file.{}", checkpoint.config().source(),
                   quote_name(name), did_you_mean(name, known));
}

// Everything of a config.json that becomes metadata, and what metadata cannot say.
class MetadataWriter {
 public:
  MetadataWriter(GgufWriter& writer, const GgufArchitecture& architecture, const Config& config,
                 std::vector<std::string>& notes)
      : writer_(writer), architecture_(architecture), config_(config), notes_(notes) {}

  void write(const std::string& name, GgufType type) {
    check_constants();
    writer_.add_text(gguf_keys::kArchitecture, architecture_.name);
    writer_.add_text("general.type", "model");
    writer_.add_text("general.name", name);
    writer_.add_integer("general.file_type", file_type(type));
    writer_.add_integer("general.quantization_version", 2);
    for (const GgufKeyName& key : architecture_.keys) write_key(key);
    writer_.add_integer(key("vocab_size"), static_cast<uint32_t>(config_.integer("vocab_size", kCount)));
    if (architecture_.rotary) write_rotary();
  }

 private:
  static constexpr IntegerRange kCount{0, 0xFFFFFFFF};

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_.name, name); }

  [[noreturn]] void refuse(const std::string& what) const {
    fail<UsageError>("{}: {}, which a GGUF file of the architecture '{}' cannot say", config_.source(), what,
                     architecture_.name);
  }

  // What the architecture fixes in GGUF files, and a config.json could say otherwise.
  void check_constants() const {
    const json constants = parse_json(architecture_.constants, config_.source());
    for (const auto& [name, value] : constants.items()) {
      if (name == "model_type" || !config_.has(name) || config_.json().at(name) == value) continue;
      if (value == "gelu_new" && config_.json().at(name) == "gelu_pytorch_tanh") continue;
      refuse(fmt::format("'{}' is {}", name, quote_json(config_.json().at(name))));
    }
    if (!config_.flag("scale_attn_weights", true)) refuse("'scale_attn_weights' is false");
    if (config_.flag("scale_attn_by_inverse_layer_idx", false)) refuse("'scale_attn_by_inverse_layer_idx' is true");
    if (config_.number("partial_rotary_factor", 1) != 1) refuse("'partial_rotary_factor' is not 1");
  }

  void write_key(const GgufKeyName& name) {
    const std::string theirs(name.hugging_face);
    if (theirs == "sliding_window") return write_window(name);
    // The last three are what transformers takes where config.json is silent.
    if (name.kind == GgufKeyName::Kind::kNumber) {
      const double otherwise = theirs == "rms_norm_eps" ? 1e-6 : 1e-5;
      const double value =
          theirs == "rope_theta" ? rope_number("rope_theta", 10'000) : config_.number(theirs, otherwise);
      return writer_.add_number(key(name.gguf), static_cast<float>(value));
    }
    if (theirs == "head_dim") return;  // with the rotary keys
    int64_t otherwise = -1;
    if (theirs == "n_inner") otherwise = 4 * config_.integer("n_embd", kCount);
    if (theirs == "num_key_value_heads") otherwise = config_.integer("num_attention_heads", kCount);
    const int64_t value = otherwise < 0 ? config_.integer(theirs, kCount) : config_.integer(theirs, otherwise, kCount);
    writer_.add_integer(key(name.gguf), static_cast<uint32_t>(value));
  }

  void write_window(const GgufKeyName& name) {
    if (!config_.has("sliding_window") || !config_.flag("use_sliding_window", true)) return;
    const std::vector<std::string> kinds = config_.texts("layer_types");
    const auto slides = [](const std::string& kind) { return kind == "sliding_attention"; };
    if (!kinds.empty() && std::ranges::none_of(kinds, slides)) return;
    if (!kinds.empty() && !std::ranges::all_of(kinds, slides))
      refuse("some layers have a sliding window and others not");
    if (kinds.empty() && config_.integer("max_window_layers", 0) > 0) refuse("some layers have a sliding window only");
    const int64_t window = config_.integer("sliding_window", kCount);
    writer_.add_integer(key(name.gguf), static_cast<uint32_t>(window));
    if (window < config_.integer("max_position_embeddings", kCount)) {
      notes_.push_back(
          fmt::format("the sliding window of {} tokens is written, but llama.cpp's '{}' attends to all tokens before",
                      window, architecture_.name));
    }
  }

  // rope_parameters, or rope_scaling in older configs.
  const Config rope() const {
    for (const char* name : {"rope_parameters", "rope_scaling"}) {
      if (config_.has(name)) return config_.object(name);
    }
    return Config::parse("{}", config_.source());
  }
  double rope_number(const char* name, double otherwise) const {
    return rope().has(name) ? rope().number(name) : config_.number(name, otherwise);
  }

  void write_rotary() {
    const int64_t heads = config_.integer("num_attention_heads", kCount);
    const auto width =
        static_cast<uint32_t>(config_.integer("head_dim", config_.integer("hidden_size") / heads, kCount));
    for (const char* name : {"attention.key_length", "attention.value_length", "rope.dimension_count"})
      writer_.add_integer(key(name), width);
    const Config parameters = rope();
    const std::string type = parameters.text("rope_type", parameters.text("type", "default"));
    if (type == "default") return;
    if (type == "linear" || type == "yarn") {
      writer_.add_text(key("rope.scaling.type"), type);
      writer_.add_number(key("rope.scaling.factor"), static_cast<float>(parameters.number("factor")));
    }
    if (type == "yarn") write_yarn(parameters);
    if (type == "llama3") {
      write_divisors(llama3_divisors(parameters, width));
    } else if (type == "divided") {
      const std::vector<double> divisors = parameters.numbers("frequency_divisors");
      write_divisors({divisors.begin(), divisors.end()});
    } else if (type != "linear" && type != "yarn") {
      refuse(fmt::format("rotary embeddings are of the kind {}", quote_name(type)));
    }
  }

  void write_yarn(const Config& parameters) {
    if (parameters.has("mscale") || parameters.has("mscale_all_dim") || !parameters.flag("truncate", true))
      refuse("YaRN has 'mscale' or no 'truncate'");
    const int64_t original = parameters.integer("original_max_position_embeddings",
                                                config_.integer("max_position_embeddings", kCount), kCount);
    writer_.add_integer(key("rope.scaling.original_context_length"), static_cast<uint32_t>(original));
    for (const char* name : {"beta_fast", "beta_slow"}) {
      if (parameters.has(name))
        writer_.add_number(key(fmt::format("rope.scaling.yarn_{}", name)), static_cast<float>(parameters.number(name)));
    }
    if (parameters.has("attention_factor")) {
      // A factor there on what is computed here.
      const double computed = 0.1 * std::log(parameters.number("factor")) + 1;
      writer_.add_number(key("rope.scaling.attn_factor"),
                         static_cast<float>(parameters.number("attention_factor") / computed));
    }
  }

  // Llama 3.1's rule (see read_rotary) as one divisor a frequency.
  std::vector<float> llama3_divisors(const Config& parameters, int64_t width) const {
    const double factor = parameters.number("factor"), low = parameters.number("low_freq_factor"),
                 high = parameters.number("high_freq_factor"), theta = rope_number("rope_theta", 10'000);
    const auto original = static_cast<double>(parameters.integer("original_max_position_embeddings", kCount));
    std::vector<float> divisors;
    for (int64_t i = 0; i < width; i += 2) {
      const double frequency = std::pow(theta, -static_cast<double>(i) / static_cast<double>(width));
      const double rotations = original * frequency / (2 * std::numbers::pi);
      const double kept = std::clamp((rotations - low) / (high - low), 0.0, 1.0);
      divisors.push_back(static_cast<float>(1 / ((1 - kept) / factor + kept)));
    }
    return divisors;
  }

  void write_divisors(const std::vector<float>& divisors) {
    writer_.add(
        {std::string(gguf_keys::kRotaryFactors), GgufType::kF32, {static_cast<int64_t>(divisors.size())}, [divisors] {
           const auto bytes = std::as_bytes(std::span(divisors));
           return std::vector<std::byte>(bytes.begin(), bytes.end());
         }});
  }

  GgufWriter& writer_;
  const GgufArchitecture& architecture_;
  const Config& config_;
  std::vector<std::string>& notes_;
};

// How a tensor is laid out: its type in the file, rows of a head where those are interleaved (else 0), and threads.
struct Layout {
  GgufType type;
  int64_t head_width;
  int threads;
};

// A tensor's rows in the order of the file: `encode(row, blocks)` fills the blocks of one, whichever thread calls it.
template <class Encode>
std::vector<std::byte> encode_rows(const Layout& layout, const Shape& shape, const Encode& encode) {
  const int64_t head_width = layout.head_width;
  const int64_t rows = shape.rank() == 1 ? (head_width == 0 ? 1 : shape[0]) : shape[0];
  const int64_t row_bytes = rows == 0 ? 0 : gguf_bytes(layout.type, shape.elements()) / rows;
  std::vector<std::byte> blocks(static_cast<size_t>(rows * row_bytes));
  parallel_for(layout.threads, rows, [&](int64_t r, int) {
    const int64_t place = head_width == 0 ? r : interleaved_row(r, head_width);
    encode(r, std::span(blocks).subspan(static_cast<size_t>(place * row_bytes), static_cast<size_t>(row_bytes)));
  });
  return blocks;
}

std::vector<std::byte> encode_floats(ConstTensorView values, const Layout& layout, const std::string& what) {
  const bool one_row = values.shape.rank() == 1 && layout.head_width == 0;
  const int64_t rows = one_row ? 1 : values.shape[0];
  const int64_t columns = rows == 0 ? 0 : values.shape.elements() / rows;
  return encode_rows(layout, values.shape, [&](int64_t r, std::span<std::byte> blocks) {
    std::vector<float> row(static_cast<size_t>(columns));
    read_f32(values, r * columns, row);
    if (encode_values(layout.type, row, blocks)) return;
    fail<NumericError>("{}: row {} holds NaN, infinity, or a number that fp16 does not reach", what, r);
  });
}

// The type that holds a scheme's codes as they are.
std::optional<GgufType> type_of_codes(const WeightScheme& scheme) {
  for (const GgufType type : {GgufType::kQ8_0, GgufType::kQ4_0, GgufType::kQ4_1}) {
    const WeightScheme known = *code_scheme(type);
    if (scheme.bits == known.bits && scheme.group_size == known.group_size && scheme.mapping == known.mapping &&
        !scheme.reordered)
      return type;
  }
  return std::nullopt;
}

std::vector<std::byte> encode_stored(const Parameter& weight, const Layout& layout, const std::string& what) {
  const QTensor codes = std::get<QTensor>(std::get<WeightReader>(weight.value)());
  const auto columns = static_cast<size_t>(codes.cols()), groups = static_cast<size_t>(codes.groups());
  const bool has_minima = codes.scheme.mapping == CodeMapping::kMinimum;
  return encode_rows(layout, weight.shape, [&](int64_t r, std::span<std::byte> blocks) {
    const auto row = static_cast<size_t>(r);
    const auto minima = has_minima ? codes.minima.as<float>().subspan(row * groups, groups) : std::span<const float>();
    if (encode_codes(layout.type, codes.codes.as<int8_t>().subspan(row * columns, columns),
                     codes.scales.as<float>().subspan(row * groups, groups), minima, blocks)) {
      return;
    }
    fail<UsageError>(
        "{}: its scales are no fp16 numbers, so its codes cannot be kept in a GGUF file. Export the float "
        "model they were made from.",
        what);
  });
}

// Buffers that old checkpoints store beside their weights, and that no model reads.
bool is_buffer(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") || name.ends_with(".rotary_emb.inv_freq");
}

}  // namespace

GgufType parse_gguf_type(const std::string& name) {
  std::vector<std::string> known;
  for (const auto& [text, type] : kTypes) {
    if (name == text) return type;
    known.emplace_back(text);
  }
  fail<UsageError>("the type '{}' cannot be written.{}", name, did_you_mean(name, known));
}

ExportReport export_gguf(const Checkpoint& checkpoint, GgufType type, const std::filesystem::path& out,
                         const std::function<void(int64_t, int64_t)>& advance, int threads) {
  if (threads == 0) threads = available_threads();
  if (std::filesystem::exists(std::filesystem::symlink_status(out)))
    fail("{}: exists already. Choose another name, or remove it first.", out.string());
  const GgufArchitecture& architecture = architecture_of(checkpoint);
  if (checkpoint.is_quantized()) {
    fail<UsageError>(
        "{}: is quantized in a layout whose codes and scales no type of a GGUF file has. Export the float model it was "
        "made from.",
        checkpoint.folder().string());
  }
  // Checks that every tensor is there and has its shape.
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  const Config& config = checkpoint.config();

  ExportReport report{.architecture = std::string(architecture.name), .tensors = {}, .notes = {}};
  GgufWriter writer;
  MetadataWriter(writer, architecture, config, report.notes)
      .write(std::filesystem::absolute(checkpoint.folder()).lexically_normal().stem().string(), type);
  if (checkpoint.is_gguf()) {
    const GgufFile file = GgufFile::open(checkpoint.folder());
    for (const std::string& key : file.keys()) {
      if (key.starts_with("tokenizer.")) writer.add_encoded(key, file.encoded(key));
    }
  } else {
    write_gguf_tokenizer(writer, checkpoint.folder(), config, model->info().vocabulary);
  }

  std::map<std::string, const Parameter*> weights;
  for (const Linear::Part* part : model->linear_parts()) weights.emplace(part->weight.layer + ".weight", &part->weight);
  const bool tied = config.flag("tie_word_embeddings", architecture.tied_by_default);
  const int64_t head_width =
      architecture.rotary
          ? config.integer("head_dim", config.integer("hidden_size") / config.integer("num_attention_heads"))
          : 0;
  const std::string twin = std::string(architecture.tied_head) + ".weight";
  for (const std::string& name : checkpoint.names()) {
    if (is_buffer(name) || (tied && name == twin)) continue;
    std::optional<GgufTensorName> theirs = gguf_name(architecture, name);
    // The first GPT-2s are stored without what stands before every name now: "transformer.".
    const std::string_view prefix = architecture.blocks.substr(0, architecture.blocks.find('.') + 1);
    if (!theirs) theirs = gguf_name(architecture, std::string(prefix) + name);
    const std::string what = fmt::format("{}: tensor {}", checkpoint.folder().string(), quote_name(name));
    if (!theirs) fail<UsageError>("{} has no name in a GGUF file of the architecture '{}'", what, architecture.name);

    const StoredTensor stored = checkpoint.describe(name);
    const auto found = weights.find(name);
    const Parameter* weight = found == weights.end() ? nullptr : found->second;
    const bool is_table = theirs->name == "token_embd.weight";
    ExportedTensor entry{.name = theirs->name, .bytes_before = stored.bytes};
    Shape shape = weight != nullptr ? weight->shape : stored.shape;
    const auto layout_of = [&](const ExportedTensor& tensor) {
      return Layout{tensor.type, theirs->rows == GgufRows::kSame ? 0 : head_width, threads};
    };
    if (weight != nullptr && weight->stored_codes) {
      const std::optional<GgufType> kept = type_of_codes(weight->scheme->weight);
      if (!kept) {
        fail<UsageError>(
            "{}: is stored as codes that no type of a GGUF file has ({}). Export the float model they were "
            "made from.",
            what, to_string(*weight->scheme));
      }
      entry.type = *kept;
      if (entry.type != type) entry.reason = Reason::kCodes;
      writer.add({entry.name, entry.type, shape,
                  [weight, layout = layout_of(entry), what] { return encode_stored(*weight, layout, what); }});
    } else if (weight != nullptr || is_table) {
      entry.type = type;
      if (shape[1] % find_block(type)->elements != 0) {
        entry.type = GgufType::kF16;
        entry.reason = Reason::kRows;
      }
      writer.add({entry.name, entry.type, shape, [&checkpoint, weight, name, layout = layout_of(entry), what] {
                    if (weight == nullptr) {
                      const Tensor values = checkpoint.tensor(name);
                      std::vector<std::byte> blocks = encode_floats(values.view(), layout, what);
                      values.release_pages();
                      return blocks;
                    }
                    const FloatWeight values(*weight);
                    std::vector<std::byte> blocks = encode_floats(values.view(), layout, what);
                    values.release_pages();
                    return blocks;
                  }});
    } else {
      writer.add({entry.name, entry.type, shape, [&checkpoint, name, layout = layout_of(entry), what] {
                    return encode_floats(checkpoint.tensor(name).view(), layout, what);
                  }});
    }
    entry.bytes = gguf_bytes(entry.type, shape.elements());
    report.bytes_before += entry.bytes_before;
    report.bytes += entry.bytes;
    report.tensors.push_back(std::move(entry));
  }
  int64_t done = 0;
  const auto total = static_cast<int64_t>(report.tensors.size());
  writer.write(out, [&] {
    if (advance) advance(++done, total);
  });
  return report;
}

}  // namespace octet
