# SPDX-License-Identifier: Apache-2.0
"""Makes the GGUF files that Octet is tested on, with the `gguf` package (0.19), which reads and writes the format for
llama.cpp:

    tests/io/golden/gguf/types.gguf             two rows of 256 random blocks of every type, scales of any sign and size
    tests/io/golden/gguf/types.safetensors      what gguf.quants.dequantize makes of them
    tests/golden/gguf/NAME.gguf                 tests/golden/NAME, its weights as they are
    tests/golden/gguf/llama_base_codes.gguf     llama_base, its layers in Q8_0, Q4_0, Q4_1 and Q5_1

    python make_gguf_golden.py
"""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from safetensors.torch import load_file

TESTS = Path(__file__).resolve().parent.parent
# The byte at which a block has its fp16 numbers.
HALVES = {
    Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
PLAIN = [Type.F32, Type.F16, Type.BF16, Type.F64]


def random_blocks(kind, rows, columns, random):
    """uint8 [rows, bytes]: any codes; fp16 numbers from the smallest subnormal to 100, zeros among them."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * columns // elements, size), dtype=np.uint8)
    for place in HALVES[kind]:
        values = random.choice([-1, 1], len(blocks)) * 2.0 ** random.uniform(-24, 6.6, len(blocks))
        values[::7] = 0
        blocks[:, place : place + 2] = values.astype(np.float16).view(np.uint8).reshape(-1, 2)
    if kind is Type.Q8_0:  # Octet has no code -128
        codes = blocks[:, 2:]
        codes[codes == 128] = 127
    return blocks.reshape(rows, -1)


def make_types(out):
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(out / "types.gguf", "llama")
    values = {}
    for kind in HALVES:
        blocks = random_blocks(kind, 2, 256, random)
        writer.add_tensor(kind.name, blocks, raw_dtype=kind)
        values[kind.name] = dequantize(blocks, kind).astype(np.float32)
    for kind in PLAIN:
        numbers = random.normal(size=(2, 256))
        stored = {
            Type.F32: lambda: numbers.astype(np.float32),
            Type.F16: lambda: numbers.astype(np.float16),
            Type.BF16: lambda: quantize(numbers.astype(np.float32), Type.BF16).view(np.uint8),
            Type.F64: lambda: numbers,
        }[kind]()
        writer.add_tensor(kind.name, stored, raw_dtype=kind if kind is Type.BF16 else None)
        values[kind.name] = (dequantize(stored, kind) if kind is Type.BF16 else stored).astype(np.float32)
    finish(writer)
    save_file(values, out / "types.safetensors")


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(weight, heads):
    """As convert_hf_to_gguf permutes a llama's queries and keys."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


LLAMA_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
GPT2_NAMES = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}


def gguf_name(name, names, blocks):
    layer, part = name.rsplit(".", 1)
    if not layer.startswith(blocks):
        return f"{names[layer]}.{part}"
    index, layer = layer.removeprefix(blocks).split(".", 1)
    return f"blk.{index}.{names[layer]}.{part}"


def add_config(writer, arch, config):
    gpt2 = arch == "gpt2"
    hidden, heads = config["n_embd" if gpt2 else "hidden_size"], config["n_head" if gpt2 else "num_attention_heads"]
    writer.add_block_count(config["n_layer" if gpt2 else "num_hidden_layers"])
    writer.add_context_length(config["n_positions" if gpt2 else "max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config["n_inner" if gpt2 else "intermediate_size"])
    writer.add_head_count(heads)
    writer.add_eos_token_id(config["eos_token_id"])
    if gpt2:
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    width = config.get("head_dim", hidden // heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])


def make_model(source, target, arch, kinds):
    """`kinds`: the type of each matrix by its GGUF name without the block; the stored dtype for others."""
    config = json.loads((source / "config.json").read_text())
    gpt2 = arch == "gpt2"
    names, blocks = (GPT2_NAMES, "transformer.h.") if gpt2 else (LLAMA_NAMES, "model.layers.")
    writer = gguf.GGUFWriter(target, arch)
    add_config(writer, arch, config)
    for name, tensor in sorted(load_file(source / "model.safetensors").items()):
        new = gguf_name(name, names, blocks)
        layer = new.split(".")[-2]
        dtype, weight = tensor.dtype, tensor.float().numpy()
        if gpt2 and layer in ("attn_qkv", "attn_output", "ffn_up", "ffn_down") and weight.ndim == 2:
            weight = weight.T
        if arch == "llama" and layer in ("attn_q", "attn_k"):
            weight = interleaved(weight, config["num_attention_heads" if layer == "attn_q" else "num_key_value_heads"])
        weight = np.ascontiguousarray(weight)
        if weight.ndim == 1:
            writer.add_tensor(new, weight)
        elif layer in kinds:
            writer.add_tensor(new, quantize(weight, kinds[layer]), raw_dtype=kinds[layer])
        elif dtype is torch.float16:
            writer.add_tensor(new, weight.astype(np.float16))
        else:
            writer.add_tensor(new, quantize(weight, Type.BF16).view(np.uint8), raw_dtype=Type.BF16)
    finish(writer)


def main():
    types, models = TESTS / "io" / "golden" / "gguf", TESTS / "golden" / "gguf"
    types.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    make_types(types)
    for name, arch in (("llama_tied", "llama"), ("llama_bias", "llama"), ("qwen2", "qwen2"), ("gpt2", "gpt2")):
        make_model(TESTS / "golden" / name, models / f"{name}.gguf", arch, {})
    codes = {"token_embd": Type.Q8_0, "attn_q": Type.Q4_0, "attn_k": Type.Q8_0, "attn_v": Type.Q4_1,
             "attn_output": Type.Q4_1, "ffn_gate": Type.Q4_0, "ffn_up": Type.Q5_1}
    make_model(TESTS / "golden" / "llama_base", models / "llama_base_codes.gguf", "llama", codes)


if __name__ == "__main__":
    main()
