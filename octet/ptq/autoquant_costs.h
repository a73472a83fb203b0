// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/eval/product_timing.h"
#include "octet/ptq/autoquant.h"
#include "octet/ptq/multiple_choice.h"
#include "octet/ptq/recipe_writer.h"
#include "octet/ptq/sensitivity.h"

namespace octet {

/// What was measured of a whole model.
struct MeasuredRecipe {
  const Recipe* recipe = nullptr;
  ModelFigures figures;
};

/// What a recipe says for the whole model: bits of embeddings, or attention in 8 bits.
struct MeasuredSwitch {
  Recipe recipe;  ///< that says this alone
  int embedding_bits = 0;
  nlohmann::json head_activations;  ///< with embeddings
  ModelFigures figures;             ///< of the float model with this alone

  std::string name() const { return embedding_bits == 0 ? kAttention : embeddings(embedding_bits); }
  static constexpr const char* kAttention = "attention=8";
  static std::string embeddings(int bits) { return fmt::format("embeddings={}", bits); }
};

/// What each choice at each site adds to the figures of a model (see autoquant).
class AutoquantCosts {
 public:
  AutoquantCosts(const Checkpoint& checkpoint, const RequestLoad& load, ProductTimer& timer);

  /// Scales sensitivities and times so that whole models come out as measured. `sensitivities` of other schemes than
  /// those of `given` are left out.
  void build(const SensitivityReport& sensitivities, const ModelFigures& in_float,
             const std::vector<MeasuredRecipe>& given, const std::vector<MeasuredSwitch>& switches);

  /// The choices, of which item i has the figures that `criteria(figures)` makes of what each adds.
  template <class Criteria>
  MultipleChoice problem(Criteria criteria) const {
    MultipleChoice problem;
    for (const Item& item : items_) {
      std::vector<std::vector<double>>& choices = problem.items.emplace_back();
      for (const Option& option : item.options) choices.push_back(criteria(option.adds));
    }
    return problem;
  }
  /// A selection of them as a model to be: its recipe and what is predicted of it.
  AutoquantPoint point(const std::vector<size_t>& choices, const std::string& recipe_name) const;
  /// Whether everything stays in float.
  bool in_float(const std::vector<size_t>& choices) const;
  /// How many sites a recipe quantizes, and embeddings and attention.
  std::vector<std::pair<std::string, int64_t>> sites_of(const Recipe& recipe) const;

 private:
  struct Option {
    std::string scheme;  ///< a recipe's name, a switch's, or "" for float
    ModelFigures adds;
    nlohmann::json weights, activations;  ///< of a site; of embeddings what the head reads
    int embedding_bits = 0;
    std::vector<std::string> layers = {};  ///< of a site: those that change
    nlohmann::json calibration = {};       ///< null where its algorithm needs no data
  };
  struct Item {
    std::string name;
    std::vector<Option> options;
  };

  double prefill_ms(const Linear& site);
  double step_ms(const Linear& site);
  double product_ms(const Linear& site, int64_t rows);
  ModelFigures bytes_of(const std::vector<std::string>& layers, const Model& model) const;
  ModelFigures head_times(const std::optional<Scheme>& scheme);

  // What is no site, and what times of float products were multiplied by.
  struct Scaled {
    ModelFigures rest;
    double prefill = 1, step = 1;
  };
  Scaled scale(const ModelFigures& in_float, const std::vector<MeasuredRecipe>& given, const ModelFigures& head);

  const Checkpoint& checkpoint_;
  RequestLoad load_;
  ProductTimer& timer_;
  std::unique_ptr<Model> float_model_;
  bool decodes_;
  std::vector<std::string> layers_;   ///< that recipes speak of, in the order of the forward pass
  std::vector<std::string> schemes_;  ///< by name, then those of switches
  std::vector<Item> items_;           ///< the last ones, without alternatives or for the whole model, after the sites
  size_t sites_ = 0;
};

}  // namespace octet
