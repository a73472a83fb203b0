// SPDX-License-Identifier: Apache-2.0
// Values as text: Python's str, repr and json.dumps.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "octet/base/error.h"
#include "octet/text/jinja/operations.h"
#include "octet/text/jinja/python_text.h"
#include "octet/text/unicode.h"

namespace octet::jinja {
namespace {

// A list can hold one value many times over, so what is short to hold may be long to write.
class Writer {
 public:
  explicit Writer(Budget& budget) : budget_(budget) {}

  void write(std::string_view text) {
    budget_.work(text.size());
    budget_.expect(text_.size() + text.size());
    text_ += text;
  }
  std::string take() { return std::move(text_); }
  Budget& budget() { return budget_; }

 private:
  Budget& budget_;
  std::string text_;
};

void write_repr(Writer& to, const Value& value);

void write_items(Writer& to, std::string_view open, const std::vector<Value>& items, std::string_view close) {
  to.write(open);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) to.write(", ");
    write_repr(to, items[i]);
  }
  to.write(close);
}

void write_sequence(Writer& to, const Sequence& sequence) {
  switch (sequence.kind) {
    case Sequence::Kind::kList:
      write_items(to, "[", sequence.items, "]");
      break;
    case Sequence::Kind::kTuple:
      write_items(to, "(", sequence.items, sequence.items.size() == 1 ? ",)" : ")");
      break;
    case Sequence::Kind::kRange: {
      const Range& range = sequence.range;
      to.write(range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                               : fmt::format("range({}, {}, {})", range.start, range.stop, range.step));
      break;
    }
    case Sequence::Kind::kKeys:
      write_items(to, "dict_keys([", sequence.items, "])");
      break;
    case Sequence::Kind::kValues:
      write_items(to, "dict_values([", sequence.items, "])");
      break;
    case Sequence::Kind::kItems:
      write_items(to, "dict_items([", sequence.items, "])");
      break;
    case Sequence::Kind::kIterator:
      throw OperationError("the result of a filter is printed that is no list yet; make it one first: |list");
  }
}

void write_repr(Writer& to, const Value& value) {
  if (const Text* text = value.text()) {
    to.write(text->markup ? "Markup(" + quote(text->bytes) + ")" : quote(text->bytes));
  } else if (const Sequence* sequence = value.sequence()) {
    write_sequence(to, *sequence);
  } else if (const Dict* dict = value.dict()) {
    to.write("{");
    for (size_t i = 0; i < dict->entries().size(); ++i) {
      if (i > 0) to.write(", ");
      write_repr(to, dict->entries()[i].first);
      to.write(": ");
      write_repr(to, dict->entries()[i].second);
    }
    to.write("}");
  } else if (value.is_none()) {
    to.write("None");
  } else if (value.is_undefined()) {
    to.write("Undefined");
  } else if (value.is_bool()) {
    to.write(value.boolean() ? "True" : "False");
  } else if (value.is_float()) {
    to.write(float_repr(value.floating()));
  } else if (value.is_integer()) {
    to.write(fmt::format("{}", *value.integer()));
  } else {
    fail<OperationError>("a value of type '{}' is printed; did you mean to call it?", value.type_name());
  }
}

struct JsonStyle {
  bool ascii = false, sorted = false;
  std::optional<std::string> indent;  // of one level
  std::string between_items, after_key;
};

std::string json_string(std::string_view text, bool ascii) {
  std::string result = "\"";
  for (size_t place = 0; place < text.size();) {
    const char32_t c = unicode::decode_utf8(text, place);
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
    if (const size_t known = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : kEscaped.npos; known != kEscaped.npos) {
      result += '\\';
      result += kLetters[known];
    } else if (c < 0x20 || (ascii && c >= 0x7F && c <= 0xFFFF && c != 0x7F)) {
      result += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else if (ascii && c > 0xFFFF) {
      const uint32_t above = static_cast<uint32_t>(c) - 0x10000;
      result += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (above >> 10), 0xDC00 + (above & 0x3FF));
    } else {
      unicode::append_utf8(result, c);
    }
  }
  return result + '"';
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return float_repr(value);
}

std::string json_key(const Value& key) {
  if (key.text() != nullptr) return key.text()->bytes;
  if (key.is_bool()) return key.boolean() ? "true" : "false";
  if (key.is_none()) return "null";
  if (key.is_float()) return json_float(key.floating());
  if (key.is_integer()) return fmt::format("{}", *key.integer());
  fail<OperationError>("a key of type '{}' has no place in JSON", key.type_name());
}

class JsonWriter {
 public:
  JsonWriter(Writer& to, const JsonStyle& style) : to_(to), style_(style) {}

  void write(const Value& value) {
    if (const Text* text = value.text()) {
      to_.write(json_string(text->bytes, style_.ascii));
    } else if (const Dict* dict = value.dict()) {
      write_dict(*dict);
    } else if (const Sequence* sequence = value.sequence();
               sequence != nullptr &&
               (sequence->kind == Sequence::Kind::kList || sequence->kind == Sequence::Kind::kTuple)) {
      if (sequence->items.empty()) {
        to_.write("[]");
        return;
      }
      begin('[');
      for (size_t i = 0; i < sequence->items.size(); ++i) {
        if (i > 0) next();
        write(sequence->items[i]);
      }
      end(']');
    } else if (value.is_none()) {
      to_.write("null");
    } else if (value.is_bool()) {
      to_.write(value.boolean() ? "true" : "false");
    } else if (value.is_float()) {
      to_.write(json_float(value.floating()));
    } else if (value.is_integer()) {
      to_.write(fmt::format("{}", *value.integer()));
    } else {
      fail<OperationError>("a value of type '{}' has no place in JSON", defined(value).type_name());
    }
  }

 private:
  void write_dict(const Dict& dict) {
    if (dict.entries().empty()) {
      to_.write("{}");
      return;
    }
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sorted) {
      std::stable_sort(entries.begin(), entries.end(), [&](const Dict::Entry* a, const Dict::Entry* b) {
        return compare(to_.budget(), "<", a->first, b->first);
      });
    }
    begin('{');
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) next();
      to_.write(json_string(json_key(entries[i]->first), style_.ascii));
      to_.write(style_.after_key);
      write(entries[i]->second);
    }
    end('}');
  }
  void begin(char bracket) {
    to_.write(std::string_view(&bracket, 1));
    ++level_;
    new_line();
  }
  void next() {
    to_.write(style_.between_items);
    new_line();
  }
  void end(char bracket) {
    --level_;
    new_line();
    to_.write(std::string_view(&bracket, 1));
  }
  void new_line() {
    if (!style_.indent) return;
    to_.write("\n");
    for (int i = 0; i < level_; ++i) to_.write(*style_.indent);
  }

  Writer& to_;
  const JsonStyle& style_;
  int level_ = 0;
};

}  // namespace

std::string to_repr(Budget& budget, const Value& value) {
  Writer writer(budget);
  write_repr(writer, value);
  return writer.take();
}

std::string to_str(Budget& budget, const Value& value) {
  if (value.is_undefined()) return "";
  if (const Text* text = value.text()) {
    budget.work(text->bytes.size());
    return text->bytes;
  }
  return to_repr(budget, value);
}

std::string to_json(Budget& budget, const Value& value, const CallArguments& arguments) {
  const auto bound = bind("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound[0] && bound[0]->truth();
  if (bound[1] && !bound[1]->is_none()) {
    if (const Text* text = bound[1]->text()) {
      style.indent = text->bytes;
    } else {
      const int64_t width = integer_argument("tojson", *bound[1]);
      budget.expect(static_cast<size_t>(std::max<int64_t>(width, 0)));
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  style.between_items = style.indent ? "," : ", ";
  style.after_key = ": ";
  if (bound[2] && !bound[2]->is_none()) {
    const std::vector<Value> separators = iterate(budget, *bound[2]);
    if (separators.size() != 2) throw OperationError("'tojson' needs two separators");
    style.between_items = text_argument("tojson", separators[0]);
    style.after_key = text_argument("tojson", separators[1]);
  }
  style.sorted = bound[3] && bound[3]->truth();
  Writer writer(budget);
  JsonWriter(writer, style).write(value);
  return writer.take();
}

}  // namespace octet::jinja
