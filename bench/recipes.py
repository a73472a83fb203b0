# SPDX-License-Identifier: Apache-2.0
"""Measures what recipes do to one model: accuracy, bytes, speed, and the time that quantizing takes.

    python3 bench/recipes.py MODEL --calibrate TEXT --data TEXT [--recipes fp32,w8a16,…] [--set KEY=VALUE …]

A decoder is judged by its perplexity on --data and by the KL divergence and top-1 agreement of its predictions with the
float model's; an encoder by the relative error of its outputs on the lines of --data and, where --pairs names a tsv of
sentence pairs (MRPC), by the accuracy and AUC of their cosines. With --pytorch the encoder's dynamic INT8 in PyTorch
(torch.ao.quantization.quantize_dynamic) and its fp32 stand beside. Quantized directories are kept in --work, and so are
figures: a second run measures only what is missing. Prints a table in Markdown; every command is printed on stderr.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DECODER = ("fp32,w8a16,w8a8_dynamic,w8a8_smoothquant,w8a8_static,w8a8_smoothquant_static,w4a16_g128,w4a16_g128_hqq,"
           "w4a16_g128_awq,w4a16_g128_gptq,w4a8_g128_dynamic,w4a8_g128_gptq")
ENCODER = "fp32,w8a16,w8a8_dynamic,w8a8_smoothquant,w8a8_static,w8a8_static+attention=8,w4a16_g128,w4a8_g128_dynamic"


class Bench:
    def __init__(self, options):
        self.options = options
        self.decoder = json.loads((options.model / "config.json").read_text())["model_type"] not in (
            "bert", "roberta", "distilbert", "electra")
        options.work.mkdir(parents=True, exist_ok=True)

    def octet(self, *arguments):
        command = [str(self.options.octet), *map(str, arguments)]
        print("$", *command, file=sys.stderr)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def json(self, *arguments):
        return json.loads(self.octet(*arguments, "--json"))

    def measure(self, name):
        kept = self.options.work / f"{name}.json"
        if kept.exists():
            return json.loads(kept.read_text())
        figures = {}
        model = self.options.model
        if name != "fp32":
            recipe, *changes = name.split("+")
            model = self.options.work / name
            changes = [word for change in changes + self.options.set for word in ("--set", change)]
            data = ["--data", self.options.calibrate] if self.needs_data(recipe) else []
            begin = time.monotonic()
            self.octet("quantize", self.options.model, "--recipe", recipe, *changes, *data, "--out", model)
            figures["quantize_s"] = time.monotonic() - begin
        compared = self.json("compare", self.options.model, model, "--data", self.options.data, *self.limits())
        figures["compare"] = compared
        if self.options.pairs:
            figures["pairs"] = self.json("eval", model, "--task", "similarity", "--data", self.options.pairs)
        figures["bench"] = self.json("bench", model)
        kept.write_text(json.dumps(figures, indent=1))
        return figures

    def needs_data(self, recipe):
        return any(word in recipe for word in ("static", "smoothquant", "gptq", "awq")) or recipe.endswith(".json")

    def limits(self):
        limit = ["--limit", self.options.limit] if self.options.limit else []
        return ["--window", self.options.window, *limit] if self.decoder else limit

    def row(self, name, figures):
        compared, bench = figures["compare"], figures["bench"]
        seconds = f"{figures['quantize_s']:.0f}" if "quantize_s" in figures else ""
        megabytes = f"{compared['b']['bytes'] / 1e6:.0f}"
        if self.decoder:
            b = compared["b"]
            return [name, f"{b['perplexity']:.2f} ± {b['perplexity_standard_error']:.2f}",
                    f"{compared['perplexity_ratio']:.4f}", f"{compared['kl_mean']:.4f}",
                    f"{100 * compared['top1_agreement']:.1f} %", megabytes, f"{bench['decode_tokens_per_s']:.0f}",
                    f"{bench['prefill_tokens_per_s']:.0f}", seconds]
        pairs = figures.get("pairs")
        return [name, f"{100 * pairs['accuracy']:.2f}" if pairs else "", f"{100 * pairs['auc']:.2f}" if pairs else "",
                f"{100 * compared['relative_error']:.2f} %", megabytes,
                f"{bench['min_ms']:.1f} / {bench['median_ms']:.1f}", seconds]

    def heads(self):
        if self.decoder:
            return ["recipe", "perplexity", "of fp32's", "KL, nats", "top-1", "MB", "decoding, tokens/s",
                    "prefill, tokens/s", "quantizing, s"]
        return ["recipe", "accuracy", "AUC", "error", "MB", "ms, 8 × 128", "quantizing, s"]


def pytorch_rows(options):
    """Accuracy and AUC of cosines by PyTorch, in fp32 and by its dynamic INT8, as `octet eval --task similarity` takes
    them: the best threshold's accuracy."""
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_grad_enabled(False)
    rows = [line.rstrip("\n").split("\t") for line in open(options.pairs, encoding="utf-8-sig")][1:]
    labels = np.array([int(row[0]) for row in rows])
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModel.from_pretrained(options.model, dtype=torch.float32).eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    def vectors(network, texts):
        out = []
        for first in range(0, len(texts), 8):
            batch = tokenizer(texts[first:first + 8], padding=True, truncation=True, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            mean = (network(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            out.append(torch.nn.functional.normalize(mean))
        return torch.cat(out)

    for name, network in (("PyTorch fp32", model), ("PyTorch dynamic INT8", quantized)):
        cosines = (vectors(network, [row[3] for row in rows]) * vectors(network, [row[4] for row in rows])).sum(1).numpy()
        accuracy = max(np.mean((cosines >= threshold) == labels) for threshold in [*cosines, np.inf])
        above, below = cosines[labels == 1], cosines[labels == 0]
        auc = np.mean((above[:, None] > below) + 0.5 * (above[:, None] == below))
        yield [name, f"{100 * accuracy:.2f}", f"{100 * auc:.2f}", "", "", "", ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibrate", type=Path, help="text (or tsv) that recipes with data are calibrated on")
    parser.add_argument("--data", type=Path, required=True, help="text that outputs are compared on")
    parser.add_argument("--pairs", type=Path, help="a tsv of sentence pairs in MRPC's columns")
    parser.add_argument("--pytorch", action="store_true")
    parser.add_argument("--recipes", help="names with commas between them; NAME+KEY=VALUE changes one")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for every recipe")
    parser.add_argument("--window", default="512")
    parser.add_argument("--limit", help="windows or lines of --data (default: all)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/recipes")
    parser.add_argument("--octet", type=Path, default=ROOT / "build/release/bin/octet")
    options = parser.parse_args()
    if options.pytorch and not options.pairs:
        parser.error("--pytorch needs --pairs")
    bench = Bench(options)
    names = (options.recipes or (DECODER if bench.decoder else ENCODER)).split(",")
    for line in (bench.heads(), ["---"] * len(bench.heads())):
        print("|", " | ".join(line), "|")
    for name in names:
        print("|", " | ".join(bench.row(name, bench.measure(name))), "|", flush=True)
    if options.pytorch:
        for row in pytorch_rows(options):
            print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
