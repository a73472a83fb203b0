#!/usr/bin/env python3
"""Writes sampler_cases.json: what transformers' logits processors make of small rows of logits."""

import json
import pathlib

import torch
from transformers import (LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                          TopKLogitsWarper, TopPLogitsWarper)


def main():
    torch.manual_seed(5)
    cases = []
    for temperature, top_k, top_p, penalty in [(1, 0, 1, 1), (0.7, 0, 1, 1), (1.5, 4, 1, 1), (1, 1, 1, 1),
                                               (1, 0, 0.3, 1), (1, 0, 0.9, 1), (0.8, 0, 0.95, 1), (0.8, 5, 0.8, 1),
                                               (1.2, 8, 0.6, 1), (1, 0, 1, 1.3), (0.9, 6, 0.9, 1.2),
                                               (1, 0, 0.02, 0.8)]:
        logits = torch.round(torch.randn(12) * 2, decimals=3)
        before = torch.randint(0, 12, (6,))
        steps = LogitsProcessorList()
        if penalty != 1:
            steps.append(RepetitionPenaltyLogitsProcessor(penalty))
        if temperature != 1:
            steps.append(TemperatureLogitsWarper(float(temperature)))
        if top_k:
            steps.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            steps.append(TopPLogitsWarper(top_p))
        probabilities = steps(before[None], logits[None].clone())[0].double().softmax(-1)
        cases.append({"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": penalty,
                      "before": before.tolist(), "logits": [round(x, 3) for x in logits.tolist()],
                      "probabilities": [round(x, 9) for x in probabilities.tolist()]})
    lines = ",\n".join(json.dumps(case) for case in cases)
    pathlib.Path(__file__).with_name("sampler_cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
