// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/quantized_pieces.h"

#include <limits>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/base/json.h"

namespace octet {
namespace {

using nlohmann::json;

// What a weight's tensors are called in a piece's file. No tensor of a checkpoint has a name that begins so.
std::string part_of(const char* part, const std::string& layer) { return fmt::format("octet.{}.{}", part, layer); }

constexpr const char* kOutlierColumns = "outlier_columns";
constexpr const char* kOutliers = "outliers";

json to_json(const ActivationScale& scale) {
  return {{"scale", scale.scale}, {"zero_point", scale.zero_point}, {"bits", scale.bits}};
}

ActivationScale scale_of(const json& value) {
  return {.scale = value.at("scale").get<float>(),
          .zero_point = value.at("zero_point").get<int>(),
          .bits = value.value("bits", 8)};
}

json to_json(const SiteReport& site) {
  const RangeEstimate& estimate = site.estimate;
  const QuantizationLoss& loss = estimate.loss;
  return {{"site", site.site},
          {"given", site.given},
          {"method", name(estimate.method)},
          {"low", estimate.low},
          {"high", estimate.high},
          {"scale", to_json(estimate.scale)},
          {"clipped_share", loss.clipped_share},
          {"clipped_energy", loss.clipped_energy},
          {"zeroed_share", loss.zeroed_share},
          {"clipping_error", loss.clipping_error},
          {"relative_error", loss.relative_error},
          {"dynamic_error", site.dynamic_error}};
}

SiteReport site_of(const json& value) {
  SiteReport site{.site = value.at("site"), .given = value.at("given"), .estimate = {}, .dynamic_error = 0};
  site.estimate.method = parse_range_method(value.at("method").get<std::string>());
  site.estimate.low = value.at("low");
  site.estimate.high = value.at("high");
  site.estimate.scale = scale_of(value.at("scale"));
  site.estimate.loss = {.clipped_share = value.at("clipped_share"),
                        .clipped_energy = value.at("clipped_energy"),
                        .zeroed_share = value.at("zeroed_share"),
                        .clipping_error = value.at("clipping_error"),
                        .relative_error = value.at("relative_error")};
  site.dynamic_error = value.at("dynamic_error");
  return site;
}

// What is not a number has no place in JSON.
double number_of(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

}  // namespace

json to_json(const WeightReport& report) {
  return {{"relative_error", report.relative_error}, {"output_error", report.output_error}, {"notes", report.notes}};
}

WeightReport weight_report_of(const json& value) {
  return {.relative_error = number_of(value.at("relative_error")),
          .output_error = number_of(value.at("output_error")),
          .notes = value.at("notes")};
}

std::string QuantizedPieces::write(const std::filesystem::path& file, PieceResult result) {
  SafetensorsWriter writer;
  json weights = json::object(), tensors = json::array(), scales = json::object(), sites = json::array(),
       folds = json::array();
  for (auto& [layer, weight] : result.weights) {
    weights[layer] = to_json(result.layers.at(layer));
    writer.add(part_of("codes", layer), std::move(weight.codes));
    writer.add(part_of("scales", layer), std::move(weight.scales));
    for (auto& [part, tensor] :
         {std::pair{"zero_points", &weight.zero_points}, std::pair{"minima", &weight.minima},
          std::pair{"group_index", &weight.group_index}, std::pair{kOutlierColumns, &weight.outlier_columns},
          std::pair{kOutliers, &weight.outliers}}) {
      if (tensor->shape().elements() > 0) writer.add(part_of(part, layer), std::move(*tensor));
    }
  }
  for (auto& [name, tensor] : result.tensors) {
    tensors.push_back(name);
    writer.add(name, std::move(tensor));
  }
  for (const auto& [layer, scale] : result.scales) scales[layer] = to_json(scale);
  for (const SiteReport& site : result.sites) sites.push_back(to_json(site));
  for (const FoldReport& fold : result.folds)
    folds.push_back({{"from", fold.from}, {"into", fold.into}, {"alpha", fold.alpha ? json(*fold.alpha) : json()}});
  writer.write(file);
  return json_text(json{{"weights", std::move(weights)},
                        {"tensors", std::move(tensors)},
                        {"scales", std::move(scales)},
                        {"sites", std::move(sites)},
                        {"folds", std::move(folds)},
                        {"uncorrected", result.uncorrected}});
}

void QuantizedPieces::add(const std::filesystem::path& file, const std::string& note) {
  const json facts = parse_json(note, file.string());
  for (const auto& [layer, report] : facts.at("weights").items()) {
    weights_[layer] = files_.size();
    layers_[layer] = weight_report_of(report);
  }
  for (const json& name : facts.at("tensors")) tensors_[name.get<std::string>()] = files_.size();
  for (const auto& [layer, scale] : facts.at("scales").items()) scales_[layer] = scale_of(scale);
  for (const json& site : facts.at("sites")) sites_.push_back(site_of(site));
  for (const json& fold : facts.at("folds")) {
    folds_.push_back({.from = fold.at("from"), .into = fold.at("into"), .alpha = {}});
    if (!fold.at("alpha").is_null()) folds_.back().alpha = fold.at("alpha").get<double>();
  }
  uncorrected_ += facts.at("uncorrected").get<int64_t>();
  files_.push_back(SafetensorsFile::open(file));
}

QTensor QuantizedPieces::weight(const std::string& layer, const WeightScheme& scheme) const {
  const SafetensorsFile& file = files_.at(weights_.at(layer));
  QTensor out{
      .scheme = scheme, .codes = file.tensor(part_of("codes", layer)), .scales = file.tensor(part_of("scales", layer))};
  for (auto& [part, tensor] : {std::pair{"zero_points", &out.zero_points}, std::pair{"minima", &out.minima},
                               std::pair{"group_index", &out.group_index},
                               std::pair{kOutlierColumns, &out.outlier_columns}, std::pair{kOutliers, &out.outliers}}) {
    if (file.contains(part_of(part, layer))) *tensor = file.tensor(part_of(part, layer));
  }
  check(out, layer);
  return out;
}

std::vector<int32_t> QuantizedPieces::outlier_columns(const std::string& layer) const {
  const SafetensorsFile& file = files_.at(weights_.at(layer));
  const std::string name = part_of(kOutlierColumns, layer);
  if (!file.contains(name)) return {};
  const Tensor columns = file.tensor(name);
  return {columns.as<int32_t>().begin(), columns.as<int32_t>().end()};
}

DType QuantizedPieces::outlier_dtype(const std::string& layer) const {
  return files_.at(weights_.at(layer)).tensor(part_of(kOutliers, layer)).dtype();
}

Tensor QuantizedPieces::tensor(const std::string& name) const { return files_.at(tensors_.at(name)).tensor(name); }

std::optional<ActivationScale> QuantizedPieces::scale(const std::string& layer) const {
  const auto found = scales_.find(layer);
  return found == scales_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace octet
