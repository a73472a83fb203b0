# SPDX-License-Identifier: Apache-2.0
"""Writes golden/: files as the Python libraries write them, which the tests in this folder read.

    python make_golden.py        (torch, safetensors 0.8.0, numpy 2.4.6, compressed-tensors 0.20.0)

A second run writes the same bytes.
"""

import json
import pathlib

import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
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


def npy():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(GOLDEN / "f4.npy", array)
    np.save(GOLDEN / "fortran.npy", np.asfortranarray(array))
    np.save(GOLDEN / "big_endian.npy", array.astype(">f4"))
    np.save(GOLDEN / "scalar_i8.npy", np.int64(-5))
    for name, dtype in [("f2", "<f2"), ("f8", "<f8"), ("i4", "<i4"), ("i1", "|i1"), ("u1", "|u1"), ("b1", "|b1")]:
        np.save(GOLDEN / f"{name}.npy", np.array([0, 1, 3]).astype(dtype))
    with open(GOLDEN / "version2.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    with open(GOLDEN / "version3.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(3, 0))


def compressed_tensors():
    """Two layers, [5, 7] so that rows end inside a word; scales of 16 bits, which this library writes for such models."""
    folder = GOLDEN / "compressed_tensors"
    folder.mkdir(exist_ok=True)
    weight = codes(5, 7)
    scale = (torch.arange(5, dtype=torch.float32).reshape(5, 1) + 1) / 10
    save_file(
        {
            "packed.weight_packed": pack_to_int32(weight, 8),
            "packed.weight_scale": scale.to(torch.float16),
            "packed.weight_shape": torch.tensor(weight.shape),
            "plain.weight": weight,
            "plain.weight_scale": scale.to(torch.bfloat16),
            "head.weight": torch.ones(2, 5),
        },
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "group_size": None,
               "dynamic": False, "actorder": None, "block_structure": None, "observer": "minmax",
               "observer_kwargs": {}}
    activations = dict(weights, strategy="token", dynamic=True, observer=None)
    groups = {
        "group_0": {"targets": ["re:.*lain$"], "weights": weights, "input_activations": activations,
                    "output_activations": None, "format": "int-quantized"},
        "group_1": {"targets": ["Linear"], "weights": weights, "input_activations": None,
                    "output_activations": None, "format": "pack-quantized"},
    }
    config = {"model_type": "golden",
              "quantization_config": {"quant_method": "compressed-tensors", "format": "mixed-precision",
                                      "quantization_status": "compressed", "config_groups": groups, "ignore": ["head"],
                                      "kv_cache_scheme": None, "global_compression_ratio": None,
                                      "sparsity_config": {}, "transform_config": {}, "version": "0.20.0"}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    safetensors_dtypes()
    npy()
    compressed_tensors()
