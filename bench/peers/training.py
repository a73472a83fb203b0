# SPDX-License-Identifier: Apache-2.0
"""Trains one model with Octet and with PyTorch: the same weights, batches and settings.

    python bench/peers/training.py MODEL --data TEXT [--batch 32] [--length 128] [--steps 8] [--rounds 3]
    python bench/peers/training.py MODEL --data TEXT --losses 50 [--plot FILE]

MODEL is a directory in the Hugging Face layout: an encoder learns to tell two classes apart, a decoder to go on with the
text. Rows of --length tokens are cut from --data, so that no token is padding. Without --losses the two take turns at
--steps steps of AdamW, each time in a new process: the table has tokens per second of the fastest and of the median run,
and the largest memory of the process. With --losses both take so many steps without dropout, in the same order, and the
table has the loss of each. Runs are kept in --work, which may be deleted.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

WARM_UP = 2  # steps before the clock of PyTorch starts; Octet's clock has all of its own
ADAMW = {"lr": 5e-5, "weight_decay": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}


def is_decoder(model):
    architectures = json.loads((model / "config.json").read_text()).get("architectures") or [""]
    return architectures[0].endswith(("CausalLM", "LMHeadModel"))


def write_rows(options, count):
    """`count` rows of --length tokens as a file that `octet train` reads, and the ids that it makes of them."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text = options.data.read_text()
    if is_decoder(options.model):
        ids = tokenizer.encode(text[:count * options.length * 16]).ids
        if len(ids) < (count + 1) * options.length:
            raise SystemExit(f"{options.data}: {len(ids)} tokens, {(count + 1) * options.length} are needed")
        path = options.work / "rows.txt"
        path.write_text(text[:count * options.length * 16])
        return path, None
    words, rows, at = text.split(), [], 0
    tokenizer.enable_truncation(options.length)
    while len(rows) < count:
        piece = " ".join(words[at:at + 2 * options.length])
        at += options.length
        ids = tokenizer.encode(piece).ids
        if at >= len(words):
            raise SystemExit(f"{options.data}: too short for {count} rows of {options.length} tokens")
        if len(ids) == options.length:
            rows.append((piece, ids))
    path = options.work / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((piece, i * 7 % 3 % 2) for i, (piece, _) in enumerate(rows))
    return path, [ids for _, ids in rows]


def octet_config(options, rows, steps, dropout):
    # Evaluation is not of interest, so it sees as little as it can.
    task = {"task": "lm", "documents": "whole"} if is_decoder(options.model) else {"task": "classification"}
    return task | {
        "model": str(options.model), "train_data": str(rows), "eval_data": str(rows), "max_length": options.length,
        "eval_limit": 1, "batch_size": options.batch, "epochs": 1, "max_steps": steps, "shuffle": False,
        "learning_rate": ADAMW["lr"], "weight_decay": ADAMW["weight_decay"], "schedule": "constant", "warmup_ratio": 0,
        "max_grad_norm": 1.0, "dropout": dropout, "eval_first": False, "log_steps": 1, "keep_checkpoints": 1,
        **json.loads(options.octet_config)}


def run(command):
    """What a command prints, and the largest resident memory that it had, in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return printed, usage.ru_maxrss * 1024


def train_octet(options, rows, steps, dropout, out):
    shutil.rmtree(out, ignore_errors=True)
    config = options.work / "octet.json"
    config.write_text(json.dumps(octet_config(options, rows, steps, dropout)))
    printed, memory = run([options.octet, "train", "--config", config, "--out", out, "--threads",
                           str(options.threads), "--json"])
    report = json.loads(printed)
    return {"rate": report["tokens"] / report["seconds"], "memory": memory}


def train_torch(options, rows_file, start, steps, dropout):
    printed, memory = run([sys.executable, __file__, str(options.model), "--data", str(options.data), "--one",
                           json.dumps({"rows": str(rows_file), "start": str(start), "steps": steps, "dropout": dropout}),
                           "--batch", str(options.batch), "--length", str(options.length), "--threads",
                           str(options.threads)])
    return json.loads(printed.splitlines()[-1]) | {"memory": memory}


def torch_worker(options):
    """PyTorch's part, in a process of its own: the training loop that its users write."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    job = json.loads(options.one)
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    rate = job["dropout"]
    if is_decoder(options.model):
        model = transformers.AutoModelForCausalLM.from_pretrained(job["start"], dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(job["start"])
        ids = torch.tensor(tokenizer(Path(job["rows"]).read_text(), verbose=False)["input_ids"])
        rows = ids[:len(ids) // options.length * options.length].view(-1, options.length)
        labels = rows
    else:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            job["start"], num_labels=2, dtype=torch.float32, hidden_dropout_prob=rate,
            attention_probs_dropout_prob=rate)
        tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
        with open(job["rows"], newline="") as file:
            lines = list(csv.DictReader(file))
        rows = tokenizer([line["text"] for line in lines], truncation=True, max_length=options.length,
                         return_tensors="pt")["input_ids"]
        labels = torch.tensor([int(line["label"]) for line in lines])
    model.train()
    plain = [p for n, p in model.named_parameters() if p.ndim < 2]
    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2]
    settings = {key: value for key, value in ADAMW.items() if key != "weight_decay"}
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": ADAMW["weight_decay"]},
                                   {"params": plain, "weight_decay": 0.0}], **settings)
    losses, begin = [], None
    for step in range(job["steps"]):
        if step == WARM_UP:
            begin = time.perf_counter()
        at = slice(step * options.batch, (step + 1) * options.batch)
        loss = model(input_ids=rows[at], labels=labels[at]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - begin
    tokens = (job["steps"] - WARM_UP) * options.batch * options.length
    print(json.dumps({"rate": tokens / seconds, "losses": losses}))


def logged_losses(out):
    with (out / "log.csv").open(newline="") as file:
        return [float(line["loss"]) for line in csv.DictReader(file)]


def speed(options):
    rows, _ = write_rows(options, options.batch * (options.steps + WARM_UP))
    runs = {"octet": [], "pytorch": []}
    for _ in range(options.rounds):
        runs["octet"].append(train_octet(options, rows, options.steps, options.dropout, options.work / "octet"))
        runs["pytorch"].append(train_torch(options, rows, options.model, options.steps + WARM_UP, options.dropout))
    table = {name: {"best": max(r["rate"] for r in measured), "median": statistics.median(r["rate"] for r in measured),
                    "memory": max(r["memory"] for r in measured)} for name, measured in runs.items()}
    if options.json:
        print(json.dumps(table))
        return
    print("| | tokens/s, best | tokens/s, median | memory, MB |\n|---|---:|---:|---:|")
    for name, row in table.items():
        print(f"| {name} | {row['best']:.0f} | {row['median']:.0f} | {row['memory'] / 1e6:.0f} |")
    a, b = table["octet"], table["pytorch"]
    print(f"| octet / pytorch | {a['best'] / b['best']:.2f} | {a['median'] / b['median']:.2f} "
          f"| {a['memory'] / b['memory']:.2f} |")


def losses(options):
    steps = options.losses
    rows, _ = write_rows(options, options.batch * steps)
    # A run of one step that keeps its first checkpoint: the weights that both start from, those of a new head too.
    first = options.work / "first"
    shutil.rmtree(first, ignore_errors=True)
    config = options.work / "octet.json"
    config.write_text(json.dumps(octet_config(options, rows, 1, 0) | {"keep_checkpoints": 2, "learning_rate": 0}))
    run([options.octet, "train", "--config", config, "--out", first, "--json"])
    train_octet(options, rows, steps, 0, options.work / "octet")
    ours = logged_losses(options.work / "octet")
    theirs = train_torch(options, rows, first / "checkpoint-0", steps, 0)["losses"]
    if options.plot:
        from matplotlib import pyplot
        pyplot.figure(figsize=(7, 4))
        pyplot.plot(range(1, steps + 1), theirs, linewidth=4, alpha=0.4, label="PyTorch")
        pyplot.plot(range(1, steps + 1), ours, linewidth=1, color="black", label="Octet")
        pyplot.xlabel("step")
        pyplot.ylabel("loss")
        pyplot.legend()
        pyplot.savefig(options.plot, dpi=120)
    if options.json:
        print(json.dumps({"octet": ours, "pytorch": theirs}))
        return
    print("| step | Octet | PyTorch | difference |\n|---:|---:|---:|---:|")
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
        if step in (1, 2, 5) or step % 10 == 0:
            print(f"| {step} | {a:.6f} | {b:.6f} | {a - b:+.1e} |")
    print(f"largest difference: {max(abs(a - b) for a, b in zip(ours, theirs, strict=True)):.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a text")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="of a run whose time is taken")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dropout", type=float, help="default: 0.1, and 0 for a decoder, which has none in PyTorch")
    parser.add_argument("--losses", type=int, default=0, help="compare the losses of so many steps instead")
    parser.add_argument("--plot", type=Path, help="with --losses: write a plot of them there")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--octet", default="build/release/bin/octet", help="the octet program")
    parser.add_argument("--octet-config", default="{}", help="JSON that is added to Octet's training config")
    parser.add_argument("--work", type=Path, default=Path("build/peers/training"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch_worker(options)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    if options.dropout is None:
        options.dropout = 0 if is_decoder(options.model) else 0.1
    (losses if options.losses else speed)(options)


if __name__ == "__main__":
    main()
