# SPDX-License-Identifier: Apache-2.0
"""What the comparisons share: contenders in processes of their own that take turns, the octet program, the files that
are kept between runs."""

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What PyTorch and oneDNN read besides CPUID, MKL's own switch, CTranslate2's, and Octet's.
AVX2_ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "CT2_FORCE_CPU_ISA": "AVX2",
    "OCTET_ISA": "avx2",
}


class Missing(Exception):
    """A contender cannot run here; the message says why."""


def need(*modules):
    """Imports modules by name; Missing names the first that is not installed."""
    try:
        imported = [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise Missing(f"{error.name} is not installed") from error
    return imported[0] if len(imported) == 1 else imported


def anonymous_bytes():
    """Memory of this process that no file stands behind."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def random_ids(options, count):
    """Ids [batch, count] past the special tokens, the same in every process."""
    import numpy as np

    vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
    return np.random.default_rng(1).integers(5, vocabulary, (options.batch, count), dtype=np.int32)


def kept(path, options, script, make):
    """The file or folder `path`, made by make(unfinished path) if it is missing or older than the model or script."""
    sources = (options.model / "config.json", Path(script), *options.model.glob("*.safetensors"))
    if not path.exists() or path.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        # A run that was broken off leaves nothing that looks whole.
        unfinished = path.with_name(f"part-{path.name}")
        for old in (unfinished, path):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        make(unfinished)
        unfinished.rename(path)
    return path


def convert_for_ctranslate2(model, folder):
    """The model as CTranslate2 stores it, in the checkpoint's own precision."""
    from ctranslate2.converters import TransformersConverter
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    TransformersConverter(str(model)).convert(str(folder))


# Workers: a process a contender. Its first line says what it is; then a line on stdin asks for that many repetitions
# and is answered with a line of JSON.


def serve(prepare):
    """The worker's side. `prepare` gives the first line's facts and a function that measures so many repetitions."""
    # What an engine prints, in C++ too, is not an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        facts, measure = prepare()
    except Missing as error:
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(int(line))), file=answers, flush=True)


class Worker:
    def __init__(self, script, arguments, environment):
        pipe = subprocess.PIPE
        command = [sys.executable, str(script), *sys.argv[1:], *arguments]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.first = self.read()
        if "missing" in self.first:
            raise Missing(self.first["missing"])

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Missing(f"stopped with status {self.process.wait()} (its messages are above)")
        return json.loads(line)

    def round(self, repetitions):
        print(repetitions, file=self.process.stdin, flush=True)
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Octet:
    """The program with a model; every use is a run of it."""

    def __init__(self, options, extra, environment):
        self.program = shutil.which(options.octet)
        if not self.program:
            raise Missing(f"{options.octet} is not there; build it or name it with --octet")
        self.model = [str(options.model), *extra, "--threads", str(options.threads)]
        self.environment = environment

    def run(self, command, *arguments):
        done = subprocess.run([self.program, command, *self.model, *arguments], capture_output=True, text=True,
                              env=self.environment)
        if done.returncode != 0:
            raise Missing(f"octet {command} failed: {done.stderr.strip()}")
        return done.stdout

    def bench(self, options, repetitions, *extra):
        sizes = ["--batch", str(options.batch), "--seq", str(options.seq), *extra]
        runs = ["--warm-up", "1", "--repetitions", str(repetitions)]
        return json.loads(self.run("bench", *sizes, *runs, "--json"))

    def outputs(self, ids, output):
        """What `octet logits` writes for the ids in a file, and the milliseconds that the program took."""
        import numpy as np

        start = time.perf_counter()
        self.run("logits", "--ids", str(ids), "--out", str(output))
        elapsed = time.perf_counter() - start
        return np.load(output), 1e3 * elapsed

    def close(self):
        pass


# The comparison.


def environment_for(isa, work):
    """The contenders' environment; for "avx2" one that hides newer instruction sets from them."""
    if isa != "avx2":
        return dict(os.environ)
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        raise SystemExit("--isa avx2 needs a C compiler; set CC")
    library = (work / "libcpuid_mask.so").resolve()
    flags = ["-O2", "-shared", "-fPIC", "-Wl,-z,initfirst"]
    subprocess.run([compiler, *flags, "-o", str(library), str(HERE / "cpuid_mask.c")], check=True)
    if subprocess.run(["true"], env=os.environ | {"LD_PRELOAD": str(library)}).returncode != 0:
        raise SystemExit("--isa avx2 needs a CPU and kernel with CPUID faulting (cpuid_fault in /proc/cpuinfo)")
    return os.environ | AVX2_ENVIRONMENT | {"LD_PRELOAD": str(library)}


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def add_options(parser, known, engines):
    """The options of every comparison: who takes part, where things are, what is printed."""
    parser.add_argument("--contenders", default=",".join(known),
                        help="comma-separated, 'octet*' for all that begin so; default: all")
    parser.add_argument("--octet", default="build/release/bin/octet", help="the octet program")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="folder that keeps converted models")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    parser.add_argument("--worker", choices=engines, help=argparse.SUPPRESS)


def chosen(parser, text, known):
    """The contenders that --contenders names; a name may end in * for all that begin so."""
    names = []
    for pattern in text.split(","):
        prefix = pattern.removesuffix("*")
        found = [name for name in known if name == pattern or (pattern != prefix and name.startswith(prefix))]
        if not found:
            parser.error(f"unknown contender '{pattern}'; known: {', '.join(known)}")
        names += [name for name in found if name not in names]
    return names


def start(names, make):
    """The contenders that can run here, by name; the others are left out with a line."""
    contenders = {}
    for name in names:
        try:
            contenders[name] = make(name)
        except Missing as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
    if not contenders:
        raise SystemExit("no contender can run here")
    return contenders


def race(contenders, rounds, repetitions):
    """Figures of each contender's rounds. They take turns, so that a slow spell of the machine falls on all."""
    figures = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            figures[name].append(contender.round(repetitions))
            time.sleep(0.25)  # a thread pool spins for a while after its last task
    for contender in contenders.values():
        contender.close()
    return figures
