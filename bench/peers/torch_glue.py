# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes an encoder on a task of GLUE with PyTorch and transformers, as examples/glue_float.json does with Octet, and
quantizes it with torch.ao.quantization.quantize_dynamic.

    python bench/peers/torch_glue.py MODEL --task mrpc --data GLUE/MRPC --out FILE [--seed 1]

Writes accuracy, F1, Matthews' coefficient, the milliseconds of eight texts of 128 tokens, and all predictions of the
validation file, as bench/qat.py reads them.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

ROOT = Path(__file__).resolve().parent.parent.parent
# Columns of the texts and of the label.
COLUMNS = {"mrpc": ("#1 String", "#2 String", "Quality"), "rte": ("sentence1", "sentence2", "label"),
           "sst2": ("sentence", None, "label")}
# By which the best epoch is chosen; accuracy for the others.
BEST = {"mrpc": "f1"}
NAMES = {"entailment": 0, "not_entailment": 1}


def read(task, path):
    first, second, label = COLUMNS[task]
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row[first], row[second] if second else None, NAMES.get(row[label], row[label])) for row in rows]


def scores(said):
    pairs = [(line["label"], line["predicted"]) for line in said]
    hits, false_alarms, misses, rest = (pairs.count(p) for p in ((1, 1), (0, 1), (1, 0), (0, 0)))
    spread = (hits + false_alarms) * (hits + misses) * (rest + false_alarms) * (rest + misses)
    return {"accuracy": (hits + rest) / len(pairs), "f1": 2 * hits / max(1, 2 * hits + false_alarms + misses),
            "matthews": (hits * rest - false_alarms * misses) / math.sqrt(spread) if spread else 0.0}


class Tuning:
    def __init__(self, options):
        self.options = options
        self.config = json.loads((ROOT / "examples" / "glue_float.json").read_text())
        self.tokenizer = AutoTokenizer.from_pretrained(options.model)
        rate = self.config["dropout"]
        self.model = AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=2, dtype=torch.float32, hidden_dropout_prob=rate,
            attention_probs_dropout_prob=rate)

    def batch(self, rows):
        second = [row[1] for row in rows] if rows[0][1] is not None else None
        texts = self.tokenizer([row[0] for row in rows], second, padding=True, truncation=True,
                               max_length=self.config["max_length"], return_tensors="pt")
        return texts, torch.tensor([int(row[2]) for row in rows])

    def train(self):
        config, rows = self.config, read(self.options.task, self.options.data / "train.tsv")
        size = config["batch_size"]
        steps = config["epochs"] * -(-len(rows) // size)
        groups = [{"params": [p for p in self.model.parameters() if (p.ndim > 1) == decays],
                   "weight_decay": config["weight_decay"] if decays else 0.0} for decays in (True, False)]
        optimizer = torch.optim.AdamW(groups, lr=config["learning_rate"])
        schedule = get_linear_schedule_with_warmup(optimizer, int(config["warmup_ratio"] * steps), steps)
        for epoch in range(config["epochs"]):
            self.model.train()
            order = torch.randperm(len(rows)).tolist()
            for first in range(0, len(rows), size):
                texts, labels = self.batch([rows[i] for i in order[first:first + size]])
                self.model(**texts, labels=labels).loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), config["max_grad_norm"])
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            # Octet keeps the best epoch's model; so does this.
            yield {name: value.clone() for name, value in self.model.state_dict().items()}

    def judge(self, model):
        rows, said = read(self.options.task, self.options.data / "dev.tsv"), []
        model.eval()
        with torch.inference_mode():
            for first in range(0, len(rows), 32):
                texts, labels = self.batch(rows[first:first + 32])
                said += [{"label": label, "predicted": predicted}
                         for label, predicted in zip(labels.tolist(), model(**texts).logits.argmax(1).tolist())]
            ids = torch.randint(1000, 2000, (8, 128))
            times = []
            for _ in range(6):
                begin = time.perf_counter()
                model(input_ids=ids)
                times.append(1e3 * (time.perf_counter() - begin))
        return {"figures": scores(said) | {"bench": {"min_ms": min(times)}, "bytes": 0}, "predictions": said}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", choices=COLUMNS, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tuning = Tuning(options)
    best, kept = None, None
    for weights in tuning.train():
        judged = tuning.judge(tuning.model)
        print(options.task, json.dumps(judged["figures"]), flush=True)
        metric = BEST.get(options.task, "accuracy")
        if best is None or judged["figures"][metric] > best["figures"][metric]:
            best, kept = judged, weights
    tuning.model.load_state_dict(kept)
    quantized = torch.ao.quantization.quantize_dynamic(tuning.model, {torch.nn.Linear}, dtype=torch.qint8)
    options.out.write_text(json.dumps({"PyTorch": best, "PyTorch, dynamic INT8": tuning.judge(quantized)}))


if __name__ == "__main__":
    main()
