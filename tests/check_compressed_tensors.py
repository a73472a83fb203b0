# SPDX-License-Identifier: Apache-2.0
"""Does transformers compute what octet computes with a checkpoint that octet quantized?

    python check_compressed_tensors.py MODEL_FLOAT MODEL_QUANTIZED [--octet PATH]

Loads both folders with transformers (and compressed-tensors), runs `octet logits` on the second, and compares the outputs
of the tokens that the mask keeps:

    difference  largest |octet - transformers| over the range (largest - smallest) of transformers' output
    cosine      of the two outputs, each taken as one vector

Weight-only checkpoints must agree to 1e-4 of the range. With dynamic activations the two quantizers differ by design
(compressed-tensors divides by absmax / 127.5, Octet by absmax / 127), so codes differ and only the direction is held to
agree: cosine at least 0.99. Exits with 1 beyond these bounds.

Tried with torch 2.15, transformers 5.23 and compressed-tensors 0.20.
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
COSINE_BOUND = 0.99  # dynamic activations


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


def compare(name, ours, theirs, mask):
    """Prints and returns difference over range, and cosine."""
    if ours.shape != theirs.shape:
        sys.exit(f"{name}: shapes {ours.shape} and {theirs.shape} differ")
    if theirs.ndim == 3:  # an output a token: only kept tokens have one
        ours, theirs = ours[mask > 0], theirs[mask > 0]
    ours, theirs = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    difference = np.abs(ours - theirs).max() / (theirs.max() - theirs.min())
    cosine = ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs))
    print(f"{name:44} difference {difference:.2e} of the range   cosine {cosine:.7f}")
    return difference, cosine


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_float")
    parser.add_argument("model_quantized")
    parser.add_argument("--octet", default="octet", help="the binary (default: octet)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()

    config = json.loads((pathlib.Path(arguments.model_quantized) / "config.json").read_text())
    groups = config["quantization_config"]["config_groups"].values()
    dynamic = any(group.get("input_activations") for group in groups)

    quantized = load(arguments.model_quantized)  # no dtype: what config.json says must do
    narrow = [name for name, value in quantized.named_parameters() if name.endswith("weight_scale") and
              value.dtype != torch.float32]
    if narrow:
        sys.exit(f"transformers loaded scales such as {narrow[0]} in 16 bits: config.json must say \"dtype\": \"float32\"")

    random = np.random.default_rng(0)
    ids = random.integers(0, config["vocab_size"], (4, 32), dtype=np.int32)
    mask = (np.arange(32) < np.array([32, 19, 7, 1])[:, None]).astype(np.int32)
    theirs = output_of(quantized, ids, mask)
    ours = octet_output(arguments.octet, arguments.model_quantized, ids, mask)
    del quantized

    floats = output_of(load(arguments.model_float, dtype=torch.float32), ids, mask)
    compare("transformers: quantized against float", theirs, floats, mask)
    difference, cosine = compare("quantized: octet against transformers", ours, theirs, mask)
    if dynamic and not cosine >= COSINE_BOUND:
        sys.exit(f"cosine {cosine:.7f} is below {COSINE_BOUND}")
    if not dynamic and not difference <= DIFFERENCE_BOUND:
        sys.exit(f"difference {difference:.2e} is above {DIFFERENCE_BOUND}")


if __name__ == "__main__":
    main()
