# SPDX-License-Identifier: Apache-2.0
"""llama.cpp as a contender of decoder.py: the GGUF files it reads and its C interface."""

import json
import sys
import time

from contest import Missing, kept, need

KINDS = ("F32", "Q8_0", "Q4_0", "Q4_K_M")
CHUNK = 512  # tokens that it takes at once


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


def gguf_file(options, kind):
    """Path of the GGUF file of that kind in the work folder."""
    import llama_cpp

    stem = options.model.resolve().name
    plain = kept(options.work / f"{stem}-F32.gguf", options, __file__, lambda path: write_gguf(options.model, path))
    if kind == "F32":
        return plain

    def quantize(unfinished):
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        settings.nthread = options.threads
        if llama_cpp.llama_model_quantize(str(plain).encode(), str(unfinished).encode(), settings) != 0:
            raise Missing(f"llama.cpp could not quantize {plain} to {kind}")

    return kept(options.work / f"{stem}-{kind}.gguf", options, __file__, quantize)


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


class Engine:
    """What decoder.py's worker asks for."""

    def __init__(self, kind, options):
        api = need("llama_cpp", "gguf", "ml_dtypes", "numpy")[0]

        # Progress of loading and quantizing is nobody's interest here; errors are.
        @api.llama_log_callback
        def log(level, text, _):
            if level == 4:  # GGML_LOG_LEVEL_ERROR
                print(text.decode(errors="replace"), end="", file=sys.stderr)

        self.log = log  # must live as long as it is called
        api.llama_log_set(log, None)
        api.llama_backend_init()
        self.options, self.path = options, gguf_file(options, kind)
        self.decoder = LlamaCpp(self.path, options)
        self.system = api.llama_print_system_info().decode().strip()

    def logits(self, ids):
        """Logits of every token of one short sequence: [tokens][vocabulary]."""
        self.decoder.clear()
        self.decoder.decode(ids, every_logit=True)
        api = self.decoder.api
        vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.decoder.model))
        return [self.decoder.logits(i, vocabulary).tolist() for i in range(ids.shape[1])]

    def run(self, prompts, steps):
        """Seconds of the prefill, seconds of the steps."""
        self.decoder.clear()
        start = time.perf_counter()
        self.decoder.decode(prompts)
        middle = time.perf_counter()
        for step in range(steps.shape[1]):
            self.decoder.decode(steps[:, step : step + 1])
        return middle - start, time.perf_counter() - middle

    def load(self, ids):
        """Milliseconds from nothing to the logits of one token."""
        start = time.perf_counter()
        decoder = LlamaCpp(self.path, self.options)
        decoder.decode(ids[:, :1])
        elapsed = time.perf_counter() - start
        decoder.close()
        return 1e3 * elapsed
