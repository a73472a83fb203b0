# SPDX-License-Identifier: Apache-2.0
"""Quantizes one decoder with Octet and with llm-compressor: the same weights, samples and settings.

    python bench/peers/quantizers.py MODEL --calibrate TEXT --data TEXT [--schemes w4a16_gptq,…] [--samples 128]
        [--length 512] [--windows 24]

MODEL is a directory in the Hugging Face layout. Samples are passages of --calibrate, written as JSON lines that both
read; each is cut to --length tokens by the model's tokenizer. What both write is in the compressed-tensors layout, so
`octet compare MODEL DIR --data TEXT` judges both alike: perplexity, KL divergence and top-1 agreement with the float
model over --windows windows of 512 tokens of --data. Time and memory are those of the whole process: load, calibrate, quantize, write.
Prints a table in Markdown. Outputs and figures are kept in --work; a second run measures only what is missing there.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Octet's recipe and settings, and llm-compressor's modifiers with theirs, by a scheme's name.
GROUPS = {"group_0": {"targets": ["Linear"],
                      "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64}}}
SCHEMES = {
    "w4a16_rtn": (["w4a16_g128", "weights.group_size=64"],
                  [("QuantizationModifier", {"config_groups": GROUPS})]),
    "w4a16_gptq": (["w4a16_g128_gptq", "weights.group_size=64", "weights.act_order=true", "weights.static_groups=true"],
                   [("GPTQModifier", {"config_groups": GROUPS, "dampening_frac": 0.01, "actorder": "static"})]),
    "w4a16_awq": (["w4a16_g128_awq", "weights.group_size=64"],
                  [("AWQModifier", {}), ("QuantizationModifier", {"config_groups": GROUPS})]),
    "w8a8_rtn": (["w8a8_dynamic"], [("QuantizationModifier", {"scheme": "W8A8", "targets": "Linear"})]),
    "w8a8_smoothquant": (["w8a8_smoothquant", "fold.alpha=0.5"],
                         [("SmoothQuantModifier", {"smoothing_strength": 0.5}),
                          ("QuantizationModifier", {"scheme": "W8A8", "targets": "Linear"})]),
}


def modifier(name, settings):
    from llmcompressor.modifiers import gptq, quantization, transform
    for module in (gptq, quantization, transform):
        if hasattr(module, name):
            return getattr(module, name)(**settings)
    raise SystemExit(f"this llm-compressor has no {name}")


def llm_compressor(options):
    """What a user of llm-compressor runs, in a process of its own."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(options.threads)
    if not torch.cuda.is_available():  # 0.14's AWQ pins memory for a GPU even where there is none
        torch.Tensor.pin_memory = lambda tensor, *_: tensor
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    lines = options.samples_file.read_text().splitlines()
    data = Dataset.from_list([
        tokenizer(json.loads(line)["text"], truncation=True, max_length=options.length) for line in lines])
    # AWQ's own modifier finds the layers by itself.
    ignored = {"ignore": ["lm_head"]}
    recipe = [modifier(name, settings if name == "AWQModifier" else {**settings, **ignored})
              for name, settings in SCHEMES[options.one][1]]
    oneshot(model=model, tokenizer=tokenizer, dataset=data, recipe=recipe, max_seq_length=options.length,
            num_calibration_samples=len(lines), output_dir=str(options.out),
            pipeline="datafree" if options.one.endswith("_rtn") else "sequential")


def octet_command(options, scheme, out):
    recipe, *settings = SCHEMES[scheme][0]
    data = []
    if not scheme.endswith("_rtn"):
        settings += [f"calibration.samples={options.samples}", f"calibration.sequence_length={options.length}"]
        data = ["--data", str(options.samples_file)]
    changes = [word for setting in settings for word in ("--set", setting)]
    return [str(options.octet), "quantize", str(options.model), "--recipe", recipe, *changes, *data, "--out", str(out),
            "--threads", str(options.threads)]


def peer_command(options, scheme, out):
    return [sys.executable, __file__, str(options.model), "--one", scheme, "--out", str(out), "--samples-file",
            str(options.samples_file), "--length", str(options.length), "--threads", str(options.threads)]


def timed(command, log):
    """Seconds and peak resident bytes of a process."""
    print("$", *command, file=sys.stderr)
    begin = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed; its last words are in {log}")
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def write_samples(options):
    """As many passages, far enough apart and long enough for --length tokens each."""
    text = options.calibrate.read_text()
    passage = 8 * options.length  # characters: more than any tokenizer's --length tokens of prose
    step = (len(text) - passage) // max(options.samples - 1, 1)
    if step < passage // 2:
        raise SystemExit(f"{options.calibrate} is too short for {options.samples} samples of {options.length} tokens")
    with options.samples_file.open("w") as out:
        for i in range(options.samples):
            out.write(json.dumps({"text": text[i * step:i * step + passage]}) + "\n")


def measure(options, scheme, contender, command):
    kept = options.work / f"{scheme}-{contender}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    out = options.work / f"{scheme}-{contender}"
    seconds, peak = timed(command(options, scheme, out), options.work / f"{scheme}-{contender}.log")
    compared = subprocess.run([str(options.octet), "compare", str(options.model), str(out), "--data", str(options.data),
                               "--window", "512", "--limit", str(options.windows), "--json"], check=True, capture_output=True, text=True)
    figures = {"seconds": seconds, "peak_bytes": peak, "compare": json.loads(compared.stdout)}
    kept.write_text(json.dumps(figures, indent=1))
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--octet", type=Path, default=ROOT / "build/release/bin/octet")
    parser.add_argument("--work", type=Path, default=ROOT / "build/quantizers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--samples-file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return llm_compressor(options)
    if not options.calibrate or not options.data:
        parser.error("--calibrate and --data are needed")
    options.work.mkdir(parents=True, exist_ok=True)
    options.samples_file = options.work / "samples.jsonl"
    write_samples(options)
    print("| scheme | tool | time, s | peak memory, MB | perplexity | KL | top-1 |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for scheme in options.schemes.split(","):
        for contender, command in (("octet", octet_command), ("llm-compressor", peer_command)):
            figures = measure(options, scheme, contender, command)
            compare, model = figures["compare"], figures["compare"]["b"]
            print(f"| {scheme} | {contender} | {figures['seconds']:.0f} | {figures['peak_bytes'] / 1e6:.0f} | "
                  f"{model['perplexity']:.2f} ± {model['perplexity_standard_error']:.2f} | {compare['kl_mean']:.4f} | "
                  f"{100 * compare['top1_agreement']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
