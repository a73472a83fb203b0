// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "octet/models/model.h"
#include "octet/ptq/model_facts.h"

namespace octet {

/// Layers whose weights a fold has changed before they were quantized (see FoldPair): the columns of those it went
/// into, the rows of those it came from.
struct FoldedLayers {
  std::set<std::string> columns, rows;
};

/// Facts of every linear layer of `model`, in the order of the forward pass. What a scheme does is measured on the
/// float values: the model's own, where a recipe is applied to them; or, where it has codes, those that the layers of
/// the same names have in `reference`. Neither may be laid out yet. Holds the values of one layer at a time; works on
/// `threads` threads (0: all). `advance` follows the layers.
std::vector<LayerFacts> measure_layers(const Model& model, const Model& reference, const FoldedLayers& folded,
                                       int threads, const std::function<void(int64_t layers)>& advance = {});

/// Where the values of a float weight lie on the scale of its codes: x / scale + zero point, or (x - minimum) / scale,
/// with the scale of their group.
struct CodePlaces {
  HistogramFacts histogram;        ///< some codes wider than the range on both sides; what is beyond is in the end bins
  double lowest = 0, highest = 0;  ///< codes
  double outside_share = 0;        ///< more than half a step beyond these
};
/// `weight` times the factors, one for each column and then one for each row, that bring it nearest to `quantized`;
/// F32.
Tensor with_fitted_factors(ConstTensorView weight, const QTensor& quantized, bool columns, bool rows);

/// Throws ShapeError where the shapes differ.
CodePlaces places_on_codes(ConstTensorView weight, const QTensor& quantized);

}  // namespace octet
