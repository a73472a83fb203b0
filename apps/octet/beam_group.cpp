// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/beam_group.h"

namespace octet::cli {

void BeamGroup::add_to(Command command) {
  const Option beams =
      command
          .add_option("--beams", search_.beams, "Search for the likeliest text with so many candidates (1: no search)")
          .in_range(1, 1024)
          .capture_default_str()
          .type_name("N");
  command
      .add_option("--length-penalty", search_.length_penalty,
                  "Of beams: texts are ranked by log-likelihood / tokens^L; higher favours longer ones")
      .needs(beams)
      .capture_default_str()
      .type_name("L");
  command
      .add_option("--early-stopping", early_stopping_,
                  "Of beams: stop when better texts are not likely, when as many as beams are full, or never before no "
                  "better one is possible")
      .one_of({"likely", "full", "never"})
      .needs(beams)
      .capture_default_str()
      .type_name("likely|full|never");
  command.add_option("--results", search_.results, "Of beams: the best N texts")
      .in_range(1, 1024)
      .needs(beams)
      .capture_default_str()
      .type_name("N");
}

BeamSearchOptions BeamGroup::search() const {
  BeamSearchOptions search = search_;
  if (early_stopping_ == "full") search.early_stopping = EarlyStopping::kFull;
  if (early_stopping_ == "never") search.early_stopping = EarlyStopping::kNever;
  return search;
}

}  // namespace octet::cli
