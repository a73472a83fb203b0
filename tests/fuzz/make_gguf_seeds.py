# SPDX-License-Identifier: Apache-2.0
"""Makes the seeds in corpus/gguf with the `gguf` package (0.19): small models of every block type and both tokenizers.

    python make_gguf_seeds.py
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

OUT = Path(__file__).parent / "corpus" / "gguf"


def blocks(kind, rows, columns):
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(kind.value)
    return random.integers(0, 60, (rows, columns // elements * size), dtype=np.uint8)


def start(name, arch, width, feed_forward):
    writer = gguf.GGUFWriter(OUT / name, arch)
    writer.add_block_count(1)
    writer.add_context_length(8)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(2)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return writer


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_with_bpe():
    writer = start("llama_bpe", "llama", 32, 32)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(2.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(["a", "b", "ab", "Ġ", "1", "<s>", "<tool>"])
    writer.add_token_types([1, 1, 1, 1, 1, 3, 4])
    writer.add_token_merges(["a b"])
    writer.add_chat_template("{{ messages }}")
    kinds = {"attn_q": Type.Q4_0, "attn_k": Type.Q8_0, "attn_v": Type.Q4_1, "ffn_gate": Type.Q5_0, "ffn_up": Type.Q5_1}
    writer.add_tensor("token_embd.weight", blocks(Type.Q8_0, 7, 32), raw_dtype=Type.Q8_0)
    for name, kind in kinds.items():
        rows = 16 if name in ("attn_k", "attn_v") else 32
        writer.add_tensor(f"blk.0.{name}.weight", blocks(kind, rows, 32), raw_dtype=kind)
    writer.add_tensor("blk.0.attn_q.bias", np.zeros(32, np.float32))
    writer.add_tensor("blk.0.attn_output.weight", np.zeros((32, 32), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    finish(writer)


def gpt2_with_pieces():
    writer = start("gpt2_pieces", "gpt2", 256, 256)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", "▁", "a", "▁a"])
    writer.add_token_scores([0.0, 0.0, 0.0, -1.0, -2.0, -3.0])
    writer.add_token_types([2, 3, 3, 1, 1, 1])
    writer.add_array("general.tags", ["a", "bc"])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_tensor("token_embd.weight", blocks(Type.Q6_K, 2, 256), raw_dtype=Type.Q6_K)
    writer.add_tensor("blk.0.ffn_up.weight", blocks(Type.Q4_K, 1, 256), raw_dtype=Type.Q4_K)
    writer.add_tensor("blk.0.ffn_down.weight", blocks(Type.Q5_K, 1, 256), raw_dtype=Type.Q5_K)
    writer.add_tensor("position_embd.weight", np.zeros((1, 256), np.float64))
    finish(writer)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    llama_with_bpe()
    gpt2_with_pieces()


if __name__ == "__main__":
    main()
