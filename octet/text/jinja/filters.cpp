// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <unordered_map>
#include <unordered_set>

#include "octet/base/error.h"
#include "octet/text/jinja/operations.h"
#include "octet/text/jinja/python_text.h"

namespace octet::jinja {
namespace {

struct FilterCall {
  Budget& budget;
  std::string_view name;
  const Value& value;
  const CallArguments& arguments;

  std::vector<std::optional<Value>> bound(std::initializer_list<std::string_view> names, size_t required = 0) const {
    return bind(name, arguments, names, required);
  }
  std::vector<Value> items() const { return iterate(budget, value); }
  // markupsafe's soft_str: markup stays markup.
  std::string text() const { return to_str(budget, value); }
  bool markup() const { return value.text() != nullptr && value.text()->markup; }
  Value soft(std::string result) const { return make_text(budget, std::move(result), markup()); }
};

bool truth_or(const std::optional<Value>& value, bool otherwise) { return value ? value->truth() : otherwise; }

// ---- what sorts, chooses and maps by an attribute: "name", "address.city", 0

class AttributePath {
 public:
  AttributePath(Budget& budget, const std::optional<Value>& attribute) : budget_(budget) {
    if (!attribute || attribute->is_none()) return;
    if (attribute->text() == nullptr) {
      parts_.push_back(*attribute);
      return;
    }
    for (const std::string_view part : split(attribute->text()->bytes, ".", -1, Side::kLeft)) {
      const bool number = is_all(part, CharacterClass::kDigit);
      const auto index = number ? parse_integer(part, 10) : std::nullopt;
      parts_.push_back(index ? Value(*index) : make_text(budget, std::string(part)));
    }
  }

  Value of(Value item, const std::optional<Value>& otherwise = std::nullopt) const {
    for (const Value& part : parts_) {
      item = get_item(budget_, item, part);
      if (otherwise && item.is_undefined()) item = *otherwise;
    }
    return item;
  }

 private:
  Budget& budget_;
  std::vector<Value> parts_;
};

// A key that ignores case unless told otherwise.
Value folded(Budget& budget, const Value& value, bool case_sensitive) {
  if (case_sensitive || value.text() == nullptr) return value;
  budget.work(value.text()->bytes.size());
  return make_text(budget, lower(value.text()->bytes));
}

using Keyed = std::pair<Value, Value>;  // key, item

std::vector<Value> sorted(Budget& budget, std::vector<Keyed> keyed, bool reverse) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? compare(budget, "<", b.first, a.first) : compare(budget, "<", a.first, b.first);
  });
  std::vector<Value> items;
  for (Keyed& one : keyed) items.push_back(std::move(one.second));
  return items;
}

Value sort(const FilterCall& call) {
  const auto bound = call.bound({"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = truth_or(bound[1], false);
  std::vector<AttributePath> paths;
  if (bound[2] && bound[2]->text() != nullptr) {
    for (const std::string_view part : split(bound[2]->text()->bytes, ",", -1, Side::kLeft))
      paths.emplace_back(call.budget, make_text(call.budget, std::string(part)));
  } else {
    paths.emplace_back(call.budget, bound[2]);
  }
  std::vector<Keyed> keyed;
  for (const Value& item : call.items()) {
    std::vector<Value> key;
    for (const AttributePath& path : paths) key.push_back(folded(call.budget, path.of(item), case_sensitive));
    keyed.emplace_back(make_list(call.budget, std::move(key)), item);
  }
  return make_list(call.budget, sorted(call.budget, std::move(keyed), truth_or(bound[0], false)));
}

Value dict_sort(const FilterCall& call) {
  const auto bound = call.bound({"case_sensitive", "by", "reverse"});
  const std::string by = bound[1] ? text_argument(call.name, *bound[1]) : "key";
  if (by != "key" && by != "value") throw OperationError("'dictsort' sorts by 'key' or by 'value'");
  const Dict* dict = defined(call.value).dict();
  if (dict == nullptr) throw OperationError("'dictsort' needs a dict");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : dict->entries()) {
    call.budget.step();
    keyed.emplace_back(folded(call.budget, by == "key" ? key : value, truth_or(bound[0], false)),
                       make_tuple(call.budget, {key, value}));
  }
  return make_list(call.budget, sorted(call.budget, std::move(keyed), truth_or(bound[2], false)));
}

Value unique(const FilterCall& call) {
  const auto bound = call.bound({"case_sensitive", "attribute"});
  const AttributePath path(call.budget, bound[1]);
  std::unordered_set<std::string> seen;
  std::vector<Value> items;
  for (const Value& item : call.items()) {
    const Value key = folded(call.budget, path.of(item), truth_or(bound[0], false));
    if (seen.insert(hash_key(call.budget, key)).second) items.push_back(item);
  }
  return make_iterator(call.budget, std::move(items));
}

Value extreme(const FilterCall& call, std::string_view symbol) {
  const auto bound = call.bound({"case_sensitive", "attribute"});
  const AttributePath path(call.budget, bound[1]);
  std::optional<Keyed> best;
  for (const Value& item : call.items()) {
    Value key = folded(call.budget, path.of(item), truth_or(bound[0], false));
    if (!best || compare(call.budget, symbol, key, best->first)) best.emplace(std::move(key), item);
  }
  return best ? best->second : Value::undefined("No aggregated item, sequence was empty.");
}

Value sum(const FilterCall& call) {
  const auto bound = call.bound({"attribute", "start"});
  const AttributePath path(call.budget, bound[0]);
  Value total = bound[1].value_or(int64_t{0});
  if (total.text() != nullptr) throw OperationError("'sum' does not add strings; use 'join'");
  for (const Value& item : call.items()) total = arithmetic(call.budget, "+", total, path.of(item));
  return total;
}

// The arguments behind the first `count` positional ones.
CallArguments without_first(const CallArguments& arguments, size_t count) {
  CallArguments rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

Value map(const FilterCall& call) {
  std::vector<Value> results;
  if (!call.value.truth()) return make_iterator(call.budget, {});
  const auto has_attribute = [&] {
    return std::any_of(call.arguments.keywords.begin(), call.arguments.keywords.end(),
                       [](const auto& keyword) { return keyword.first == "attribute"; });
  };
  if (call.arguments.positional.empty() && has_attribute()) {
    const auto bound = call.bound({"attribute", "default"});
    const AttributePath path(call.budget, bound[0]);
    const auto otherwise = bound[1] && !bound[1]->is_none() ? bound[1] : std::nullopt;
    for (const Value& item : call.items()) results.push_back(path.of(item, otherwise));
    return make_iterator(call.budget, std::move(results));
  }
  if (call.arguments.positional.empty()) throw OperationError("'map' needs the name of a filter or an attribute");
  const std::string& filter = text_argument(call.name, call.arguments.positional[0]);
  const CallArguments rest = without_first(call.arguments, 1);
  for (const Value& item : call.items()) results.push_back(apply_filter(call.budget, filter, item, rest));
  return make_iterator(call.budget, std::move(results));
}

Value choose(const FilterCall& call, bool by_attribute, bool wanted) {
  if (!call.value.truth()) return make_iterator(call.budget, {});
  const size_t first = by_attribute ? 1 : 0;
  const std::vector<Value>& given = call.arguments.positional;
  if (given.size() < first) fail<OperationError>("'{}' needs the name of an attribute", call.name);
  const AttributePath path(call.budget, by_attribute ? std::optional(given[0]) : std::nullopt);
  const bool has_test = given.size() > first;
  const CallArguments rest = has_test ? without_first(call.arguments, first + 1) : CallArguments();
  std::vector<Value> chosen;
  for (const Value& item : call.items()) {
    const Value value = path.of(item);
    const bool holds =
        has_test ? apply_test(call.budget, text_argument(call.name, given[first]), value, rest) : value.truth();
    if (holds == wanted) chosen.push_back(item);
  }
  return make_iterator(call.budget, std::move(chosen));
}

// ---- lists

Value first(const FilterCall& call) {
  call.bound({});
  const std::vector<Value> items = call.items();
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(const FilterCall& call) {
  call.bound({});
  if (call.value.sequence() != nullptr && call.value.sequence()->kind == Sequence::Kind::kIterator) {
    throw OperationError("'last' needs a list; make it one first: |list");
  }
  const std::vector<Value> items = call.items();
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(const FilterCall& call) {
  call.bound({});
  if (call.value.text() != nullptr) {
    std::u32string characters = to_code_points(call.value.text()->bytes);
    std::reverse(characters.begin(), characters.end());
    return call.soft(to_utf8(characters));
  }
  std::vector<Value> items = call.items();
  std::reverse(items.begin(), items.end());
  return make_iterator(call.budget, std::move(items));
}

Value batch(const FilterCall& call) {
  const auto bound = call.bound({"linecount", "fill_with"}, 1);
  const int64_t size = integer_argument(call.name, *bound[0]);
  std::vector<Value> batches, current;
  for (const Value& item : call.items()) {
    if (std::cmp_equal(current.size(), size)) batches.push_back(make_list(call.budget, std::exchange(current, {})));
    current.push_back(item);
  }
  if (!current.empty()) {
    if (bound[1] && !bound[1]->is_none()) {
      for (auto i = static_cast<int64_t>(current.size()); i < size; ++i) {
        call.budget.step();
        current.push_back(*bound[1]);
      }
    }
    batches.push_back(make_list(call.budget, std::move(current)));
  }
  return make_iterator(call.budget, std::move(batches));
}

Value slice(const FilterCall& call) {
  const auto bound = call.bound({"slices", "fill_with"}, 1);
  const int64_t count = integer_argument(call.name, *bound[0]);
  const std::vector<Value> items = call.items();
  if (count == 0) throw OperationError("'slice' into no parts");
  std::vector<Value> slices;
  const auto size = static_cast<int64_t>(items.size());
  auto begin = items.begin();
  for (int64_t i = 0; i < count; ++i) {
    call.budget.step();
    const bool extra = i < size % count;
    const auto end = begin + size / count + (extra ? 1 : 0);
    std::vector<Value> part(begin, end);
    begin = end;
    if (bound[1] && !bound[1]->is_none() && !extra) part.push_back(*bound[1]);
    slices.push_back(make_list(call.budget, std::move(part)));
  }
  return make_iterator(call.budget, std::move(slices));
}

Value join(const FilterCall& call) {
  const auto bound = call.bound({"d", "attribute"});
  const std::string between = bound[0] ? to_str(call.budget, *bound[0]) : "";
  const AttributePath path(call.budget, bound[1]);
  std::string result;
  bool is_first = true;
  for (const Value& item : call.items()) {
    const std::string part = to_str(call.budget, path.of(item));
    call.budget.expect(result.size() + between.size() + part.size());
    call.budget.work(between.size());
    if (!std::exchange(is_first, false)) result += between;
    result += part;
  }
  return make_text(call.budget, std::move(result));
}

Value items_of(const FilterCall& call) {
  call.bound({});
  if (call.value.is_undefined()) return make_iterator(call.budget, {});
  if (call.value.dict() == nullptr) throw OperationError("'items' needs a dict");
  return make_iterator(call.budget, iterate(call.budget, call_method(call.budget, call.value, "items", {})));
}

// ---- numbers

Value to_integer(const FilterCall& call) {
  const auto bound = call.bound({"default", "base"});
  Value otherwise = bound[0].value_or(int64_t{0});
  defined(call.value);
  std::optional<double> number = call.value.number();
  if (const Text* text = call.value.text()) {
    if (const auto whole = parse_integer(text->bytes, bound[1] ? integer_argument(call.name, *bound[1]) : 10))
      return *whole;
    number = parse_float(text->bytes);
  } else if (const auto whole = call.value.integer()) {
    return *whole;
  } else if (number && std::isinf(*number)) {
    throw OperationError("'int' of an infinite number");
  }
  if (!number || !std::isfinite(*number)) return otherwise;
  const double whole = std::trunc(*number);
  if (!(std::fabs(whole) < 0x1p63)) return make_integer(std::nullopt);
  return static_cast<int64_t>(whole);
}

Value to_float(const FilterCall& call) {
  const auto bound = call.bound({"default"});
  const Text* text = defined(call.value).text();
  const auto number = text != nullptr ? parse_float(text->bytes) : call.value.number();
  return number ? Value(*number) : bound[0].value_or(0.0);
}

// Half to even, of the exact decimal value: what printf does.
double round_to(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 323) return value;
  if (digits >= 0) return std::strtod(fmt::format("{:.{}f}", value, static_cast<int>(digits)).c_str(), nullptr);
  if (digits < -308) return std::copysign(0.0, value);
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / unit) * unit;
}

Value round(const FilterCall& call) {
  const auto bound = call.bound({"precision", "method"});
  const int64_t digits = bound[0] ? integer_argument(call.name, *bound[0]) : 0;
  const std::string method = bound[1] ? text_argument(call.name, *bound[1]) : "common";
  if (method != "common" && method != "ceil" && method != "floor") {
    throw OperationError("'round' has the methods 'common', 'ceil' and 'floor'");
  }
  const auto whole = defined(call.value).integer();
  const auto number = call.value.number();
  if (!number)
    fail<OperationError>("'round' needs a number where a value of type '{}' is given", call.value.type_name());
  if (method == "common") {
    if (!whole) return round_to(*number, digits);
    if (digits >= 0) return *whole;
    if (digits < -18) return int64_t{0};
    int64_t unit = 1;
    for (int64_t i = digits; i < 0; ++i) unit *= 10;
    int64_t rest = *whole % unit;
    if (rest < 0) rest += unit;
    const int64_t below = *whole - rest;
    const bool up = rest > unit / 2 || (rest == unit / 2 && (below / unit) % 2 != 0);
    return arithmetic(call.budget, "+", below, up ? unit : int64_t{0});
  }
  const Value scale = arithmetic(call.budget, "**", int64_t{10}, digits);
  const double scaled = *arithmetic(call.budget, "*", call.value, scale).number();
  if (!std::isfinite(scaled)) throw OperationError("'round' of a number that is not finite");
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / *scale.number();
}

Value absolute(const FilterCall& call) {
  call.bound({});
  if (!defined(call.value).number())
    fail<OperationError>("'abs' needs a number where a value of type '{}' is given", call.value.type_name());
  return *call.value.number() < 0 ? negative(call.value) : arithmetic(call.budget, "+", call.value, int64_t{0});
}

// ---- strings

template <std::string (*Change)(std::string_view)>
Value changed(const FilterCall& call) {
  call.bound({});
  const std::string text = call.text();
  call.budget.work(text.size());
  return call.soft(Change(text));
}

// Jinja's own, which begins words behind fewer characters than Python's.
std::string title_words(std::string_view text) {
  const std::u32string codes = to_code_points(text);
  const auto divides = [](char32_t c) {
    return is_space(c) || std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos;
  };
  std::string result;
  for (size_t place = 0; place < codes.size();) {
    size_t end = place + 1;
    if (divides(codes[place])) {
      result += to_utf8(codes.substr(place, 1));
    } else {
      while (end < codes.size() && !divides(codes[end])) ++end;
      result += upper(to_utf8(codes.substr(place, 1))) + lower(to_utf8(codes.substr(place + 1, end - place - 1)));
    }
    place = end;
  }
  return result;
}

Value trim(const FilterCall& call) {
  const auto bound = call.bound({"chars"});
  const std::string text = call.text();
  if (!bound[0] || bound[0]->is_none()) return call.soft(std::string(strip(text, Side::kBoth)));
  return call.soft(std::string(strip(text, Side::kBoth, text_argument(call.name, *bound[0]))));
}

Value replace_filter(const FilterCall& call) {
  const auto bound = call.bound({"old", "new", "count"}, 2);
  const std::string text = call.text(), old = to_str(call.budget, *bound[0]), with = to_str(call.budget, *bound[1]);
  const int64_t most = bound[2] && !bound[2]->is_none() ? integer_argument(call.name, *bound[2]) : -1;
  const size_t size = replaced_size(text, old, with, most);
  call.budget.expect(size);
  call.budget.work(size);
  return make_text(call.budget, replace(text, old, with, most));
}

Value indent(const FilterCall& call) {
  const auto bound = call.bound({"width", "first", "blank"});
  std::string indentation;
  if (bound[0] && bound[0]->text() != nullptr) {
    indentation = bound[0]->text()->bytes;
  } else {
    const int64_t width = std::max<int64_t>(bound[0] ? integer_argument(call.name, *bound[0]) : 4, 0);
    call.budget.expect(static_cast<size_t>(width));
    indentation = std::string(static_cast<size_t>(width), ' ');
  }
  const bool blank = truth_or(bound[2], false);
  const std::string text = text_argument(call.name, call.value) + "\n";
  std::string result = truth_or(bound[1], false) ? indentation : "";
  bool is_first = true;
  for (const std::string_view line : split_lines(text, false)) {
    call.budget.expect(result.size() + indentation.size() + line.size());
    call.budget.work(indentation.size() + line.size());
    if (!is_first) {
      result += '\n';
      if (blank || !line.empty()) result += indentation;
    }
    result += line;
    is_first = false;
  }
  return call.soft(std::move(result));
}

Value escape(const FilterCall& call, bool again) {
  call.bound({});
  const std::string text = call.text();
  call.budget.work(text.size());
  return make_text(call.budget, call.markup() && !again ? text : escape_markup(text), true);
}

Value truncate(const FilterCall& call) {
  const auto bound = call.bound({"length", "killwords", "end", "leeway"});
  const int64_t size = bound[0] ? integer_argument(call.name, *bound[0]) : 255;
  const std::string end = bound[2] ? text_argument(call.name, *bound[2]) : "...";
  const int64_t leeway = bound[3] && !bound[3]->is_none() ? integer_argument(call.name, *bound[3]) : 5;
  const auto end_size = static_cast<int64_t>(count_characters(end));
  if (size < end_size || leeway < 0) throw OperationError("'truncate' needs a length that holds its end");
  const std::u32string text = to_code_points(text_argument(call.name, call.value));
  if (std::cmp_less_equal(text.size(), size + leeway)) return call.value;
  std::string kept = to_utf8(text.substr(0, static_cast<size_t>(size - end_size)));
  if (!truth_or(bound[1], false)) kept = kept.substr(0, kept.rfind(' '));
  return call.soft(kept + end);
}

Value word_count(const FilterCall& call) {
  call.bound({});
  int64_t count = 0;
  bool inside = false;
  for (const char32_t c : to_code_points(call.text())) {
    std::string one = to_utf8(std::u32string_view(&c, 1));
    const bool word = c == '_' || is_all(one, CharacterClass::kAlphanumeric);
    count += word && !inside ? 1 : 0;
    inside = word;
  }
  return count;
}

using Filter = Value (*)(const FilterCall&);
const std::unordered_map<std::string_view, Filter>& filters() {
  const Filter otherwise = [](const FilterCall& call) {
    const auto bound = call.bound({"default_value", "boolean"});
    const bool missing = call.value.is_undefined() || (truth_or(bound[1], false) && !call.value.truth());
    if (!missing) return call.value;
    return bound[0] ? *bound[0] : make_text(call.budget, "");
  };
  const Filter size = [](const FilterCall& call) -> Value {
    call.bound({});
    return length(call.budget, call.value);
  };
  const Filter escaped = [](const FilterCall& call) { return escape(call, false); };
  static const std::unordered_map<std::string_view, Filter> all = {
      {"abs", absolute},
      {"attr",
       [](const FilterCall& call) {
         return own_attribute(call.budget, call.value, text_argument(call.name, *call.bound({"name"}, 1)[0]));
       }},
      {"batch", batch},
      {"capitalize", changed<capitalize>},
      {"center",
       [](const FilterCall& call) {
         const Value width = call.bound({"width"})[0].value_or(int64_t{80});
         return call_method(call.budget, call.soft(call.text()), "center", {.positional = {width}, .keywords = {}});
       }},
      {"count", size},
      {"d", otherwise},
      {"default", otherwise},
      {"dictsort", dict_sort},
      {"e", escaped},
      {"escape", escaped},
      {"first", first},
      {"float", to_float},
      {"forceescape", [](const FilterCall& call) { return escape(call, true); }},
      {"format",
       [](const FilterCall& call) {
         if (!call.arguments.keywords.empty()) throw OperationError("'format' with names is not supported");
         return call.soft(format_percent(call.budget, call.text(), make_tuple(call.budget, call.arguments.positional)));
       }},
      {"indent", indent},
      {"int", to_integer},
      {"items", items_of},
      {"join", join},
      {"last", last},
      {"length", size},
      {"list",
       [](const FilterCall& call) {
         call.bound({});
         return make_list(call.budget, call.items());
       }},
      {"lower", changed<lower>},
      {"map", map},
      {"max", [](const FilterCall& call) { return extreme(call, ">"); }},
      {"min", [](const FilterCall& call) { return extreme(call, "<"); }},
      {"reject", [](const FilterCall& call) { return choose(call, false, false); }},
      {"rejectattr", [](const FilterCall& call) { return choose(call, true, false); }},
      {"replace", replace_filter},
      {"reverse", reverse},
      {"round", round},
      {"safe",
       [](const FilterCall& call) {
         call.bound({});
         return make_text(call.budget, call.text(), true);
       }},
      {"select", [](const FilterCall& call) { return choose(call, false, true); }},
      {"selectattr", [](const FilterCall& call) { return choose(call, true, true); }},
      {"slice", slice},
      {"sort", sort},
      {"string",
       [](const FilterCall& call) {
         call.bound({});
         return call.soft(call.text());
       }},
      {"sum", sum},
      {"title", changed<title_words>},
      {"tojson",
       [](const FilterCall& call) { return make_text(call.budget, to_json(call.budget, call.value, call.arguments)); }},
      {"trim", trim},
      {"truncate", truncate},
      {"unique", unique},
      {"upper", changed<upper>},
      {"wordcount", word_count},
  };
  return all;
}

}  // namespace

Value apply_filter(Budget& budget, std::string_view name, const Value& object, const CallArguments& arguments) {
  budget.step();
  // 'map' applies filters that may be 'map' again.
  const Deeper deeper = budget.deeper();
  const auto found = filters().find(name);
  if (found == filters().end()) fail<OperationError>("the filter '{}' is not supported", name);
  return found->second({budget, name, object, arguments});
}

}  // namespace octet::jinja
