// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "octet/io/safetensors.h"
#include "octet/ptq/piece_quantizer.h"

namespace octet {

nlohmann::json to_json(const WeightReport& report);
WeightReport weight_report_of(const nlohmann::json& value);

/// The pieces of a model that were quantized with data, a file each, which say what they hold: tensors are read where
/// the files are mapped.
class QuantizedPieces {
 public:
  /// Writes a piece's file, and gives what is to be told of it apart from its tensors, as JSON. `result` is used up.
  static std::string write(const std::filesystem::path& file, PieceResult result);
  /// Takes up a file that write() made, `note` being what it gave.
  void add(const std::filesystem::path& file, const std::string& note);

  bool has_weight(const std::string& layer) const { return layers_.contains(layer); }
  /// By the scheme that it was quantized by.
  QTensor weight(const std::string& layer, const WeightScheme& scheme) const;
  /// Of such a weight: its outlier columns, and the type of what they hold where there are some.
  std::vector<int32_t> outlier_columns(const std::string& layer) const;
  DType outlier_dtype(const std::string& layer) const;
  const WeightReport& report(const std::string& layer) const { return layers_.at(layer); }
  /// Whether a tensor of the checkpoint has other values now; they are F32.
  bool changes(const std::string& name) const { return tensors_.contains(name); }
  Tensor tensor(const std::string& name) const;
  /// Of a layer's static input, where calibration found it.
  std::optional<ActivationScale> scale(const std::string& layer) const;

  const std::vector<SiteReport>& sites() const noexcept { return sites_; }
  const std::vector<FoldReport>& folds() const noexcept { return folds_; }
  int64_t uncorrected() const noexcept { return uncorrected_; }

 private:
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> weights_, tensors_;  ///< in which file
  std::map<std::string, WeightReport> layers_;
  std::map<std::string, ActivationScale> scales_;
  std::vector<SiteReport> sites_;
  std::vector<FoldReport> folds_;
  int64_t uncorrected_ = 0;
};

}  // namespace octet
