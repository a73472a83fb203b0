// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "apps/octet/command_line.h"
#include "octet/data/labelled_texts.h"

namespace octet::cli {

/// --text-column, --pair-column, --label-column: what a file of labelled texts calls them.
struct ColumnOptions {
  ColumnNames names;

  void add_to(Command command);
  /// The first of these options that was given ("--text-column"), "" if none was.
  static std::string first_given(const Command& command);
};

}  // namespace octet::cli
