# SPDX-License-Identifier: Apache-2.0
"""Does transformers compute what octet computes with a checkpoint that octet quantized?

    python check_compressed_tensors.py MODEL_FLOAT MODEL_QUANTIZED [--octet PATH] [--text FILE]

Loads both folders with transformers (and compressed-tensors), runs `octet logits` on the second, and compares the outputs
of the tokens that the mask keeps:

    difference  largest |octet - transformers| over the range (largest - smallest) of transformers' output
    cosine      of the two outputs, each taken as one vector
    KL          mean Kullback-Leibler divergence of octet's next-token distribution from transformers', in nats (decoders)
    top-1       share of tokens after which both find the same next token the likeliest (decoders)

Weight-only checkpoints must agree to 1e-4 of the range. (Those with packed zero points, and those with packed embeddings,
are loaded with dequantize=True, which leaves activations in float and, in transformers 5.24, takes every layer to have the
scheme of the first group: of several schemes nothing comes of it. Laying a model out for the default way,
compressed-tensors gives zero points their unpacked shape, so that transformers refuses the packed ones of any writer;
and of an embedding without a plain weight transformers cannot say what it is.) With dynamic activations the two quantizers differ by design
(compressed-tensors divides by absmax / 127.5, Octet by absmax / 127), so codes differ, and an encoder is only held to the
direction (cosine at least 0.99). A decoder is held to its distribution: octet must not be farther from transformers than
quantization took transformers from float, by KL and by top-1 (give it a --text, for distributions after random tokens say
little). Exits with 1 beyond these bounds.

With static scales both compute the same but for the last bits of what is rounded to codes, and where activations have
outliers a deep model makes much of a code that differs; the same bounds hold.

Tried with torch 2.15, transformers 5.24 and compressed-tensors 0.20.1. Layers with reordered groups (GPTQ with act_order and
without static_groups, "actorder": "group") need compressed-tensors up to 0.18: 0.19 and later refuse them. A folder with another
version, such as pip's --target makes, can be named in PYTHONPATH.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

DIFFERENCE_BOUND = 1e-4  # weight-only
COSINE_BOUND = 0.99  # dynamic activations, encoders
BATCH, SEQUENCE = 4, 32


def load(folder, **options):
    """The model, of the class that config.json names."""
    config = transformers.AutoConfig.from_pretrained(folder)
    architecture = getattr(transformers, (config.architectures or ["AutoModel"])[0])
    model, report = architecture.from_pretrained(folder, output_loading_info=True, **options)
    missing = [name for name in report["missing_keys"] if "pooler" not in name]
    if missing or report["unexpected_keys"] or report["mismatched_keys"]:
        sys.exit(f"{folder}: transformers did not find its way: missing {missing}, unexpected {report['unexpected_keys']}, "
                 f"mismatched {report['mismatched_keys']}")
    return model.eval()


def output_of(model, ids, mask):
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(ids).long(), attention_mask=torch.from_numpy(mask).long())
    if hasattr(out, "start_logits"):
        return torch.stack([out.start_logits, out.end_logits], dim=-1).float().numpy()
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state).float().numpy()


def octet_output(octet, folder, ids, mask):
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: str(pathlib.Path(scratch) / f"{name}.npy") for name in ("ids", "mask", "out")}
        np.save(paths["ids"], ids)
        np.save(paths["mask"], mask)
        subprocess.run([octet, "logits", folder, "--ids", paths["ids"], "--mask", paths["mask"], "--out", paths["out"]],
                       check=True)
        return np.load(paths["out"])


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def compare_distributions(ours, theirs):
    """KL(theirs || ours) and top-1 agreement over rows of logits."""
    ours, theirs = log_softmax(ours.astype(np.float64)), log_softmax(theirs.astype(np.float64))
    kl = (np.exp(theirs) * (theirs - ours)).sum(axis=-1).mean()
    return kl, (ours.argmax(axis=-1) == theirs.argmax(axis=-1)).mean()


def compare(name, ours, theirs, mask, decoder):
    """Prints and returns difference over range, cosine and, of decoders, KL and top-1."""
    if ours.shape != theirs.shape:
        sys.exit(f"{name}: shapes {ours.shape} and {theirs.shape} differ")
    if theirs.ndim == 3:  # an output a token: only kept tokens have one
        ours, theirs = ours[mask > 0], theirs[mask > 0]
    kl, top1 = compare_distributions(ours, theirs) if decoder else (0, 1)
    ours, theirs = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    difference = np.abs(ours - theirs).max() / (theirs.max() - theirs.min())
    cosine = ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs))
    distributions = f"   KL {kl:.2e}   top-1 {top1:.1%}" if decoder else ""
    print(f"{name:44} difference {difference:.2e} of the range   cosine {cosine:.7f}{distributions}")
    return difference, cosine, kl, top1


def make_inputs(folder, vocabulary, text):
    """ids, mask: int32 [BATCH, SEQUENCE], padded on the right; ids are random or the beginning of a text."""
    mask = (np.arange(SEQUENCE) < np.array([SEQUENCE, 19, 7, 1])[:, None]).astype(np.int32)
    if not text:
        return np.random.default_rng(0).integers(0, vocabulary, mask.shape, dtype=np.int32), mask
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    beginning = pathlib.Path(text).read_text(encoding="utf-8")[: 100 * mask.size]
    ids = tokenizer(beginning, add_special_tokens=False)["input_ids"][: mask.size]
    if len(ids) < mask.size:
        sys.exit(f"{text}: holds {len(ids)} tokens; {mask.size} are needed")
    return np.array(ids, np.int32).reshape(mask.shape), np.ones_like(mask)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_float")
    parser.add_argument("model_quantized")
    parser.add_argument("--octet", default="octet", help="the binary (default: octet)")
    parser.add_argument("--text", help="take the token ids from the beginning of this text (default: random ids)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()

    config = json.loads((pathlib.Path(arguments.model_quantized) / "config.json").read_text())
    groups = config["quantization_config"]["config_groups"].values()
    dynamic = any(group.get("input_activations") for group in groups)
    ids, mask = make_inputs(arguments.model_float, config["vocab_size"], arguments.text)
    model = load(arguments.model_float, dtype=torch.float32)
    floats = output_of(model, ids, mask)
    embeddings = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    del model

    options = {}
    packed = [group for group in groups if group.get("format") == "pack-quantized"]
    if any(not group["weights"].get("symmetric", True) or embeddings & set(group["targets"]) for group in packed):
        options["quantization_config"] = transformers.CompressedTensorsConfig(dequantize=True)
    quantized = load(arguments.model_quantized, **options)  # no dtype: what config.json says must do
    narrow = [name for name, value in quantized.named_parameters() if name.endswith("weight_scale") and
              value.dtype != torch.float32]
    if narrow:
        sys.exit(f"transformers loaded scales such as {narrow[0]} in 16 bits: config.json must say \"dtype\": \"float32\"")

    theirs = output_of(quantized, ids, mask)
    ours = octet_output(arguments.octet, arguments.model_quantized, ids, mask)
    del quantized

    decoder = config["architectures"][0].endswith("ForCausalLM")
    _, _, own_kl, own_top1 = compare("transformers: quantized against float", theirs, floats, mask, decoder)
    difference, cosine, kl, top1 = compare("quantized: octet against transformers", ours, theirs, mask, decoder)
    if dynamic and decoder and not (kl <= own_kl and top1 >= own_top1):
        sys.exit(f"KL {kl:.2e} is above that to float, {own_kl:.2e}, or top-1 agreement {top1:.1%} below {own_top1:.1%}")
    if dynamic and not decoder and not cosine >= COSINE_BOUND:
        sys.exit(f"cosine {cosine:.7f} is below {COSINE_BOUND}")
    if not dynamic and not difference <= DIFFERENCE_BOUND:
        sys.exit(f"difference {difference:.2e} is above {DIFFERENCE_BOUND}")


if __name__ == "__main__":
    main()
