# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes a model on a task, quantizes it after training and in training, and judges all of them on the same examples.

    python3 bench/qat.py MODEL --task mrpc --data GLUE/MRPC [--seeds 1,2,3]
    python3 bench/qat.py MODEL --task squad --data SQUAD [--seeds 1]

For each seed: `octet train` with the task's config in examples/ (float), `octet quantize` of that (w8a8_dynamic, and
w8a8_static calibrated on training texts, without and with INT8 attention), `octet train` with the task's QAT config
from the float model on, which is its teacher too (QAT), and `octet lower` of that (lowered), whose predictions must be
those of the QAT model. The table has means over seeds, and of each row's score less the float one's the 95 % interval of
a paired bootstrap over examples. With --pytorch a model of
GLUE is fine-tuned with PyTorch and transformers too, and quantized with torch.ao.quantization.quantize_dynamic.
Runs are kept in --work; a second run of the script goes on where it was.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESAMPLES = 10_000


class Bench:
    def __init__(self, options, seed):
        self.options, self.seed = options, seed
        self.work = options.work / f"{options.task}-{seed}"
        self.work.mkdir(parents=True, exist_ok=True)

    def octet(self, *arguments):
        command = [str(self.options.octet), *map(str, arguments), "--threads", str(self.options.threads)]
        print("$", *command, file=sys.stderr)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def is_squad(self):
        return self.options.task == "squad"

    def train(self, kind, model, changes=()):
        out = self.work / kind
        if (out / "done").exists():
            return out / "best"
        config = ROOT / "examples" / f"{'squad' if self.is_squad() else 'glue'}_{kind}.json"
        settings = [f"model={model}", f"data={self.options.data}", f"seed={self.seed}", *changes]
        if not self.is_squad():
            settings.append(f"task={self.options.task}")
        words = [word for setting in settings for word in ("--set", setting)]
        self.octet("train", "--config", config, *words, "--out", out, *(["--resume"] if out.exists() else []))
        (out / "done").touch()
        return out / "best"

    def quantize(self, name, command, *arguments):
        out = self.work / name
        if not out.exists():
            self.octet(command, *arguments, "--out", out)
        return out

    def dev(self):
        return self.options.data / "dev.json" if self.is_squad() else self.options.data

    def judge(self, name, model, *arguments):
        """Figures of a model, and each example's score."""
        said = self.work / f"{name}.jsonl"
        figures = self.kept(f"{name}.json", "eval", model, "--task", self.options.task, "--data", self.dev(), *arguments,
                            "--predictions", said)
        figures["bench"] = self.kept(f"{name}_bench.json", "bench", model, *arguments, "--batch", 8, "--seq",
                                     384 if self.is_squad() else 128, "--repetitions", 10)
        figures["bytes"] = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        return figures, [json.loads(line) for line in said.read_text().splitlines()]

    def kept(self, name, *command):
        path = self.work / name
        if not path.exists():
            path.write_text(self.octet(*command, "--json"))
        return json.loads(path.read_text())

    def calibration(self):
        if not self.is_squad():
            return self.options.data / "train.tsv"
        path = self.work / "calibration.jsonl"
        if not path.exists():
            articles = json.loads((self.options.data / "train.json").read_text())["data"]
            paragraphs = [p for article in articles for p in article["paragraphs"]]
            chosen = random.Random(self.seed).sample(paragraphs, 256)
            path.write_text("".join(json.dumps({"text": p["qas"][0]["question"] + " " + p["context"]}) + "\n"
                                    for p in chosen))
        return path

    def run(self):
        trained = self.train("float", self.options.model)
        dynamic = self.quantize("ptq_dynamic", "quantize", trained, "--recipe", "w8a8_dynamic")
        by_texts = ["--recipe", "w8a8_static", "--data", self.calibration()]
        static = self.quantize("ptq_static", "quantize", trained, *by_texts)
        attention = self.quantize("ptq_attention", "quantize", trained, *by_texts, "--set", "attention=8")
        # What labels can teach, the float model knows: training goes on to say and think what that does.
        qat = self.train("qat", trained, [f"teacher={trained}", "distill_alpha=0.9", "distill_hidden=1",
                                           *self.options.set])
        lowered = self.quantize("lowered", "lower", qat)
        rows = {"float": self.judge("float", trained),
                "w8a8_dynamic": self.judge("ptq_dynamic", dynamic),
                "w8a8_static": self.judge("ptq_static", static),
                "w8a8_static, attention=8": self.judge("ptq_attention", attention),
                "QAT": self.judge("qat", qat, "--recipe", qat / "qat_recipe.json"),
                "lowered": self.judge("lowered", lowered)}
        if rows["QAT"][1] != rows["lowered"][1]:
            raise SystemExit(f"{lowered}: says something else than the model that was trained")
        if self.options.pytorch:
            rows |= self.pytorch()
        return rows

    def pytorch(self):
        kept = self.work / "pytorch.json"
        if not kept.exists():
            command = [sys.executable, str(ROOT / "bench" / "peers" / "torch_glue.py"), str(self.options.model),
                       "--task", self.options.task, "--data", str(self.options.data), "--seed", str(self.seed),
                       "--threads", str(self.options.threads), "--out", str(kept)]
            print("$", *command, file=sys.stderr)
            subprocess.run(command, check=True)
        return {name: (row["figures"], row["predictions"]) for name, row in json.loads(kept.read_text()).items()}


def score(line):
    return line["f1"] if "f1" in line else float(line["label"] == line["predicted"])


def interval(row, base):
    """The mean of row less base over seeds and examples, and the 95 % interval of a paired bootstrap over examples."""
    examples = len(base[0])
    differences = [statistics.fmean(score(r[i]) - score(b[i]) for r, b in zip(row, base, strict=True))
                   for i in range(examples)]
    draw = random.Random(1)
    means = sorted(statistics.fmean(draw.choices(differences, k=examples)) for _ in range(RESAMPLES))
    return statistics.fmean(differences), means[RESAMPLES // 40], means[-(RESAMPLES // 40) - 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", required=True, help="squad, or one of GLUE by classes: mrpc, rte, sst2, …")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the task's files")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="change a value of the config of training in 8 bits (with a --work of its own)")
    parser.add_argument("--pytorch", action="store_true", help="fine-tune with PyTorch too (GLUE)")
    parser.add_argument("--octet", default=ROOT / "build/release/bin/octet", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "build/qat")
    options = parser.parse_args()
    runs = [Bench(options, int(seed)).run() for seed in options.seeds.split(",")]
    metrics = ["f1", "exact_match"] if options.task == "squad" else ["accuracy", "f1", "matthews"]
    metrics = [m for m in metrics if all(m in run["float"][0] for run in runs)]
    print(f"| | {' | '.join(metrics)} | less float, points | 95 % interval | ms, 8 texts | MB |\n|---|{'---:|' * (len(metrics) + 4)}")
    for name in runs[0]:
        figures = [run[name][0] for run in runs]
        mean, low, high = interval([run[name][1] for run in runs], [run["float"][1] for run in runs])
        cells = [f"{statistics.fmean(f[m] for f in figures):.4f}" for m in metrics]
        cells += [f"{100 * mean:+.2f}", f"{100 * low:+.2f} to {100 * high:+.2f}"] if name != "float" else ["", ""]
        if "bench" in figures[0]:
            cells += [f"{min(f['bench']['min_ms'] for f in figures):.1f}", f"{figures[0]['bytes'] / 1e6:.1f}"]
        else:
            cells += ["", ""]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
