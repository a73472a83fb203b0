# SPDX-License-Identifier: Apache-2.0
"""Writes golden/: files as the Python libraries write them, which the tests in this folder read.

    python make_golden.py        (torch, safetensors 0.8.0, compressed-tensors 0.20.0)

A second run writes the same bytes.
"""

import json
import math
import pathlib

import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import save_file

GOLDEN = pathlib.Path(__file__).parent / "golden"


def codes(rows, cols):
    """Every test computes the same codes: -127 to 127, in steps of 37."""
    return ((torch.arange(rows * cols) * 37) % 255 - 127).to(torch.int8).reshape(rows, cols)


def safetensors_dtypes():
    steps = torch.arange(6, dtype=torch.float64).reshape(2, 3) - 2.5
    tensors = {
        "f64": steps,
        "f32": steps.to(torch.float32),
        "f16": steps.to(torch.float16),
        "bf16": steps.to(torch.bfloat16),
        "i64": torch.tensor([-(2**40), 2**40]),
        "i32": torch.tensor([-(2**30), 2**30], dtype=torch.int32),
        "i8": torch.tensor([-128, 0, 127], dtype=torch.int8),
        "u8": torch.tensor([0, 128, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(7.0),
        "nothing": torch.zeros(0, 4),
        "Ünïcode \"quoted\"": torch.tensor([1.0]),
    }
    save_file(tensors, GOLDEN / "dtypes.safetensors", metadata={"format": "pt", "note": "línea\n2"})


def four_bit_codes(rows, cols):
    """Every test computes the same: 0 to 15 in steps of 7, 8 less here."""
    return ((torch.arange(rows * cols) * 7) % 16 - 8).to(torch.int8).reshape(rows, cols)


# name: bits, group size (None: one scale a row; 0: one in all), symmetric, format, rows, columns. Rows end inside a word; zero points do.
LAYERS = {
    "packed": (8, None, True, "pack-quantized", 5, 7),
    "plain": (8, None, True, "int-quantized", 5, 7),
    "w8_group": (8, 32, True, "pack-quantized", 5, 96),
    "w4_channel": (4, None, True, "pack-quantized", 5, 13),
    "w4_group": (4, 32, True, "pack-quantized", 5, 96),
    "w4_zero_point": (4, 32, False, "pack-quantized", 11, 96),
    "w4_channel_zero_point": (4, None, False, "pack-quantized", 11, 13),
    "w4a8_group": (4, 32, True, "int-quantized", 5, 96),
    "w4a8_zero_point": (4, 32, False, "int-quantized", 11, 96),
    "w8_zero_point": (8, 32, False, "pack-quantized", 11, 96),
    "w8a8_zero_point": (8, None, False, "int-quantized", 11, 13),
    "one_scale_packed": (8, 0, False, "pack-quantized", 5, 7),
    "one_scale_plain": (4, 0, False, "int-quantized", 5, 7),
}


def compressed_tensors():
    """A layer of each layout, compressed by the library from the values of its codes; scales of 16 bits, which it writes for
    models of 16 bits. "expected.NAME" is what the library makes of the layer again."""
    folder = GOLDEN / "compressed_tensors"
    folder.mkdir(exist_ok=True)
    tensors = {"head.weight": torch.ones(2, 5)}
    groups = {}
    for name, (bits, group_size, symmetric, layout, rows, cols) in LAYERS.items():
        weight = codes(rows, cols) if bits == 8 else four_bit_codes(rows, cols)
        columns = cols // group_size if group_size else 1
        dtype = torch.float16 if layout == "pack-quantized" else torch.bfloat16
        shape = (1,) if group_size == 0 else (rows, columns)
        count = math.prod(shape)
        scale = ((torch.arange(count, dtype=torch.float32).reshape(shape) + 1) / 10).to(dtype)
        arguments = {"num_bits": bits, "type": "int", "symmetric": symmetric,
                     "strategy": "group" if group_size else "tensor" if group_size == 0 else "channel",
                     "group_size": group_size or None, "dynamic": False}
        activations = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
        scheme = QuantizationScheme(targets=[name], weights=arguments, format=layout,
                                    input_activations=activations if layout == "int-quantized" else None)
        state = {"weight_scale": scale}
        zero = torch.zeros(shape, dtype=torch.int8)
        if not symmetric:
            steps = (torch.arange(count) * 85) % 256 - 128 if bits == 8 else (torch.arange(count) * 5) % 16 - 8
            zero = steps.to(torch.int8).reshape(shape)
            state["weight_zero_point"] = zero
        wide, wide_zero = (beside.double().expand(rows, columns).repeat_interleave(cols // columns, dim=1)
                           for beside in (scale, zero))
        values = (weight.double() - wide_zero) * wide
        # Compressed from float64, so that every value meets its own code again.
        compressor = BaseCompressor.get_value_from_registry(layout)
        stored = compressor.compress({**state, "weight": values, "weight_scale": scale.double()}, scheme)
        stored["weight_scale"] = scale
        tensors |= {f"{name}.{part}": tensor for part, tensor in stored.items()}
        tensors[f"expected.{name}"] = compressor.decompress(stored, scheme)["weight"]
        group = scheme.model_dump()
        groups[f"group_{len(groups)}"] = group
    # Everything that no other group names, as one writer does it; "plain" by a pattern.
    groups["group_0"]["targets"] = ["Linear"]
    groups["group_1"]["targets"] = ["re:.*lain$"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "golden",
              "quantization_config": {"quant_method": "compressed-tensors", "format": "mixed-precision",
                                      "quantization_status": "compressed", "config_groups": groups, "ignore": ["head"],
                                      "kv_cache_scheme": None, "global_compression_ratio": None,
                                      "sparsity_config": {}, "transform_config": {}, "version": "0.20.0"}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    safetensors_dtypes()
    compressed_tensors()
