# SPDX-License-Identifier: Apache-2.0
"""Times a BERT-family encoder in Octet and other engines side by side, on the same weights, and shows each one's error.

    python encoder.py MODEL [--batch 8] [--seq 128] [--threads 2] [--text FILE] [--isa avx2]

MODEL is a directory in the Hugging Face layout. Each contender has a process of its own. A round gives each of them a
handful of forwards in turn while the others wait, so that a slow spell of the machine falls on all; the table shows
the fastest forward of all rounds and the median of the rounds' medians. Sequences are full length, no token is masked.
A contender that is not installed or not built is left out, with a line that says so.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import contest
from contest import Missing
from encoder_engines import ENGINES, prepare

RECIPES = ("w8a16", "w8a8_dynamic", "w4a8_g128_dynamic")
INT8_ATTENTION = ("w8a8_dynamic", "w4a8_g128_dynamic")
OCTET = {"octet fp32": [],
         **{f"octet {recipe}": ["--recipe", recipe] for recipe in RECIPES},
         **{f"octet {recipe} attention=8": ["--recipe", recipe, "--set", "attention=8"] for recipe in INT8_ATTENTION}}
FP32_BOUND = 1e-3  # relative error between two engines' fp32: more, and they run different models


def is_fp32(name):
    return name.endswith(" fp32")


def make_ids(options):
    """Ids [batch, seq]: of a text, each sequence in the special tokens that the tokenizer adds; or random ones."""
    import numpy as np

    if not options.text:
        return contest.random_ids(options, options.seq)
    tokenizers = contest.need("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    first, last = tokenizer.encode("").ids
    words = tokenizer.encode(options.text.read_text(), add_special_tokens=False).ids
    inside = options.seq - 2
    if len(words) < options.batch * inside:
        raise SystemExit(f"{options.text}: has {len(words)} tokens, and {options.batch * inside} are needed")
    parts = [words[i * inside : (i + 1) * inside] for i in range(options.batch)]
    return np.array([[first, *part, last] for part in parts], np.int32)


class Worker(contest.Worker):
    def __init__(self, name, scratch, environment):
        super().__init__(__file__, ["--worker", name, "--scratch", str(scratch)], environment)
        self.output = Path(self.first["output"])

    def hidden(self):
        import numpy as np

        return np.load(self.output)


def worker(options):
    import numpy as np

    def ready():
        forward = prepare(options.worker, options, np.load(options.scratch / "ids.npy"))
        output = options.scratch / f"{options.worker}.npy"
        np.save(output, forward())

        def measure(forwards):
            times = []
            forward()  # wakes the threads, fills the caches
            for _ in range(forwards):
                start = time.perf_counter()
                forward()
                times.append(1e3 * (time.perf_counter() - start))
            return {"min_ms": min(times), "median_ms": statistics.median(times)}

        return {"output": str(output)}, measure

    contest.serve(ready)


class Octet(contest.Octet):
    """`octet bench` measures by itself; a round is one run of it, which loads and quantizes the model before."""

    def __init__(self, name, options, scratch, environment):
        super().__init__(options, OCTET[name], environment)
        self.options, self.scratch = options, scratch
        self.round(1)

    def hidden(self):
        return self.outputs(self.scratch / "ids.npy", self.scratch / "octet.npy")[0]

    def round(self, forwards):
        return self.bench(self.options, forwards)


def errors(contenders):
    """Relative error of each contender's last hidden state, √(Σ(y - fp32)² / Σ fp32²), and whose fp32 that is."""
    import numpy as np

    order = filter(is_fp32, ("pytorch fp32", *ENGINES, *OCTET))
    reference = next((name for name in order if name in contenders), None)
    if not reference:
        return None, dict.fromkeys(contenders)
    expected = contenders[reference].hidden().astype(np.float64)
    found = {}
    for name, contender in contenders.items():
        found[name] = float(np.linalg.norm(contender.hidden() - expected) / np.linalg.norm(expected))
        if is_fp32(name) and not found[name] < FP32_BOUND:
            raise SystemExit(f"{name} and {reference} differ by {found[name]:.2g} on the same input")
    return reference, found


def summary(rounds, error):
    """One row a contender, with its times in those of the fastest peer in fp32 and in INT8."""
    results = []
    for name, figures in rounds.items():
        results.append({"contender": name, "min_ms": min(f["min_ms"] for f in figures),
                        "median_ms": statistics.median(f["median_ms"] for f in figures), "error": error[name]})
    peers = [row for row in results if row["contender"] in ENGINES]
    for kind in ("fp32", "int8"):
        for figure in ("min", "median"):
            times = [row[f"{figure}_ms"] for row in peers if is_fp32(row["contender"]) == (kind == "fp32")]
            for row in results:
                row[f"{figure}_of_{kind}"] = row[f"{figure}_ms"] / min(times) if times else None
    return results


def print_table(results):
    digits = 1 if min(row["min_ms"] for row in results) >= 10 else 3
    print(f"{'':<22}{'time, ms':^20}{'of the fastest fp32 peer':>28}{'of the fastest INT8 peer':>28}{'error':>10}")
    print(f"{'contender':<22}{'min':>10}{'median':>10}" + 2 * f"{'min':>18}{'median':>10}")
    for row in results:
        line = f"{row['contender']:<22}{row['min_ms']:>10.{digits}f}{row['median_ms']:>10.{digits}f}"
        for kind in ("fp32", "int8"):
            for figure, width in (("min", 18), ("median", 10)):
                ratio = row[f"{figure}_of_{kind}"]
                line += f"{ratio:>{width}.2f}" if ratio else f"{'-':>{width}}"
        print(line + ("" if row["error"] is None else f"{100 * row['error']:>9.{1 if row['error'] > 1e-4 else 4}f}%"))


def parse_options():
    known = [*ENGINES, *OCTET]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="encoder directory in the Hugging Face layout")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--forwards", type=int, default=5, help="timed forwards of each contender in a round")
    parser.add_argument("--text", type=Path, help="a text whose tokens are the input (default: random tokens)")
    parser.add_argument("--mask", action=argparse.BooleanOptionalAction, default=False,
                        help="give the other engines an attention mask of ones, which they then compute with")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native",
                        help="avx2: hide AVX-512, AVX-VNNI and AMX from every contender")
    contest.add_options(parser, known, ENGINES)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.batch, options.seq - 2, options.threads, options.rounds, options.forwards) < 1:
        parser.error("counts must be at least 1, and --seq at least 3")
    options.names = contest.chosen(parser, options.contenders, known)
    return options


def main():
    options = parse_options()
    if options.worker:
        worker(options)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    environment = contest.environment_for(options.isa, options.work)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        try:
            contest.need("numpy").save(scratch / "ids.npy", make_ids(options))
        except Missing as missing:
            raise SystemExit(f"the comparison cannot start: {missing}") from missing

        def make(name):
            if name in OCTET:
                return Octet(name, options, scratch, environment)
            return Worker(name, scratch, environment)

        contenders = contest.start(options.names, make)
        reference, error = errors(contenders)
        results = summary(contest.race(contenders, options.rounds, options.forwards), error)

    model, tokens = options.model.resolve().name, options.text.name if options.text else "random"
    if options.json:
        facts = {key: getattr(options, key) for key in ("batch", "seq", "threads", "rounds", "mask", "isa")}
        facts |= {"cpu": contest.cpu_name(), "tokens": tokens, "error_reference": reference}
        print(json.dumps({"model": model, **facts, "results": results}, indent=2))
        return
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    print(f"{model}, {options.batch} × {options.seq} tokens ({tokens}), {threads}, "
          f"{'with a mask of ones' if options.mask else 'no mask'}, {contest.cpu_name()}, ISA {options.isa}, "
          f"{options.rounds} rounds")
    if reference:
        print(f"error: relative RMS difference of the last hidden state from that of {reference}")
    print_table(results)


if __name__ == "__main__":
    main()
