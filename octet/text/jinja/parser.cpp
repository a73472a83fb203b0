// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <initializer_list>

#include <fmt/format.h>

#include "octet/text/jinja/lexer.h"
#include "octet/text/jinja/python_text.h"
#include "octet/text/jinja/syntax.h"
#include "octet/text/json_node.h"

namespace octet::jinja {
namespace {

using EKind = Expression::Kind;
using SKind = Statement::Kind;

// Of an expression's tree, and of blocks and parentheses inside one another. Both are walked by recursion; published
// templates stay below 40.
constexpr int kDeepestTree = 250, kDeepestNest = 100;

std::string describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kData:
      return "text";
    case Token::Kind::kPrintBegin:
      return "'{{'";
    case Token::Kind::kPrintEnd:
      return "the end '}}'";
    case Token::Kind::kStatementBegin:
      return "'{%'";
    case Token::Kind::kStatementEnd:
      return "the end '%}'";
    case Token::Kind::kString:
      return "a string";
    case Token::Kind::kEnd:
      return "the end of the template";
    default:
      return fmt::format("'{}'", shorten(token.text));
  }
}

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Block run() {
    try {
      return parse_block({});
    } catch (const LocatedError&) {
      throw;
    } catch (const OperationError& error) {
      throw LocatedError(current().line, error.what());
    }
  }

 private:
  using Names = std::initializer_list<std::string_view>;

  // ---- tokens
  const Token& current() const { return tokens_[place_]; }
  const Token& ahead() const { return tokens_[std::min(place_ + 1, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[place_ + 1 < tokens_.size() ? place_++ : place_]; }
  [[noreturn]] void error(const std::string& message) const { throw LocatedError(current().line, message); }
  bool skip_operator(std::string_view symbol) {
    if (!current().is_operator(symbol)) return false;
    next();
    return true;
  }
  bool skip_name(std::string_view name) {
    if (!current().is(name)) return false;
    next();
    return true;
  }
  void expect_operator(std::string_view symbol) {
    if (!skip_operator(symbol)) error(fmt::format("'{}' is expected, not {}", symbol, describe(current())));
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) error(fmt::format("'{}' is expected, not {}", name, describe(current())));
  }
  std::string expect_any_name() {
    if (current().kind != Token::Kind::kName) error(fmt::format("a name is expected, not {}", describe(current())));
    return next().text;
  }
  void expect_kind(Token::Kind kind, std::string_view what) {
    if (current().kind != kind) error(fmt::format("'{}' is expected, not {}", what, describe(current())));
    next();
  }
  bool is_any(Names names) const {
    return std::any_of(names.begin(), names.end(), [&](std::string_view name) { return current().is(name); });
  }

  // ---- nodes
  ExpressionPtr make(EKind kind, int line, std::string name = "") const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = line;
    node->name = std::move(name);
    return node;
  }
  void add_operand(Expression& node, ExpressionPtr operand) const {
    if (operand) deepen(node, *operand);
    node.operands.push_back(std::move(operand));
  }
  void deepen(Expression& node, const Expression& below) const {
    node.depth = std::max(node.depth, below.depth + 1);
    if (node.depth > kDeepestTree) error("an expression is too deep");
  }
  template <class... Operands>
  ExpressionPtr make_of(EKind kind, int line, std::string name, Operands... operands) const {
    ExpressionPtr node = make(kind, line, std::move(name));
    (add_operand(*node, std::move(operands)), ...);
    return node;
  }
  ExpressionPtr constant(int line, Value value) const {
    ExpressionPtr node = make(EKind::kConstant, line);
    node->constant = std::move(value);
    return node;
  }
  std::unique_ptr<Statement> make_statement(SKind kind, int line) const {
    auto node = std::make_unique<Statement>();
    node->kind = kind;
    node->line = line;
    return node;
  }

  // ---- statements

  // To the tag of one of `ends`, which is then the current name; without ends to the end of the template.
  Block parse_block(Names ends) {
    const Deeper deeper(nest_, kDeepestNest);
    Block block;
    for (;;) {
      const Token& token = current();
      switch (token.kind) {
        case Token::Kind::kEnd:
          if (ends.size() > 0) error(fmt::format("the template ends before {{% {} %}}", *(ends.end() - 1)));
          return block;
        case Token::Kind::kData:
          block.push_back(make_statement(SKind::kText, token.line));
          block.back()->text = token.text;
          next();
          break;
        case Token::Kind::kPrintBegin:
          block.push_back(make_statement(SKind::kPrint, token.line));
          next();
          block.back()->expression = parse_tuple(true, {});
          expect_kind(Token::Kind::kPrintEnd, "}}");
          break;
        default:
          next();
          if (is_any(ends)) return block;
          block.push_back(parse_statement());
          expect_kind(Token::Kind::kStatementEnd, "%}");
      }
    }
  }

  Block parse_body(Names ends) {
    skip_operator(":");
    expect_kind(Token::Kind::kStatementEnd, "%}");
    return parse_block(ends);
  }
  // The same, and past the one end.
  Block parse_body_past(std::string_view end) {
    Block body = parse_body({end});
    next();
    return body;
  }

  // The same where a loop outside cannot be left from inside.
  Block parse_body_of_its_own(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Block body = parse_body_past(end);
    loops_ = loops;
    return body;
  }

  std::unique_ptr<Statement> parse_statement() {
    if (current().kind != Token::Kind::kName)
      error(fmt::format("the name of a tag is expected, not {}", describe(current())));
    const Token& token = next();
    const int line = token.line;
    const std::string& name = token.text;
    if (name == "set") return parse_set(line);
    if (name == "if") return parse_if(line);
    if (name == "for") return parse_for(line);
    if (name == "macro") return parse_macro(line);
    if (name == "call") return parse_call_block(line);
    if (name == "filter") {
      auto node = make_statement(SKind::kFilterBlock, line);
      node->expression = parse_filters(nullptr, /*inside_tag=*/true);
      node->body = parse_body_of_its_own("endfilter");
      return node;
    }
    if (name == "with") return parse_with(line);
    if (name == "generation") {
      auto node = make_statement(SKind::kGeneration, line);
      node->body = parse_body_of_its_own("endgeneration");
      return node;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) error(fmt::format("'{}' stands outside a loop", name));
      return make_statement(name == "break" ? SKind::kBreak : SKind::kContinue, line);
    }
    for (const std::string_view known : {"block", "extends", "include", "import", "from", "autoescape", "print"}) {
      if (name == known)
        throw LocatedError(line, fmt::format("the tag '{}' is not supported in a chat template", name));
    }
    throw LocatedError(line, fmt::format("unknown tag {}", describe(token)));
  }

  std::unique_ptr<Statement> parse_set(int line) {
    ExpressionPtr target = parse_target(/*namespaces=*/true);
    if (skip_operator("=")) {
      auto node = make_statement(SKind::kSet, line);
      node->target = std::move(target);
      node->expression = parse_tuple(true, {});
      return node;
    }
    auto node = make_statement(SKind::kSetBlock, line);
    node->target = std::move(target);
    if (current().is_operator("|")) node->expression = parse_filters(nullptr, false);
    node->body = parse_body_of_its_own("endset");
    return node;
  }

  std::unique_ptr<Statement> parse_if(int line) {
    auto node = make_statement(SKind::kIf, line);
    for (;;) {
      ExpressionPtr condition = parse_tuple(false, {});
      Block body = parse_body({"elif", "else", "endif"});
      node->branches.push_back({std::move(condition), std::move(body)});
      if (skip_name("elif")) continue;
      if (skip_name("else")) {
        node->otherwise = parse_body_past("endif");
      } else {
        next();
      }
      return node;
    }
  }

  std::unique_ptr<Statement> parse_for(int line) {
    auto node = make_statement(SKind::kFor, line);
    node->target = parse_target(false, {"in"});
    expect_name("in");
    node->expression = parse_tuple(false, {"recursive"});
    if (skip_name("if")) node->condition = parse_expression();
    if (current().is("recursive")) error("a recursive loop is not supported");
    ++loops_;
    node->body = parse_body({"else", "endfor"});
    --loops_;
    if (skip_name("else")) {
      node->otherwise = parse_body_past("endfor");
    } else {
      next();
    }
    return node;
  }

  void parse_signature(Macro& macro) {
    expect_operator("(");
    while (!current().is_operator(")")) {
      if (!macro.parameters.empty()) expect_operator(",");
      macro.parameters.push_back(expect_any_name());
      if (skip_operator("=")) {
        macro.defaults.push_back(parse_expression());
      } else if (!macro.defaults.empty()) {
        error("a parameter without a default follows one with a default");
      }
    }
    expect_operator(")");
  }

  void parse_macro_body(Macro& macro, std::string_view end) {
    // Which special variables the body reads is noted by parse_primary.
    const std::array<bool, 3> outer = std::exchange(specials_, {});
    macro.body = parse_body_of_its_own(end);
    macro.takes_keywords = specials_[0];
    macro.takes_positional = specials_[1];
    macro.takes_caller = specials_[2];
    specials_ = outer;
  }

  std::unique_ptr<Statement> parse_macro(int line) {
    auto node = make_statement(SKind::kMacro, line);
    node->macro = std::make_unique<Macro>();
    node->macro->name = expect_any_name();
    parse_signature(*node->macro);
    parse_macro_body(*node->macro, "endmacro");
    return node;
  }

  std::unique_ptr<Statement> parse_call_block(int line) {
    auto node = make_statement(SKind::kCallBlock, line);
    node->macro = std::make_unique<Macro>();
    node->macro->name = "caller";
    if (current().is_operator("(")) parse_signature(*node->macro);
    node->expression = parse_expression();
    if (node->expression->kind != EKind::kCall)
      throw LocatedError(line, "a call block needs a call: {% call name(…) %}");
    parse_macro_body(*node->macro, "endcall");
    return node;
  }

  std::unique_ptr<Statement> parse_with(int line) {
    auto node = make_statement(SKind::kWith, line);
    while (current().kind != Token::Kind::kStatementEnd) {
      if (!node->assignments.empty()) expect_operator(",");
      ExpressionPtr target = parse_target(false);
      expect_operator("=");
      node->assignments.emplace_back(std::move(target), parse_expression());
    }
    node->body = parse_body_past("endwith");
    return node;
  }

  // ---- expressions

  bool at_tuple_end(Names ends) const {
    return current().kind == Token::Kind::kPrintEnd || current().kind == Token::Kind::kStatementEnd ||
           current().is_operator(")") || is_any(ends);
  }

  template <class Parse>
  ExpressionPtr parse_items(const Parse& parse, Names ends, bool in_parentheses) {
    const int line = current().line;
    std::vector<ExpressionPtr> items;
    bool is_tuple = false;
    for (;;) {
      if (!items.empty()) expect_operator(",");
      if (at_tuple_end(ends)) break;
      items.push_back(parse());
      if (!current().is_operator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items.front());
    if (!is_tuple && !in_parentheses) error(fmt::format("an expression is expected, not {}", describe(current())));
    ExpressionPtr tuple = make(EKind::kTuple, line);
    for (ExpressionPtr& item : items) add_operand(*tuple, std::move(item));
    return tuple;
  }

  ExpressionPtr parse_tuple(bool conditional, Names ends, bool in_parentheses = false) {
    return parse_items([&] { return conditional ? parse_expression() : parse_or(); }, ends, in_parentheses);
  }

  ExpressionPtr parse_target(bool namespaces, Names ends = {}) {
    ExpressionPtr target = parse_items([&] { return parse_primary(namespaces); }, ends, false);
    check_target(*target);
    return target;
  }
  void check_target(const Expression& target) const {
    if (target.kind == EKind::kTuple) {
      for (const ExpressionPtr& item : target.operands) check_target(*item);
      return;
    }
    if (target.kind != EKind::kName && target.kind != EKind::kNamespaceAttribute) {
      throw LocatedError(target.line, "only names, their tuples and attributes of namespaces can be assigned to");
    }
  }

  ExpressionPtr parse_expression() {
    const Deeper deeper(nest_, kDeepestNest);
    const int line = current().line;
    ExpressionPtr value = parse_or();
    while (skip_name("if")) {
      ExpressionPtr condition = parse_or();
      ExpressionPtr otherwise = skip_name("else") ? parse_expression() : nullptr;
      value = make_of(EKind::kConditional, line, "", std::move(condition), std::move(value), std::move(otherwise));
    }
    return value;
  }

  ExpressionPtr parse_or() {
    const int line = current().line;
    ExpressionPtr left = parse_and();
    while (skip_name("or")) left = make_of(EKind::kOr, line, "", std::move(left), parse_and());
    return left;
  }

  ExpressionPtr parse_and() {
    const int line = current().line;
    ExpressionPtr left = parse_not();
    while (skip_name("and")) left = make_of(EKind::kAnd, line, "", std::move(left), parse_not());
    return left;
  }

  ExpressionPtr parse_not() {
    const int line = current().line;
    if (!skip_name("not")) return parse_compare();
    const Deeper deeper(nest_, kDeepestNest);
    return make_of(EKind::kNot, line, "", parse_not());
  }

  // The comparison that begins here, taken off the tokens; "" where there is none.
  std::string_view take_comparison() {
    for (const std::string_view symbol : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (skip_operator(symbol)) return symbol;
    }
    if (skip_name("in")) return "in";
    if (current().is("not") && ahead().is("in")) {
      next();
      next();
      return "not in";
    }
    return "";
  }

  ExpressionPtr parse_compare() {
    const int line = current().line;
    ExpressionPtr first = parse_sum();
    std::string_view comparison = take_comparison();
    if (comparison.empty()) return first;
    ExpressionPtr node = make_of(EKind::kCompare, line, "", std::move(first));
    for (; !comparison.empty(); comparison = take_comparison()) {
      node->operators.push_back(comparison);
      add_operand(*node, parse_sum());
    }
    return node;
  }

  template <class Parse>
  ExpressionPtr parse_arithmetic(Names symbols, const Parse& parse) {
    const int line = current().line;
    ExpressionPtr left = parse();
    for (;;) {
      const auto symbol = std::find_if(symbols.begin(), symbols.end(),
                                       [&](std::string_view one) { return current().is_operator(one); });
      if (symbol == symbols.end()) return left;
      next();
      left = make_of(EKind::kArithmetic, line, std::string(*symbol), std::move(left), parse());
    }
  }

  ExpressionPtr parse_sum() {
    return parse_arithmetic({"+", "-"}, [&] { return parse_concatenation(); });
  }

  ExpressionPtr parse_concatenation() {
    const int line = current().line;
    ExpressionPtr first = parse_product();
    if (!current().is_operator("~")) return first;
    ExpressionPtr node = make_of(EKind::kConcatenate, line, "", std::move(first));
    while (skip_operator("~")) add_operand(*node, parse_product());
    return node;
  }

  ExpressionPtr parse_product() {
    return parse_arithmetic({"*", "/", "//", "%"}, [&] {
      // Jinja's power binds to the left, unlike Python's.
      return parse_arithmetic({"**"}, [&] { return parse_unary(/*filters=*/true); });
    });
  }

  ExpressionPtr parse_unary(bool filters) {
    const Deeper deeper(nest_, kDeepestNest);
    const int line = current().line;
    ExpressionPtr node;
    if (skip_operator("-")) {
      node = make_of(EKind::kNegative, line, "", parse_unary(false));
    } else if (skip_operator("+")) {
      node = make_of(EKind::kPositive, line, "", parse_unary(false));
    } else {
      node = parse_primary(false);
    }
    node = parse_postfix(std::move(node));
    return filters ? parse_filters_and_tests(std::move(node)) : std::move(node);
  }

  ExpressionPtr parse_primary(bool namespaces) {
    const Token& token = current();
    switch (token.kind) {
      case Token::Kind::kName:
        next();
        return parse_name(token, namespaces);
      case Token::Kind::kString: {
        std::string text;
        while (current().kind == Token::Kind::kString) text += next().text;
        return constant(token.line, std::make_shared<const Text>(std::move(text)));
      }
      case Token::Kind::kInteger:
        next();
        return constant(token.line, parse_integer(token.text, 0).value_or(0));
      case Token::Kind::kFloat:
        next();
        return constant(token.line, parse_float(token.text).value_or(0));
      default:
        break;
    }
    if (skip_operator("(")) {
      const Deeper deeper(nest_, kDeepestNest);
      ExpressionPtr node = parse_tuple(true, {}, /*in_parentheses=*/true);
      expect_operator(")");
      return node;
    }
    if (skip_operator("[")) return parse_list(token.line);
    if (skip_operator("{")) return parse_dict(token.line);
    error(fmt::format("an expression is expected, not {}", describe(token)));
  }

  ExpressionPtr parse_name(const Token& token, bool namespaces) {
    const std::string& name = token.text;
    if (name == "true" || name == "True") return constant(token.line, true);
    if (name == "false" || name == "False") return constant(token.line, false);
    if (name == "none" || name == "None") return constant(token.line, {});
    ExpressionPtr node = make(EKind::kName, token.line, name);
    if (name == "kwargs") specials_[0] = true;
    if (name == "varargs") specials_[1] = true;
    if (name == "caller") specials_[2] = true;
    if (namespaces && skip_operator(".")) {
      return make_of(EKind::kNamespaceAttribute, token.line, expect_any_name(), std::move(node));
    }
    return node;
  }

  ExpressionPtr parse_list(int line) {
    ExpressionPtr node = make(EKind::kList, line);
    while (!current().is_operator("]")) {
      if (!node->operands.empty()) expect_operator(",");
      if (current().is_operator("]")) break;
      add_operand(*node, parse_expression());
    }
    expect_operator("]");
    return node;
  }

  ExpressionPtr parse_dict(int line) {
    ExpressionPtr node = make(EKind::kDict, line);
    while (!current().is_operator("}")) {
      if (!node->operands.empty()) expect_operator(",");
      if (current().is_operator("}")) break;
      add_operand(*node, parse_expression());
      expect_operator(":");
      add_operand(*node, parse_expression());
    }
    expect_operator("}");
    return node;
  }

  ExpressionPtr parse_postfix(ExpressionPtr node) {
    for (;;) {
      const int line = current().line;
      if (skip_operator(".")) {
        const Token& token = next();
        if (token.kind == Token::Kind::kName) {
          node = make_of(EKind::kAttribute, line, token.text, std::move(node));
        } else if (token.kind == Token::Kind::kInteger) {
          node = make_of(EKind::kItem, line, "", std::move(node),
                         constant(line, parse_integer(token.text, 0).value_or(0)));
        } else {
          error(fmt::format("a name or a number is expected after '.', not {}", describe(token)));
        }
      } else if (skip_operator("[")) {
        node = parse_subscript(line, std::move(node));
      } else if (current().is_operator("(")) {
        node = parse_call(std::move(node));
      } else {
        return node;
      }
    }
  }

  ExpressionPtr parse_subscript(int line, ExpressionPtr object) {
    const auto absent = [&] { return current().is_operator(":") || current().is_operator("]"); };
    ExpressionPtr start = current().is_operator(":") ? nullptr : parse_expression();
    if (!current().is_operator(":")) {
      if (!current().is_operator(",")) {
        expect_operator("]");
        return make_of(EKind::kItem, line, "", std::move(object), std::move(start));
      }
      ExpressionPtr key = make_of(EKind::kTuple, line, "", std::move(start));
      while (skip_operator(",")) {
        if (current().is_operator("]")) break;
        add_operand(*key, parse_expression());
      }
      expect_operator("]");
      return make_of(EKind::kItem, line, "", std::move(object), std::move(key));
    }
    next();
    ExpressionPtr stop = absent() ? nullptr : parse_expression();
    ExpressionPtr step;
    if (skip_operator(":") && !absent()) step = parse_expression();
    expect_operator("]");
    return make_of(EKind::kSlice, line, "", std::move(object), std::move(start), std::move(stop), std::move(step));
  }

  ExpressionPtr parse_call(ExpressionPtr function) {
    ExpressionPtr node = make_of(EKind::kCall, current().line, "", std::move(function));
    parse_arguments(*node);
    return node;
  }

  void parse_arguments(Expression& node) {
    Arguments& arguments = node.arguments;
    const auto value = [&] {
      ExpressionPtr parsed = parse_expression();
      deepen(node, *parsed);
      return parsed;
    };
    expect_operator("(");
    for (bool first = true; !current().is_operator(")"); first = false) {
      if (!first) {
        expect_operator(",");
        if (current().is_operator(")")) break;
      }
      if (skip_operator("*")) {
        if (arguments.starred || arguments.double_starred) error("a call takes one *list, and it before **");
        arguments.starred = value();
      } else if (skip_operator("**")) {
        if (arguments.double_starred) error("a call takes one **dict");
        arguments.double_starred = value();
      } else if (current().kind == Token::Kind::kName && ahead().is_operator("=")) {
        if (arguments.double_starred) error("**dict is a call's last argument");
        std::string name = next().text;
        next();
        arguments.keywords.emplace_back(std::move(name), value());
      } else {
        if (arguments.starred || arguments.double_starred || !arguments.keywords.empty()) {
          error("an argument without a name follows arguments with names");
        }
        arguments.positional.push_back(value());
      }
    }
    expect_operator(")");
  }

  std::string parse_dotted_name() {
    std::string name = expect_any_name();
    while (skip_operator(".")) name += fmt::format(".{}", expect_any_name());
    return name;
  }

  // `object` | filter | filter …; with `inside_tag` the first filter comes without its bar.
  ExpressionPtr parse_filters(ExpressionPtr object, bool inside_tag) {
    while (inside_tag || skip_operator("|")) {
      inside_tag = false;
      const int line = current().line;
      std::string name = parse_dotted_name();
      ExpressionPtr node = make_of(EKind::kFilter, line, std::move(name), std::move(object));
      if (current().is_operator("(")) parse_arguments(*node);
      object = std::move(node);
    }
    return object;
  }

  ExpressionPtr parse_filters_and_tests(ExpressionPtr node) {
    for (;;) {
      if (current().is_operator("|")) {
        node = parse_filters(std::move(node), false);
      } else if (current().is("is")) {
        node = parse_test(std::move(node));
      } else if (current().is_operator("(")) {
        node = parse_call(std::move(node));
      } else {
        return node;
      }
    }
  }

  ExpressionPtr parse_test(ExpressionPtr object) {
    const int line = next().line;
    const bool negated = skip_name("not");
    ExpressionPtr node = make(EKind::kTest, line, parse_dotted_name());
    add_operand(*node, std::move(object));
    const Token& token = current();
    if (token.is_operator("(")) {
      parse_arguments(*node);
    } else if (token.is("is")) {
      error("tests cannot follow one another: 'is … is'");
    } else if (token.kind == Token::Kind::kString || token.kind == Token::Kind::kInteger ||
               token.kind == Token::Kind::kFloat || token.is_operator("[") || token.is_operator("{") ||
               (token.kind == Token::Kind::kName && !is_any({"else", "or", "and"}))) {
      ExpressionPtr argument = parse_postfix(parse_primary(false));
      deepen(*node, *argument);
      node->arguments.positional.push_back(std::move(argument));
    }
    if (negated) return make_of(EKind::kNot, line, "", std::move(node));
    return node;
  }

  std::vector<Token> tokens_;
  size_t place_ = 0;
  int nest_ = 0, loops_ = 0;
  std::array<bool, 3> specials_ = {};  // kwargs, varargs, caller were read
};

}  // namespace

Block parse(std::string_view source) { return Parser(source).run(); }

}  // namespace octet::jinja
