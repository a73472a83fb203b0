# SPDX-License-Identifier: Apache-2.0
"""Times a Llama decoder in llama.cpp and Octet side by side, on the same weights.

    python decoder.py MODEL [--batch 1] [--seq 512] [--new-tokens 128] [--threads 2]

MODEL is a directory in the Hugging Face layout. From it this script writes a GGUF file in F32, which llama.cpp
quantizes to Q8_0 and Q4_0; Octet reads the directory itself. A round gives each contender in turn its repetitions
(prefill of --seq tokens, then --new-tokens decoding steps) and one load, while the others wait, so that a slow spell of
the machine falls on all. The table shows the best figure of all rounds and the median of the rounds' medians. A
contender that is not installed or not built is left out, with a line that says so.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASELINE = "llama.cpp Q8_0"
LLAMA_CPP = {"llama.cpp F32": "F32", BASELINE: "Q8_0", "llama.cpp Q4_0": "Q4_0"}
RECIPES = ("w8a16", "w8a8_dynamic", "w4a16_g32", "w4a8_g32_dynamic")
# llama.cpp quantizes the embedding table too, so Octet is asked to.
OCTET = {"octet fp32": []} | {
    f"octet {recipe}": ["--recipe", recipe, "--set", "embeddings=8"] for recipe in RECIPES
}
AGREEMENT = 0.02  # of the logits' range; llama.cpp keeps keys and values in fp16
CHUNK = 512  # tokens that llama.cpp takes at once


class Missing(Exception):
    """A contender cannot run here; the message says why."""


# The GGUF file.


def read_config(model):
    config = json.loads((model / "config.json").read_text())
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    plain = scaling.get("rope_type", scaling.get("type", "default")) == "default"
    if config["model_type"] != "llama" or not plain or config.get("attention_bias") or config.get("mlp_bias"):
        raise SystemExit(f"{model}: this benchmark knows Llama without biases and without rotary scaling only")
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    config["head_dim"] = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return config


def read_weights(model):
    """Tensors of all shards as float32 NumPy arrays."""
    import ml_dtypes  # NumPy has no bf16
    import numpy as np

    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}
    tensors = {}
    for path in sorted(model.glob("*.safetensors")):
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            values = data[start + first : start + last].view(kinds[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"]).astype(np.float32)
    return tensors


LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    stem = name.removesuffix(".weight")
    if stem in NAMES:
        return f"{NAMES[stem]}.weight"
    layer, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{int(layer)}.{LAYER_NAMES[part]}.weight"


def neighbouring_pairs(weight, heads):
    """Rows of a query or key projection so that each pair which is rotated together lies together, as ggml wants it."""
    head_dim = weight.shape[0] // heads
    return weight.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(model, path):
    """The model in F32, without a tokenizer: ids are all that a benchmark needs."""
    import gguf
    import numpy as np

    config = read_config(model)
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    tied = config.get("tie_word_embeddings", False)
    for name, weight in read_weights(model).items():
        if name == "lm_head.weight" and tied:
            continue
        if name.endswith("q_proj.weight"):
            weight = neighbouring_pairs(weight, heads)
        elif name.endswith("k_proj.weight"):
            weight = neighbouring_pairs(weight, key_heads)
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def cached_gguf(options, kind):
    """Path of the GGUF file of that kind in the work folder, made if it is missing or older than the model."""
    sources = (options.model / "config.json", Path(__file__), *options.model.glob("*.safetensors"))
    newest = max(path.stat().st_mtime for path in sources)
    stem = options.model.resolve().name
    paths = {name: options.work / f"{stem}-{name}.gguf" for name in ("F32", kind)}
    for name, path in paths.items():
        if path.exists() and path.stat().st_mtime >= newest:
            continue
        unfinished = path.with_suffix(".part")
        if name == "F32":
            write_gguf(options.model, unfinished)
        else:
            import llama_cpp

            settings = llama_cpp.llama_model_quantize_default_params()
            settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
            settings.nthread = options.threads
            source = str(paths["F32"]).encode()
            if llama_cpp.llama_model_quantize(source, str(unfinished).encode(), settings) != 0:
                raise SystemExit(f"llama.cpp could not quantize {paths['F32']} to {name}")
        unfinished.rename(path)
    return paths[kind]


# Contenders. `round` gives seconds of each prefill and of each decoding, and milliseconds to load.


def random_ids(options, count):
    """Ids [batch, count] past the special tokens, the same in every process."""
    import numpy as np

    vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
    return np.random.default_rng(1).integers(5, vocabulary, (options.batch, count))


class LlamaCpp:
    """A model and a context of llama.cpp, through its C interface."""

    def __init__(self, path, options):
        import llama_cpp

        self.api, self.options = llama_cpp, options
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        if not self.model:
            raise Missing(f"llama.cpp cannot load {path}")
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = options.batch * (options.seq + options.new_tokens)
        context.n_batch = context.n_ubatch = CHUNK
        context.n_seq_max = options.batch
        context.n_threads = context.n_threads_batch = options.threads
        self.context = llama_cpp.llama_init_from_model(self.model, context)
        if not self.context:
            raise Missing("llama.cpp cannot make a context of that size")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(CHUNK, 0, 1)
        self.clear()

    def close(self):
        self.api.llama_batch_free(self.batch)
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)

    def clear(self):
        self.api.llama_memory_clear(self.memory, True)
        self.position = 0

    def decode(self, ids, every_logit=False):
        """Appends ids [batch, tokens] to the sequences; logits of each sequence's last token, or of all."""
        sequences, tokens = ids.shape
        entries = [(ids[s, t], s, t) for s in range(sequences) for t in range(tokens)]
        for first in range(0, len(entries), CHUNK):
            part = entries[first : first + CHUNK]
            for i, (token, sequence, t) in enumerate(part):
                self.batch.token[i] = int(token)
                self.batch.pos[i] = self.position + t
                self.batch.n_seq_id[i] = 1
                self.batch.seq_id[i][0] = sequence
                self.batch.logits[i] = every_logit or t + 1 == tokens
            self.batch.n_tokens = len(part)
            status = self.api.llama_decode(self.context, self.batch)
            if status != 0:
                raise Missing(f"llama_decode gives {status}")
            self.api.llama_synchronize(self.context)
        self.position += tokens

    def logits(self, index, vocabulary):
        import numpy as np

        return np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, index), (vocabulary,)).copy()


def check_logits(decoder, options):
    """Logits of every token of a short sequence: [tokens][vocabulary]."""
    ids = check_ids(options)
    decoder.clear()
    decoder.decode(ids.repeat(options.batch, axis=0)[:1], every_logit=True)
    vocabulary = decoder.api.llama_vocab_n_tokens(decoder.api.llama_model_get_vocab(decoder.model))
    return [decoder.logits(i, vocabulary).tolist() for i in range(ids.shape[1])]


def check_ids(options):
    return random_ids(options, min(32, options.seq))[:1].astype("int32")


def llama_cpp_round(decoder, prompts, steps):
    decoder.clear()
    start = time.perf_counter()
    decoder.decode(prompts)
    middle = time.perf_counter()
    for step in range(steps.shape[1]):
        decoder.decode(steps[:, step : step + 1])
    return middle - start, time.perf_counter() - middle


def llama_cpp_load(path, options, ids):
    """Milliseconds from nothing to the logits of one token."""
    start = time.perf_counter()
    decoder = LlamaCpp(path, options)
    decoder.decode(ids[:, :1])
    elapsed = time.perf_counter() - start
    decoder.close()
    return 1e3 * elapsed


def serve(options):
    """A worker: a line on stdin asks for that many repetitions and a load; the answer is a line of JSON."""
    try:
        try:
            import gguf  # noqa: F401
            import llama_cpp
            import ml_dtypes  # noqa: F401
            import numpy  # noqa: F401
        except ImportError as error:
            raise Missing(f"{error.name} is not installed") from error

        # Progress of loading and quantizing is nobody's interest here; errors are.
        @llama_cpp.llama_log_callback
        def log(level, text, _):
            if level == 4:  # GGML_LOG_LEVEL_ERROR
                print(text.decode(errors="replace"), end="", file=sys.stderr)

        llama_cpp.llama_log_set(log, None)
        llama_cpp.llama_backend_init()
        path = cached_gguf(options, LLAMA_CPP[options.worker])
        decoder = LlamaCpp(path, options)
        first = {"version": llama_cpp.__version__, "system": llama_cpp.llama_print_system_info().decode().strip(),
                 "bytes": path.stat().st_size}
        if options.worker == "llama.cpp F32":
            first["logits"] = check_logits(decoder, options)
    except Missing as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    print(json.dumps(first), flush=True)
    prompts, steps = random_ids(options, options.seq), random_ids(options, options.new_tokens)
    for line in sys.stdin:
        load = llama_cpp_load(path, options, prompts)
        llama_cpp_round(decoder, prompts, steps[:, :1])  # wakes the threads, fills the caches
        times = [llama_cpp_round(decoder, prompts, steps) for _ in range(int(line))]
        tokens = options.batch * options.seq, options.batch * options.new_tokens
        rates = [[count / seconds for seconds in part] for count, part in zip(tokens, zip(*times))]
        print(json.dumps({"prefill": rates[0], "decode": rates[1], "load_ms": load}), flush=True)


class Worker:
    def __init__(self, name, options, environment):
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
        pipe = subprocess.PIPE
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
        figures = self.read()
        return {
            "prefill_best": max(figures["prefill"]),
            "prefill_median": statistics.median(figures["prefill"]),
            "decode_best": max(figures["decode"]),
            "decode_median": statistics.median(figures["decode"]),
            "load_ms": figures["load_ms"],
        }

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class OctetBench:
    """`octet bench` measures by itself; a round is one run of it, and one of `octet logits` on one token for the load."""

    def __init__(self, name, options, environment):
        self.program = shutil.which(options.octet)
        if not self.program:
            raise Missing(f"{options.octet} is not there; build it or name it with --octet")
        self.options, self.environment = options, environment
        self.model = [str(options.model), *OCTET[name], "--threads", str(options.threads)]
        self.first = {"system": self.bench(1)["backend"]}

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            raise Missing(f"octet {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def bench(self, repetitions):
        sizes = ["--batch", str(self.options.batch), "--seq", str(self.options.seq)]
        sizes += ["--decode-tokens", str(self.options.new_tokens)]
        runs = ["--warm-up", "1", "--repetitions", str(repetitions)]
        return json.loads(self.run("bench", *self.model, *sizes, *runs, "--json"))

    def logits(self, ids):
        """Logits of ids [1, tokens]: [tokens][vocabulary]; and the milliseconds the program took."""
        import numpy as np

        with tempfile.TemporaryDirectory() as scratch:
            inputs, output = Path(scratch) / "ids.npy", Path(scratch) / "out.npy"
            np.save(inputs, ids)
            start = time.perf_counter()
            self.run("logits", *self.model, "--ids", str(inputs), "--out", str(output))
            elapsed = time.perf_counter() - start
            return np.load(output)[0], 1e3 * elapsed

    def round(self, repetitions):
        load = self.logits(check_ids(self.options)[:, :1])[1]
        figures = self.bench(repetitions)
        rounds = {"load_ms": load}
        for part in ("prefill", "decode"):
            median = figures[f"{part}_tokens_per_s"]
            rounds[f"{part}_median"] = median
            rounds[f"{part}_best"] = median * figures[f"{part}_median_ms"] / figures[f"{part}_min_ms"]
        return rounds

    def close(self):
        pass


# The comparison.


def start(names, options, environment):
    contenders = {}
    for name in names:
        kind = OctetBench if name in OCTET else Worker
        try:
            contenders[name] = kind(name, options, environment)
        except Missing as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
    return contenders


def check_agreement(contenders, options):
    """Both must compute the same model in fp32, or the comparison is of different models."""
    theirs, ours = contenders.get("llama.cpp F32"), contenders.get("octet fp32")
    if not theirs or not ours:
        return None
    import numpy as np

    expected = np.array(theirs.first["logits"])
    difference = np.abs(ours.logits(check_ids(options))[0] - expected).max() / np.ptp(expected)
    if not difference < AGREEMENT:
        raise SystemExit(f"octet fp32 and llama.cpp F32 differ by {difference:.2g} of the range on the same input")
    return float(difference)


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
        results.append(row)
    base = next((row for row in results if row["contender"] == BASELINE), None)
    for row in results:
        for figure in ("prefill_best", "prefill_median", "decode_best", "decode_median"):
            row[f"{figure}_ratio"] = row[figure] / base[figure] if base else None
    return results


def print_table(results):
    print(f"{'':<24}{'prefill, tokens/s':^32}{'decoding, tokens/s':^32}{'load, ms':>16}")
    print(f"{'contender':<24}" + 2 * f"{'best':>9}{'ratio':>7}{'median':>9}{'ratio':>7}" + f"{'min':>8}{'median':>8}")
    for row in results:
        line = f"{row['contender']:<24}"
        for figure in ("prefill_best", "prefill_median", "decode_best", "decode_median"):
            ratio = row[f"{figure}_ratio"]
            line += f"{row[figure]:>9.1f}" + (f"{ratio:>7.2f}" if ratio else f"{'-':>7}")
        print(line + f"{row['load_min_ms']:>8.0f}{row['load_median_ms']:>8.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Llama directory in the Hugging Face layout")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--new-tokens", type=int, default=128, help="decoding steps after it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=2, help="timed runs of each contender in a round")
    parser.add_argument("--contenders", default=",".join([*LLAMA_CPP, *OCTET]), help="comma-separated; default: all")
    parser.add_argument("--octet", default="build/release/bin/octet", help="the octet program")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="folder that keeps GGUF files")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    parser.add_argument("--worker", choices=[*LLAMA_CPP], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options)
        return
    names = options.contenders.split(",")
    if unknown := [name for name in names if name not in LLAMA_CPP and name not in OCTET]:
        parser.error(f"unknown contender '{unknown[0]}'; known: {', '.join([*LLAMA_CPP, *OCTET])}")
    if min(options.batch, options.seq, options.new_tokens, options.threads, options.rounds, options.repetitions) < 1:
        parser.error("sizes and counts must be at least 1")
    read_config(options.model)
    options.work.mkdir(parents=True, exist_ok=True)

    contenders = start(names, options, dict(os.environ))
    if not contenders:
        raise SystemExit("no contender can run here")
    difference = check_agreement(contenders, options)
    rounds = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            rounds[name].append(contender.round(options.repetitions))
            time.sleep(0.25)  # a thread pool spins for a while after its last task
    for contender in contenders.values():
        contender.close()

    results = summary(rounds)
    systems = {name: contender.first["system"] for name, contender in contenders.items()}
    if options.json:
        facts = {key: getattr(options, key) for key in ("batch", "seq", "new_tokens", "threads", "rounds")}
        facts |= {"cpu": cpu_name(), "systems": systems, "fp32_difference_of_range": difference}
        print(json.dumps({"model": options.model.resolve().name, **facts, "results": results}, indent=2))
        return
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    print(f"{options.model.resolve().name}, {options.batch} × {options.seq} tokens, then {options.new_tokens} each, "
          f"{threads}, {cpu_name()}, {options.rounds} rounds; ratio: rate / rate of {BASELINE}")
    if difference is not None:
        print(f"octet fp32 and llama.cpp F32 differ by {difference:.1e} of the logits' range")
    for system in dict.fromkeys(systems.values()):
        print(f"  {system}")
    print_table(results)


if __name__ == "__main__":
    main()
