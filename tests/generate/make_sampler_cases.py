#!/usr/bin/env python3
"""Writes sampler_cases.json: what transformers' logits processors make of small rows of logits."""

import json
import math
import pathlib

import torch
from transformers import (LogitsProcessorList, MinNewTokensLengthLogitsProcessor, MinPLogitsWarper,
                          NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper)

# What is not named is off.
CASES = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.5, "top_k": 4},
    {"top_k": 1},
    {"top_p": 0.3},
    {"top_p": 0.9},
    {"temperature": 0.8, "top_p": 0.95},
    {"temperature": 0.8, "top_k": 5, "top_p": 0.8},
    {"temperature": 1.2, "top_k": 8, "top_p": 0.6},
    {"repetition_penalty": 1.3},
    {"temperature": 0.9, "top_k": 6, "top_p": 0.9, "repetition_penalty": 1.2},
    {"top_p": 0.02, "repetition_penalty": 0.8},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"temperature": 1.5, "min_p": 0.2, "top_k": 7},
    {"typical_p": 0.2},
    {"typical_p": 0.6},
    {"typical_p": 0.95, "temperature": 1.7},
    {"typical_p": 0.5, "top_p": 0.9, "min_p": 0.02, "temperature": 2.0},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2, "vocabulary": 3},
    {"no_repeat_ngram_size": 3, "vocabulary": 2},
    {"logit_bias": {"2": 1.5, "7": -2.25, "11": -math.inf}},
    {"logit_bias": {"0": 3.0, "5": -3.0}, "repetition_penalty": 1.4, "top_k": 5},
    {"min_tokens": 4, "stop_ids": [3, 8]},
    {"min_tokens": 2, "stop_ids": [3, 8]},
    {"temperature": 1.3, "top_k": 9, "top_p": 0.97, "min_p": 0.01, "typical_p": 0.9, "repetition_penalty": 1.1,
     "no_repeat_ngram_size": 2, "logit_bias": {"1": 0.5}, "min_tokens": 9, "stop_ids": [4]},
]
# Of the tokens before: those that are the prompt.
PROMPT_TOKENS = 4


def processors(case):
    steps = LogitsProcessorList()
    if "logit_bias" in case:
        steps.append(SequenceBiasLogitsProcessor([[[int(i)], v] for i, v in case["logit_bias"].items()]))
    if "repetition_penalty" in case:
        steps.append(RepetitionPenaltyLogitsProcessor(case["repetition_penalty"]))
    if "no_repeat_ngram_size" in case:
        steps.append(NoRepeatNGramLogitsProcessor(case["no_repeat_ngram_size"]))
    if "min_tokens" in case:
        steps.append(MinNewTokensLengthLogitsProcessor(PROMPT_TOKENS, case["min_tokens"], case["stop_ids"]))
    if "temperature" in case:
        steps.append(TemperatureLogitsWarper(case["temperature"]))
    for name, warper in [("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper),
                         ("typical_p", TypicalLogitsWarper)]:
        if name in case:
            steps.append(warper(case[name]))
    return steps


def main():
    torch.manual_seed(5)
    lines = []
    for case in CASES:
        logits = torch.round(torch.randn(12) * 2, decimals=3)
        # Of a small vocabulary, so that there are sequences to repeat.
        before = torch.randint(0, case.get("vocabulary", 12), (7,))
        probabilities = processors(case)(before[None], logits[None].clone())[0].double().softmax(-1)
        options = {name: value for name, value in case.items() if name != "vocabulary"}
        if "logit_bias" in options:  # JSON has no infinity
            options["logit_bias"] = {i: "-inf" if v == -math.inf else v for i, v in options["logit_bias"].items()}
        lines.append(json.dumps({"options": options, "before": before.tolist(), "prompt_tokens": PROMPT_TOKENS,
                                 "logits": [round(x, 3) for x in logits.tolist()],
                                 "probabilities": [round(x, 9) for x in probabilities.tolist()]}))
    text = ",\n".join(lines)
    pathlib.Path(__file__).with_name("sampler_cases.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
