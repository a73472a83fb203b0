// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/recipe_writer.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "octet/base/json.h"
#include "octet/quant/recipe.h"

namespace octet {
namespace {

using nlohmann::json;

// Of a float layer the activations do not matter.
bool same(const LayerSetting& a, const LayerSetting& b) {
  return a.weights == b.weights && (a.weights.is_null() || a.activations == b.activations);
}

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// A name's place in its model.
struct Path {
  std::string kind;   ///< "model.layers.*.mlp.down_proj"
  std::string block;  ///< "model.layers.3.*"; "" outside of blocks

  explicit Path(std::string_view layer) {
    for (size_t begin = 0; begin <= layer.size();) {
      const size_t end = std::min(layer.find('.', begin), layer.size());
      const std::string_view part = layer.substr(begin, end - begin);
      const bool number = is_number(part);
      if (number && block.empty()) block = fmt::format("{}.*", layer.substr(0, end));
      kind += fmt::format("{}{}", begin == 0 ? "" : ".", number ? "*" : part);
      begin = end + 1;
    }
  }
};

class Writer {
 public:
  explicit Writer(const RecipeContent& content) : content_(content) {}

  std::string text() {
    const LayerSetting& base = most_frequent(content_.layers);
    nlohmann::ordered_json recipe = {{"name", content_.name}, {"weights", base.weights}};
    const json activations = content_.embedding_bits != 0 ? content_.head_activations : base.activations;
    if (!activations.is_null()) recipe["activations"] = activations;
    if (content_.embedding_bits != 0) recipe["embeddings"] = content_.embedding_bits;
    if (content_.attention) recipe["attention"] = 8;
    if (!content_.calibration.is_null()) recipe["calibration"] = content_.calibration;
    for (const LayerSetting& layer : content_.layers) said_.push_back({layer.layer, base.weights, activations});
    if (!same(said_.front(), {"", base.weights, base.activations})) add("*", base);
    add_kinds();
    add_blocks();
    for (size_t i = 0; i < said_.size(); ++i) {
      if (!same(said_[i], content_.layers[i])) add(content_.layers[i].layer, content_.layers[i]);
    }
    if (!overrides_.empty()) recipe["overrides"] = overrides_;
    return json_text(recipe, 2) + "\n";
  }

 private:
  static const LayerSetting& most_frequent(const std::vector<LayerSetting>& layers) {
    return *std::ranges::max_element(layers, {}, [&](const LayerSetting& one) {
      return std::ranges::count_if(layers, [&](const LayerSetting& other) { return same(one, other); });
    });
  }

  void add(const std::string& match, const LayerSetting& setting) {
    nlohmann::ordered_json rule = {{"match", match}, {"weights", setting.weights}};
    if (!setting.weights.is_null()) rule["activations"] = setting.activations;
    overrides_.push_back(std::move(rule));
    for (LayerSetting& said : said_) {
      if (!glob_match(match, said.layer)) continue;
      said.weights = setting.weights;
      if (!setting.weights.is_null()) said.activations = setting.activations;
    }
  }

  // The layers of one name in all blocks have mostly another scheme than the recipe's own.
  void add_kinds() {
    std::map<std::string, std::vector<LayerSetting>> kinds;
    for (const LayerSetting& layer : content_.layers) kinds[Path(layer.layer).kind].push_back(layer);
    for (const auto& [kind, layers] : kinds) {
      const LayerSetting& most = most_frequent(layers);
      const auto said = std::ranges::find(said_, most.layer, &LayerSetting::layer);
      if (same(*said, most) || layers.size() < 2) continue;
      const auto matched = std::ranges::count_if(
          content_.layers, [&pattern = kind](const LayerSetting& layer) { return glob_match(pattern, layer.layer); });
      if (matched == std::ssize(layers)) add(kind, most);
    }
  }

  // All layers of a block have the same, and that is to be said of several.
  void add_blocks() {
    std::map<std::string, std::vector<size_t>> blocks;
    for (size_t i = 0; i < content_.layers.size(); ++i) {
      if (const Path path(content_.layers[i].layer); !path.block.empty()) blocks[path.block].push_back(i);
    }
    for (const auto& [block, places] : blocks) {
      const LayerSetting& first = content_.layers[places.front()];
      const auto alike = [&](size_t i) { return same(content_.layers[i], first); };
      const auto unsaid = [&](size_t i) { return !same(said_[i], content_.layers[i]); };
      if (std::ranges::all_of(places, alike) && std::ranges::count_if(places, unsaid) > 1) add(block, first);
    }
  }

  const RecipeContent& content_;
  std::vector<LayerSetting> said_;  ///< what the recipe says of each layer so far
  nlohmann::ordered_json overrides_ = nlohmann::ordered_json::array();
};

}  // namespace

std::string write_recipe(const RecipeContent& content) { return Writer(content).text(); }

}  // namespace octet
