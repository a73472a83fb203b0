// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/column_options.h"

namespace octet::cli {

void ColumnOptions::add_to(Command command) {
  command
      .add_option("--text-column", names.first,
                  "The column of labelled texts that holds the text (default: text, sentence, sentence1, …)")
      .type_name("NAME");
  command
      .add_option("--pair-column", names.second,
                  "The column that holds the second text of a pair (default: sentence2, …; none with --text-column)")
      .type_name("NAME");
  command.add_option("--label-column", names.label, "The column that holds the label (default: label, …)")
      .type_name("NAME");
}

std::string ColumnOptions::first_given(const Command& command) {
  for (const char* option : {"--text-column", "--pair-column", "--label-column"}) {
    if (command.count(option) > 0) return option;
  }
  return "";
}

}  // namespace octet::cli
