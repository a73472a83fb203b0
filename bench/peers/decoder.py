# SPDX-License-Identifier: Apache-2.0
"""Times a Llama decoder in llama.cpp, CTranslate2 and Octet side by side, on the same weights.

    python decoder.py MODEL [--batch 1] [--seq 512] [--new-tokens 128] [--threads 2]

MODEL is a directory in the Hugging Face layout. From it this script writes a GGUF file in F32, which llama.cpp
quantizes, and CTranslate2's form; Octet reads the directory itself. A round gives each contender in turn its
repetitions (prefill of --seq tokens, then --new-tokens decoding steps) and one load, while the others wait, so that a
slow spell of the machine falls on all. The table shows the best figure of all rounds and the median of the rounds'
medians. A contender that is not installed or not built is left out, with a line that says so.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import contest
import decoder_ctranslate2
import decoder_llama_cpp
from contest import Missing

BASELINE = "llama.cpp Q8_0"
ENGINES = {f"llama.cpp {kind}": (decoder_llama_cpp.Engine, kind) for kind in decoder_llama_cpp.KINDS} | {
    "ctranslate2 fp32": (decoder_ctranslate2.Engine, "float32"),
    "ctranslate2 int8": (decoder_ctranslate2.Engine, "int8_float32"),
}
RECIPES = ("w8a16", "w8a8_dynamic", "w4a16_g32", "w4a8_g32_dynamic", "w4a8_g128_dynamic")
INT8_ATTENTION = ("w8a8_dynamic", "w4a8_g128_dynamic")
# The others quantize the embedding table too, so Octet is asked to.
OCTET = {"octet fp32": []} | {
    f"octet {recipe}": ["--recipe", recipe, "--set", "embeddings=8"] for recipe in RECIPES
} | {
    f"octet {recipe} attention=8": ["--recipe", recipe, "--set", "embeddings=8", "--set", "attention=8"]
    for recipe in INT8_ATTENTION
}
FP32 = ("llama.cpp F32", "ctranslate2 fp32")
AGREEMENT = 0.02  # of the logits' range; llama.cpp keeps keys and values in fp16


def check_ids(options):
    return contest.random_ids(options, min(32, options.seq))[:1]


def worker(options):
    def ready():
        kind, argument = ENGINES[options.worker]
        before = contest.anonymous_bytes()
        engine = kind(argument, options)
        facts = {"system": engine.system}
        if options.worker in FP32:
            facts["logits"] = engine.logits(check_ids(options))
        prompts, steps = contest.random_ids(options, options.seq), contest.random_ids(options, options.new_tokens)
        tokens = options.batch * options.seq, options.batch * options.new_tokens

        def measure(repetitions):
            load = engine.load(prompts)
            engine.run(prompts, steps[:, :1])  # wakes the threads, fills the caches
            times = [engine.run(prompts, steps) for _ in range(repetitions)]
            figures = {"load_ms": load, "anonymous_bytes": contest.anonymous_bytes() - before}
            for part, count, seconds in zip(("prefill", "decode"), tokens, zip(*times)):
                figures[f"{part}_best"] = count / min(seconds)
                figures[f"{part}_median"] = count / statistics.median(seconds)
            return figures

        return facts, measure

    contest.serve(ready)


class Octet(contest.Octet):
    """`octet bench` measures by itself, on what `octet quantize` wrote; a round is one run of it, and one of `octet
    logits` on one token for the load."""

    def __init__(self, name, options, environment):
        super().__init__(options, [], environment)
        self.options = options
        if OCTET[name]:
            def quantize(folder):
                self.run("quantize", *OCTET[name], "--out", str(folder))

            stem = f"{options.model.resolve().name}-{name.removeprefix('octet ').replace(' ', '-')}"
            self.model[0] = str(contest.kept(options.work / stem, options, self.program, quantize))
        self.first = {"system": self.decode(1)["backend"]}

    def decode(self, repetitions):
        return self.bench(self.options, repetitions, "--decode-tokens", str(self.options.new_tokens))

    def logits(self, ids):
        """Logits of ids [1, tokens]: [tokens][vocabulary]; and the milliseconds the program took."""
        import numpy as np

        with tempfile.TemporaryDirectory() as scratch:
            inputs = Path(scratch) / "ids.npy"
            np.save(inputs, ids)
            values, elapsed = self.outputs(inputs, Path(scratch) / "out.npy")
            return values[0], elapsed

    def round(self, repetitions):
        load = self.logits(check_ids(self.options)[:, :1])[1]
        figures = self.decode(repetitions)
        rounds = {"load_ms": load, "anonymous_bytes": figures["anonymous_bytes"]}
        for part in ("prefill", "decode"):
            median = figures[f"{part}_tokens_per_s"]
            rounds[f"{part}_median"] = median
            rounds[f"{part}_best"] = median * figures[f"{part}_median_ms"] / figures[f"{part}_min_ms"]
        return rounds


def differences(contenders, options):
    """How far each other engine's fp32 logits are from Octet's, in parts of their range. All must compute the same
    model, or the comparison is of different ones."""
    import numpy as np

    ours = contenders.get("octet fp32")
    others = {name: contenders[name].first["logits"] for name in FP32 if name in contenders}
    if not ours or not others:
        return {}
    expected = ours.logits(check_ids(options))[0]
    found = {name: float(np.abs(expected - logits).max() / np.ptp(expected)) for name, logits in others.items()}
    for name, difference in found.items():
        if not difference < AGREEMENT:
            raise SystemExit(f"octet fp32 and {name} differ by {difference:.2g} of the range on the same input")
    return found


def summary(rounds):
    """One row a contender: the best of all rounds, the median of the rounds' medians, ratios to the baseline."""
    results = []
    for name, figures in rounds.items():
        row = {"contender": name}
        for part in ("prefill", "decode"):
            row[f"{part}_best"] = max(f[f"{part}_best"] for f in figures)
            row[f"{part}_median"] = statistics.median(f[f"{part}_median"] for f in figures)
        row["load_min_ms"] = min(f["load_ms"] for f in figures)
        row["load_median_ms"] = statistics.median(f["load_ms"] for f in figures)
        row["anonymous_bytes"] = max(f["anonymous_bytes"] for f in figures)
        results.append(row)
    base = next((row for row in results if row["contender"] == BASELINE), None)
    for row in results:
        for figure in ("prefill_best", "prefill_median", "decode_best", "decode_median"):
            row[f"{figure}_ratio"] = row[figure] / base[figure] if base else None
    return results


def print_table(results):
    width = max(len("contender"), *(len(row["contender"]) for row in results))
    print(f"{'':<{width}}{'prefill, tokens/s':^32}{'decoding, tokens/s':^32}{'load, ms':>16}{'memory':>9}")
    print(f"{'contender':<{width}}" + 2 * f"{'best':>9}{'ratio':>7}{'median':>9}{'ratio':>7}" + f"{'min':>8}{'median':>8}{'MB':>9}")
    for row in results:
        line = f"{row['contender']:<{width}}"
        for figure in ("prefill_best", "prefill_median", "decode_best", "decode_median"):
            ratio = row[f"{figure}_ratio"]
            line += f"{row[figure]:>9.1f}" + (f"{ratio:>7.2f}" if ratio else f"{'-':>7}")
        print(line + f"{row['load_min_ms']:>8.0f}{row['load_median_ms']:>8.0f}{row['anonymous_bytes'] / 1e6:>9.0f}")


def parse_options():
    known = [*ENGINES, *OCTET]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Llama directory in the Hugging Face layout")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--new-tokens", type=int, default=128, help="decoding steps after it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=2, help="timed runs of each contender in a round")
    contest.add_options(parser, known, ENGINES)
    options = parser.parse_args()
    if min(options.batch, options.seq, options.new_tokens, options.threads, options.rounds, options.repetitions) < 1:
        parser.error("sizes and counts must be at least 1")
    options.names = contest.chosen(parser, options.contenders, known)
    return options


def main():
    options = parse_options()
    if options.worker:
        worker(options)
        return
    decoder_llama_cpp.read_config(options.model)
    options.work.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    try:
        contest.need("numpy")
    except Missing as missing:
        raise SystemExit(f"the comparison cannot start: {missing}") from missing

    def make(name):
        if name in OCTET:
            return Octet(name, options, environment)
        return contest.Worker(__file__, ["--worker", name], environment)

    contenders = contest.start(options.names, make)
    difference = differences(contenders, options)
    results = summary(contest.race(contenders, options.rounds, options.repetitions))
    systems = {name: contender.first["system"] for name, contender in contenders.items()}
    if options.json:
        facts = {key: getattr(options, key) for key in ("batch", "seq", "new_tokens", "threads", "rounds")}
        facts |= {"cpu": contest.cpu_name(), "systems": systems, "fp32_difference_of_range": difference}
        print(json.dumps({"model": options.model.resolve().name, **facts, "results": results}, indent=2))
        return
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    print(f"{options.model.resolve().name}, {options.batch} × {options.seq} tokens, then {options.new_tokens} each, "
          f"{threads}, {contest.cpu_name()}, {options.rounds} rounds; ratio: rate / rate of {BASELINE}")
    for name, part in difference.items():
        print(f"octet fp32 and {name} differ by {part:.1e} of the logits' range")
    for system in dict.fromkeys(systems.values()):
        print(f"  {system}")
    print_table(results)


if __name__ == "__main__":
    main()
