// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <utility>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/io/compressed_tensors.h"
#include "octet/models/flow.h"
#include "octet/ptq/quantize_model.h"
#include "octet/report/format.h"
#include "octet/report/table.h"

namespace octet::cli {
namespace {

struct InspectOptions : ModelOptions {
  bool tensors = false, flow = false;
  std::string kv_dtype;
};

std::string attention_name(const ModelInfo& info) {
  if (info.attention == ActivationMode::kFloat) return "float";
  if (!is_static(info.attention)) return "int8, dynamic per token and head";
  const auto [qk, v] = info.attention_bits;
  const std::string kinds =
      qk == v ? fmt::format("int{}", qk) : fmt::format("int{} queries and keys, int{} values", qk, v);
  return kinds + ", static per tensor";
}

void print_as_json(const Checkpoint& checkpoint, const Model& model) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array(), layers = nlohmann::ordered_json::array();
  for (const std::string& name : checkpoint.names()) {
    const StoredTensor tensor = checkpoint.describe(name);
    tensors.push_back(
        {{"name", name}, {"dtype", tensor.type}, {"shape", tensor.shape.extents()}, {"bytes", tensor.bytes}});
  }
  for (const Linear::Part* part : model.linear_parts()) {
    layers.push_back({{"name", part->weight.layer},
                      {"shape", part->weight.shape.extents()},
                      {"scheme", part->weight.scheme ? nlohmann::ordered_json(to_string(*part->weight.scheme))
                                                     : nlohmann::ordered_json()}});
    if (!part->weight.outlier_columns.empty()) layers.back()["outlier_columns"] = part->weight.outlier_columns;
  }
  const ModelInfo& info = model.info();
  print_json({{"architecture", info.architecture},
              {"blocks", info.blocks},
              {"width", info.width},
              {"vocabulary", info.vocabulary},
              {"max_positions", info.max_positions},
              {"attention", attention_name(info)},
              {"bytes", stored_bytes(checkpoint, model)},
              {"layers", layers},
              {"tensors", tensors}});
}

void print_for_people(const Checkpoint& checkpoint, const Model& model, const Recipe* recipe, bool all_tensors) {
  const ModelInfo& info = model.info();
  int64_t parameters = 0;
  std::map<std::string, std::pair<int64_t, int64_t>> by_dtype;  // tensors, bytes
  for (const std::string& name : checkpoint.names()) {
    const StoredTensor tensor = checkpoint.describe(name);
    auto& [count, bytes] = by_dtype[tensor.type];
    ++count;
    bytes += tensor.bytes;
    parameters += tensor.shape.elements();
  }
  fmt::print("{}: {} blocks of width {}, vocabulary {}, at most {} tokens\n", info.architecture, info.blocks,
             info.width, format_count(info.vocabulary), format_count(info.max_positions));
  fmt::print("{} numbers in {} tensors", format_count(parameters), checkpoint.names().size());
  for (const auto& [dtype, sizes] : by_dtype)
    fmt::print(", {} {} ({})", sizes.first, dtype, format_bytes(sizes.second));
  fmt::print("\n\n");

  Table layers({{"layer", Table::Align::kLeft, ""},
                {"outputs", Table::Align::kDecimal, ""},
                {"inputs", Table::Align::kDecimal, ""},
                {"scheme", Table::Align::kLeft, ""}});
  int64_t outliers = 0, outlier_bytes = 0;
  for (const Linear::Part* part : model.linear_parts()) {
    const auto columns = std::ssize(part->weight.outlier_columns);
    outliers += columns;
    outlier_bytes += encoded_outlier_bytes(part->weight.shape[0], columns);
    layers.add_row({part->weight.layer, std::to_string(part->weight.shape[0]), std::to_string(part->weight.shape[1]),
                    (part->weight.scheme ? to_string(*part->weight.scheme) : "float") +
                        (columns == 0 ? "" : fmt::format(" ({} outlier columns)", columns))});
  }
  const Table::Ink ink = colours() ? Table::Ink::kTerminal : Table::Ink::kPlain;
  fmt::print("{}", layers.to_string(ink));
  if (outliers > 0) {
    fmt::print(
        "\n{} outlier columns in 16 bits: {} of the model's bytes\n", format_count(outliers),
        format_percent(static_cast<double>(outlier_bytes) / static_cast<double>(stored_bytes(checkpoint, model)), 1));
  }
  fmt::print("\nproducts of attention: {}\n", attention_name(info));
  if (all_tensors) {
    Table tensors({{"tensor", Table::Align::kLeft, ""},
                   {"dtype", Table::Align::kLeft, ""},
                   {"shape", Table::Align::kLeft, ""},
                   {"size", Table::Align::kDecimal, ""}});
    for (const std::string& name : checkpoint.names()) {
      const StoredTensor tensor = checkpoint.describe(name);
      tensors.add_row({name, tensor.type, to_string(tensor.shape), format_bytes(tensor.bytes)});
    }
    fmt::print("\n{}", tensors.to_string(ink));
  }
  fmt::print("\n{}\n", format_bytes(stored_bytes(checkpoint, model)));
  if (recipe == nullptr) return;
  for (const GroupFallback& fallback : group_fallbacks(*recipe, model)) fmt::print("{}\n", to_string(fallback));
}

nlohmann::ordered_json to_json(const FlowOperation& operation) {
  nlohmann::ordered_json inputs = nlohmann::ordered_json::array();
  for (const FlowInput& input : operation.inputs)
    inputs.push_back({{"role", input.role}, {"from", input.from}, {"dtype", input.dtype}, {"steps", input.steps}});
  nlohmann::ordered_json json = {{"operation", operation.operation}, {"name", operation.name}, {"inputs", inputs}};
  if (!operation.weights.empty()) json["weights"] = operation.weights;
  if (!operation.cache.empty()) json["cache"] = operation.cache;
  json["output"] = operation.output;
  return json;
}

void print_flow_as_json(const std::vector<FlowSection>& flow) {
  nlohmann::ordered_json sections = nlohmann::ordered_json::array();
  for (const FlowSection& section : flow) {
    nlohmann::ordered_json operations = nlohmann::ordered_json::array();
    for (const FlowOperation& operation : section.operations) operations.push_back(to_json(operation));
    sections.push_back({{"section", section.name}, {"blocks", section.blocks}, {"operations", operations}});
  }
  print_json({{"flow", sections}});
}

// A name's last parts, as many as say which layer of a block it is: "self_attn.o_proj".
std::string short_name(const std::string& name) {
  const size_t star = name.find("*.");
  return star == std::string::npos ? name : name.substr(star + 2);
}

void print_flow(const std::vector<FlowSection>& flow) {
  for (const FlowSection& section : flow) {
    if (section.blocks.empty()) {
      fmt::print("{}\n", section.name);
    } else {
      fmt::print("block{} {}{}\n", section.blocks.size() == 1 ? "" : "s", to_ranges(section.blocks),
                 section.blocks.size() == 1 ? "" : fmt::format(", {} alike", section.blocks.size()));
    }
    using enum Table::Align;
    Table table({{"operation", kLeft, ""},
                 {"reads", kLeft, ""},
                 {"of", kLeft, ""},
                 {"as", kLeft, ""},
                 {"weights", kLeft, ""},
                 {"gives", kLeft, ""}});
    for (const FlowOperation& operation : section.operations) {
      std::string name = short_name(operation.name), weights = operation.weights, output = operation.output;
      if (!operation.cache.empty()) weights = "cache: " + operation.cache;
      const auto add = [&](const std::string& role, const std::string& from, const std::string& as) {
        table.add_row({std::exchange(name, ""), role, from, as, std::exchange(weights, ""), std::exchange(output, "")});
      };
      if (operation.inputs.empty()) add("", "", "");
      for (const FlowInput& input : operation.inputs) {
        std::vector<std::string> from, as = {input.dtype};
        for (const std::string& each : input.from) from.push_back(short_name(each));
        as.insert(as.end(), input.steps.begin(), input.steps.end());
        add(input.role, fmt::format("{}", fmt::join(from, " + ")), fmt::format("{}", fmt::join(as, " → ")));
      }
    }
    fmt::print("{}\n", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  }
}

void run_flow(const InspectOptions& options) {
  Session session = open_session(options);
  const std::vector<FlowSection> flow = trace_flow(session, parse_kv_dtype(options.kv_dtype));
  if (options.json) {
    print_flow_as_json(flow);
  } else {
    print_flow(flow);
  }
}

void run(const InspectOptions& options) {
  if (options.flow) return run_flow(options);
  if (!options.kv_dtype.empty()) fail<UsageError>("--kv-dtype is a part of --flow; add that");
  const std::optional<Recipe> recipe = recipe_of(options.recipe, options.settings);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const std::unique_ptr<Model> model = load_model(checkpoint, recipe ? &*recipe : nullptr);
  if (options.json) {
    print_as_json(checkpoint, *model);
  } else {
    print_for_people(checkpoint, *model, recipe ? &*recipe : nullptr, options.tensors);
  }
}

}  // namespace

void add_inspect(Program& program) {
  auto options = std::make_shared<InspectOptions>();
  Command command = program.add_subcommand("inspect", "Show a model's architecture, layers, schemes and bytes");
  options->add_to(command);
  command.add_flag("--tensors", options->tensors, "List every tensor of the checkpoint too");
  command.add_flag("--flow", options->flow,
                   "Show in which form numbers go from operation to operation, as one token's forward pass runs them");
  add_kv_dtype(command, options->kv_dtype);
  command.footer(
      "Examples:\n"
      "  octet inspect minilm\n"
      "  octet inspect minilm --recipe w8a16 --json     what the recipe would do\n"
      "  octet inspect smollm2 --flow --recipe w8a8_dynamic --set attention=8");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli
