// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "octet/generate/beam_search.h"

namespace octet::cli {

/// The options of beam search: --beams, --length-penalty, --early-stopping, --results.
class BeamGroup {
 public:
  void add_to(CLI::App& command);
  /// Whether beams were asked for.
  bool given() const noexcept { return search_.beams > 1; }
  BeamSearchOptions search() const;

 private:
  BeamSearchOptions search_ = {.beams = 1};
  std::string early_stopping_ = "likely";
};

}  // namespace octet::cli
