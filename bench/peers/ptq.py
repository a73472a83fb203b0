# SPDX-License-Identifier: Apache-2.0
"""GPTQ by llm-compressor and by Octet: the same model, text, groups, damping and order, each with its own program.

    python bench/peers/ptq.py MODEL --calibrate TEXT --data TEXT [--samples 32] [--length 512]

Both write compressed-tensors checkpoints of 4-bit weights in groups of 64 (128 does not divide every layer of small
models). `octet eval` takes the perplexity of both, so the comparison has one evaluator; the time is each tool's whole
process, from start to the written checkpoint, and the memory the most that it held.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GROUP_SIZE, DAMPING = 64, 0.01


def compress(options, folder):
    """In a process of its own: llm-compressor's sequential GPTQ on the CPU."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import GPTQModifier
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    ids = tokenizer(options.calibrate.read_text(encoding="utf-8"))["input_ids"]
    # Windows spread over the text.
    step = max(1, (len(ids) - options.length) // max(1, options.samples - 1))
    windows = [ids[i * step:i * step + options.length] for i in range(options.samples)]
    data = Dataset.from_dict({"input_ids": windows, "attention_mask": [[1] * len(window) for window in windows]})
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP_SIZE,
               "actorder": "static", "observer": "mse"}
    recipe = GPTQModifier(config_groups={"group_0": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"],
                          dampening_frac=DAMPING, block_size=128)
    oneshot(model=model, processor=tokenizer, dataset=data, recipe=recipe, max_seq_length=options.length,
            num_calibration_samples=options.samples, output_dir=str(folder))


def timed(name, command, folder):
    """A whole process: its seconds, and the most memory that it held."""
    print("$", *command, file=sys.stderr)
    begin = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{name} failed")
    return {"name": name, "folder": folder, "seconds": time.monotonic() - begin, "megabytes": usage.ru_maxrss / 1024}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--limit", type=int, default=24, help="windows of --data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "build/peers/ptq")
    parser.add_argument("--octet", type=Path, default=ROOT / "build/release/bin/octet")
    parser.add_argument("--compress-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compress_to:
        compress(options, options.compress_to)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    theirs, ours = options.work / "llm-compressor", options.work / "octet"
    runs = [
        timed("octet", [options.octet, "quantize", options.model, "--recipe", "w4a16_g128_gptq", "--data",
                        options.calibrate, "--out", ours, "--threads", options.threads,
                        "--set", f"weights.group_size={GROUP_SIZE}", "--set", f"weights.percdamp={DAMPING}",
                        "--set", f"calibration.samples={options.samples}",
                        "--set", f"calibration.sequence_length={options.length}"], ours),
        timed("llm-compressor", [sys.executable, __file__, options.model, "--calibrate", options.calibrate, "--data",
                                 options.data, "--samples", options.samples, "--length", options.length, "--threads",
                                 options.threads, "--compress-to", theirs], theirs),
    ]
    print("| | seconds | memory, MB | perplexity |\n|---|---|---|---|")
    for run in [{"name": "fp32", "folder": options.model}, *runs]:
        found = json.loads(subprocess.run(
            [options.octet, "eval", run["folder"], "--task", "perplexity", "--data", options.data, "--window", "512",
             "--limit", str(options.limit), "--json"], check=True, capture_output=True, text=True).stdout)
        took = f"{run['seconds']:.0f} | {run['megabytes']:.0f}" if "seconds" in run else " | "
        print(f"| {run['name']} | {took} | {found['perplexity']:.2f} ± {found['perplexity_standard_error']:.2f} |")


if __name__ == "__main__":
    main()
