# SPDX-License-Identifier: Apache-2.0
"""Writes answer_cases.json: answers with the exact match and F1 of SQuAD 1.1's definition, and logits of windows with the
answers that an exhaustive search over the likeliest starts and ends finds.

    python make_answer_cases.py > answer_cases.json
"""

import json
import random
import re
import string

draw = random.Random(3)


def words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(given, right):
    given, right = words(given), words(right)
    pool, shared = list(right), 0
    for word in given:
        if word in pool:
            pool.remove(word)
            shared += 1
    if shared == 0:
        return 0.0
    precision, recall = shared / len(given), shared / len(right)
    return 2 * precision * recall / (precision + recall)


pieces = ["The", "a", "an", "cat", "Cat's", "dog", "U.S.", "Ünïted", "İstanbul", "ΣΟΦΟΣ", "theory", "the–end", "a\u00a0b",
          "24–10", "$5", "…", "(the)", "\u3000", "½a", "_a_", "another"]
metrics = []
for _ in range(120):
    right = [" ".join(draw.choices(pieces, k=draw.randint(1, 4))) for _ in range(draw.randint(1, 3))]
    given = draw.choice([right[0], " ".join(draw.choices(pieces, k=draw.randint(0, 5))),
                         right[0].upper() + ".", " ".join(draw.sample(right[-1].split(" "), len(right[-1].split(" "))))])
    metrics.append({"answer": given, "right": right,
                    "normalized": " ".join(words(given)),
                    "exact_match": int(any(words(given) == words(r) for r in right)),
                    "f1": max(f1(given, r) for r in right)})

spans = []
for _ in range(40):
    length, best, windows = draw.randint(1, 40), None, []
    text = "".join(draw.choice("abcdefgh") for _ in range(length))
    for _ in range(draw.randint(1, 3)):
        begin = draw.randrange(length)
        count = draw.randint(1, length - begin)
        tokens = 2 + count + 1  # two in front of the context, one behind; a token a character
        # Numbers that differ, so that nothing depends on the order of equals, with sums that are exact in fp32.
        start = [x / 64 for x in draw.sample(range(-4000, 4000), tokens)]
        end = [x / 64 for x in draw.sample(range(-4000, 4000), tokens)]
        windows.append({"begin": begin, "count": count, "start": start, "end": end})
        starts = sorted(range(tokens), key=lambda i: -start[i])[:5]
        ends = sorted(range(tokens), key=lambda i: -end[i])[:5]
        for s in starts:
            for e in ends:
                if s < 2 or e >= tokens - 1 or e < s or e - s + 1 > 7:
                    continue
                if best is None or start[s] + end[e] > best[0]:
                    best = (start[s] + end[e], text[begin + s - 2:begin + e - 1])
    spans.append({"context": text, "windows": windows, "answer": "" if best is None else best[1]})

print(json.dumps({"metrics": metrics, "spans": spans}, separators=(",", ":")))
