// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/options.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet::cli {
namespace {

// "a, b, c and 27 others"
std::string name_some(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  const size_t shown = std::min(names.size(), kShown);
  std::string text =
      fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  return names.size() == shown ? text : fmt::format("{} and {} others", text, names.size() - shown);
}

}  // namespace

void CommonOptions::add_to(Command command) {
  command.add_option("--threads", threads, "Threads to run on (default: all processors this process may use)")
      .in_range(1, 1024)
      .type_name("N");
  command.add_flag("--json", json, "Print results as JSON");
}

void ModelOptions::add_to(Command command) {
  command.add_option("MODEL", model, "A Hugging Face model directory, or a GGUF file").required();
  command.add_option("--recipe", recipe, "Quantize while loading: a built-in recipe or a JSON file")
      .type_name("NAME|FILE");
  command.add_option("--set", settings, "Change a value of the recipe: weights.bits=8")
      .type_name("KEY=VALUE")
      .allow_extra_args(false);
  CommonOptions::add_to(command);
}

std::optional<Recipe> recipe_of(const std::optional<std::string>& recipe, const std::vector<std::string>& settings) {
  if (recipe) return Recipe::load(*recipe, settings);
  if (!settings.empty()) fail<UsageError>("--set changes a recipe: add --recipe NAME");
  return std::nullopt;
}

Session open_session(const ModelOptions& options, bool profile) {
  return open_session(options.model, recipe_of(options.recipe, options.settings), options.threads, profile);
}

Session open_session(const std::string& model, const std::optional<Recipe>& recipe, int threads, bool profile) {
  Session session(model, {.recipe = recipe, .cpu = {.threads = threads}, .profile = profile});
  if (recipe) {
    warn_of_unmatched(recipe->name(), unmatched_patterns(*recipe, session.model()));
    if (const std::vector<std::string> layers = layers_left_float(*recipe, session.model()); !layers.empty()) {
      warn(fmt::format("recipe '{}': {} of the layers are stored as float and stay so: {}", recipe->name(),
                       layers.size(), name_some(layers)));
    }
  }
  return session;
}

void warn(const std::string& message) { fmt::print(stderr, "warning: {}\n", message); }

void warn_of_unmatched(const std::string& recipe, const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns)
    warn(fmt::format("recipe '{}': the pattern '{}' matches no layer of this model", recipe, pattern));
}

void print_json(const nlohmann::ordered_json& json) { fmt::print("{}\n", printable_json(json, 2)); }

void print_text(std::string_view text) {
  const auto print_as_is = [](std::string_view part) { std::fwrite(part.data(), 1, part.size(), stdout); };
  if (!is_terminal()) {
    print_as_is(text);
    return;
  }
  for (const char c : text) {
    const bool control = (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
    print_as_is(control ? "\uFFFD" : std::string_view(&c, 1));
  }
}

bool is_terminal() { return ::isatty(STDOUT_FILENO) != 0; }

bool colours() { return is_terminal() && std::getenv("NO_COLOR") == nullptr; }

}  // namespace octet::cli
