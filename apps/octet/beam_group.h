// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "apps/octet/command_line.h"
#include "octet/generate/beam_search.h"

namespace octet::cli {

/// The options of beam search: --beams, --length-penalty, --early-stopping, --results.
class BeamGroup {
 public:
  void add_to(Command command);
  /// Whether beams were asked for.
  bool given() const noexcept { return search_.beams > 1; }
  BeamSearchOptions search() const;

 private:
  BeamSearchOptions search_ = {.beams = 1};
  std::string early_stopping_ = "likely";
};

}  // namespace octet::cli
