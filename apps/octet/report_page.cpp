// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/report_page.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/report/charts.h"
#include "octet/report/format.h"
#include "octet/report/html_page.h"
#include "octet/report/html_table.h"

namespace octet::cli {
namespace {

constexpr double kWideChart = 510, kNarrowChart = 330;

double megabytes(int64_t bytes) { return static_cast<double>(bytes) * 1e-6; }

// A measure of the table: a column where any variant has it.
struct Measure {
  HtmlTable::Column column;
  std::function<std::optional<double>(const VariantFacts&)> value;
  std::function<std::string(const VariantFacts&, double value)> text;
  bool more_is_better = false;
  bool has_best = true;  ///< differences mean something
};

std::string with_error(const MeasuredValue& measured, int decimals) {
  return measured.standard_error ? fmt::format("{:.{}f} ± {:.{}f}", measured.value, decimals, *measured.standard_error,
                                               std::max(2, decimals))
                                 : fmt::format("{:.{}f}", measured.value, decimals);
}

std::vector<Measure> measures(const ModelFacts& facts) {
  const auto number = [](const VariantFacts&, double value) { return format_number(value); };
  const auto percent = [](const VariantFacts&, double value) { return fmt::format("{:.2f}", value * 100); };
  std::vector<Measure> out;
  out.push_back({{"checkpoint", "MB"},
                 [](const VariantFacts& v) { return v.bytes ? std::optional(megabytes(*v.bytes)) : std::nullopt; },
                 number});
  if (facts.reference.bytes && *facts.reference.bytes > 0) {
    const auto all = static_cast<double>(*facts.reference.bytes);
    out.push_back({{"of float", "%"},
                   [all](const VariantFacts& v) {
                     return v.bytes ? std::optional(static_cast<double>(*v.bytes) / all) : std::nullopt;
                   },
                   [](const VariantFacts&, double value) { return fmt::format("{:.0f}", value * 100); }});
  }
  out.push_back(
      {{"perplexity", "a token"},
       [](const VariantFacts& v) { return v.perplexity ? std::optional(v.perplexity->value) : std::nullopt; },
       [](const VariantFacts& v, double) { return with_error(*v.perplexity, v.perplexity->value < 1000 ? 2 : 0); },
       false,
       false});  // standard errors are larger than most differences
  out.push_back({{"KL divergence", "nats a token"},
                 [](const VariantFacts& v) { return v.kl ? std::optional(v.kl->value) : std::nullopt; },
                 [](const VariantFacts& v, double) {
                   return v.kl->standard_error
                              ? format_number(v.kl->value) + " ± " + format_number(*v.kl->standard_error, 1)
                              : format_number(v.kl->value);
                 }});
  out.push_back({{"same first", "% of tokens"},
                 [](const VariantFacts& v) { return v.top1_agreement; },
                 [](const VariantFacts&, double value) { return fmt::format("{:.1f}", value * 100); },
                 true});
  out.push_back({{"error of outputs", "%"}, [](const VariantFacts& v) { return v.output_error; }, percent});
  out.push_back({{"cosine", "mean"},
                 [](const VariantFacts& v) { return v.cosine_mean; },
                 [](const VariantFacts&, double value) { return fmt::format("{:.5f}", value); },
                 true});
  out.push_back({{"decoding", "tokens/s"}, [](const VariantFacts& v) { return v.decode_tokens_per_s; }, number, true});
  out.push_back({{"prefill", "tokens/s"}, [](const VariantFacts& v) { return v.prefill_tokens_per_s; }, number, true});
  out.push_back({{"forward pass", "ms"}, [](const VariantFacts& v) { return v.forward_ms; }, number});
  out.push_back(
      {{"weights in memory", "MB"},
       [](const VariantFacts& v) { return v.packed_bytes ? std::optional(megabytes(*v.packed_bytes)) : std::nullopt; },
       number});
  std::erase_if(out, [&](const Measure& measure) {
    return !measure.value(facts.reference) && std::none_of(facts.variants.begin(), facts.variants.end(),
                                                           [&](const auto& v) { return measure.value(v).has_value(); });
  });
  return out;
}

HtmlTable recipe_table(const ModelFacts& facts) {
  const std::vector<Measure> columns = measures(facts);
  std::vector<HtmlTable::Column> heads = {{"recipe", "", HtmlTable::Kind::kName}};
  std::vector<std::optional<double>> best;
  for (const Measure& measure : columns) {
    heads.push_back(measure.column);
    std::optional<double> found;
    for (const VariantFacts& variant : facts.variants) {
      const std::optional<double> value = measure.value(variant);
      if (value && (!found || (measure.more_is_better ? *value > *found : *value < *found))) found = value;
    }
    best.push_back(facts.variants.size() > 1 && measure.has_best ? found : std::nullopt);
  }
  std::string caption = facts.accuracy_data.empty() ? "" : "Accuracy on " + facts.accuracy_data + ". ";
  if (!facts.speed_load.empty()) caption += "Speed: " + facts.speed_load + ". ";
  if (facts.variants.size() > 1) caption += "The best of each column is bold.";
  HtmlTable table(caption, heads);
  const auto cells = [&](const VariantFacts& variant, bool may_be_best) {
    std::vector<HtmlTable::Cell> row = {{variant.name}};
    for (size_t i = 0; i < columns.size(); ++i) {
      const std::optional<double> value = columns[i].value(variant);
      row.push_back({.text = value ? columns[i].text(variant, *value) : "",
                     .value = value,
                     .best = may_be_best && value && best[i] == value});
    }
    return row;
  };
  table.add_reference_row(cells(facts.reference, false));
  for (const VariantFacts& variant : facts.variants) table.add_row(cells(variant, true));
  return table;
}

// What accuracy is measured by on the upright axes.
struct Loss {
  AxisTitle title;
  std::function<std::optional<double>(const VariantFacts&)> value;
};

std::optional<Loss> loss_of(const ModelFacts& facts) {
  const Loss kl{{"KL divergence from the reference", "nats a token"},
                [](const VariantFacts& v) { return v.kl ? std::optional(v.kl->value) : std::nullopt; }};
  const Loss outputs{{"relative error of the outputs", "%"}, [](const VariantFacts& v) {
                       return v.output_error ? std::optional(*v.output_error * 100) : std::nullopt;
                     }};
  for (const Loss& loss : {kl, outputs}) {
    if (std::any_of(facts.variants.begin(), facts.variants.end(),
                    [&](const VariantFacts& v) { return loss.value(v).has_value(); }))
      return loss;
  }
  return std::nullopt;
}

struct Cost {
  std::string heading;
  AxisTitle title;
  std::function<std::optional<double>(const VariantFacts&)> value;
};

std::vector<Cost> costs() {
  const auto milliseconds = [](const std::optional<double>& tokens_per_s) {
    return tokens_per_s && *tokens_per_s > 0 ? std::optional(1000 / *tokens_per_s) : std::nullopt;
  };
  return {{"Size and loss",
           {"checkpoint", "MB"},
           [](const VariantFacts& v) { return v.bytes ? std::optional(megabytes(*v.bytes)) : std::nullopt; }},
          {"Time to decode a token and loss",
           {"time of a decoded token", "ms"},
           [=](const VariantFacts& v) { return milliseconds(v.decode_tokens_per_s); }},
          {"Time to read a token of a prompt and loss",
           {"time of a prompt's token", "ms"},
           [=](const VariantFacts& v) { return milliseconds(v.prefill_tokens_per_s); }},
          {"Time and loss", {"forward pass", "ms"}, [](const VariantFacts& v) { return v.forward_ms; }}};
}

// For the measures that both have.
VariantFacts as_variant(const PredictedModel& model) {
  VariantFacts variant;
  variant.bytes = model.bytes;
  if (model.kl) variant.kl = MeasuredValue{*model.kl};
  variant.output_error = model.output_error;
  variant.prefill_tokens_per_s = model.prefill_tokens_per_s;
  variant.decode_tokens_per_s = model.decode_tokens_per_s;
  variant.forward_ms = model.forward_ms;
  return variant;
}

Markup trade_offs(const ModelFacts& facts) {
  Markup out;
  const std::optional<Loss> loss = loss_of(facts);
  if (!loss) return out;
  std::vector<Figure> figures;
  for (const Cost& cost : costs()) {
    ScatterChart chart;
    chart.x = cost.title;
    chart.y = loss->title;
    for (const VariantFacts& variant : facts.variants) {
      const std::optional<double> x = cost.value(variant), y = loss->value(variant);
      if (!x || !y) continue;
      chart.points.push_back({.x = *x,
                              .y = *y,
                              .name = variant.name,
                              .tooltip = fmt::format("{}: {} {}, {} {}", variant.name, format_number(*x),
                                                     cost.title.unit, format_number(*y), loss->title.unit)});
    }
    for (const PredictedModel& model : facts.predicted_front) {
      const VariantFacts predicted = as_variant(model);
      const std::optional<double> x = cost.value(predicted), y = loss->value(predicted);
      if (x && y && *y > 0) chart.curve.emplace_back(*x, *y);
    }
    chart.curve_name = "predicted by the search";
    if (chart.points.empty() || chart.points.size() + chart.curve.size() < 2) continue;
    const auto [least, most] = std::minmax_element(chart.points.begin(), chart.points.end(),
                                                   [](const auto& a, const auto& b) { return a.y < b.y; });
    if (least->y > 0 && most->y > 5 * least->y) chart.y_scale = Axis::Scale::kLogarithmic;
    if (const std::optional<double> x = cost.value(facts.reference))
      chart.line = ScatterChart::Line{*x, facts.reference.name};
    chart.label = fmt::format("{}: {} against {} of {} recipes", cost.heading, chart.y.to_string(), chart.x.to_string(),
                              chart.points.size());
    figures.push_back({cost.heading, "", for_width(draw(chart, kWideChart), draw(chart, kNarrowChart))});
  }
  if (!figures.empty()) {
    out.add(figure_grid(figures, FigureSize::kLarge));
    out.add(
        remark("Less is better on both axes. Recipes that no other beats in both are circles, joined by the dotted "
               "line; the others are diamonds. The dashed line is the reference."));
  }
  return out;
}

// The variant with the least of a measure; null where none has it, or there is only one.
template <class Value>
const VariantFacts* least(const ModelFacts& facts, const Value& value) {
  const VariantFacts* found = nullptr;
  for (const VariantFacts& variant : facts.variants) {
    if (value(variant) && (found == nullptr || *value(variant) < *value(*found))) found = &variant;
  }
  return found;
}

std::string share_of(double part, double whole) { return whole > 0 ? format_percent(part / whole, 0) : ""; }

void add_tiles_of_one(const ModelFacts& facts, const VariantFacts& variant, std::vector<Fact>& tiles) {
  const VariantFacts& reference = facts.reference;
  if (variant.bytes) {
    Fact size{"checkpoint", format_bytes(*variant.bytes)};
    if (reference.bytes)
      size.note = fmt::format("{} of {}", share_of(megabytes(*variant.bytes), megabytes(*reference.bytes)),
                              format_bytes(*reference.bytes));
    tiles.push_back(size);
  }
  if (variant.perplexity) {
    Fact perplexity{"perplexity", fmt::format("{:.2f}", variant.perplexity->value)};
    if (reference.perplexity) perplexity.note = "reference " + with_error(*reference.perplexity, 2);
    tiles.push_back(perplexity);
  }
  if (variant.kl) {
    Fact kl{"KL divergence", format_number(variant.kl->value), "nats a token"};
    if (variant.top1_agreement)
      kl.note += fmt::format("; same first token: {}", format_percent(*variant.top1_agreement));
    tiles.push_back(kl);
  }
  if (variant.output_error) {
    Fact error{"error of outputs", format_percent(*variant.output_error, 2)};
    if (variant.cosine_mean) error.note = fmt::format("cosine {:.5f}", *variant.cosine_mean);
    tiles.push_back(error);
  }
  if (variant.decode_tokens_per_s) {
    Fact speed{"decoding", format_number(*variant.decode_tokens_per_s) + " tokens/s"};
    if (reference.decode_tokens_per_s && *reference.decode_tokens_per_s > 0)
      speed.note =
          fmt::format("{:.2f} times the reference", *variant.decode_tokens_per_s / *reference.decode_tokens_per_s);
    tiles.push_back(speed);
  }
  if (variant.forward_ms) {
    Fact speed{"forward pass", format_ms(*variant.forward_ms)};
    if (reference.forward_ms && *variant.forward_ms > 0)
      speed.note = fmt::format("{:.2f} times as fast as the reference", *reference.forward_ms / *variant.forward_ms);
    tiles.push_back(speed);
  }
  if (const LayerFacts* worst = worst_layer(variant)) {
    tiles.push_back({"layer that loses most", format_percent(*worst->relative_error), worst->name});
  }
}

void add_tiles_of_several(const ModelFacts& facts, std::vector<Fact>& tiles) {
  const VariantFacts& reference = facts.reference;
  if (const std::optional<Loss> loss = loss_of(facts)) {
    const VariantFacts* closest = least(facts, loss->value);
    tiles.push_back({"closest to the reference", closest->name,
                     fmt::format("{} {}", format_number(*loss->value(*closest)), loss->title.unit)});
  }
  if (const VariantFacts* smallest = least(facts, [](const VariantFacts& v) { return v.bytes; })) {
    Fact tile{"smallest", smallest->name, format_bytes(*smallest->bytes)};
    if (reference.bytes)
      tile.note +=
          fmt::format(", {} of the reference", share_of(megabytes(*smallest->bytes), megabytes(*reference.bytes)));
    tiles.push_back(tile);
  }
  const auto add_fastest = [&](const char* name, auto rate) {
    const VariantFacts* fastest =
        least(facts, [&](const VariantFacts& v) { return rate(v) ? std::optional(-*rate(v)) : std::nullopt; });
    if (fastest == nullptr) return;
    Fact tile{name, fastest->name, format_number(*rate(*fastest)) + " tokens/s"};
    if (rate(reference) && *rate(reference) > 0)
      tile.note += fmt::format(", {:.2f} times the reference", *rate(*fastest) / *rate(reference));
    tiles.push_back(tile);
  };
  add_fastest("fastest decoding", [](const VariantFacts& v) { return v.decode_tokens_per_s; });
  add_fastest("fastest prefill", [](const VariantFacts& v) { return v.prefill_tokens_per_s; });
  if (const VariantFacts* fastest = least(facts, [](const VariantFacts& v) { return v.forward_ms; }))
    tiles.push_back({"fastest", fastest->name, format_ms(*fastest->forward_ms)});
}

Markup glance_part(const ModelFacts& facts) {
  std::vector<Fact> tiles;
  if (facts.variants.empty()) {
    if (facts.reference.bytes) tiles.push_back({"checkpoint", format_bytes(*facts.reference.bytes)});
    tiles.push_back({"parameters", format_count(facts.parameters)});
    if (facts.reference.perplexity) tiles.push_back({"perplexity", with_error(*facts.reference.perplexity, 2)});
    if (facts.reference.decode_tokens_per_s)
      tiles.push_back({"decoding", format_number(*facts.reference.decode_tokens_per_s) + " tokens/s"});
  } else if (facts.variants.size() == 1) {
    add_tiles_of_one(facts, facts.variants.front(), tiles);
  } else {
    add_tiles_of_several(facts, tiles);
  }
  std::vector<std::string> warnings = facts.reference.notes;
  for (const VariantFacts& variant : facts.variants) {
    for (const std::vector<std::string>& texts : {variant.notes, remarkable(variant)}) {
      for (const std::string& text : texts) warnings.push_back(fmt::format("{}: {}", variant.name, text));
    }
  }
  for (const std::string& text : remarkable(facts.reference)) warnings.push_back(text);
  Markup out;
  if (!tiles.empty()) out.add(fact_tiles(tiles));
  return out.add(warning_list(warnings));
}

// "210 × int4 weights in groups of 64, float activations"
std::vector<std::string> schemes_of(const VariantFacts& variant) {
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const LayerFacts& layer : variant.layers) {
    const std::string scheme = layer.scheme.empty() ? "float" : layer.scheme;
    const auto known =
        std::find_if(counts.begin(), counts.end(), [&](const auto& entry) { return entry.first == scheme; });
    if (known == counts.end()) {
      counts.emplace_back(scheme, 1);
    } else {
      ++known->second;
    }
  }
  std::vector<std::string> out;
  for (const auto& [scheme, count] : counts) out.push_back(fmt::format("{} × {}", format_count(count), scheme));
  return out;
}

Markup model_part(const ModelFacts& facts) {
  std::vector<Fact> list = {
      {"architecture", facts.architecture},
      {"parameters", format_count(facts.parameters)},
      {"blocks", fmt::format("{} of width {}", format_count(facts.blocks), format_count(facts.width))},
      {"vocabulary", format_count(facts.vocabulary) + " tokens"},
      {"longest context", format_count(facts.max_positions) + " tokens"}};
  const auto add = [&](const VariantFacts& variant) {
    Fact fact{variant.name, fmt::format("{}", fmt::join(schemes_of(variant), "; "))};
    if (fact.value.empty()) fact.value = "layers not known";
    std::vector<std::string> sizes;
    if (variant.bytes) sizes.push_back(format_bytes(*variant.bytes) + " checkpoint");
    if (variant.packed_bytes) sizes.push_back(format_bytes(*variant.packed_bytes) + " of weights in memory");
    fact.note = fmt::format("{}", fmt::join(sizes, ", "));
    list.push_back(std::move(fact));
  };
  add(facts.reference);
  for (const VariantFacts& variant : facts.variants) add(variant);
  return fact_list(list);
}

Markup calibration_part(const ModelFacts& facts) {
  Markup out;
  for (const VariantFacts& variant : facts.variants) {
    if (variant.calibration.empty()) continue;
    std::vector<Fact> list;
    for (const auto& [name, value] : variant.calibration) list.push_back({name, value});
    out.element("h3", {}, variant.name).add(fact_list(list));
  }
  return out;
}

Markup recipes_part(const ModelFacts& facts) {
  Markup out;
  for (const VariantFacts& variant : facts.variants) {
    if (variant.recipe.empty()) continue;
    const nlohmann::ordered_json recipe = nlohmann::ordered_json::parse(variant.recipe, nullptr, false);
    const std::string text = recipe.is_discarded() ? variant.recipe : printable_json(recipe, 2);
    out.add(folded(variant.name, code_block(text), facts.variants.size() == 1));
  }
  return out;
}

}  // namespace

std::string report_page(const ModelFacts& facts, const std::string& program) {
  std::string subtitle = facts.architecture;
  if (facts.variants.size() == 1) subtitle += ", quantized: " + facts.variants.front().name;
  if (facts.variants.size() > 1) subtitle += fmt::format(", quantized in {} ways", facts.variants.size());
  HtmlPage page(facts.name, subtitle);
  const auto add = [&](const char* id, const char* heading, Markup content) {
    if (!content.is_empty()) page.add_section(id, heading, std::move(content));
  };
  add("glance", "At a glance", glance_part(facts));
  add("comparison", "Accuracy, size and speed", recipe_table(facts).to_markup().add(trade_offs(facts)));
  add("model", "Model", model_part(facts));
  add("layers", "Error of each layer", layers_part(facts));
  add("weights", "Weights and their codes", weights_part(facts));
  add("activations", "Activations", activations_part(facts));
  add("calibration", "Calibration", calibration_part(facts));
  add("recipes", "Recipes", recipes_part(facts));
  page.set_footer(program);
  return page.to_string();
}

}  // namespace octet::cli
