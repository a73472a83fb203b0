#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes chat_template_golden.json beside it: what jinja2, set up as transformers does, makes of small chat templates.

    python3 tests/text/make_chat_template_golden.py

Each case is {"template", "variables", "text"} or, where jinja2 fails, {"template", "variables", "error": true}. Needs: pip
install transformers jinja2.
"""
import json
import re
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = Path(__file__).parent

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  What is “naïve”?\n"},
    {"role": "assistant", "content": "A word.", "tool_calls": [{"function": {"name": "look", "arguments": {"q": "naïve", "n": 2}}}]},
    {"role": "tool", "content": "{\"found\": true}", "name": "look"},
    {"role": "user", "content": [{"type": "text", "text": "Thanks"}, {"type": "image"}]},
]
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks it up <now> & \"then\"", "parameters": {
    "type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer", "default": 3, "maximum": 1e3}},
    "required": ["q"]}}}]
VARIABLES = {
    "messages": MESSAGES, "tools": TOOLS, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
    "text": "Hello World", "words": ["pear", "Apple", "fig", "apple"], "numbers": [3, 1, 2, 2.5, -4], "empty": "", "nothing": None,
    "flag": False, "yes": True, "table": {"b": 1, "a": 2, "C": [1, {"x": None}], "items": "an item"}, "n": 7, "f": 2.675,
    "unicode": "Straße ÀÉ ﬁ Σίσυφος ΟΔΟΣ ǆ 日本語 👍🏽 İ", "spaces": " \t\u00a0a b\u2003\n", "people": [
        {"name": "Ann", "age": 30, "home": {"city": "Rome"}}, {"name": "bob", "age": 25, "home": {"city": "oslo"}},
        {"name": "Cy", "age": None, "home": {}}],
}

# Whole templates: white space, statements, scopes.
TEMPLATES = [
    "", "plain", "a\n", "a\n\n", "\r\nb\r\nc\r", "{{ text }}", "{{ text -}}  \n x", "x \n {{- text }}", "{# a comment #}\nx", "x {#- c -#} y",
    "a\n   {% if true %}\n  b\n   {% endif %}\nc\n", "a\n   {%+ if true %}\n  b\n   {%+ endif +%}\nc\n", "a {% if true %} b {% endif %} c",
    "a\n {%- if true -%}\n  b \n {%- endif -%} \n c", "\t{% if true %}x{% endif %}\t{% if true %}y{% endif %}", "  {# c #}  \n z",
    "{% raw %}{{ not }} {% if %}{% endraw %}", "a {%- raw -%}  {{ x }}  {%- endraw -%}  b", "  {% raw %}\n  {{ x }}\n  {% endraw %}\n b",
    "{{ '{{' }}{{ '%}' }}{{ \"}}\" }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {}}}}", "{%if true%}x{%endif%}", "{{'a'}}{{-'b'-}}{{'c'}}",
    "{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}", "{% if flag %}1{% elif nothing %}2{% elif words %}3{% endif %}",
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ m.role }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for m in messages %}\n{{ m['role'] }}\n{% endfor %}\n", "{%- for m in messages -%}\n  {{- m['role'] -}}\n{%- endfor -%}\n",
    "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in words if x|length > 3 %}{{ loop.index0 }}{{ x }} {% else %}no{% endfor %}",
    "{% for x in words if x == 'zz' %}{{ x }}{% else %}no{% endfor %}", "{% for k, v in table.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in table|items %}{{ k }}={{ v }};{% endfor %}", "{% for k in table %}{{ k }}{% endfor %}", "{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3)), [4, [5, 6]]] %}{{ a + b + c }} {% endfor %}", "{% for a, b in [(1,)] %}{% endfor %}", "{% for x in 5 %}{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in range(3) %}{% for y in range(3) %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}", "{% break %}",
    "{% for x in words %}{{ loop.first }}{{ loop.last }}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }} {% endfor %}",
    "{% for x in words %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}|{{ loop.previtem is defined }} {% endfor %}",
    "{% for x in words %}{{ loop.cycle('a', 'b', 'c') }}{% endfor %}", "{% for x in [1] %}{{ loop }}{% endfor %}", "{{ loop }}",
    "{% for x in missing %}a{% else %}b{% endfor %}", "{% for x in nothing %}a{% endfor %}", "{% for x in words %}{% set last = x %}{% endfor %}{{ last }}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }}", "{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set ns = namespace(n=0, text='') %}{% for x in words %}{% set ns.n = ns.n + 1 %}{% set ns.text = ns.text ~ x[0] %}{% endfor %}{{ ns.n }}{{ ns.text }}{{ ns['n'] }}",
    "{% set ns = namespace() %}{{ ns.a }}{% set ns.a = [1] %}{{ ns.a }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}", "{% set text.x = 1 %}",
    "{% set ns = namespace(_a=1) %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = 'xy' %}{{ b }}{{ a }}", "{% set a, b = [1] %}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}", "{% set x %} block {{ text }} {% endset %}[{{ x }}]", "{% set x | upper | trim %} block {% endset %}[{{ x }}]",
    "{% set x %}{% set y = 1 %}{% endset %}[{{ y }}]", "{% filter upper %}a{{ text }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}banana{% endfilter %}",
    "{% with a = 1, b = text %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set z = 1 %}{% endwith %}{{ z }}", "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(b=4, a=5) }} {{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a is defined }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(x) %}{{ x }}{% if x > 0 %}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "{% set g = 1 %}{% macro m() %}{{ g }}{{ text }}{% endmacro %}{% set g = 2 %}{{ m() }}",
    "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{% set inner = 1 %}{% endmacro %}{{ m() }}{{ inner }}", "{% macro m() -%} x {%- endmacro %}[{{ m() }}][{{ m()|upper }}]",
    "{% macro m() %}({{ caller() }}){% endmacro %}{% call m() %}in {{ text }}{% endcall %}", "{% macro m() %}{{ caller(1, 'b') }}{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro f(a, b) %}{{ a }}-{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'a': 3, 'b': 4}) }}{{ f(1, **{'b': 4}) }}", "{% for m in messages %}{% generation %}{{ m.role }}{% set q = 1 %}{% endgeneration %}{{ q }}{% endfor %}",
    "{{ raise_exception('no') }}", "{% if flag %}{{ raise_exception('no') }}{% endif %}fine", "{{ strftime_now('%%') }}", "{% block a %}{% endblock %}{{ unclosed", "{% if %}", "{% endif %}", "{% nonsense %}", "{{ 1 2 }}", "{{ (1 }}", "{{ ) }}", "{% if true %}",
    "{# never ends", "{% raw %} never", "{{ 'never }}", "{{ a b }}", "{% set 1 = 2 %}", "{% set none = 2 %}", "{% for in x %}{% endfor %}", "{{ }}", "{% if true: %}x{% endif %}", "{{ 'a' 'b' \"c\" }}", "{% set x = 1, 2 %}{{ x }}", "{% for x in 1, 2, %}{{ x }}{% endfor %}",
    "line1\n{{ missing.attribute }}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
]

# Expressions; each is printed.
EXPRESSIONS = r"""
1 ;; 2.0 ;; 1e3 ;; 1E-7 ;; 1e16 ;; 123456789.125 ;; 0x1F ;; 0b101 ;; 0o17 ;; 1_000 ;; 1_0.5_0 ;; 007 ;; 0 ;; 00
'a\n\t\x41\u00e9\U0001F44D\101\q\'\"\\' ;; "it's" ;; true ;; True ;; none ;; None ;; [] ;; [1, 'a', none, 2.5, true, [1]]
() ;; (1,) ;; (1, 2) ;; {} ;; {'a': 1, 2: 'b', none: 3, 1.5: 4, (1, 2): 5}
{'a': 1, 'a': 2} ;; {1: 'a', true: 'b', 1.0: 'c'} ;; {[1]: 2} ;; 'a' ~ 1 ~ none ~ 2.0 ~ true ~ missing ;; 'a' + 'b'
'a' + 1 ;; 1 + 'a' ;; [1] + [2] ;; (1,) + (2,) ;; [1] + (2,) ;; 'ab' * 3 ;; 3 * 'ab' ;; [1] * 2 ;; 'a' * -1 ;; 1 + 2 * 3
(1 + 2) * 3 ;; 7 / 2 ;; 8 / 2 ;; 7 // 2 ;; -7 // 2 ;; 7 // -2 ;; -7 % 3 ;; 7 % -3 ;; 7.5 // 2 ;; -7.5 // 2 ;; 7.5 % -2
0.0 % 3 ;; 2 ** 10 ;; 2 ** -1 ;; 2 ** 3 ** 2 ;; -2 ** 2 ;; 2.5 ** 2 ;; 0 ** -1 ;; 1 / 0 ;; 1 // 0 ;; 1 % 0
1.0 / 0 ;; +n ;; -n ;; - - n ;; -yes ;; +yes ;; -'a' ;; not n ;; not missing ;; yes + yes ;; 1.1 + 2.2 ;; 0.1 + 0.2
1e308 * 10 ;; -1e308 * 10 ;; 1 - 1.0 ;; 10 ** 18 ;; 9223372036854775807
1 == 1.0 ;; true == 1 ;; 'a' == 'a' ;; 'a' == 1 ;; none == none ;; missing == missing ;; missing == none
[1, 2] == [1, 2] ;; [1] == (1,) ;; {'a': 1} == {'a': 1.0} ;; {'a': 1, 'b': 2} == {'b': 2, 'a': 1} ;; 1 != 2 ;; 1 < 2 < 3
1 < 3 < 2 ;; 3 > 2 >= 2 ;; 'a' < 'b' ;; 'a' < 'B' ;; 'é' > 'z' ;; [1, 2] < [1, 3] ;; [1] < [1, 0] ;; 1 < 'a' ;; none < 1
1 <= 1.0 ;; 'a' in 'cat' ;; '' in 'a' ;; 1 in 'a' ;; 1 in [1, 2] ;; 1.0 in [1] ;; 'x' in table ;; 'a' in table
'a' not in table ;; [1] in table ;; 1 in 5 ;; 'a' in missing ;; missing in [1] ;; not 'a' in 'b' ;; 1 in (1, 2)
1 == 1 == 1 ;; 1 in [1] == true
1 and 2 ;; 0 and 2 ;; 0 or 2 ;; 1 or 2 ;; '' or 'x' or 'y' ;; none and missing.foo ;; yes or missing.foo
1 if yes else 2 ;; 1 if flag else 2 ;; 1 if flag ;; (1 if flag) is undefined ;; 1 if flag else 2 if yes else 3
not flag and yes ;; not (flag or yes) ;; 1 if not flag
text[0] ;; text[-1] ;; text[99] ;; text[0:5] ;; text[-5:] ;; text[::2] ;; text[::-1] ;; text[5:1:-2] ;; text[:-1]
text[100:] ;; text[::0] ;; unicode[0:8] ;; unicode[6] ;; unicode[-1] ;; words[0] ;; words[-1] ;; words[9] ;; words[1:]
words[:-1] ;; words[::-1] ;; words[1:3][0] ;; words['x'] ;; words.0 ;; words.first ;; (1, 2, 3)[1:] ;; range(5)[2]
range(5)[1:4] ;; range(10)[::2] ;; table['b'] ;; table.b ;; table.missing ;; table['missing'] ;; table.C[1].x
table.items ;; table['items'] ;; table.items() ;; table.keys() ;; table.values() ;; table.keys()|list
table.values()|list ;; table.get('b') ;; table.get('z') ;; table.get('z', 'd') ;; table.get('z', default='d') ;; table[0]
table[1:2] ;; nothing.x ;; nothing['x'] ;; nothing[1:] ;; missing ;; missing.x ;; missing['x'] ;; missing[0]
missing[1:] ;; text.missing ;; n.missing ;; n[0] ;; text.upper ;; table.__class__ ;; text.__class__.__mro__
words.append(1) ;; words.append ;; words.append is defined ;; table.update({'a': 1}) ;; table.pop('a')
table.setdefault('z', 1) ;; words.index('fig') ;; words.index('zz') ;; words.count('fig') ;; (1, 2).count(1)
words.copy() ;; table.copy() ;; messages[0]['content'] ;; messages[1].content ;; messages[-1].content[0].text
messages|length ;; messages[2].tool_calls[0].function ;; text[yes] ;; words[true] ;; text[1.0] ;; table['C', 1]
[1,2,3][1:2,]
text() ;; missing() ;; nothing() ;; table.b() ;; range(3) ;; range(1, 4) ;; range(4, 0, -1) ;; range(0, 10, 3)
range(3)|list ;; range(0)|list ;; range(1, 2, 0) ;; range('a') ;; range() ;; range(100001) ;; range(2) == range(2)
dict(a=1, b=2) ;; dict({'a': 1}, b=2) ;; dict([('a', 1), ['b', 2]]) ;; dict([1]) ;; dict(5) ;; namespace
text is defined ;; missing is defined ;; missing is undefined ;; missing is not defined ;; nothing is none
missing is none ;; n is number ;; f is number ;; yes is number ;; text is number ;; n is integer ;; f is integer
yes is integer ;; n is float ;; f is float ;; text is string ;; n is string ;; table is mapping ;; words is mapping
words is sequence ;; text is sequence ;; table is sequence ;; missing is sequence ;; n is sequence ;; (1,) is sequence
range(2) is sequence ;; words is iterable ;; n is iterable ;; text is iterable ;; missing is iterable
table.items() is sequence ;; table.items() is iterable ;; yes is boolean ;; n is boolean ;; yes is true ;; n is true
flag is false ;; nothing is false ;; n is odd ;; n is even ;; 8 is even ;; n is divisibleby 7 ;; n is divisibleby(3)
n is divisibleby 0 ;; 'a' is odd ;; text is eq 'Hello World' ;; n is equalto 7 ;; n is == 7 ;; n is ne 7 ;; n is gt 5
n is lt 5 ;; n is ge 7 ;; n is le 6 ;; n is greaterthan 5 ;; n is lessthan 5 ;; n is in [7] ;; 'a' is in 'abc'
'abc' is lower ;; 'ABC' is upper ;; 'aBc' is lower ;; '1' is upper ;; nothing is sameas none ;; text is callable
range is callable ;; missing is callable ;; text is escaped ;; (text|safe) is escaped ;; text is nonsense
n is not divisibleby 2 ;; not n is odd ;; text is string and n is number ;; n is divisibleby 7 and yes ;; n is odd|string
text|upper ;; text|lower ;; 'hello wORLD-foo (bar) {x} [y] <z>'|title ;; 'hELLO'|capitalize ;; unicode|upper
unicode|lower ;; unicode|title ;; unicode|capitalize ;; unicode|length ;; unicode|count ;; unicode|reverse ;; spaces|trim
'xxaxx'|trim('x') ;; 'abcba'|trim('ab') ;; n|upper ;; nothing|upper ;; missing|upper ;; 'aaa'|replace('a', 'b')
'aaa'|replace('a', 'b', 2) ;; 'abc'|replace('', '-') ;; n|replace(7, 8) ;; 'a'|replace('a') ;; words|join
words|join(', ') ;; numbers|join('-') ;; 'abc'|join('.') ;; people|join(', ', attribute='name') ;; missing|join(',')
n|join ;; words|first ;; words|last ;; []|first ;; []|last ;; 'abc'|first ;; 'abc'|last ;; table|first ;; missing|first
missing|last ;; n|first ;; words|length ;; table|length ;; n|length ;; missing|length ;; nothing|length
missing|default('d') ;; missing|d('d') ;; ''|default('d') ;; ''|default('d', true) ;; none|default('d', boolean=true)
nothing|default('d') ;; missing|default ;; missing.x|default('d') ;; table|tojson ;; messages[2]|tojson ;; tools|tojson
tools|tojson(indent=2) ;; tools[0]|tojson(indent=4) ;; table|tojson(sort_keys=true) ;; table|tojson(separators=(',', ':'))
unicode|tojson ;; unicode|tojson(ensure_ascii=true) ;; 'a"\\\n\t\x07\x7f</script>'|tojson ;; []|tojson(indent=2)
{}|tojson(indent=2) ;; [[], {}]|tojson(indent=1) ;; nothing|tojson ;; yes|tojson ;; 2.50|tojson ;; 1e20|tojson
1e400|tojson ;; 'nan'|float|tojson ;; missing|tojson ;; range(2)|tojson ;; (1, 2)|tojson
{1: 2, none: 3, true: 4, 2.5: 5}|tojson ;; {(1, 2): 3}|tojson ;; table.items()|tojson ;; [missing]|tojson
text|safe|tojson ;; table|tojson('x')|tojson
n|string ;; f|string ;; 1e100|string ;; nothing|string ;; words|string ;; '5'|int ;; '5.9'|int ;; '-7 '|int ;; ' +3'|int
'x'|int ;; 'x'|int(9) ;; 'ff'|int(base=16) ;; '0xff'|int(0, 16) ;; '0x1f'|int(0, 0) ;; '1_000'|int ;; '1__0'|int
2.9|int ;; -2.9|int ;; true|int ;; none|int ;; [1]|int ;; missing|int ;; '1e3'|int ;; 'inf'|int ;; '5'|float
'2.5e3'|float ;; ' 1.5 '|float ;; 'x'|float ;; 'x'|float(1.5) ;; 'nan'|float ;; '-inf'|float ;; '1_0.5'|float
none|float ;; n|float ;; '.5'|float ;; '5.'|float ;; '1e'|float ;; 'infinity'|float ;; '+-1'|float ;; '0x10'|float
-5|abs ;; -2.5|abs ;; yes|abs ;; 'a'|abs ;; f|round ;; f|round(2) ;; 2.5|round ;; 3.5|round ;; -2.5|round
1234.567|round(-2) ;; 1250|round(-2) ;; 1350|round(-2) ;; -1250|round(-2) ;; n|round ;; n|round(1)
42.55|round(1, 'floor') ;; 42.51|round(1, 'ceil') ;; 42.55|round(method='ceil') ;; 'a'|round ;; 1.005|round(2)
0.5|round ;; 1.5|round
numbers|sum ;; []|sum ;; [1, 2]|sum(start=10) ;; people[:2]|sum(attribute='age') ;; words|sum ;; [[1], [2]]|sum(start=[])
numbers|max ;; numbers|min ;; []|max ;; words|max ;; words|min ;; words|min(case_sensitive=true)
people|max(attribute='name') ;; numbers|sort ;; words|sort ;; words|sort(case_sensitive=true) ;; words|sort(reverse=true)
numbers|sort(true) ;; people|sort(attribute='name')|map(attribute='name')|list
people|sort(attribute='home.city,name')|length ;; people|sort(attribute='age') ;; [1, 'a']|sort ;; 'hello'|sort
table|dictsort ;; table|dictsort(true) ;; table|dictsort(reverse=true) ;; {'a': 2, 'b': 1}|dictsort(by='value')
{'a': 2}|dictsort(by='x') ;; words|dictsort ;; words|unique|list ;; words|unique(true)|list
[1, 1.0, true, 2]|unique|list ;; [[1]]|unique|list ;; people|unique(attribute='home.city')|list|length
words|map('upper')|list ;; words|map('replace', 'a', 'b')|join ;; people|map(attribute='name')|join(',')
people|map(attribute='home.city')|list ;; people|map(attribute='home.city', default='?')|join(',')
people|map(attribute='home.city', default='?')|list ;; words ;; table|list ;; words|map('nonsense')|list
[[1, 2], [3]]|map('sum')|list ;; [[1, 2], [3]]|map(attribute=0)|list ;; missing|map('upper')|list ;; numbers|select|list
numbers|select('odd')|list ;; numbers|select('gt', 1)|list ;; numbers|reject('gt', 1)|list
words|select('in', ['fig'])|list ;; [0, 1, '', 'a', none]|select|list ;; [0, 1, '', 'a', none]|reject|list
people|selectattr('age')|map(attribute='name')|list ;; people|selectattr('name', 'equalto', 'Ann')|list|length
people|selectattr('age', 'none')|map(attribute='name')|list ;; people|rejectattr('age')|map(attribute='name')|list
people|rejectattr('name', 'eq', 'Ann')|map(attribute='name')|join ;; people|selectattr('home.city', 'defined')|list|length
people|selectattr|list ;; messages|selectattr('role', 'equalto', 'user')|list|last
messages|selectattr('role', 'equalto', 'user')|first
messages|rejectattr('role', 'in', ['user', 'tool'])|map(attribute='role')|list
words|list ;; 'añ'|list ;; table|list ;; missing|list ;; n|list ;; table|items|list ;; words|items ;; missing|items|list
words|reverse|list ;; 'añ'|reverse ;; n|reverse ;; table|reverse|list ;; [1,2,3,4,5]|batch(2)|list
[1,2,3]|batch(2, 'x')|list ;; [1,2,3,4,5]|slice(2)|list ;; [1,2,3,4,5]|slice(3, 'x')|list ;; 'a\nb\n\nc'|indent
'a\nb\n\nc'|indent(2) ;; 'a\nb\n\nc'|indent(2, true) ;; 'a\nb\n\nc'|indent(2, blank=true) ;; 'a\nb'|indent('>>')
'a\n'|indent ;; ''|indent ;; n|indent ;; '<a href="x">&\'</a>'|escape ;; '<'|e|e ;; '<'|e|forceescape ;; ('<'|safe) + '<'
'<' + ('<'|safe) ;; ('<'|safe) ~ '<' ;; ('<b>'|safe)|upper ;; ('<%s>'|safe)|length
'%s-%d-%5.2f|%-5s|%05d|%x|%X|%o|%e|%g|%%|%c|%r|%+d|% d' % ('a', 5, 3.14159, 'b', 42, 255, 255, 8, 1234.5, 0.0001, 'z', 'q', 3, 4)
'%s' % 'a' ;; '%s' % none ;; '%s %s' % (1,) ;; '%d' % 'a' ;; '%s' % (1, 2) ;; '%(a)s-%(b)s' % {'a': 1, 'b': 2}
'%s'|format('x') ;; '%s %s'|format(1, 2) ;; '%.3s|%5.1s|' % ('abcdef', 'xyz') ;; '%d' % 3.99 ;; '%i' % true
'%s' % [1, 2] ;; '%q' % 1 ;; '%' % 1 ;; 'a' % 1 ;; 'a' % {} ;; 'foo bar baz qux'|truncate(9)
'foo bar baz qux'|truncate(9, true) ;; 'foo bar baz qux'|truncate(11) ;; 'foo bar'|truncate(3, true, '…', 0)
'a b_c d-e'|wordcount ;; 'a'|center(5) ;; text|attr('upper') ;; table|attr('b') ;; text|nonsense
text.upper() ;; text.lower() ;; unicode.upper() ;; unicode.lower() ;; unicode.title() ;; "they're bill's 3rd".title()
unicode.capitalize() ;; unicode.swapcase() ;; spaces.strip() ;; spaces.lstrip() ;; spaces.rstrip() ;; 'xxaxx'.strip('x')
'xxaxx'.lstrip('x') ;; 'xxaxx'.rstrip('x') ;; 'éaé'.strip('é') ;; text.strip(none) ;; 'a b  c'.split() ;; ' a  b '.split()
'a,b,,c'.split(',') ;; 'a,b,c'.split(',', 1) ;; 'a b c d'.split(none, 2) ;; 'a,b,c'.split(',', maxsplit=1)
'a,b,c'.rsplit(',', 1) ;; ' a b  c '.rsplit(none, 1) ;; ' a b  c '.rsplit() ;; 'abc'.split('') ;; ''.split()
''.split(',') ;; '<think>x</think>y'.split('</think>')[-1].lstrip('\n') ;; 'a\nb\r\nc\x0bd\u2028e'.splitlines()
'a\nb\n'.splitlines(true) ;; ''.splitlines() ;; text.startswith('Hel') ;; text.endswith('ld')
text.startswith(('x', 'H')) ;; text.startswith('lo', 3) ;; text.startswith(1) ;; text.replace('l', 'L')
text.replace('l', 'L', 1) ;; 'abc'.replace('', '-', 2) ;; ', '.join(words) ;; ''.join(['a', 1]) ;; '-'.join('abc')
','.join(table) ;; text.find('o') ;; text.rfind('o') ;; text.find('z') ;; unicode.find('日') ;; text.find('o', 5)
text.index('z') ;; text.count('l') ;; 'aaaa'.count('aa') ;; 'abc'.count('') ;; 'a-b-c'.partition('-')
'a-b-c'.rpartition('-') ;; 'abc'.partition('-') ;; 'abc'.rpartition('-') ;; 'a'.ljust(3) ~ '|' ;; 'a'.rjust(3, '*')
'ab'.center(5, '*') ;; 'abc'.center(6, '*') ;; '-5'.zfill(4) ;; '5'.zfill(3) ;; '{} {}'.format(1, 'a')
'{1}{0}'.format('a', 'b') ;; '{a}'.format(a=1) ;; '{0[b]} {0.b}'.format(table)
'{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd')
'{:05d} {:,} {:.2f} {:x} {:+d} {:e}'.format(42, 1234567, 3.14159, 255, 5, 12345.678) ;; '{{}}'.format() ;; '{}'.format()
'{!r}'.format('a') ;; '{'.format() ;; '{x}'.format() ;; '12'.isdigit() ;; '²'.isdigit() ;; '²'.isdecimal()
'½'.isnumeric() ;; ''.isdigit() ;; 'aé'.isalpha() ;; 'a1'.isalnum() ;; ' \t'.isspace() ;; 'Ab'.isupper()
'AB1'.isupper() ;; 'ab1'.islower() ;; '1'.islower() ;; 'prefix-x'.removeprefix('prefix-') ;; 'x.txt'.removesuffix('.txt')
text.nonsense() ;; text.upper(1) ;; words.sort() ;; 'a'.join(missing)
[true, none, 1.0, 'it\'s', "say \"it's\"", '\n\t\\\x00é\u200b👍'] ;; {'k': 'v'} ;; [[], {}, ()] ;; 1e15 ;; 1e16 ;; 1e-4
1e-5 ;; 123456789012345680.0 ;; 0.1 ;; -0.0 ;; 5e-324 ;; 1.7976931348623157e308 ;; [1.0, 1e22] ;; missing ;; [missing]
words|map('upper') ;; 'a' ~ (words|map('upper')) ;; 'é' ~ 'ß' ;; none ~ '' ;; table.keys() ~ '' ;; 'x' if missing else 'y'
['a', 'b'] is sequence ;; {'a': 1}.items()|list ;; {'a': 1}.a
[1, 2, 3][-1] ;; 'abc'[1] ;; (1, 2)[0] ;; 'a,b'.split(',')[1] ;; (text ~ '!')|upper ;; text ~ '!'|upper ;; -1|abs
1 + 2|string ;; [3, 1]|sort|first ;; not words|length ;; words|length > 3 ;; words|length == 4 and n == 7
"""

def cases():
    yield from TEMPLATES
    for expression in re.split(r"\n| ;; ", EXPRESSIONS.strip("\n")):
        yield "{{ " + expression + " }}"


def render(template, variables):
    try:
        text = _compile_jinja_template(template).render(**variables)
        text.encode()  # no lone surrogates
    except Exception:
        return {"error": True}
    # Python prints functions and generators with their address. Nobody means that, so Octet refuses it.
    if re.search(r"(?i)<[^<>]* (at|of) 0x[0-9a-f]+|<built-in|<class '|<LoopContext |<Macro |<method ", text):
        return {"error": True}
    return {"text": text}


def main():
    golden = [{"template": template, **render(template, VARIABLES)} for template in cases()]
    out = {"made_with": f"jinja2 {jinja2.__version__}, transformers {transformers.__version__}", "variables": VARIABLES, "cases": golden}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in golden)
    text = json.dumps({**out, "cases": "CASES"}, ensure_ascii=False).replace('"CASES"', f"[\n{lines}\n]")
    (HERE / "chat_template_golden.json").write_text(text + "\n", encoding="utf-8")
    print(len(golden), "cases,", sum("error" in case for case in golden), "of them errors")


if __name__ == "__main__":
    main()
