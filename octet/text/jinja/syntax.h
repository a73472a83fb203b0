// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "octet/text/jinja/value.h"

/// The tree of a template.
namespace octet::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

/// What stands in the parentheses of a call.
struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr starred, double_starred;  ///< *list and **dict; null where absent
};

struct Expression {
  enum class Kind : uint8_t {
    // kind           name              operands
    kConstant,            //                   none; its value is `constant`
    kName,                // the variable
    kAttribute,           // the attribute     object
    kItem,                //                   object, key
    kSlice,               //                   object, start, stop, step; null where absent
    kCall,                //                   function; with arguments
    kFilter,              // the filter        object, null in a block; with arguments
    kTest,                // the test          object; with arguments
    kList,                //                   items
    kTuple,               //                   items
    kDict,                //                   key, value, key, value, …
    kConcatenate,         //                   at least two
    kCompare,             // the operators, a space between: "< in"; operands are one more
    kAnd,                 //                   left, right
    kOr,                  //                   left, right
    kNot,                 //                   one
    kNegative,            //                   one
    kPositive,            //                   one
    kArithmetic,          // the operator      left, right
    kConditional,         //                   condition, value if true, value if false or null
    kNamespaceAttribute,  // the attribute; its operand is the namespace's kName. Only as a target of `set`
  };
  Kind kind;
  int line;
  int depth = 1;  ///< of this tree
  std::string name;
  Value constant;
  std::vector<std::string_view> operators;  ///< of kCompare
  std::vector<ExpressionPtr> operands;
  Arguments arguments;
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

/// A macro, or what a call block gives its callee as `caller`.
struct Macro {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  ///< of the last parameters
  Block body;
  // Whether the body reads these special variables.
  bool takes_keywords = false, takes_positional = false, takes_caller = false;
};

struct Statement {
  enum class Kind : uint8_t {
    kText,         // text
    kPrint,        // expression
    kSet,          // target = expression
    kSetBlock,     // target, body; expression: filters on it, or null
    kIf,           // branches; otherwise
    kFor,          // target in expression if condition (or null): body; otherwise
    kMacro,        // macro
    kCallBlock,    // expression is a kCall; macro is its caller
    kFilterBlock,  // expression on body
    kWith,         // assignments, body
    kGeneration,   // body
    kBreak,
    kContinue,
  };
  struct Branch {
    ExpressionPtr condition;
    Block body;
  };
  Kind kind;
  int line;
  std::string text;
  ExpressionPtr target, expression, condition;
  Block body, otherwise;
  std::vector<Branch> branches;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;
  std::unique_ptr<Macro> macro;
};

/// The tree of a template's text (valid UTF-8). Throws LocatedError for what is wrong, for tags that Octet does not
/// have, and where blocks or expressions stand too deep inside one another.
Block parse(std::string_view source);

}  // namespace octet::jinja
