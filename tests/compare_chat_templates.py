#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares chat templates in Octet and in transformers' Jinja environment.

    python3 tests/compare_chat_templates.py [--program build/release/bin/render_chat_templates]
        [--random 20000] [--seed 0] [TEMPLATE.jinja ...]

Random expressions over the variables of tests/text/make_chat_template_golden.py, and each template file on a set of
conversations with and without tools. Prints every difference; exit status 1 where there is one. Needs: pip install
transformers jinja2.
"""
import argparse
import copy
import json
import random
import subprocess
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "text"))
from make_chat_template_golden import TOOLS, VARIABLES, render  # noqa: E402

VALUES = ["text", "words", "numbers", "n", "f", "yes", "flag", "nothing", "missing", "unicode", "spaces", "people", "table",
          "messages", "empty", "0", "1", "-2", "2.5", "'a'", "'l'", "' '", "''", "'12'", "'é'", "[1, 2]", "['b', 'a']", "[]", "{}", "(1, 'x')",
          "{'a': 1}", "true", "none", "range(3)", "'name'", "'a,b'", "3"]
# Those that give generators make lists: Octet meets their errors at once, Python when they are used.
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list", "join(', ')", "join", "int", "float", "string",
           "reverse|list", "sort", "unique|list", "sum", "min", "max", "abs", "round", "tojson", "tojson(indent=2)", "default('d')", "default('d', true)", "items|list",
           "dictsort", "map('upper')|list", "map(attribute='name')|list", "select|list", "reject|list", "select('string')|list", "selectattr('name')|list", "rejectattr('age', 'none')|list",
           "indent(2)", "replace('a', 'bb')", "safe", "escape", "batch(2)|list", "wordcount", "count", "round(1)", "sort(reverse=true)", "map('int')|list", "slice(2)|list"]
METHODS = ["upper()", "strip()", "lstrip('aH')", "split()", "split('l')", "rsplit(' ', 1)", "startswith('H')", "endswith('a')", "replace('l', 'L', 1)", "title()",
           "get('a')", "items()", "keys()", "values()", "find('l')", "count('a')", "join(words)", "splitlines()", "isdigit()", "index('fig')", "capitalize()",
           "format(1, 2)", "partition('l')", "swapcase()", "isupper()", "name", "content", "a", "role"]
TESTS = ["defined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "odd", "even", "divisibleby(2)", "in words", "eq(1)", "true", "integer",
         "float", "lower", "upper", "gt(1)"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]


def expression(rng, depth):
    if depth == 0:
        return rng.choice(VALUES)
    inner = expression(rng, depth - 1)
    kind = rng.randrange(9)
    if kind < 2:
        return f"({inner} {rng.choice(OPERATORS)} {expression(rng, depth - 1)})"
    if kind < 4:
        return f"({inner})|{rng.choice(FILTERS)}"
    if kind == 4:
        return f"({inner}).{rng.choice(METHODS)}"
    if kind == 5:
        return f"(({inner}) is {rng.choice(['', 'not '])}{rng.choice(TESTS)})"
    if kind == 6:
        bound = lambda: rng.choice(["", "0", "1", "-1", "2", "-2", "5"])
        # Of what has no slices: Jinja makes that undefined in constants, and an error in variables.
        inner = f"({inner}|string)" if depth > 1 else rng.choice(["text", "words", "people", "unicode", "'abc'", "range(9)"])
        return f"{inner}[{bound()}:{bound()}{rng.choice(['', ':', ':2', ':-1'])}]"
    if kind == 7:
        return f"({inner})[{rng.choice(['0', '-1', '1'] + VALUES)}]"
    return f"({inner} if {expression(rng, depth - 1)} else {rng.choice(VALUES)})"


def conversations():
    user, answer = {"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}
    system = {"role": "system", "content": "You are terse."}
    thinking = {"role": "assistant", "content": "<think>\n2 + 2\n</think>\n\nFour."}
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "id": "abcdefghi", "function": {"name": "look", "arguments": {"q": "é", "n": 2}}}]}
    result = {"role": "tool", "name": "look", "tool_call_id": "abcdefghi", "content": "{\"found\": 1}"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "text", "text": "here"}]}
    chats = [[user], [system, user], [user, answer, user], [system, user, answer, user, thinking, user], [user, call, result], [system, user, call, result, answer, user],
             [parts], [answer, user], [user, user], [user, answer]]
    for messages in chats:
        for tools in (None, TOOLS):
            for prompt in (True, False):
                for extra in ({}, {"enable_thinking": False}):
                    yield {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>",
                           "pad_token": "<pad>", "unk_token": "<unk>", **extra}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("templates", nargs="*", type=Path)
    parser.add_argument("--program", default="build/release/bin/render_chat_templates")
    parser.add_argument("--random", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Python's, of what the expressions are compiled to
    rng = random.Random(arguments.seed)
    cases = [("expression", "{{ " + expression(rng, rng.randint(1, 4)) + " }}", VARIABLES) for _ in range(arguments.random)]
    for path in arguments.templates:
        cases += [(path.name, path.read_text(encoding="utf-8"), variables) for variables in conversations()]
    lines = "".join(json.dumps({"template": template, "variables": variables}) + "\n" for _, template, variables in cases)
    output = subprocess.run([arguments.program], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    different, errors, by_name = 0, 0, {}
    for (name, template, variables), line in zip(cases, output, strict=True):
        ours, theirs = json.loads(line), render(template, copy.deepcopy(variables))  # some of Jinja's filters change lists
        same = ours.get("text") == theirs.get("text")
        errors += "error" in theirs
        count = by_name.setdefault(name, [0, 0, 0])
        count[0] += 1
        count[1] += not same
        count[2] += "error" in theirs
        if not same:
            different += 1
            if different <= 40:
                shown = template if name == "expression" else f"{name} with {json.dumps(variables)[:300]}"
                print(f"{shown}\n   jinja2: {theirs.get('text', 'an error')!r}\n   octet:  {ours.get('text', ours.get('error'))!r}")
    for name, (total, wrong, failed) in by_name.items():
        print(f"{name}: {total} cases, {failed} of them errors in jinja2, {wrong} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
