// SPDX-License-Identifier: Apache-2.0
// What can be asked after `is`.
#include <functional>
#include <unordered_map>

#include "octet/base/error.h"
#include "octet/text/jinja/operations.h"
#include "octet/text/jinja/python_text.h"

namespace octet::jinja {
namespace {

struct Question {
  Budget& budget;
  const Value& value;
  const std::vector<Value>& arguments;
};

bool remainder_is(const Question& of, const Value& divisor, int64_t wanted) {
  return equal(of.budget, arithmetic(of.budget, "%", of.value, divisor), wanted);
}

bool is_sequence(const Value& value) {
  return value.is_undefined() || value.text() != nullptr || value.dict() != nullptr ||
         (value.sequence() != nullptr && value.sequence()->indexed());
}

struct Predicate {
  size_t arguments;
  std::function<bool(const Question&)> holds;
};

Predicate comparison(std::string_view symbol) {
  return {1, [symbol](const Question& of) { return compare(of.budget, symbol, of.value, of.arguments[0]); }};
}

const std::unordered_map<std::string_view, Predicate>& predicates() {
  static const std::unordered_map<std::string_view, Predicate> all = {
      {"defined", {0, [](const Question& of) { return !of.value.is_undefined(); }}},
      {"undefined", {0, [](const Question& of) { return of.value.is_undefined(); }}},
      {"none", {0, [](const Question& of) { return of.value.is_none(); }}},
      {"boolean", {0, [](const Question& of) { return of.value.is_bool(); }}},
      {"true", {0, [](const Question& of) { return of.value.is_bool() && of.value.boolean(); }}},
      {"false", {0, [](const Question& of) { return of.value.is_bool() && !of.value.boolean(); }}},
      {"integer", {0, [](const Question& of) { return of.value.is_integer(); }}},
      {"float", {0, [](const Question& of) { return of.value.is_float(); }}},
      {"number", {0, [](const Question& of) { return of.value.is_number(); }}},
      {"string", {0, [](const Question& of) { return of.value.text() != nullptr; }}},
      {"mapping", {0, [](const Question& of) { return of.value.dict() != nullptr; }}},
      {"iterable", {0, [](const Question& of) { return is_iterable(of.value); }}},
      {"sequence", {0, [](const Question& of) { return is_sequence(of.value); }}},
      {"callable", {0, [](const Question& of) { return of.value.callable() != nullptr || of.value.is_undefined(); }}},
      {"escaped", {0, [](const Question& of) { return of.value.text() != nullptr && of.value.text()->markup; }}},
      {"lower", {0, [](const Question& of) { return is_all(to_str(of.budget, of.value), CharacterClass::kLower); }}},
      {"upper", {0, [](const Question& of) { return is_all(to_str(of.budget, of.value), CharacterClass::kUpper); }}},
      {"odd", {0, [](const Question& of) { return remainder_is(of, int64_t{2}, 1); }}},
      {"even", {0, [](const Question& of) { return remainder_is(of, int64_t{2}, 0); }}},
      {"divisibleby", {1, [](const Question& of) { return remainder_is(of, of.arguments[0], 0); }}},
      {"sameas", {1, [](const Question& of) { return of.value.same_as(of.arguments[0]); }}},
      {"in", {1, [](const Question& of) { return contains(of.budget, of.arguments[0], of.value); }}},
      {"==", comparison("==")},
      {"eq", comparison("==")},
      {"equalto", comparison("==")},
      {"!=", comparison("!=")},
      {"ne", comparison("!=")},
      {">", comparison(">")},
      {"gt", comparison(">")},
      {"greaterthan", comparison(">")},
      {">=", comparison(">=")},
      {"ge", comparison(">=")},
      {"<", comparison("<")},
      {"lt", comparison("<")},
      {"lessthan", comparison("<")},
      {"<=", comparison("<=")},
      {"le", comparison("<=")},
  };
  return all;
}

}  // namespace

bool apply_test(Budget& budget, std::string_view name, const Value& object, const CallArguments& arguments) {
  budget.step();
  const auto found = predicates().find(name);
  if (found == predicates().end()) fail<OperationError>("the test 'is {}' is not supported", name);
  const Predicate& predicate = found->second;
  if (!arguments.keywords.empty() || arguments.positional.size() != predicate.arguments) {
    fail<OperationError>("the test 'is {}' takes {} arguments without names", name, predicate.arguments);
  }
  return predicate.holds({budget, object, arguments.positional});
}

}  // namespace octet::jinja
