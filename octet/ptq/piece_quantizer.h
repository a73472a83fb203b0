// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/ptq/block_stream.h"
#include "octet/ptq/layer_output_error.h"
#include "octet/quant/range_estimator.h"
#include "octet/quant/recipe.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// What a static site was given, and what that does to the values that calibration saw.
struct SiteReport {
  std::string site;
  bool given = false;           ///< by the recipe, not found
  RangeEstimate estimate = {};  ///< of what was given: scale and loss alone
  double dynamic_error = 0;     ///< relative error of one scale a token on the same values, to compare with

  /// Clipping or too long a step destroys what flows here: more than a tenth of it in the Euclidean norm, or more than
  /// half of the numbers rounded to 0. (One scale a token loses about a hundredth.)
  bool is_destroyed() const noexcept { return estimate.loss.relative_error > 0.1 || estimate.loss.zeroed_share > 0.5; }
};

/// What became of a layer's weight.
struct WeightReport {
  double relative_error = 0;  ///< ‖W - Q‖ / ‖W‖, W being the folded weight
  /// See QuantizedWeight; NaN where nothing was measured.
  double output_error = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::string> notes;
};

/// Factors that moved.
struct FoldReport {
  std::string from;
  std::vector<std::string> into;
  std::optional<double> alpha = {};  ///< none: no factors did better than any
};

/// A piece of a model quantized with data.
struct PieceResult {
  std::map<std::string, QTensor> weights;         ///< by layer
  std::map<std::string, Tensor> tensors;          ///< others that changed, by their names in the checkpoint
  std::map<std::string, ActivationScale> scales;  ///< of static inputs, by the layer, or operand of attention
  std::map<std::string, WeightReport> layers;
  std::vector<SiteReport> sites;
  std::vector<FoldReport> folds;
  int64_t uncorrected = 0;  ///< layers that have no bias to correct
};

/// What is to become of a layer, by the name of the layer that multiplies.
struct LayerTarget {
  Scheme scheme;
  bool static_scale = false;   ///< calibration finds the scale of its input
  bool quantized_here = true;  ///< false: a head over the vocabulary, whose weight is rounded when it is written
};

/// Quantizes the pieces of a float model, as samples stream through it.
class PieceQuantizer {
 public:
  /// All must outlive it. `model` is float, the one that `stream` runs.
  PieceQuantizer(const Checkpoint& checkpoint, const Recipe& recipe, std::map<std::string, LayerTarget> targets,
                 Model& model, Backend& backend);

  /// How often each of so many samples meets a piece, on the average.
  int64_t passes(int64_t piece, int64_t samples) const;
  /// Quantizes the stream's piece and sends the stream on: with what the quantized weights give where the recipe's
  /// algorithms make good errors of earlier layers, else with what the float ones give. The result is of the piece as
  /// the model then holds it.
  PieceResult quantize(BlockStream& stream);

 private:
  /// Layers that are quantized together, by what one pass has shown.
  struct Step {
    std::vector<Linear*> linears;
    std::vector<int> searched;                ///< whose outlier columns are looked for, in a pass of their own
    std::vector<int> sites;                   ///< to be watched
    std::optional<QuantSite> attention = {};  ///< static, and one of them
  };
  struct Collected;
  using SeenBySite = std::map<std::pair<int, SiteInput::Role>, Collected>;
  struct Plan {
    std::vector<FoldPair> pairs;
    std::vector<int> fold_sites;
    std::vector<Step> steps;
  };

  /// Columns of what a linear layer reads that stay out of codes: given, or to be found.
  struct Outliers {
    std::vector<int32_t> columns;
    std::optional<OutlierOptions> search;

    friend bool operator==(const Outliers&, const Outliers&) = default;
  };
  using OutliersBySite = std::map<int, std::vector<int32_t>>;
  /// What the next pass does with its outputs.
  using NextOutputs = std::function<BlockStream::Outputs(const Step* step)>;

  Plan plan(int64_t piece) const;
  static int64_t watched_passes(const Plan& plan);
  Outliers outliers_of(const Linear& linear) const;
  OutliersBySite find_outliers(BlockStream& stream, const Step& step, const NextOutputs& outputs) const;
  const LayerTarget* find(const std::string& layer) const;
  bool needs_rows(const Linear& linear) const;
  bool needs_statistics_of(const Linear& linear) const;
  bool needs_range(const Linear& linear) const;
  std::vector<LayerToQuantize> layers_to_quantize(std::span<const std::string> layers,
                                                  std::span<const ConstTensorView> weights,
                                                  const std::vector<int32_t>& outliers = {}) const;
  RangeEstimate find_range(const Linear& linear, ActivationMode mode, const RangeOptions& options,
                           const Collected& inputs) const;
  void find_scales(const Linear& linear, const Collected& inputs, PieceResult& result) const;
  void find_attention_scales(const QuantSite& attention, const SeenBySite& seen, PieceResult& result) const;
  /// The layers of a piece whose rounding is learned, and how.
  struct Rounding {
    std::map<std::string, WeightScheme> layers = {};
    WeightAlgorithm algorithm = WeightAlgorithm::kSignRound;
    RoundingOptions options = {};

    int64_t passes(int64_t samples) const;
  };
  Rounding rounding_of(int64_t piece) const;
  void learn_rounding(BlockStream& stream, PieceResult& result);
  void quantize_part(Linear::Part& part, const WeightScheme& scheme, const Collected* inputs,
                     std::span<const int32_t> outliers, PieceResult& result) const;
  void fold(BlockStream& stream, const Plan& plan, BlockStream::Outputs outputs, PieceResult& result);
  void run_step(BlockStream& stream, const Step& step, const NextOutputs& outputs, PieceResult& result);

  const Checkpoint& checkpoint_;
  const Recipe& recipe_;
  std::map<std::string, LayerTarget> targets_;
  Model& model_;
  std::vector<FoldPair> pairs_;
  Backend& backend_;
  bool sends_quantized_ = false;  ///< the next piece reads what quantized weights give
  bool learns_rounding_ = false;
  std::optional<BlockStream> floats_;  ///< if it does: the same samples, in the float model, before the next piece
};

}  // namespace octet
