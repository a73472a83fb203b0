// SPDX-License-Identifier: Apache-2.0
// Renders chat templates for tests/compare_chat_templates.py: a JSON object a line in, {"template": …, "variables": …},
// and one out, {"text": …} or {"error": …}.
#include <iostream>
#include <string>

#include "octet/base/json.h"
#include "octet/text/jinja/interpreter.h"
#include "octet/text/jinja/python_text.h"

int main() {
  using namespace octet::jinja;
  for (std::string line; std::getline(std::cin, line);) {
    const nlohmann::ordered_json input = octet::parse_ordered_json(line, "the test");
    nlohmann::ordered_json output;
    Budget budget{Limits{}};
    try {
      const Block program = parse(valid_utf8(input.at("template").get<std::string>()));
      Variables variables;
      for (const auto& [name, value] : input.at("variables").items()) variables.emplace(name, from_json(budget, value));
      output["text"] = interpret(program, std::move(variables), budget, std::chrono::system_clock::now());
    } catch (const LocatedError& error) {
      output["error"] = error.what();
      output["line"] = error.line;
    } catch (const std::exception& error) {
      output["error"] = error.what();
    }
    std::cout << octet::printable_json(output) << std::endl;
  }
}
