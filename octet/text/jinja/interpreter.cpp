// SPDX-License-Identifier: Apache-2.0
#include "octet/text/jinja/interpreter.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "octet/base/error.h"
#include "octet/text/jinja/functions.h"
#include "octet/text/jinja/operations.h"
#include "octet/text/jinja/python_text.h"

namespace octet::jinja {

/// Variables of a block that has its own. The names are those of the tree, or of the caller's variables.
struct Scope {
  Scope* parent = nullptr;
  std::map<std::string_view, Value> variables = {};
  bool captured = false;  ///< a macro was defined in it or below
};

namespace {

enum class Flow { kNext, kBreak, kContinue };

class Interpreter {
 public:
  Interpreter(Budget& budget, Variables variables, std::chrono::system_clock::time_point now)
      : budget_(budget), given_(std::move(variables)), functions_(budget, now) {
    for (const auto& [name, value] : given_) root_.variables.emplace(name, value);
  }

  std::string run(const Block& program) {
    in_scope([&] { execute(program); });
    return std::move(root_output_);
  }

 private:
  // ---- scopes and output

  template <class Body>
  void in_scope(const Body& body) {
    in_scope_of(*scope_, [&](Scope&) { body(); });
  }

  // Runs `body` in a new scope below `parent`.
  template <class Body>
  void in_scope_of(Scope& parent, const Body& body) {
    class Leave {
     public:
      Leave(Interpreter& interpreter, Scope& below)
          : interpreter_(interpreter), before_(interpreter.scope_), scope_(std::make_unique<Scope>()) {
        scope_->parent = &below;
        interpreter.scope_ = scope_.get();
      }
      Leave(const Leave&) = delete;
      Leave& operator=(const Leave&) = delete;
      ~Leave() {
        interpreter_.scope_ = before_;
        // A macro may still be called from elsewhere and read what it sees here.
        if (scope_->captured) interpreter_.kept_.push_back(std::move(scope_));
      }
      Scope& scope() { return *scope_; }

     private:
      Interpreter& interpreter_;
      Scope* before_;
      std::unique_ptr<Scope> scope_;
    };
    Leave leave(*this, parent);
    body(leave.scope());
    // Of the scope and each of its variables, a node of a map.
    if (leave.scope().captured) budget_.hold(sizeof(Scope) + 128 * (1 + leave.scope().variables.size()));
  }

  void print(std::string_view text) {
    budget_.print(text.size());
    *output_ += text;
  }

  // What `body` prints.
  template <class Body>
  std::string captured(const Body& body) {
    struct Restore {
      std::string*& output;
      std::string* before;
      ~Restore() { output = before; }
    };
    std::string buffer;
    const Restore restore{output_, std::exchange(output_, &buffer)};
    body();
    return buffer;
  }

  Value find(std::string_view name) {
    for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
      budget_.step();
      const auto found = scope->variables.find(name);
      if (found != scope->variables.end()) return found->second;
    }
    return Functions::find(name);
  }

  // ---- statements

  Flow execute(const Block& block) {
    for (const std::unique_ptr<Statement>& statement : block) {
      const Flow flow = execute(*statement);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Flow execute(const Statement& statement) {
    try {
      budget_.step();
      const Deeper deeper = budget_.deeper();
      return execute_kind(statement);
    } catch (const LocatedError&) {
      throw;
    } catch (const OperationError& error) {
      throw LocatedError(statement.line, error.what());
    }
  }

  Flow execute_kind(const Statement& statement) {
    switch (statement.kind) {
      case Statement::Kind::kText:
        print(statement.text);
        break;
      case Statement::Kind::kPrint:
        print(to_str(budget_, evaluate(*statement.expression)));
        break;
      case Statement::Kind::kSet:
        assign(*statement.target, evaluate(*statement.expression));
        break;
      case Statement::Kind::kSetBlock:
        assign(*statement.target, block_text(statement));
        break;
      case Statement::Kind::kFilterBlock:
        print(to_str(budget_, block_text(statement)));
        break;
      case Statement::Kind::kIf:
        return execute_if(statement);
      case Statement::Kind::kFor:
        execute_for(statement);
        break;
      case Statement::Kind::kMacro:
        scope_->variables[statement.macro->name] = define(*statement.macro);
        break;
      case Statement::Kind::kCallBlock: {
        CallArguments arguments = evaluate_arguments(statement.expression->arguments);
        arguments.keywords.emplace_back("caller", define(*statement.macro));
        print(to_str(budget_, call(evaluate(*statement.expression->operands[0]), arguments)));
        break;
      }
      case Statement::Kind::kWith:
        return execute_with(statement);
      case Statement::Kind::kGeneration:
        in_scope([&] { execute(statement.body); });
        break;
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  Flow execute_if(const Statement& statement) {
    for (const Statement::Branch& branch : statement.branches) {
      if (evaluate(*branch.condition).truth()) return execute(branch.body);
    }
    return execute(statement.otherwise);
  }

  void execute_for(const Statement& statement) {
    std::vector<Value> items = iterate(budget_, evaluate(*statement.expression));
    if (statement.condition) {
      std::vector<Value> kept;
      for (Value& item : items) {
        in_scope([&] {
          assign(*statement.target, item);
          if (evaluate(*statement.condition).truth()) kept.push_back(std::move(item));
        });
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      in_scope([&] { execute(statement.otherwise); });
      return;
    }
    const auto loop = std::make_shared<Loop>(budget_, std::move(items));
    for (; loop->index0 < loop->items.size(); ++loop->index0) {
      budget_.step();
      Flow flow = Flow::kNext;
      in_scope([&] {
        scope_->variables["loop"] = std::shared_ptr<const Loop>(loop);
        assign(*statement.target, loop->items[loop->index0]);
        flow = execute(statement.body);
      });
      if (flow == Flow::kBreak) break;
    }
  }

  Flow execute_with(const Statement& statement) {
    std::vector<Value> values;
    for (const auto& [target, expression] : statement.assignments) values.push_back(evaluate(*expression));
    Flow flow = Flow::kNext;
    in_scope([&] {
      for (size_t i = 0; i < values.size(); ++i) assign(*statement.assignments[i].first, values[i]);
      flow = execute(statement.body);
    });
    return flow;
  }

  // What a block prints, through its filters.
  Value block_text(const Statement& statement) {
    Value text;
    in_scope([&] {
      text = make_text(budget_, captured([&] { execute(statement.body); }));
      if (!statement.expression) return;
      const Value* const outer = std::exchange(filtered_, &text);
      text = evaluate(*statement.expression);
      filtered_ = outer;
    });
    return text;
  }

  void assign(const Expression& target, const Value& value) {
    switch (target.kind) {
      case Expression::Kind::kName:
        scope_->variables[target.name] = value;
        break;
      case Expression::Kind::kNamespaceAttribute: {
        const Value held = find(target.operands[0]->name);
        Namespace* space = held.name_space();
        if (space == nullptr) {
          fail<OperationError>("'{}' is assigned an attribute, but it is no namespace", target.operands[0]->name);
        }
        functions_.set(*space, target.name, value);
        break;
      }
      default: {
        const std::vector<Value> items = iterate(budget_, value);
        if (items.size() != target.operands.size()) {
          fail<OperationError>("{} values cannot be given to {} names", items.size(), target.operands.size());
        }
        for (size_t i = 0; i < items.size(); ++i) assign(*target.operands[i], items[i]);
      }
    }
  }

  // ---- calls

  Value define(const Macro& macro) {
    for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->parent) scope->captured = true;
    return std::make_shared<const Callable>(
        Callable{.kind = Callable::Kind::kMacro, .name = macro.name, .macro = &macro, .scope = scope_});
  }

  CallArguments evaluate_arguments(const Arguments& of) {
    CallArguments arguments;
    for (const ExpressionPtr& one : of.positional) arguments.positional.push_back(evaluate(*one));
    for (const auto& [name, one] : of.keywords) arguments.keywords.emplace_back(name, evaluate(*one));
    if (of.starred) {
      for (Value& item : iterate(budget_, evaluate(*of.starred))) arguments.positional.push_back(std::move(item));
    }
    if (of.double_starred) {
      const Value held = evaluate(*of.double_starred);
      if (defined(held).dict() == nullptr) throw OperationError("what follows ** in a call must be a dict");
      for (const auto& [key, value] : held.dict()->entries())
        arguments.keywords.emplace_back(text_argument("**", key), value);
    }
    return arguments;
  }

  Value call(const Value& function, const CallArguments& arguments) {
    const Callable* callable = defined(function).callable();
    if (callable == nullptr) fail<OperationError>("a value of type '{}' cannot be called", function.type_name());
    switch (callable->kind) {
      case Callable::Kind::kMethod:
        return call_method(budget_, callable->self, callable->name, arguments);
      case Callable::Kind::kFunction:
        return functions_.call(callable->name, arguments);
      case Callable::Kind::kMacro:
        break;
    }
    return call_macro(*callable, arguments);
  }

  Value call_macro(const Callable& callable, const CallArguments& arguments) {
    const Macro& macro = *callable.macro;
    std::string text;
    in_scope_of(*callable.scope, [&](Scope& scope) {
      bind_parameters(macro, arguments, scope);
      text = captured([&] { execute(macro.body); });
    });
    return make_text(budget_, std::move(text));
  }

  void bind_parameters(const Macro& macro, const CallArguments& arguments, Scope& scope) {
    const size_t count = macro.parameters.size(), given = std::min(count, arguments.positional.size());
    for (size_t i = 0; i < given; ++i) scope.variables[macro.parameters[i]] = arguments.positional[i];
    std::vector<Value> more(arguments.positional.begin() + static_cast<std::ptrdiff_t>(given),
                            arguments.positional.end());
    auto other = std::make_shared<Dict>(budget_);
    const bool wants_caller = macro.takes_caller && std::ranges::count(macro.parameters, "caller") == 0;
    if (wants_caller)
      scope.variables["caller"] = Value::undefined("this macro is not called by a call block, so it has no 'caller'");
    for (const auto& [name, value] : arguments.keywords) {
      const auto parameter =
          std::find(macro.parameters.begin() + static_cast<std::ptrdiff_t>(given), macro.parameters.end(), name);
      if (parameter != macro.parameters.end()) {
        scope.variables[*parameter] = value;
      } else if (wants_caller && name == "caller") {
        scope.variables["caller"] = value;
      } else if (macro.takes_keywords) {
        other->set(make_text(budget_, name), value);
      } else {
        fail<OperationError>("the macro '{}' has no parameter '{}', or it is given twice", macro.name, name);
      }
    }
    if (macro.takes_keywords) scope.variables["kwargs"] = std::shared_ptr<const Dict>(std::move(other));
    if (macro.takes_positional) {
      scope.variables["varargs"] = make_tuple(budget_, std::move(more));
    } else if (!more.empty()) {
      fail<OperationError>("the macro '{}' takes {} arguments, and {} are given", macro.name, count,
                           given + more.size());
    }
    // A default may read the parameters before it.
    const size_t first_default = count - macro.defaults.size();
    for (size_t i = given; i < count; ++i) {
      const std::string& name = macro.parameters[i];
      if (scope.variables.contains(name)) continue;
      scope.variables[name] = i >= first_default
                                  ? evaluate(*macro.defaults[i - first_default])
                                  : Value::undefined(fmt::format("parameter '{}' was not provided", name));
    }
  }

  // ---- expressions

  Value evaluate(const Expression& node) {
    try {
      budget_.step();
      const Deeper deeper = budget_.deeper();
      return evaluate_kind(node);
    } catch (const LocatedError&) {
      throw;
    } catch (const OperationError& error) {
      throw LocatedError(node.line, error.what());
    }
  }

  Value operand(const Expression& node, size_t index) {
    return node.operands[index] ? evaluate(*node.operands[index]) : Value();
  }

  Value evaluate_kind(const Expression& node) {
    switch (node.kind) {
      case Expression::Kind::kConstant:
        return node.constant;
      case Expression::Kind::kName:
        return find(node.name);
      case Expression::Kind::kAttribute:
        return get_attribute(budget_, operand(node, 0), node.name);
      case Expression::Kind::kItem: {
        const Value object = operand(node, 0);
        return get_item(budget_, object, operand(node, 1));
      }
      case Expression::Kind::kSlice: {
        const Value object = operand(node, 0), start = operand(node, 1), stop = operand(node, 2);
        return get_slice(budget_, object, start, stop, operand(node, 3));
      }
      case Expression::Kind::kCall: {
        const Value function = operand(node, 0);
        return call(function, evaluate_arguments(node.arguments));
      }
      case Expression::Kind::kFilter: {
        const Value object = node.operands[0] ? operand(node, 0) : *filtered_;
        return apply_filter(budget_, node.name, object, evaluate_arguments(node.arguments));
      }
      case Expression::Kind::kTest: {
        const Value object = operand(node, 0);
        return apply_test(budget_, node.name, object, evaluate_arguments(node.arguments));
      }
      case Expression::Kind::kList:
        return make_list(budget_, evaluate_all(node.operands));
      case Expression::Kind::kTuple:
        return make_tuple(budget_, evaluate_all(node.operands));
      case Expression::Kind::kDict:
        return evaluate_dict(node);
      case Expression::Kind::kConcatenate:
        return concatenate(node);
      case Expression::Kind::kCompare:
        return evaluate_comparison(node);
      case Expression::Kind::kAnd: {
        Value left = operand(node, 0);
        return left.truth() ? operand(node, 1) : left;
      }
      case Expression::Kind::kOr: {
        Value left = operand(node, 0);
        return left.truth() ? left : operand(node, 1);
      }
      case Expression::Kind::kNot:
        return !operand(node, 0).truth();
      case Expression::Kind::kNegative:
        return negative(operand(node, 0));
      case Expression::Kind::kPositive: {
        const Value value = operand(node, 0);
        if (!defined(value).number()) fail<OperationError>("a value of type '{}' is no number", value.type_name());
        return value.is_bool() ? Value(*value.integer()) : value;
      }
      case Expression::Kind::kArithmetic: {
        const Value left = operand(node, 0);
        return arithmetic(budget_, node.name, left, operand(node, 1));
      }
      case Expression::Kind::kConditional:
        if (operand(node, 0).truth()) return operand(node, 1);
        if (node.operands[2]) return operand(node, 2);
        return Value::undefined("the condition of an 'if' in an expression is false, and there is no 'else'");
      case Expression::Kind::kNamespaceAttribute:
        break;  // a target only
    }
    return {};
  }

  std::vector<Value> evaluate_all(const std::vector<ExpressionPtr>& nodes) {
    std::vector<Value> values;
    values.reserve(nodes.size());
    for (const ExpressionPtr& node : nodes) values.push_back(evaluate(*node));
    return values;
  }

  Value evaluate_dict(const Expression& node) {
    auto dict = std::make_shared<Dict>(budget_);
    for (size_t i = 0; i < node.operands.size(); i += 2) {
      const Value key = operand(node, i);
      dict->set(key, operand(node, i + 1));
    }
    return std::shared_ptr<const Dict>(std::move(dict));
  }

  Value concatenate(const Expression& node) {
    std::string text;
    for (const ExpressionPtr& part : node.operands) {
      const std::string more = to_str(budget_, evaluate(*part));
      budget_.expect(text.size() + more.size());
      text += more;
    }
    return make_text(budget_, std::move(text));
  }

  Value evaluate_comparison(const Expression& node) {
    Value left = operand(node, 0);
    for (size_t i = 0; i < node.operators.size(); ++i) {
      Value right = operand(node, i + 1);
      if (!compare(budget_, node.operators[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Budget& budget_;
  Variables given_;
  Functions functions_;
  Scope root_;
  Scope* scope_ = &root_;
  std::vector<std::unique_ptr<Scope>> kept_;
  std::string root_output_;
  std::string* output_ = &root_output_;
  const Value* filtered_ = nullptr;  ///< what the filters of a block are applied to
};

}  // namespace

std::string interpret(const Block& program, Variables variables, Budget& budget,
                      std::chrono::system_clock::time_point now) {
  return Interpreter(budget, std::move(variables), now).run(program);
}

}  // namespace octet::jinja
