# SPDX-License-Identifier: Apache-2.0
"""Times a BERT-family encoder in ONNX Runtime, PyTorch and Octet side by side, on the same weights.

    python encoder.py MODEL [--batch 8] [--seq 128] [--threads 2] [--isa avx2]

MODEL is a directory in the Hugging Face layout. Each contender has a process of its own. A round gives each of them a
handful of forwards in turn while the others wait, so that a slow spell of the machine falls on all; the table shows
the fastest forward of all rounds and the median of the rounds' medians. Sequences are full length, no token is masked.
A contender that is not installed or not built is left out, with a line that says so.
"""

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASELINE = "onnxruntime fp32"
OCTET = {"octet fp32": None, "octet w8a16": "w8a16", "octet w8a8_dynamic": "w8a8_dynamic"}
WORKERS = (BASELINE, "onnxruntime int8", "pytorch fp32")
# What PyTorch and oneDNN read besides CPUID, MKL's own switch, and Octet's.
AVX2_ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OCTET_ISA": "avx2",
}


class Missing(Exception):
    """A contender cannot run here; the message says why."""


# The graph, written by hand in the form that was fastest in ONNX Runtime 1.32, with AVX2 and with AVX-512: linear
# layers are Gemm nodes with their bias on [tokens, width]; attention is MatMul, Softmax, MatMul; residual and
# normalization are Add and LayerNormalization. The fused nodes MultiHeadAttention, Attention and
# SkipLayerNormalization took longer, and so did what PyTorch's exporters write.


class Graph:
    """Collects the nodes and weights of an ONNX graph; every `add` returns the name of the node's output."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def add(self, kind, *inputs, domain="", output=None, **attributes):
        import onnx

        output = output or f"{kind}_{len(self.nodes)}"
        node = onnx.helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def weight(self, name, value):
        import onnx

        self.weights.append(onnx.numpy_helper.from_array(value, name))
        return name


def read_weights(model):
    """Tensors of all shards as float32 NumPy arrays, without the prefix of a model with a head."""
    import torch  # NumPy has no bf16
    from safetensors.torch import load_file

    tensors = {}
    for path in sorted(model.glob("*.safetensors")):
        tensors.update({name.removeprefix("bert."): t for name, t in load_file(path).items()})
    return {name: t.to(torch.float32).numpy() for name, t in tensors.items() if t.is_floating_point()}


def export(model, masked, path):
    """Writes the fp32 encoder as ONNX: input_ids [, attention_mask] int64 [batch, seq] → last_hidden_state."""
    import numpy as np
    import onnx

    config = json.loads((model / "config.json").read_text())
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise SystemExit(f"{model}: this benchmark knows BERT with hidden_act gelu only")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    tensors = read_weights(model)
    g = Graph()

    def constant(name, values):
        return g.weight(name, np.array(values, np.int64))

    def number(name, value):
        return g.weight(name, np.array(value, np.float32))

    def tensor(name):
        return g.weight(name, tensors[name])

    def add_and_normalize(x, residual, prefix):
        scale, bias = tensor(f"{prefix}.weight"), tensor(f"{prefix}.bias")
        epsilon = config["layer_norm_eps"]
        return g.add("LayerNormalization", g.add("Add", x, residual), scale, bias, axis=-1, epsilon=epsilon)

    def linear(x, prefix):
        return g.add("Gemm", x, tensor(f"{prefix}.weight"), tensor(f"{prefix}.bias"), transB=1)

    zero, one, two = constant("zero", [0]), constant("one", [1]), constant("two", [2])
    rows = constant("rows", [-1, width])
    shape = g.add("Shape", "input_ids")
    sequence = g.add("Slice", shape, one, two, zero)
    positions = g.add("Slice", tensor("embeddings.position_embeddings.weight"), zero, sequence, zero)
    types = g.weight("embeddings.token_type_0", tensors["embeddings.token_type_embeddings.weight"][:1])
    words = g.add("Gather", tensor("embeddings.word_embeddings.weight"), "input_ids")
    x = add_and_normalize(words, g.add("Add", positions, types), "embeddings.LayerNorm")
    x = g.add("Reshape", x, rows)
    split = g.add("Concat", shape, constant("width", [width]), axis=0)  # [batch, seq, width]
    split_heads = g.add("Concat", shape, constant("heads", [heads, width // heads]), axis=0)  # [batch, seq, heads, …]
    scale = number("scale", (width // heads) ** -0.5)
    if masked:  # 0 where kept, -10⁹ where not: [batch, 1, 1, seq]
        dropped = g.add("Sub", number("kept", 1), g.add("Cast", "attention_mask", to=onnx.TensorProto.FLOAT))
        mask_bias = g.add("Mul", g.add("Unsqueeze", dropped, constant("middle", [1, 2])), number("minus", -1e9))

    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"

        def by_head(part, axes):
            of_heads = g.add("Reshape", linear(x, f"{prefix}.attention.self.{part}"), split_heads)
            return g.add("Transpose", of_heads, perm=axes)

        q, k, v = by_head("query", [0, 2, 1, 3]), by_head("key", [0, 2, 3, 1]), by_head("value", [0, 2, 1, 3])
        scores = g.add("Mul", g.add("MatMul", q, k), scale)
        scores = g.add("Add", scores, mask_bias) if masked else scores
        attended = g.add("Transpose", g.add("MatMul", g.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        projected = linear(g.add("Reshape", attended, rows), f"{prefix}.attention.output.dense")
        x = add_and_normalize(projected, x, f"{prefix}.attention.output.LayerNorm")
        wide = g.add("Gelu", linear(x, f"{prefix}.intermediate.dense"), domain="com.microsoft")
        x = add_and_normalize(linear(wide, f"{prefix}.output.dense"), x, f"{prefix}.output.LayerNorm")
    g.add("Reshape", x, split, output="last_hidden_state")

    def describe(name, kind, shape):
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    names = ["input_ids"] + ["attention_mask"] * masked
    inputs = [describe(name, onnx.TensorProto.INT64, ["batch", "seq"]) for name in names]
    outputs = [describe("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "seq", width])]
    graph = onnx.helper.make_graph(g.nodes, "encoder", inputs, outputs, g.weights)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def cached_graph(options, int8):
    """Path of the fp32 or INT8 graph in the work folder, made if it is missing or older than the model."""
    config = options.model / "config.json"
    stem = f"{options.model.resolve().name}-{'masked' if options.mask else 'unmasked'}"
    newest = max(path.stat().st_mtime for path in (config, Path(__file__), *options.model.glob("*.safetensors")))
    fp32, quantized = options.work / f"{stem}-fp32.onnx", options.work / f"{stem}-int8.onnx"
    if not fp32.exists() or fp32.stat().st_mtime < newest:
        export(options.model, options.mask, fp32)
    if int8 and (not quantized.exists() or quantized.stat().st_mtime < fp32.stat().st_mtime):
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # Weights s8, one scale a column; activations u8, quantized at run time. Types behind the nodes of
        # com.microsoft, which ONNX's shape inference does not know, are float.
        logging.disable(logging.WARNING)
        quantize_dynamic(fp32, quantized, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                         weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
    return quantized if int8 else fp32


# Workers: one process a contender. A line on stdin asks for that many forwards; the answer is a line of JSON.


def make_ids(options):
    import numpy as np

    vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
    return np.random.default_rng(1).integers(5, vocabulary, (options.batch, options.seq))  # 5: past the special tokens


def onnxruntime_forward(options, int8):
    try:
        import numpy as np
        import onnx  # noqa: F401  (the export needs it)
        import onnxruntime
    except ImportError as error:
        raise Missing(f"{error.name} is not installed") from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = 3
    graph = cached_graph(options, int8)
    session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
    ids = make_ids(options)
    inputs = {"input_ids": ids} | ({"attention_mask": np.ones_like(ids)} if options.mask else {})
    return lambda: session.run(None, inputs)[0]


def pytorch_forward(options):
    try:
        import torch
        from transformers import BertModel
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise Missing(f"{error.name} is not installed") from error
    torch.set_num_threads(options.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    model = BertModel.from_pretrained(options.model, add_pooling_layer=False, dtype=torch.float32).eval()
    ids = torch.from_numpy(make_ids(options))
    inputs = {"input_ids": ids} | ({"attention_mask": torch.ones_like(ids)} if options.mask else {})

    def forward():
        with torch.inference_mode():
            return model(**inputs).last_hidden_state.numpy()

    return forward


def serve(options):
    try:
        if options.worker == "pytorch fp32":
            forward = pytorch_forward(options)
        else:
            forward = onnxruntime_forward(options, options.worker == "onnxruntime int8")
        output = forward()
    except Missing as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    # The mean over tokens is enough to see that two contenders compute the same model.
    print(json.dumps({"mean": output.mean(axis=1).tolist()}), flush=True)
    for line in sys.stdin:
        times = []
        forward()  # wakes the threads, fills the caches
        for _ in range(int(line)):
            start = time.perf_counter()
            forward()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"min_ms": min(times), "median_ms": statistics.median(times)}), flush=True)


class Worker:
    def __init__(self, name, environment):
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        first = self.read()
        if "missing" in first:
            raise Missing(first["missing"])
        self.mean = first["mean"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Missing(f"stopped with status {self.process.wait()} (its messages are above)")
        return json.loads(line)

    def round(self, forwards):
        print(forwards, file=self.process.stdin, flush=True)
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class OctetBench:
    """`octet bench` measures by itself; a round is one run of it, which loads and quantizes the model before."""

    def __init__(self, name, options, environment):
        program = shutil.which(options.octet)
        if not program:
            raise Missing(f"{options.octet} is not there; build it or name it with --octet")
        sizes = ["--batch", str(options.batch), "--seq", str(options.seq), "--threads", str(options.threads)]
        recipe = ["--recipe", OCTET[name]] if OCTET[name] else []
        self.command = [program, "bench", str(options.model), *sizes, "--json", "--warm-up", "1", *recipe]
        self.environment = environment
        self.round(1)

    def round(self, forwards):
        command = [*self.command, "--repetitions", str(forwards)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            raise Missing(f"octet bench failed: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def close(self):
        pass


# The comparison.


def compile_mask(work):
    """Builds the library that hides instruction sets newer than AVX2, and tries it."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        raise SystemExit("--isa avx2 needs a C compiler; set CC")
    library = work / "libcpuid_mask.so"
    flags = ["-O2", "-shared", "-fPIC", "-Wl,-z,initfirst"]
    subprocess.run([compiler, *flags, "-o", str(library), str(HERE / "cpuid_mask.c")], check=True)
    if subprocess.run(["true"], env=os.environ | {"LD_PRELOAD": str(library)}).returncode != 0:
        raise SystemExit("--isa avx2 needs a CPU and kernel with CPUID faulting (cpuid_fault in /proc/cpuinfo)")
    return library


def start(names, options, environment):
    contenders = {}
    for name in names:
        try:
            contenders[name] = OctetBench(name, options, environment) if name in OCTET else Worker(name, environment)
        except Missing as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
    return contenders


def check_agreement(contenders):
    """The fp32 workers must compute the same thing, or the comparison is of different models."""
    means = {name: c.mean for name, c in contenders.items() if isinstance(c, Worker) and name.endswith("fp32")}
    if len(means) < 2:
        return
    one, two = means.values()
    worst = max(abs(a - b) for x, y in zip(one, two) for a, b in zip(x, y))
    if not worst < 1e-3:
        raise SystemExit(f"{' and '.join(means)} differ by {worst:.2g} on the same input")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="encoder directory in the Hugging Face layout")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--forwards", type=int, default=5, help="timed forwards of each contender in a round")
    parser.add_argument("--mask", action=argparse.BooleanOptionalAction, default=False,
                        help="give the other engines an attention mask of ones, which they then compute with")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native",
                        help="avx2: hide AVX-512, AVX-VNNI and AMX from every contender")
    parser.add_argument("--contenders", default=",".join([*WORKERS, *OCTET]), help="comma-separated; default: all")
    parser.add_argument("--octet", default="build/release/bin/octet", help="the octet program")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="folder that keeps exported graphs")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options)
        return
    names = options.contenders.split(",")
    if unknown := [name for name in names if name not in WORKERS and name not in OCTET]:
        parser.error(f"unknown contender '{unknown[0]}'; known: {', '.join([*WORKERS, *OCTET])}")
    options.work.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if options.isa == "avx2":
        environment |= AVX2_ENVIRONMENT | {"LD_PRELOAD": str(compile_mask(options.work).resolve())}

    contenders = start(names, options, environment)
    check_agreement(contenders)
    rounds = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            rounds[name].append(contender.round(options.forwards))
            time.sleep(0.25)  # a thread pool spins for a while after its last task
    for contender in contenders.values():
        contender.close()

    if not contenders:
        raise SystemExit("no contender can run here")
    results = []
    for name, figures in rounds.items():
        fastest = min(f["min_ms"] for f in figures)
        median = statistics.median(f["median_ms"] for f in figures)
        results.append({"contender": name, "min_ms": fastest, "median_ms": median})
    base = next((r for r in results if r["contender"] == BASELINE), None)
    for result in results:
        result["min_ratio"] = result["min_ms"] / base["min_ms"] if base else None
        result["median_ratio"] = result["median_ms"] / base["median_ms"] if base else None
    if options.json:
        facts = {key: getattr(options, key) for key in ("batch", "seq", "threads", "rounds", "mask", "isa")}
        print(json.dumps({"model": options.model.resolve().name, **facts, "results": results}, indent=2))
        return
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    mask = "with a mask of ones" if options.mask else "no mask"
    print(f"{options.model.resolve().name}, {options.batch} × {options.seq} tokens, {threads}, {mask}, "
          f"ISA {options.isa}, {options.rounds} rounds; ratio: time / time of {BASELINE}")
    digits = 1 if min(r["min_ms"] for r in results) >= 10 else 3
    print(f"{'contender':<22}{'min ms':>10}{'median ms':>12}{'ratio (min)':>14}{'ratio (median)':>17}")
    for r in results:
        ratios = [f"{r[key]:.2f}" if r[key] else "-" for key in ("min_ratio", "median_ratio")]
        times = f"{r['min_ms']:>10.{digits}f}{r['median_ms']:>12.{digits}f}"
        print(f"{r['contender']:<22}{times}{ratios[0]:>14}{ratios[1]:>17}")


if __name__ == "__main__":
    main()
