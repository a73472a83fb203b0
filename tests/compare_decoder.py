# SPDX-License-Identifier: Apache-2.0
"""Does octet compute and generate what transformers does with a decoder in fp32?

    python compare_decoder.py --octet PATH --model FOLDER [--ids FILE.npy] [--prompts FILE.txt] [--expected FILE.json]

Logits: `octet logits` on ids (int32 [batch, seq]; without --ids, 64 random ones) against transformers in float32. The
difference is the largest |octet - transformers| over the range (largest - smallest) of transformers' logits; it must stay
within 1e-4.

Greedy text, with --prompts (one a line): `octet generate --temperature 0` against transformers' `generate`, --max-tokens
ids each. The ids must be the same, unless transformers' best two logits lie within 1e-4 of the range of each other where
they part: there rounding decides. --expected reads what transformers gives from a file of an earlier run instead
(a list of objects with `prompt` and `continuation_ids`); --save writes one.

Exits with 1 beyond these bounds.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

BOUND = 1e-4  # of the range of the logits


def load(folder):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                                      output_loading_info=True)
    if report["missing_keys"] or report["mismatched_keys"]:
        sys.exit(f"{folder}: transformers did not find its way: missing {report['missing_keys']}, "
                 f"mismatched {report['mismatched_keys']}")
    return model.eval()


def logits_of(model, ids):
    """float32 [batch, seq, vocabulary]"""
    with torch.no_grad():
        return model(input_ids=torch.as_tensor(ids).long()).logits.numpy()


def octet_logits(octet, folder, ids, threads):
    with tempfile.TemporaryDirectory() as scratch:
        inputs, output = (str(pathlib.Path(scratch) / name) for name in ("ids.npy", "out.npy"))
        np.save(inputs, ids)
        subprocess.run([octet, "logits", folder, "--ids", inputs, "--out", output, *threads], check=True,
                       stdout=subprocess.DEVNULL)
        return np.load(output)


def compare_logits(model, octet, folder, ids, threads):
    theirs = logits_of(model, ids)
    ours = octet_logits(octet, folder, ids, threads)
    if ours.shape != theirs.shape:
        sys.exit(f"logits: shapes {ours.shape} and {theirs.shape} differ")
    difference = np.abs(ours.astype(np.float64) - theirs).max() / np.ptp(theirs)
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    passed = bool(difference <= BOUND)
    print(f"logits {list(ours.shape)}: difference {difference:.2e} of the range, same best token {same:.1%}"
          f"   {'ok' if passed else f'above {BOUND}'}")
    return passed


def continue_greedily(model, tokenizer, prompt, count):
    """Ids of the prompt and of the continuation, which ends early with an end-of-text token (not included)."""
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=count, do_sample=False, num_beams=1, repetition_penalty=1.0,
                             pad_token_id=tokenizer.eos_token_id or 0)
    prompt_ids = inputs["input_ids"][0].tolist()
    continuation = out[0, len(prompt_ids) :].tolist()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    stop = next((i for i, token in enumerate(continuation) if token in ends), len(continuation))
    return prompt_ids, continuation[:stop]


def octet_continuation(octet, folder, prompt, count, threads):
    command = [octet, "generate", folder, "--prompt", prompt, "--max-tokens", str(count), "--temperature", "0", "--json"]
    done = subprocess.run([*command, *threads], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def first_difference(one, two):
    return next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))


def compare_greedy(model, tokenizer, octet, folder, expected, count, threads):
    """Whether all continuations are transformers', ties apart."""
    passed = True
    for entry in expected:
        prompt, theirs = entry["prompt"], entry["continuation_ids"][:count]
        result = octet_continuation(octet, folder, prompt, count, threads)
        ours = result["ids"]
        if tokenizer.eos_token_id in ours:
            ours = ours[: ours.index(tokenizer.eos_token_id)]
        text = tokenizer.decode(theirs, skip_special_tokens=True)
        at = first_difference(ours, theirs)
        if len(ours) == len(theirs) == at:
            words = "same ids and text" if result["text"].strip() == text.strip() else "same ids, but another text"
            passed &= words == "same ids and text"
        else:
            ids = [tokenizer(prompt)["input_ids"] + theirs[:at]]
            last = logits_of(model, ids)[0, -1]
            first, second = np.sort(last)[:-3:-1]
            margin = (first - second) / np.ptp(last)
            tie = margin <= BOUND
            passed &= bool(tie)
            words = f"parts at token {at}, margin {margin:.1e} of the range{' (a tie)' if tie else ''}"
        print(f"{len(ours):3} ids  {words:28} {json.dumps(prompt, ensure_ascii=False)}")
        if "same ids and text" != words:
            print(f"     octet         {json.dumps(result['text'], ensure_ascii=False)}")
            print(f"     transformers  {json.dumps(text, ensure_ascii=False)}")
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--octet", default="octet", help="the binary (default: octet)")
    parser.add_argument("--model", required=True, help="decoder directory in the Hugging Face layout")
    parser.add_argument("--ids", help="token ids, int32 [batch, seq], for the comparison of logits")
    parser.add_argument("--prompts", help="text file with one prompt a line, for the comparison of greedy text")
    parser.add_argument("--expected", help="what an earlier run saved, in place of transformers' generate")
    parser.add_argument("--save", help="write transformers' continuations as JSON, for --expected")
    parser.add_argument("--max-tokens", type=int, default=32, help="ids of each continuation (default: 32)")
    parser.add_argument("--threads", type=int, help="for octet (default: all processors)")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    threads = ["--threads", str(arguments.threads)] if arguments.threads else []

    model = load(arguments.model)
    if arguments.ids:
        ids = np.load(arguments.ids)
        ids = np.atleast_2d(ids).astype(np.int32)
    else:
        ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, 64), dtype=np.int32)
    passed = compare_logits(model, arguments.octet, arguments.model, ids, threads)

    if arguments.prompts or arguments.expected:
        tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
        if arguments.expected:
            expected = json.loads(pathlib.Path(arguments.expected).read_text(encoding="utf-8"))
        else:
            expected = []
            for prompt in pathlib.Path(arguments.prompts).read_text(encoding="utf-8").splitlines():
                prompt_ids, continuation = continue_greedily(model, tokenizer, prompt, arguments.max_tokens)
                text = tokenizer.decode(continuation, skip_special_tokens=True)
                expected.append({"prompt": prompt, "prompt_ids": prompt_ids, "continuation_ids": continuation,
                                 "text": text})
        if arguments.save:
            pathlib.Path(arguments.save).write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n",
                                                    encoding="utf-8")
        passed &= compare_greedy(model, tokenizer, arguments.octet, arguments.model, expected, arguments.max_tokens,
                                 threads)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
