# SPDX-License-Identifier: Apache-2.0
"""Makes small checkpoints in this folder as AutoGPTQ, GPTQModel and AutoAWQ store quantized models, and the logits of the
values that their codes stand for.

Codes, zero points and scales are random, each in the whole of its range; the packing follows the definitions in
AutoGPTQ 0.7.1 (nn_modules/qlinear), GPTQModel 7.7 (utils/model.py, of zero points) and AutoAWQ 0.2.9
(modules/linear/gemm.py, gemv.py). A golden is computed as in make_decoders.py, by `transformers` in float64 from
(code - zero point) · scale.

    python make_quantized.py [--out FOLDER]
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from make_decoders import InFloat64, POSITIONS, load_in_float64, read_json, save_case, write_json
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

# Inputs are 64 and 96 wide, so groups of 32 are two and three; 96 = 12 words of eight nibbles.
CONFIG = dict(vocab_size=31, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
              intermediate_size=96, max_position_embeddings=POSITIONS, bos_token_id=1, eos_token_id=2,
              tie_word_embeddings=True, attention_bias=True)
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


class Codes:
    """A weight [out, in] as random codes: codes [out, in], zeros [out, groups], scales [out, groups] fp16, and
    groups_of [in]."""

    def __init__(self, random, shape, bits, group_size, symmetric, reordered=False):
        outputs, inputs = shape
        size = inputs if group_size == -1 else group_size
        groups = inputs // size
        # 8 bits: the most negative, 0, too.
        self.bits = bits
        self.codes = random.integers(0, 1 << bits, shape)
        middle = 1 << (bits - 1)
        self.zeros = np.full((outputs, groups), middle) if symmetric else random.integers(0, 1 << bits, (outputs, groups))
        if not symmetric:
            self.zeros[0, 0], self.zeros[1, 0] = 0, (1 << bits) - 1
        # Values of deviation about 0.3 / √(in / 64), as uniform codes deviate by 2^bits / √12 (and more around a zero point).
        self.scales = (random.uniform(0.5, 1.0, (outputs, groups)) * 0.9 / (1 << bits)).astype(np.float16)
        self.groups_of = np.arange(inputs) // size
        if reordered:
            random.shuffle(self.groups_of)

    def values(self):
        zeros, scales = self.zeros[:, self.groups_of], self.scales.astype(np.float64)[:, self.groups_of]
        return (self.codes - zeros) * scales


def pack(codes, bits, order=None):
    """Rows of codes as rows of int32, the first code, or that of `order`, in the lowest bits."""
    per_word = 32 // bits
    words = codes.reshape(codes.shape[0], -1, per_word).astype(np.uint64)
    if order:
        words = words[:, :, order]
    shifts = (np.arange(per_word) * bits).astype(np.uint64)
    return (words << shifts).sum(axis=-1).astype(np.uint32).view(np.int32)


def gptq(weight, older):
    """Inputs run along the words of qweight, outputs along those of qzeros; `older` words lack 1 a zero point."""
    qzeros = pack(weight.zeros.T, weight.bits)
    if older:
        ones = sum(1 << shift for shift in range(0, 32, weight.bits))
        qzeros = (qzeros.view(np.uint32) - np.uint32(ones)).view(np.int32)
    return {"qweight": pack(weight.codes, weight.bits).T, "qzeros": qzeros, "scales": weight.scales.T,
            "g_idx": weight.groups_of.astype(np.int32)}


def awq_gemm(weight):
    return {"qweight": pack(weight.codes.T, 4, AWQ_ORDER), "qzeros": pack(weight.zeros.T, 4, AWQ_ORDER),
            "scales": weight.scales.T}


def awq_gemv(weight):
    """Rows of zero points end in words of zeros: their count is a multiple of 128 / group size."""
    outputs, groups = weight.zeros.shape
    multiple = max(1, 128 // (weight.codes.shape[1] // groups))
    words = -(-(-(-groups // 8)) // multiple) * multiple
    zeros, scales = np.zeros((outputs, 8 * words), int), np.zeros((outputs, 8 * words), np.float16)
    zeros[:, :groups], scales[:, :groups] = weight.zeros, weight.scales
    return {"qweight": pack(weight.codes, 4), "qzeros": pack(zeros, 4), "scales": scales}


def make(out, name, seed, quantization, scheme_of, layout, edit=None, **changes):
    """`scheme_of` gives a layer's arguments of Codes, or None for one that stays float; `layout` its tensors."""
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    random = np.random.default_rng(seed)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG | changes)).double()
    tensors = {}
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            layer, part = path.rsplit(".", 1)
            scheme = scheme_of(layer) if parameter.ndim == 2 and "embed_tokens" not in path else None
            if scheme is None:
                noise = 0.3 * random.standard_normal(parameter.shape) + ("norm" in path)
                tensors[path] = torch.from_numpy(noise.astype(np.float16))
                parameter.copy_(tensors[path])
            else:
                weight = Codes(random, tuple(parameter.shape), **scheme)
                tensors |= {f"{layer}.{key}": torch.from_numpy(np.ascontiguousarray(value))
                            for key, value in layout(weight).items()}
                parameter.copy_(torch.from_numpy(weight.values()))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for case in ("right", "full"):
        save_case(folder, load_in_float64(LlamaForCausalLM, folder), case)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = read_json(folder / "config.json") | {"dtype": "float16", "quantization_config": quantization}
    write_json(folder / "config.json", config)
    if edit:
        edit(folder)


def in_a_file_of_its_own(folder):
    """As AutoGPTQ stored it before transformers knew of it."""
    config = read_json(folder / "config.json")
    write_json(folder / "quantize_config.json", config.pop("quantization_config"))
    write_json(folder / "config.json", config)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write the checkpoints to")
    out = parser.parse_args().out
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)

    def everywhere(**scheme):
        return lambda layer: scheme

    # As AutoGPTQ writes it.
    make(out, "gptq", 70,
         {"bits": 4, "group_size": 32, "damp_percent": 0.01, "desc_act": False, "static_groups": False, "sym": True,
          "true_sequential": True, "model_name_or_path": None, "model_file_base_name": "model",
          "is_marlin_format": False, "quant_method": "gptq"},
         everywhere(bits=4, group_size=32, symmetric=True), lambda weight: gptq(weight, older=True),
         edit=in_a_file_of_its_own)
    # Zero points of 0, which borrow; columns in an order of their own.
    make(out, "gptq_act_order", 71,
         {"bits": 4, "group_size": 32, "desc_act": True, "sym": False, "checkpoint_format": "gptq",
          "quant_method": "gptq", "modules_in_block_to_quantize": None, "dataset": "wikitext2"},
         everywhere(bits=4, group_size=32, symmetric=False, reordered=True), lambda weight: gptq(weight, older=True))
    # As GPTQModel writes it: layers of their own bits and groups, one left float, the head quantized.
    schemes = {"self_attn.v_proj": None, "mlp.down_proj": dict(bits=4, group_size=32, symmetric=True)}
    make(out, "gptq_v2_8_bits", 72,
         {"bits": 8, "group_size": -1, "desc_act": False, "sym": True, "lm_head": True, "quant_method": "gptq",
          "method": "gptq", "format": "gptq_v2", "checkpoint_format": "gptq_v2", "pack_dtype": "int32",
          "dynamic": {r"-:.*\.v_proj": {}, r"+:.*\.mlp\.down_proj": {"bits": 4, "group_size": 32}},
          "meta": {"quantizer": ["gptqmodel:7.7.0"], "damp_percent": 0.05, "true_sequential": True, "mse": 0.0}},
         lambda layer: schemes.get(layer.removeprefix("model.layers.0."), dict(bits=8, group_size=-1, symmetric=True)),
         lambda weight: gptq(weight, older=False), vocab_size=32, tie_word_embeddings=False)
    awq = {"bits": 4, "group_size": 32, "quant_method": "awq", "zero_point": True}
    make(out, "awq_gemm", 73, awq | {"version": "gemm", "modules_to_not_convert": ["self_attn.o_proj"]},
         lambda layer: None if "o_proj" in layer else dict(bits=4, group_size=32, symmetric=False), awq_gemm)
    make(out, "awq_gemv", 74, awq | {"version": "gemv", "modules_to_not_convert": None},
         everywhere(bits=4, group_size=32, symmetric=False), awq_gemv)


if __name__ == "__main__":
    main()
