# SPDX-License-Identifier: Apache-2.0
"""Writes beam_cases.json: what transformers' beam search finds with small golden decoders, computed in float64.

    python make_beam_cases.py
"""

import itertools
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"


def load(name):
    return AutoModelForCausalLM.from_pretrained(GOLDEN / name, dtype=torch.float64, attn_implementation="eager").eval()


def search(model, case):
    prompt = torch.tensor([case["prompt"]])
    with torch.no_grad():
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, num_beams=case["beams"],
            num_return_sequences=case["results"], length_penalty=case["length_penalty"],
            repetition_penalty=case["repetition_penalty"], no_repeat_ngram_size=case["no_repeat_ngram_size"],
            early_stopping={"likely": False, "full": True, "never": "never"}[case["early_stopping"]],
            max_new_tokens=case["max_tokens"], eos_token_id=case["stop_ids"] or None, pad_token_id=0, bos_token_id=None,
            return_dict_in_generate=True, output_scores=True)
    texts = []
    for ids, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
        ids = ids[len(case["prompt"]):]
        stops = [i for i, token in enumerate(ids) if token in case["stop_ids"]]
        texts.append({"ids": ids[:stops[0] + 1] if stops else ids, "score": round(score, 6)})
    return texts


def main():
    cases = []
    for name in ("llama_base", "gpt2"):
        model = load(name)
        options = itertools.product((2, 3, 5), (0.0, 1.0, -1.0, 2.5), ("likely", "full", "never"), (1, 6))
        for i, (beams, length_penalty, early_stopping, stops) in enumerate(options):
            if i % 2 == (name == "gpt2"):
                continue
            prompt = [(7 * i + 17 * j) % 97 for j in range(1 + i % 9)]
            # Some likely tokens as ends, so that texts end at many lengths.
            with torch.no_grad():
                likely = model(torch.tensor([prompt])).logits[0, -1].topk(40).indices.tolist()
            case = {"model": name, "prompt": prompt, "beams": beams, "results": beams,
                    "length_penalty": length_penalty, "early_stopping": early_stopping,
                    "max_tokens": (3, 9, 14)[i % 3], "stop_ids": likely[3::7][:stops] if i % 5 else [],
                    "repetition_penalty": 1.5 if i % 7 == 3 else 1.0, "no_repeat_ngram_size": 2 if i % 4 == 1 else 0}
            cases.append(case | {"texts": search(model, case)})
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "beam_cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
