#!/usr/bin/env python3
"""Writes likelihood_cases.json: log-likelihoods of continuations that transformers gives with the demo's decoder, tokens
split as lm-evaluation-harness splits them."""

import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
MODEL = HERE.parents[1] / "apps" / "octet" / "demo_decoder"
CASES = [
    ("Once upon a time, there was a little", [" girl", " boy", " the", " dog named Max. He", "  girl"]),
    ("Tom went to the park with his ", ["mom", "mom and dad.", "very"]),
    ("She said, \"Thank", [" you", "you!\"", " dog"]),
    ("They played all day.\n", ["The end.", "They were happy."]),
    ("un", ["der", "happy bird"]),
    ("Ça va", [" bien", " \u4f60"]),
    ("One day, " * 12 + "a big", [" tree", " cat saw"]),
]


def main():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    lines = []
    for context, continuations in CASES:
        results = []
        for continuation in continuations:
            kept = context.rstrip()
            whole = tokenizer(kept + context[len(kept):] + continuation).input_ids
            first = tokenizer(kept).input_ids
            ids = first + whole[len(first):]
            with torch.no_grad():
                logs = model(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)[len(first) - 1:]
            targets = torch.tensor(ids[len(first):])
            results.append({"tokens": len(targets), "log": round(logs.gather(1, targets[:, None]).sum().item(), 5),
                            "greedy": bool((logs.argmax(-1) == targets).all())})
        lines.append(json.dumps({"context": context, "continuations": continuations, "results": results}))
    text = ",\n".join(lines)
    (HERE / "likelihood_cases.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
