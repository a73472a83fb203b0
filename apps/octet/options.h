// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "apps/octet/command_line.h"
#include "octet/models/session.h"

namespace octet::cli {

/// What every command takes.
struct CommonOptions {
  int threads = 0;
  bool json = false;

  void add_to(Command command);
};

/// What every command that runs a model takes.
struct ModelOptions : CommonOptions {
  std::string model;
  std::optional<std::string> recipe;
  std::vector<std::string> settings;

  void add_to(Command command);
};

/// --recipe and --set as a Recipe; none without --recipe. Throws UsageError for --set alone.
std::optional<Recipe> recipe_of(const std::optional<std::string>& recipe, const std::vector<std::string>& settings);

/// The session that the options ask for, `model` in place of theirs where it is given. A recipe's patterns that match
/// no layer are told on stderr.
Session open_session(const ModelOptions& options, bool profile = false);
Session open_session(const std::string& model, const std::optional<Recipe>& recipe, int threads, bool profile = false);

/// "warning: …" on stderr.
void warn(const std::string& message);
void warn_of_unmatched(const std::string& recipe, const std::vector<std::string>& patterns);

/// To stdout, indented, on lines of its own.
void print_json(const nlohmann::ordered_json& json);

/// A model's text, or another one from outside, to stdout. A terminal shows � for control characters, which would steer
/// it.
void print_text(std::string_view text);

/// Whether stdout is a terminal; whether it is one that takes colours.
bool is_terminal();
bool colours();

}  // namespace octet::cli
