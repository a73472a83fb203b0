// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/layer_facts.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "octet/base/error.h"
#include "octet/io/compressed_tensors.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

// The codes of a weight that is stored so; `holder` keeps what was read for it.
const QTensor& stored_codes(const Parameter& weight, std::variant<Tensor, QTensor>& holder) {
  if (const auto* codes = std::get_if<QTensor>(&weight.value)) return *codes;
  const auto* reader = std::get_if<WeightReader>(&weight.value);
  if (reader == nullptr) fail("layer '{}' was laid out before it was measured", weight.layer);
  holder = (*reader)();
  return std::get<QTensor>(holder);
}

void measure(LayerFacts& layer, ConstTensorView values, const QTensor& codes) {
  layer.relative_error = relative_error(values, codes);
  CodePlaces places = places_on_codes(values, codes);
  layer.outside_share = places.outside_share;
  layer.codes = std::move(places.histogram);
  layer.code_range = {places.lowest, places.highest};
}

}  // namespace

Tensor with_fitted_factors(ConstTensorView weight, const QTensor& quantized, bool columns, bool rows) {
  const Tensor codes = dequantize(quantized);
  Tensor out = to_f32(weight);
  const auto q = codes.as<float>();
  const auto w = out.mutable_as<float>();
  const auto outputs = static_cast<size_t>(quantized.rows()), inputs = static_cast<size_t>(quantized.cols());
  // Least squares: the factor of values w that brings them nearest to q is Σ w q / Σ w². Factors of columns and of rows
  // depend on each other; a second round changes them by the square of the quantization error only.
  for (int round = 0; round < 2; ++round) {
    if (columns) {
      std::vector<double> products(inputs, 0), squares(inputs, 0);
      for (size_t at = 0; at < w.size(); ++at) {
        products[at % inputs] += double{w[at]} * q[at];
        squares[at % inputs] += double{w[at]} * w[at];
      }
      for (size_t at = 0; at < w.size(); ++at) {
        if (squares[at % inputs] > 0) w[at] *= static_cast<float>(products[at % inputs] / squares[at % inputs]);
      }
    }
    for (size_t o = 0; rows && o < outputs; ++o) {
      double product = 0, square = 0;
      for (size_t at = o * inputs; at < (o + 1) * inputs; ++at) {
        product += double{w[at]} * q[at];
        square += double{w[at]} * w[at];
      }
      if (square == 0) continue;
      for (size_t at = o * inputs; at < (o + 1) * inputs; ++at) w[at] *= static_cast<float>(product / square);
    }
  }
  return out;
}

CodePlaces places_on_codes(ConstTensorView weight, const QTensor& quantized) {
  if (weight.shape != quantized.codes.shape()) {
    fail<ShapeError>("a weight of shape {} was not quantized to codes of {}", to_string(weight.shape),
                     to_string(quantized.codes.shape()));
  }
  const WeightScheme& scheme = quantized.scheme;
  const CodeRange codes = chosen_codes(scheme);
  CodePlaces out;
  out.lowest = codes.lowest;
  out.highest = codes.highest;
  // Bins of two codes, or a quarter of one, with an edge half a step beyond the last codes.
  const double width = scheme.used_bits() == 8 ? 2 : 0.25;
  const int beyond = 8;  // bins
  out.histogram.low = out.lowest - 0.5 - beyond * width;
  const auto bins = static_cast<size_t>(std::llround((out.highest - out.lowest + 1) / width)) + 2 * beyond;
  out.histogram.high = out.histogram.low + static_cast<double>(bins) * width;
  out.histogram.counts.assign(bins, 0);

  // A scale is rounded, so that the largest value of a group, which int4 puts half a step beyond its last code, may lie
  // a trifle farther out.
  const double reach = 0.5 + 1e-5;
  const int64_t rows = quantized.rows(), cols = quantized.cols(), groups = quantized.groups();
  const auto scales = quantized.scales.as<float>();
  const std::vector<int32_t> outlier_at = outlier_places(quantized);
  const int64_t coded = cols - std::ssize(quantized.outlier_indices());
  const bool reordered = quantized.group_index.shape().elements() > 0;
  const int64_t group_size = scheme.group_size == 0 ? cols : scheme.group_size;
  std::vector<float> row(static_cast<size_t>(cols));
  int64_t outside = 0;
  for (int64_t o = 0; o < rows; ++o) {
    read_f32(weight, o * cols, row);
    for (int64_t i = 0; i < cols; ++i) {
      if (outlier_at[static_cast<size_t>(i)] >= 0) continue;
      const int64_t group = reordered ? quantized.group_index.as<int32_t>()[static_cast<size_t>(i)] : i / group_size;
      const auto at = static_cast<size_t>(o * groups + group);
      double x = row[static_cast<size_t>(i)];
      if (scheme.mapping == CodeMapping::kMinimum) x -= quantized.minima.as<float>()[at];
      double place = x / scales[at];
      if (scheme.mapping == CodeMapping::kZeroPoint) place += quantized.zero_points.as<int8_t>()[at];
      // A scale of a foreign file may be 0, and 0 / 0 lies at 0.
      if (std::isnan(place)) place = 0;
      if (place < out.lowest - reach || place > out.highest + reach) ++outside;
      const double bin = std::clamp((place - out.histogram.low) / width, 0.0, static_cast<double>(bins - 1));
      ++out.histogram.counts[static_cast<size_t>(bin)];
    }
  }
  out.outside_share = static_cast<double>(outside) / static_cast<double>(std::max<int64_t>(1, rows * coded));
  return out;
}

std::vector<LayerFacts> measure_layers(const Model& model, const Model& reference, const FoldedLayers& folded,
                                       int threads, const std::function<void(int64_t layers)>& advance) {
  std::map<std::string, const Parameter*> references;
  for (const Linear::Part* part : reference.linear_parts()) references[part->weight.layer] = &part->weight;
  std::vector<LayerFacts> layers;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    LayerFacts layer;
    layer.name = weight.layer;
    std::tie(layer.block, layer.kind) = place_of_layer(weight.layer);
    layer.outputs = weight.shape[0];
    layer.inputs = weight.shape[1];
    if (weight.scheme) {
      layer.scheme = to_string(*weight.scheme);
      layer.bytes = stored_bytes(weight);
      if (const int64_t outliers = std::ssize(weight.outlier_columns); outliers > 0) {
        layer.notes.push_back(
            fmt::format("{} outlier columns in 16 bits, {:.1f} % of its bytes", outliers,
                        100.0 * static_cast<double>(encoded_outlier_bytes(weight.shape[0], outliers)) /
                            static_cast<double>(layer.bytes)));
      }
      if (weight.stored_codes) {
        const auto found = references.find(weight.layer);
        const Parameter* original = found == references.end() ? nullptr : found->second;
        if (original != nullptr && !original->stored_codes && original->shape == weight.shape) {
          std::variant<Tensor, QTensor> holder;
          const FloatWeight values(*original);
          const QTensor& codes = stored_codes(weight, holder);
          const bool columns = folded.columns.contains(weight.layer), rows = folded.rows.contains(weight.layer);
          if (columns || rows) {
            measure(layer, with_fitted_factors(values.view(), codes, columns, rows).view(), codes);
          } else {
            measure(layer, values.view(), codes);
          }
          values.release_pages();
        }
      } else {
        const FloatWeight values(weight);
        measure(layer, values.view(),
                quantize_weight(values.view(), weight.scheme->weight, weight.layer, threads, weight.outlier_columns));
        values.release_pages();
      }
    } else {
      const FloatWeight values(weight);
      layer.bytes = values.view().bytes();
    }
    layers.push_back(std::move(layer));
    if (advance) advance(1);
  }
  return layers;
}

}  // namespace octet
