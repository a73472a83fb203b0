# SPDX-License-Identifier: Apache-2.0
"""Gives every engine one product of extreme codes and shows what it makes of the true sum.

    python saturation.py [--octet PATH] [--contenders NAMES]

The instruction that multiplies u8 by s8 on AVX2 adds two products in int16: 2 · 255 · 127 = 64,770 becomes 32,767. The
model here is a BERT of one layer, a checkpoint like any other, that makes this visible: a normalization with gamma 0 and
beta 1 gives its first MLP product inputs of 1, the largest code that there is, and two rows of weights meet them:

    extreme    K weights of 1, the largest code; the true sum is K
    harmless   every second pair is (1, 0), the others (1/2, 1/2): 255 · 127 + 0 and 2 · 255 · 64 fit into int16

The model's output is normalized again; two columns whose values before that are known show by how much.
"""

import argparse
import json
import tempfile
from pathlib import Path

import contest
from contest import Missing
from encoder_engines import ENGINES, prepare

WIDTH, WIDE, SEQUENCE = 256, 1024, 8
# Columns of the last hidden state, and the even rows of the first MLP product that the first two of them read.
EXTREME, HARMLESS, ONE, TWO = 0, 2, 4, 6
OCTET = {"octet fp32": [], "octet w8a8_dynamic": ["--recipe", "w8a8_dynamic"]}


def write_model(folder):
    import numpy as np
    from safetensors.numpy import save_file

    random = np.random.default_rng(1)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    tensors = {}

    def linear(name, rows, columns, size=0.1):
        tensors[f"{name}.weight"] = random.normal(0, size, (rows, columns))
        tensors[f"{name}.bias"] = np.zeros(rows)
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def norm(name, gamma, beta):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = np.full(WIDTH, gamma), np.full(WIDTH, beta)

    for name, rows in (("word", len(vocabulary)), ("position", SEQUENCE), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = random.normal(0, 1, (rows, WIDTH))
    norm("embeddings.LayerNorm", 1, 0)
    layer = "encoder.layer.0"
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
    norm(f"{layer}.attention.output.LayerNorm", 0, 1)
    first, _ = linear(f"{layer}.intermediate.dense", WIDE, WIDTH, 0.01)
    first[EXTREME] = 1
    first[HARMLESS] = np.tile([1, 0, 0.5, 0.5], WIDTH // 4)
    # GELU leaves such large sums as they are. Column j is 1 (the residual) + bias + what it reads of the row j.
    second, bias = linear(f"{layer}.output.dense", WIDTH, WIDE, 1e-9)
    second[EXTREME, EXTREME] = 1 / first[EXTREME].sum()
    second[HARMLESS, HARMLESS] = 1 / first[HARMLESS].sum()
    bias[TWO] = 1
    norm(f"{layer}.output.LayerNorm", 1, 0)
    save_file({name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}, folder / "model.safetensors")
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH,
        "intermediate_size": WIDE, "layer_norm_eps": 1e-12, "max_position_embeddings": SEQUENCE,
        "num_attention_heads": 4, "num_hidden_layers": 1, "type_vocab_size": 2, "vocab_size": len(vocabulary),
        "pad_token_id": 0, "position_embedding_type": "absolute",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


def sums_of(hidden):
    """The two sums over their true values, from the first token's row."""
    row = hidden[0, 0]
    unit = row[TWO] - row[ONE]
    return [float((row[column] - row[ONE]) / unit) for column in (EXTREME, HARMLESS)]


class Worker(contest.Worker):
    def __init__(self, name, options):
        super().__init__(__file__, ["--worker", name, "--model", str(options.model)], None)
        self.sums = self.first["sums"]


class Octet(contest.Octet):
    def __init__(self, name, options):
        import numpy as np

        super().__init__(options, OCTET[name], None)
        ids = options.model / "ids.npy"
        np.save(ids, contest.random_ids(options, SEQUENCE))
        self.sums = sums_of(self.outputs(ids, options.model / "octet.npy")[0])


def has_vnni():
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return bool({"avx512_vnni", "avx_vnni"} & set(flags.split()))


def main():
    known = [*ENGINES, *OCTET]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", default=",".join(known),
                        help="comma-separated, 'octet*' for all that begin so; default: all")
    parser.add_argument("--octet", default="build/release/bin/octet", help="the octet program")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.batch, options.seq, options.threads, options.mask = 2, SEQUENCE, 1, False
    if options.worker:
        options.work = options.model
        ids = contest.random_ids(options, SEQUENCE)
        contest.serve(lambda: ({"sums": sums_of(prepare(options.worker, options, ids)())}, None))
        return

    names = contest.chosen(parser, options.contenders, known)
    with tempfile.TemporaryDirectory() as folder:
        options.model = Path(folder)
        try:
            contest.need("numpy", "safetensors.numpy")
        except Missing as missing:
            raise SystemExit(f"the model cannot be written: {missing}") from missing
        write_model(options.model)
        contenders = contest.start(names, lambda name: (Octet if name in OCTET else Worker)(name, options))
        sums = {name: contender.sums for name, contender in contenders.items()}
        for contender in contenders.values():
            contender.close()
    if options.json:
        facts = {"cpu": contest.cpu_name(), "vnni": has_vnni()}
        print(json.dumps(facts | {"sums_over_true": sums}, indent=2))
        return
    print(f"a sum of {WIDTH} products as a share of its true value, on {contest.cpu_name()}")
    if has_vnni():
        print("This CPU has VNNI, whose u8·s8 products add up in int32: none of these engines should saturate here.")
    print(f"{'contender':<22}{'extreme codes':>15}{'harmless codes':>16}")
    for name, (extreme, harmless) in sums.items():
        print(f"{name:<22}{100 * extreme:>14.1f}%{100 * harmless:>15.1f}%" + ("  saturates" if extreme < 0.9 else ""))


if __name__ == "__main__":
    main()
