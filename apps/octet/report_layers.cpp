// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include <fmt/format.h>

#include "apps/octet/report_page.h"
#include "octet/report/charts.h"
#include "octet/report/format.h"
#include "octet/report/html_page.h"
#include "octet/report/html_table.h"

namespace octet::cli {
namespace {

constexpr double kWideChart = 1020, kNarrowChart = 330, kSmallChart = 320;
constexpr size_t kRanked = 15, kHistograms = 6;

using Value = std::optional<double>;

// The ends of kinds' names that tell them apart: "q_proj" of "self_attn.q_proj".
std::map<std::string, std::string> short_kinds(const std::vector<std::string>& kinds) {
  const auto ending = [](const std::string& kind, int parts) {
    size_t begin = kind.size();
    // Braces of a site hold names without their path; a point inside them is none between parts.
    if (const size_t brace = kind.find('{'); brace != std::string::npos) begin = brace;
    for (int i = 0; i < parts && begin != std::string::npos && begin > 0; ++i) begin = kind.rfind('.', begin - 1);
    return begin == std::string::npos || begin == 0 ? kind : kind.substr(begin + 1);
  };
  std::map<std::string, std::string> out;
  for (const std::string& kind : kinds) {
    for (int parts = 1; out[kind].empty() || out[kind] != kind; ++parts) {
      out[kind] = ending(kind, parts);
      const bool unique = std::none_of(kinds.begin(), kinds.end(), [&](const std::string& other) {
        return other != kind && ending(other, parts) == out[kind];
      });
      if (unique) break;
    }
  }
  return out;
}

// One value for each block and kind.
struct Grid {
  bool shares = true;  ///< to be shown in percent
  std::vector<std::string> kinds;
  std::vector<int64_t> blocks;
  std::map<std::pair<std::string, int64_t>, HeatChart::Cell> cells;
  double low = INFINITY, high = 0;  ///< above 0

  void add(const std::string& name, const std::string& kind, std::optional<int64_t> block, Value value) {
    if (!block) return;
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
    if (std::find(blocks.begin(), blocks.end(), *block) == blocks.end()) blocks.push_back(*block);
    if (!value) return;
    cells[{kind, *block}] = {
        *value,
        fmt::format("{}: {}", name, shares ? format_percent(*value, *value < 0.01 ? 3 : 2) : format_number(*value))};
    if (*value > 0) low = std::min(low, *value), high = std::max(high, *value);
  }
};

Markup draw_grid(Grid grid, const std::string& label, const AxisTitle& title) {
  std::sort(grid.blocks.begin(), grid.blocks.end());
  const std::map<std::string, std::string> short_names = short_kinds(grid.kinds);
  HeatChart chart;
  chart.label = label;
  chart.row_title = "layer";
  chart.column_title = "block";
  for (const std::string& kind : grid.kinds) chart.rows.push_back(short_names.at(kind));
  for (const int64_t block : grid.blocks) chart.columns.push_back(std::to_string(block));
  for (const std::string& kind : grid.kinds) {
    for (const int64_t block : grid.blocks) {
      const auto cell = grid.cells.find({kind, block});
      chart.cells.push_back(cell == grid.cells.end() ? std::nullopt : std::optional(cell->second));
    }
  }
  chart.low = grid.low;
  chart.high = grid.high;
  chart.scale = grid.high > 4 * grid.low ? Axis::Scale::kLogarithmic : Axis::Scale::kLinear;
  chart.value = title;
  chart.format = [factor = grid.shares ? 100 : 1](double value) { return format_number(value * factor, 2); };
  return for_width(draw(chart, kWideChart), draw(chart, kNarrowChart));
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

template <class Item>
std::vector<const Item*> ranked(const std::vector<Item>& items, const std::function<Value(const Item&)>& value) {
  std::vector<const Item*> out;
  for (const Item& item : items) {
    if (value(item)) out.push_back(&item);
  }
  std::stable_sort(out.begin(), out.end(), [&](const Item* a, const Item* b) { return *value(*a) > *value(*b); });
  return out;
}

Value relative_error_of(const LayerFacts& layer) { return layer.relative_error; }

std::string percent_cell(double share) { return format_number(share * 100); }

HtmlTable::Cell optional_percent(Value value) { return {.text = value ? percent_cell(*value) : "", .value = value}; }

HtmlTable layer_table(const VariantFacts& variant, const std::vector<const LayerFacts*>& layers,
                      const std::string& caption) {
  const bool outputs = std::any_of(variant.layers.begin(), variant.layers.end(),
                                   [](const LayerFacts& layer) { return layer.output_error.has_value(); });
  std::vector<HtmlTable::Column> columns = {{"layer", "", HtmlTable::Kind::kName},
                                            {"error of weights", "relative, %", HtmlTable::Kind::kBar}};
  const bool alone = std::any_of(variant.layers.begin(), variant.layers.end(),
                                 [](const LayerFacts& layer) { return layer.kl.has_value(); });
  if (outputs) columns.push_back({"error of outputs", "relative, %", HtmlTable::Kind::kBar});
  if (alone) columns.push_back({"KL, alone", "nats a token"});
  columns.insert(columns.end(), {{"clipped weights", "%"},
                                 {"shape", "outputs × inputs", HtmlTable::Kind::kText},
                                 {"size", ""},
                                 {"scheme", "", HtmlTable::Kind::kText}});
  double most = 0, most_output = 0;
  for (const LayerFacts& layer : variant.layers) {
    most = std::max(most, layer.relative_error.value_or(0));
    most_output = std::max(most_output, layer.output_error.value_or(0));
  }
  const auto bar = [](Value value, double longest) {
    HtmlTable::Cell cell = optional_percent(value);
    cell.bar = value && longest > 0 ? *value / longest : 0;
    return cell;
  };
  HtmlTable table(caption, columns);
  for (const LayerFacts* layer : layers) {
    std::vector<HtmlTable::Cell> cells = {{layer->name}, bar(layer->relative_error, most)};
    if (outputs) cells.push_back(bar(layer->output_error, most_output));
    if (alone) cells.push_back({.text = layer->kl ? format_number(*layer->kl) : "", .value = layer->kl});
    cells.push_back(optional_percent(layer->outside_share));
    cells.push_back({fmt::format("{} × {}", layer->outputs, layer->inputs)});
    cells.push_back({.text = format_bytes(layer->bytes), .value = static_cast<double>(layer->bytes)});
    cells.push_back({.text = layer->scheme.empty() ? "float" : layer->scheme,
                     .note = fmt::format("{}", fmt::join(layer->notes, "; "))});
    table.add_row(std::move(cells));
  }
  return table;
}

// Shares, in percent, of what a histogram counts.
std::vector<double> shares_of(const HistogramFacts& histogram) {
  double all = 0;
  for (const int64_t count : histogram.counts) all += static_cast<double>(count);
  std::vector<double> out;
  for (const int64_t count : histogram.counts) out.push_back(all > 0 ? 100 * static_cast<double>(count) / all : 0);
  return out;
}

Figure weight_figure(const LayerFacts& layer) {
  HistogramChart chart;
  chart.label = fmt::format("{}: where its weights lie on the scale of their codes", layer.name);
  chart.x = {"weight in steps of its scale", "code"};
  chart.y = {"share of weights", "%"};
  chart.low = layer.codes->low;
  chart.high = layer.codes->high;
  chart.shares = shares_of(*layer.codes);
  const auto [lowest, highest] = layer.code_range;
  chart.range = {{lowest - 0.5, highest + 0.5}};
  if (highest - lowest < 32) {
    for (double code = lowest; code <= highest; ++code) chart.grid.push_back(code);
  }
  Figure figure{layer.name, fmt::format("relative error {}", format_percent(layer.relative_error.value_or(0), 2)),
                draw(chart, kSmallChart)};
  if (layer.outside_share)
    figure.note += *layer.outside_share == 0 ? "; no weight lies beyond the last code"
                                             : fmt::format("; {} of weights lie beyond the last code",
                                                           format_percent(*layer.outside_share, 3));
  return figure;
}

Figure site_figure(const SiteFacts& site) {
  HistogramChart chart;
  chart.label = fmt::format("{}: distribution of its activations", site.name);
  chart.x = {"activation", ""};
  chart.y = {"share of values", "%, logarithmic"};
  chart.y_scale = Axis::Scale::kLogarithmic;
  chart.low = site.values->low;
  chart.high = site.values->high;
  chart.shares = shares_of(*site.values);
  Figure figure{site.name, "", {}};
  if (site.fixed) {
    chart.range = {{site.fixed->low, site.fixed->high}};
    chart.marks = {{site.fixed->low, format_number(site.fixed->low)},
                   {site.fixed->high, format_number(site.fixed->high)}};
    figure.note =
        fmt::format("codes reach from {} to {}{}: {} of values clipped", format_number(site.fixed->low),
                    format_number(site.fixed->high), site.fixed->method.empty() ? "" : " (" + site.fixed->method + ")",
                    format_percent(site.fixed->clipped_share, 3));
    if (site.fixed->clipped_energy)
      figure.note += fmt::format(", with {} of their energy", format_percent(*site.fixed->clipped_energy));
    figure.note += fmt::format("; relative error {}", format_percent(site.fixed->relative_error, 2));
  } else {
    figure.note = fmt::format("from {} to {}", format_number(site.smallest), format_number(site.largest));
  }
  if (site.dynamic_error) figure.note += fmt::format("; a scale a token: {}", format_percent(*site.dynamic_error, 2));
  figure.drawing = draw(chart, kSmallChart);
  return figure;
}

Value site_loss(const SiteFacts& site) { return site.fixed ? Value(site.fixed->relative_error) : site.dynamic_error; }

HtmlTable site_table(const std::vector<const SiteFacts*>& sites, const std::string& caption) {
  const bool fixed = std::any_of(sites.begin(), sites.end(), [](const SiteFacts* s) { return s->fixed.has_value(); });
  std::vector<HtmlTable::Column> columns = {{"input of", "", HtmlTable::Kind::kName}};
  if (fixed) {
    columns.insert(columns.end(), {{"error, static scale", "relative, %", HtmlTable::Kind::kBar},
                                   {"clipped", "% of values"},
                                   {"", "% of energy"},
                                   {"become 0", "% of values"},
                                   {"codes reach", "", HtmlTable::Kind::kText}});
  }
  columns.push_back(
      {"error, a scale a token", "relative, %", fixed ? HtmlTable::Kind::kNumber : HtmlTable::Kind::kBar});
  columns.insert(columns.end(), {{"smallest", ""}, {"largest", ""}});
  double most = 0;
  for (const SiteFacts* site : sites) most = std::max(most, site_loss(*site).value_or(0));
  HtmlTable table(caption, columns);
  for (const SiteFacts* site : sites) {
    std::vector<HtmlTable::Cell> cells = {{site->name}};
    if (fixed) {
      const StaticFacts facts = site->fixed.value_or(StaticFacts{});
      const auto share = [&](double value) { return optional_percent(site->fixed ? Value(value) : std::nullopt); };
      cells.push_back(share(facts.relative_error));
      cells.back().bar = most > 0 ? facts.relative_error / most : 0;
      cells.insert(cells.end(), {share(facts.clipped_share), optional_percent(facts.clipped_energy),
                                 optional_percent(facts.zeroed_share)});
      cells.push_back({site->fixed ? fmt::format("{} to {}{}", format_number(facts.low), format_number(facts.high),
                                                 facts.method.empty() ? "" : ", " + facts.method)
                                   : ""});
    }
    cells.push_back(optional_percent(site->dynamic_error));
    if (!fixed) cells.back().bar = most > 0 ? site->dynamic_error.value_or(0) / most : 0;
    for (const double extreme : {site->smallest, site->largest}) {
      // A site that only its scale is known of has seen nothing.
      cells.push_back(site->rows > 0 ? HtmlTable::Cell{.text = format_number(extreme), .value = extreme}
                                     : HtmlTable::Cell{});
    }
    table.add_row(std::move(cells));
  }
  return table;
}

Markup sites_of(const VariantFacts& variant, const std::string& introduction, bool open) {
  const std::vector<const SiteFacts*> sites = ranked<SiteFacts>(variant.sites, site_loss);
  Markup out;
  if (sites.empty()) return out;
  Grid grid;
  for (const SiteFacts& site : variant.sites) grid.add(site.name, site.kind, site.block, site_loss(site));
  const bool fixed = sites.front()->fixed.has_value();
  out.add(paragraph(introduction));
  if (grid.blocks.size() > 1 && grid.high > 0) {
    out.add(draw_grid(
        grid, fmt::format("{}: error of activations by block and layer", variant.name),
        {fixed ? "relative error with the static scale" : "relative error in INT8 with a scale a token", "%"}));
  }
  const size_t shown = std::min(kRanked, sites.size());
  const std::vector<const SiteFacts*> worst(sites.begin(), sites.begin() + static_cast<std::ptrdiff_t>(shown));
  out.add(site_table(worst, fmt::format("The {} of {} inputs that lose most", shown, sites.size())).to_markup());
  std::vector<Figure> figures;
  for (const SiteFacts* site : worst) {
    if (site->values && figures.size() < kHistograms) figures.push_back(site_figure(*site));
  }
  if (!figures.empty()) out.add(figure_grid(figures));
  if (sites.size() > shown) {
    std::vector<const SiteFacts*> all;
    for (const SiteFacts& site : variant.sites) all.push_back(&site);
    out.add(folded(fmt::format("All {} inputs", all.size()),
                   site_table(all, "In the order of the forward pass").to_markup()));
  }
  return open ? out : folded(variant.name, out);
}

}  // namespace

const LayerFacts* worst_layer(const VariantFacts& variant) {
  const std::vector<const LayerFacts*> layers = ranked<LayerFacts>(variant.layers, relative_error_of);
  return layers.empty() ? nullptr : layers.front();
}

std::vector<std::string> remarkable(const VariantFacts& variant) {
  constexpr size_t kMost = 3;  // of each sort
  std::vector<std::string> out;
  std::map<std::string, std::vector<double>> by_kind;
  for (const LayerFacts& layer : variant.layers) {
    if (layer.relative_error) by_kind[layer.kind].push_back(*layer.relative_error);
  }
  size_t told = 0;
  for (const LayerFacts* layer : ranked<LayerFacts>(variant.layers, relative_error_of)) {
    const double usual = median(by_kind[layer->kind]);
    if (by_kind[layer->kind].size() < 3 || *layer->relative_error < 0.01 || *layer->relative_error < 1.5 * usual)
      continue;
    if (told++ == kMost) break;
    out.push_back(fmt::format("{} loses {} of its weights' norm, {} times the median of its kind", layer->name,
                              format_percent(*layer->relative_error),
                              format_number(*layer->relative_error / usual, 2)));
  }
  told = 0;
  for (const SiteFacts* site : ranked<SiteFacts>(variant.sites, site_loss)) {
    if (!site->fixed) continue;
    const StaticFacts& fixed = *site->fixed;
    const double energy = fixed.clipped_energy.value_or(0), zeroed = fixed.zeroed_share.value_or(0);
    if ((energy < 0.02 && zeroed < 0.5 && fixed.relative_error < 0.1) || told++ >= kMost) continue;
    std::string text =
        fmt::format("the input of {} loses {} by its static scale", site->name, format_percent(fixed.relative_error));
    if (energy >= 0.02) {
      text += fmt::format(", which clips {} of the values with {} of their energy",
                          format_percent(fixed.clipped_share, 3), format_percent(energy));
    } else if (zeroed >= 0.5) {
      text += fmt::format(", by which {} of the values become 0", format_percent(zeroed));
    }
    if (site->dynamic_error) text += fmt::format(" (a scale a token: {})", format_percent(*site->dynamic_error));
    out.push_back(std::move(text));
  }
  told = 0;
  for (const SiteFacts* site : ranked<SiteFacts>(variant.sites, [](const SiteFacts& s) { return s.dynamic_error; })) {
    if (*site->dynamic_error < 0.05 || told++ == kMost) break;
    out.push_back(fmt::format("the input of {} has outliers: INT8 with a scale a token loses {}", site->name,
                              format_percent(*site->dynamic_error)));
  }
  return out;
}

namespace {

// What a heat chart shows of each layer.
struct LayerMeasure {
  std::string heading;
  AxisTitle title;
  std::function<Value(const LayerFacts&)> value;
  bool is_share = true;
};

const std::vector<LayerMeasure>& layer_measures() {
  static const std::vector<LayerMeasure> kMeasures = {
      {"error of weights", {"relative error of the weights", "%"}, relative_error_of},
      {"error of outputs",
       {"relative error of the layers' outputs", "%"},
       [](const LayerFacts& layer) { return layer.output_error; }},
      {"KL divergence",
       {"KL divergence where only this layer is quantized", "nats a token"},
       [](const LayerFacts& layer) { return layer.kl; },
       false}};
  return kMeasures;
}

Grid grid_of(const VariantFacts& variant, const LayerMeasure& measure) {
  Grid grid;
  grid.shares = measure.is_share;
  for (const LayerFacts& layer : variant.layers) grid.add(layer.name, layer.kind, layer.block, measure.value(layer));
  return grid;
}

}  // namespace

Markup layers_part(const ModelFacts& facts) {
  std::vector<std::vector<Grid>> grids;  // by measure and variant
  for (const LayerMeasure& measure : layer_measures()) {
    std::vector<Grid>& of_measure = grids.emplace_back();
    for (const VariantFacts& variant : facts.variants) of_measure.push_back(grid_of(variant, measure));
  }
  Markup out;
  for (size_t i = 0; i < facts.variants.size(); ++i) {
    const VariantFacts& variant = facts.variants[i];
    const bool any = std::any_of(grids.begin(), grids.end(), [&](const auto& of_all) { return of_all[i].high > 0; });
    const std::vector<const LayerFacts*> layers = ranked<LayerFacts>(variant.layers, relative_error_of);
    if (layers.empty() && !any) continue;
    if (out.is_empty()) {
      out.add(
          paragraph("How far each layer's quantized weights lie from the float ones, ‖W − Q‖ / ‖W‖: by block and "
                    "layer, and ranked. "
                    "Empty cells stayed in float; the outlined cell loses most."));
      if (facts.variants.size() > 1) out.add(remark("Each chart has a scale of colours of its own."));
    }
    out.element("h3", {}, variant.name);
    for (size_t m = 0; m < grids.size(); ++m) {
      if (grids[m][i].high == 0) continue;
      const LayerMeasure& measure = layer_measures()[m];
      out.add(draw_grid(grids[m][i], fmt::format("{}: {} by block and layer", variant.name, measure.heading),
                        measure.title));
    }
    const size_t shown = std::min(kRanked, layers.size());
    if (shown > 0) {
      const std::vector<const LayerFacts*> worst(layers.begin(), layers.begin() + static_cast<std::ptrdiff_t>(shown));
      const std::string caption = fmt::format("The {} of {} quantized layers that lose most", shown, layers.size());
      out.add(folded("Layers that lose most", layer_table(variant, worst, caption).to_markup(),
                     facts.variants.size() == 1));
    }
    std::vector<const LayerFacts*> all;
    for (const LayerFacts& layer : variant.layers) all.push_back(&layer);
    out.add(folded(fmt::format("All {} layers", all.size()),
                   layer_table(variant, all, "In the order of the forward pass").to_markup()));
  }
  return out;
}

Markup weights_part(const ModelFacts& facts) {
  Markup out;
  for (const VariantFacts& variant : facts.variants) {
    std::vector<Figure> figures;
    for (const LayerFacts* layer : ranked<LayerFacts>(variant.layers, relative_error_of)) {
      if (layer->codes && figures.size() < kHistograms) figures.push_back(weight_figure(*layer));
    }
    if (figures.empty()) continue;
    const bool first = out.is_empty();
    if (first) {
      out.add(paragraph(
          "Float weights divided by the scale of their channel or group, so that codes are whole numbers: the layers "
          "that lose most. What lies beyond the last codes by more than half a step is clipped, and drawn in orange."));
    }
    out.add(folded(variant.name, figure_grid(figures), first));
  }
  return out;
}

Markup activations_part(const ModelFacts& facts) {
  Markup out;
  if (!facts.sample.empty()) out.add(remark("Seen on " + facts.sample + "."));
  bool any = false;
  for (const VariantFacts& variant : facts.variants) {
    const Markup part = sites_of(variant,
                                 "What the static scales do to the inputs of layers. A clip that takes few values but "
                                 "much of their energy, or a step so long that most become 0, ruins a layer.",
                                 facts.variants.size() == 1);
    any = any || !part.is_empty();
    if (!part.is_empty()) out.add(part);
  }
  const Markup reference = sites_of(facts.reference,
                                    "What INT8 with a scale a token does to the inputs of layers, before anything is "
                                    "quantized: large errors come from outliers, which a token's scale must cover.",
                                    !any);
  return any || !reference.is_empty() ? out.add(reference) : Markup();
}

}  // namespace octet::cli
