// SPDX-License-Identifier: Apache-2.0
#include "octet/text/jinja/functions.h"

#include <ctime>

#include "octet/base/error.h"
#include "octet/text/jinja/interpreter.h"
#include "octet/text/jinja/operations.h"
#include "octet/text/jinja/python_text.h"

namespace octet::jinja {

Value Functions::find(std::string_view name) {
  for (const std::string_view known : {"range", "dict", "namespace", "raise_exception", "strftime_now"}) {
    if (name != known) continue;
    return std::make_shared<const Callable>(Callable{.kind = Callable::Kind::kFunction, .name = std::string(name)});
  }
  for (const std::string_view other : {"lipsum", "cycler", "joiner"}) {
    if (name == other) fail<OperationError>("the function '{}' is not supported in a chat template", name);
  }
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Value Functions::call(std::string_view name, const CallArguments& arguments) {
  if (name == "range") return range(arguments);
  if (name == "dict") return std::shared_ptr<const Dict>(dict(arguments));
  if (name == "namespace") return name_space(arguments);
  if (name == "strftime_now") return strftime_now(arguments);
  throw RaisedError(to_str(budget_, *bind(name, arguments, {"message"}, 1)[0]));
}

Value Functions::range(const CallArguments& arguments) {
  const auto bound = bind("range", arguments, {"start", "stop", "step"}, 1);
  if (!arguments.keywords.empty()) throw OperationError("'range' takes its arguments without names");
  Range range;
  (bound[1] ? range.start : range.stop) = integer_argument("range", *bound[0]);
  if (bound[1]) range.stop = integer_argument("range", *bound[1]);
  if (bound[2]) range.step = integer_argument("range", *bound[2]);
  if (range.step == 0) throw OperationError("the step of a range is zero");
  // As jinja2's sandbox has it.
  constexpr size_t kMost = 100'000;
  std::vector<Value> items;
  for (int64_t i = range.start; range.step > 0 ? i < range.stop : i > range.stop;) {
    if (items.size() == kMost) fail<OperationError>("a range has more than {} items", kMost);
    budget_.step();
    items.emplace_back(i);
    if (__builtin_add_overflow(i, range.step, &i)) break;
  }
  return std::make_shared<const Sequence>(budget_, Sequence::Kind::kRange, std::move(items), range);
}

std::shared_ptr<Dict> Functions::dict(const CallArguments& arguments) {
  auto dict = std::make_shared<Dict>(budget_);
  if (arguments.positional.size() > 1) throw OperationError("'dict' takes one argument without a name");
  for (const Value& from : arguments.positional) {
    if (const Dict* mapping = defined(from).dict()) {
      for (const auto& [key, value] : mapping->entries()) dict->set(key, value);
      continue;
    }
    for (const Value& pair : iterate(budget_, from)) {
      const std::vector<Value> parts = iterate(budget_, pair);
      if (parts.size() != 2) throw OperationError("'dict' of a list needs pairs");
      dict->set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : arguments.keywords) dict->set(make_text(budget_, name), value);
  return dict;
}

Value Functions::name_space(const CallArguments& arguments) {
  const std::shared_ptr<Dict> attributes = dict(arguments);
  budget_.hold(sizeof(Namespace) + 64);
  namespaces_.push_back(std::make_unique<Namespace>());
  Namespace& space = *namespaces_.back();
  for (const auto& [key, value] : attributes->entries()) set(space, text_argument("namespace", key), value);
  return &space;
}

void Functions::set(Namespace& space, std::string_view name, const Value& value) {
  if (name.starts_with('_'))
    fail<OperationError>("an attribute of a namespace is called '{}'; transformers forbids the underscore", name);
  const auto found = space.attributes.find(name);
  if (found != space.attributes.end()) {
    found->second = value;
    return;
  }
  budget_.hold(128 + name.size());  // a node of the map
  space.attributes.emplace(name, value);
}

Value Functions::strftime_now(const CallArguments& arguments) {
  const std::string& asked = text_argument("strftime_now", *bind("strftime_now", arguments, {"format"}, 1)[0]);
  // Each directive makes at most some dozens of characters.
  constexpr size_t kLongest = 1000;
  if (asked.size() > kLongest) fail<OperationError>("'strftime_now' has a format longer than {} bytes", kLongest);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now_);
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now_ - seconds).count();
  // What Python's datetime gives of itself: a time without a zone, and the microseconds that C does not have.
  std::string format;
  for (size_t i = 0; i < asked.size(); ++i) {
    if (asked[i] != '%' || i + 1 == asked.size()) {
      format += asked[i] == '%' ? "%%" : std::string(1, asked[i]);
      continue;
    }
    const char directive = asked[++i];
    if (directive == 'f') {
      format += fmt::format("{:06}", microseconds);
    } else if (directive != 'z' && directive != 'Z') {
      format += {'%', directive};
    }
  }
  const std::time_t time = std::chrono::system_clock::to_time_t(seconds);
  std::tm local{};
  localtime_r(&time, &local);
  std::string text(64 * (kLongest + 1), '\0');
  // A byte in front tells an empty result from one that does not fit.
  text.resize(std::strftime(text.data(), text.size(), ("." + format).c_str(), &local));
  return make_text(budget_, valid_utf8(text.empty() ? text : text.substr(1)));
}

}  // namespace octet::jinja
