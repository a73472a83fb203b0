# SPDX-License-Identifier: Apache-2.0
"""Makes the small checkpoints of decoders in this folder (Llama, Qwen2, Mistral, GPT-2, OPT, GPT-J, GPT-NeoX, Phi) and
their golden outputs.

As in make_encoders.py, weights are random with fixed seeds and large on purpose, and a golden is the true value: each
folder is loaded back with `transformers`, computed in float64 from the weights as stored, and rounded to float32.

    python make_decoders.py [--out FOLDER]
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    GPTJConfig,
    GPTJForCausalLM,
    GPTJModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GPTNeoXModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    OPTModel,
    PhiConfig,
    PhiForCausalLM,
    PhiModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    set_seed,
)
from transformers.models.gptj.modeling_gptj import GPTJRotaryEmbedding
from transformers.utils import logging

POSITIONS = 48  # what every model here has; the case `full` takes them all
# 97 and 31, 41 and 29 are primes: multiples of no vector width.
BASE = dict(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=41,
    max_position_embeddings=POSITIONS,
    bos_token_id=1,
    eos_token_id=2,
)
# For what does not depend on size. Eight rotary frequencies, so that every stretch of a scaling rule holds some.
SMALL = BASE | dict(
    vocab_size=31,
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    intermediate_size=29,
    tie_word_embeddings=True,
)
GPT2 = dict(
    vocab_size=97,
    n_embd=32,
    n_layer=2,
    n_head=4,
    n_inner=41,
    n_positions=POSITIONS,
    bos_token_id=1,
    eos_token_id=2,
)
GPT2_SMALL = GPT2 | dict(vocab_size=31, n_embd=24, n_layer=1, n_head=2, n_inner=29)

# One key and value a head, and sizes that are multiples of little.
PLAIN = {name: value for name, value in BASE.items() if name != "num_key_value_heads"}
PLAIN_SMALL = PLAIN | dict(vocab_size=31, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=29)
NEW_TOKENS = 16  # of a greedy continuation
PROMPT_TOKENS = 8


class InFloat64(TorchFunctionMode):
    """Where a model asks for float32 (normalization, softmax and rotary angles do), float64 is what it gets."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def widened(value):
            return torch.float64 if value is torch.float32 else value

        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*map(widened, args), **{name: widened(value) for name, value in (kwargs or {}).items()})


def randomise(model, seed):
    """Every parameter normal with deviation 0.3; normalization weights around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            normalizes = name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"))
            parameter.copy_(noise + 1 if normalizes else noise)


def make_inputs(lengths, vocabulary, seed, left=False):
    """ids, mask: int32 [batch, longest]; padding is on the right, or `left`, and holds random ids, which nothing may depend
    on."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, vocabulary, (len(lengths), max(lengths)), dtype=np.int32)
    ids[0, 1], ids[0, 2] = 0, vocabulary - 1  # both ends of the table
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int32)
    return ids, mask[:, ::-1].copy() if left else mask


CASES = {"right": ([9, 5, 2, 1], 1), "full": ([POSITIONS], 2), "left": ([9, 5, 2, 1], 3)}  # lengths, seed


def outputs(model, ids, mask):
    """logits or last_hidden_state, float64."""
    with torch.no_grad(), InFloat64():
        output = model(input_ids=torch.from_numpy(ids).long(), attention_mask=torch.from_numpy(mask).long())
    name = "logits" if hasattr(output, "logits") else "last_hidden_state"
    assert output[name].dtype == torch.float64
    return name, output[name].numpy()


def load_in_float64(kind, folder):
    model, report = kind.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager",
                                         output_loading_info=True)
    buffers = ("attn.bias", "attention.bias", "masked_bias", "rotary_emb.inv_freq")
    unread = [name for name in report["unexpected_keys"] if not name.endswith(buffers)]
    assert not report["missing_keys"] and not unread, (folder, report)
    for module in model.modules():
        if isinstance(module, GPTJRotaryEmbedding):
            module.embed_positions = sines_and_cosines(*module.embed_positions.shape)
    return model.eval()


def sines_and_cosines(positions, width):
    """GPT-J's table of them in float64, of angles by the float32 frequencies that it has when it runs in float32."""
    frequencies = 1.0 / (10000 ** (torch.arange(0, width, 2, dtype=torch.float32) / width))
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies.double()
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def save_case(folder, model, case):
    """Inputs and outputs as CASE.NAME.npy; rows of dropped tokens are zero, for they are nobody's result."""
    lengths, seed = CASES[case]
    ids, mask = make_inputs(lengths, model.config.vocab_size, seed, left=case == "left")
    name, array = outputs(model, ids, mask)
    array = np.where(mask[..., None] > 0, array, 0).astype(np.float32)
    for name, array in (("input_ids", ids), ("attention_mask", mask), (name, array)):
        np.save(folder / f"{case}.{name}.npy", array)


def save_greedy(folder, model):
    """greedy.npy: int32 [PROMPT_TOKENS + NEW_TOKENS], each new one the largest logit after all before it."""
    lengths, seed = CASES["full"]
    ids = make_inputs(lengths, model.config.vocab_size, seed)[0][:, :PROMPT_TOKENS]
    for _ in range(NEW_TOKENS):
        last = outputs(model, ids, np.ones_like(ids))[1][0, -1]
        first, second = np.sort(last)[:-3:-1]
        assert first - second > 1e-2, "a near tie: rounding could decide it; take another seed"
        ids = np.append(ids, [[last.argmax()]], axis=1).astype(np.int32)
    np.save(folder / "greedy.npy", ids[0])


def read_json(path):
    return json.loads(path.read_text())


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def as_transformers_4_wrote_it(folder):
    """config.json with rope_theta, rope_scaling and torch_dtype in place of rope_parameters and dtype."""
    config = read_json(folder / "config.json")
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    write_json(folder / "config.json", dict(sorted(config.items())))


def as_first_releases_wrote_it(folder):
    """The same, the kind of scaling under `type` and nothing said of head width or biases."""
    as_transformers_4_wrote_it(folder)
    config = read_json(folder / "config.json")
    config["rope_scaling"] = {"type": config["rope_scaling"]["rope_type"], "factor": config["rope_scaling"]["factor"]}
    for name in ("head_dim", "attention_bias", "mlp_bias"):
        del config[name]
    config["transformers_version"] = "4.31.0"
    write_json(folder / "config.json", config)


def as_the_first_gpt2_was_stored(folder):
    """No `transformer.` in the names; every attention layer with its causal mask as a float buffer."""
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    mask = torch.tril(torch.ones(POSITIONS, POSITIONS, dtype=torch.float32)).view(1, 1, POSITIONS, POSITIONS)
    for layer in range(GPT2_SMALL["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = mask.clone()
    save_file(tensors, path, metadata={"format": "pt"})
    config = read_json(folder / "config.json")
    kept = ("activation_function", "architectures", "bos_token_id", "eos_token_id", "initializer_range",
            "layer_norm_epsilon", "model_type", "n_embd", "n_head", "n_inner", "n_layer", "n_positions", "vocab_size")
    write_json(folder / "config.json", {name: config[name] for name in kept} | {"n_ctx": POSITIONS})


def as_pythia_is_stored(folder):
    """No `gpt_neox.` in the names; causal masks and inverse frequencies in the file; a config of transformers 4."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    rotary = int(PLAIN_SMALL["hidden_size"] / PLAIN_SMALL["num_attention_heads"] * 0.5)
    for layer in range(PLAIN_SMALL["num_hidden_layers"]):
        tensors[f"layers.{layer}.attention.bias"] = torch.tril(torch.ones(POSITIONS, POSITIONS)).bool()[None, None]
        tensors[f"layers.{layer}.attention.masked_bias"] = torch.tensor(-1e9)
        tensors[f"layers.{layer}.attention.rotary_emb.inv_freq"] = torch.ones(rotary // 2)
    save_file(tensors, path, metadata={"format": "pt"})
    config = read_json(folder / "config.json")
    rope = config.pop("rope_parameters")
    config["rotary_emb_base"], config["rotary_pct"] = rope["rope_theta"], rope["partial_rotary_factor"]
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.24.0"
    write_json(folder / "config.json", dict(sorted(config.items())))


def make(out, name, kind, config, cases, seed, dtype=torch.bfloat16, shard=None, older=None, greedy=False):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    set_seed(seed)
    model = kind(config)
    randomise(model, seed)
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if older:
        older(folder)
    model = load_in_float64(kind, folder)
    for case in cases:
        save_case(folder, model, case)
    if greedy:
        save_greedy(folder, model)


def rope(kind, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, **more}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write the checkpoints to")
    out = parser.parse_args().out
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)

    make(out, "llama_base", LlamaForCausalLM, LlamaConfig(**BASE), ["right", "full"], seed=30, dtype=torch.float32,
         greedy=True)
    # 3 heads of 12 are 36 wide, not 30.
    tied = BASE | dict(hidden_size=30, num_hidden_layers=1, num_attention_heads=3, num_key_value_heads=1, head_dim=12,
                       tie_word_embeddings=True)
    make(out, "llama_tied", LlamaForCausalLM, LlamaConfig(**tied), ["right"], seed=31, dtype=torch.float16)
    biases = SMALL | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=False, rms_norm_eps=0.1)
    make(out, "llama_bias", LlamaForCausalLM, LlamaConfig(**biases), ["right", "full"], seed=32)
    make(out, "llama_model", LlamaModel, LlamaConfig(**SMALL), ["right", "full"], seed=33)
    make(out, "llama_sharded", LlamaForCausalLM, LlamaConfig(**SMALL), ["right"], seed=34, shard="6KB")

    # Wavelengths are 2π · 100^(i/8) = 6.3, 11.2, 19.9, 35, …: below 32/4 kept, from there to 32/1 blended, above divided.
    llama3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    make(out, "llama_rope_llama3", LlamaForCausalLM, LlamaConfig(**SMALL, **llama3), ["full"], seed=35,
         older=as_transformers_4_wrote_it)
    # Heads of 12, as 24 / 2 gives them.
    linear = SMALL | rope("linear", factor=4.0) | dict(head_dim=12)
    make(out, "llama_rope_linear", LlamaForCausalLM, LlamaConfig(**linear), ["full"], seed=36,
         older=as_first_releases_wrote_it)
    # The blend runs from frequency 1 to 5: 8 · ln(32 / (2π · β)) / ln(100) is 1.6 for β = 2 and 4.03 for β = 0.5.
    yarn = rope("yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=2.0, beta_slow=0.5)
    make(out, "llama_rope_yarn", LlamaForCausalLM, LlamaConfig(**SMALL, **yarn), ["full"], seed=37)
    # The usual 32 and 1; the ends of the blend not rounded to whole frequencies; an attention factor of its own.
    yarn = rope("yarn", factor=4.0, original_max_position_embeddings=32, attention_factor=1.25, truncate=False)
    make(out, "llama_rope_yarn_options", LlamaForCausalLM, LlamaConfig(**SMALL, **yarn), ["full"], seed=38)
    make(out, "llama_rope_dynamic", LlamaForCausalLM, LlamaConfig(**SMALL, **rope("dynamic", factor=2.0)), ["full"],
         seed=39)

    qwen2 = BASE | dict(num_hidden_layers=1, tie_word_embeddings=True)
    make(out, "qwen2", Qwen2ForCausalLM, Qwen2Config(**qwen2), ["right"], seed=40)
    # Two layers: what the first saw of older tokens must still reach the second.
    window = SMALL | dict(num_hidden_layers=2, sliding_window=7)
    make(out, "mistral_window", MistralForCausalLM, MistralConfig(**window), ["right", "full"], seed=41,
         older=as_transformers_4_wrote_it)

    make(out, "gpt2", GPT2LMHeadModel, GPT2Config(**GPT2), ["right", "full"], seed=42, dtype=torch.float16, greedy=True)
    make(out, "gpt2_model", GPT2Model, GPT2Config(**GPT2_SMALL), ["right"], seed=43,
         older=as_the_first_gpt2_was_stored)
    make(out, "gpt2_old_names", GPT2LMHeadModel, GPT2Config(**GPT2_SMALL), ["right"], seed=44, dtype=torch.float16,
         older=as_the_first_gpt2_was_stored)

    opt = {name: value for name, value in PLAIN.items() if name != "intermediate_size"} | dict(ffn_dim=41)
    opt_small = opt | dict(vocab_size=31, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, ffn_dim=29)
    make(out, "opt", OPTForCausalLM, OPTConfig(**opt), ["right", "full"], seed=45, dtype=torch.float16, greedy=True)
    # As OPT-350m: normalization after each part, words projected in and out, no final normalization.
    projected = opt_small | dict(do_layer_norm_before=False, word_embed_proj_dim=20)
    make(out, "opt_projected", OPTForCausalLM, OPTConfig(**projected), ["right", "full", "left"], seed=46)
    plain = opt_small | dict(enable_bias=False, layer_norm_elementwise_affine=False, activation_function="gelu",
                             tie_word_embeddings=False)
    make(out, "opt_no_biases", OPTForCausalLM, OPTConfig(**plain), ["right"], seed=47)
    projected = opt_small | dict(word_embed_proj_dim=20)
    make(out, "opt_model", OPTModel, OPTConfig(**projected), ["right"], seed=48)

    gptj = dict(GPT2)
    gptj_small = GPT2_SMALL | dict(rotary_dim=6)
    make(out, "gptj", GPTJForCausalLM, GPTJConfig(**gptj, rotary_dim=4), ["right", "full"], seed=49,
         dtype=torch.float16, greedy=True)
    make(out, "gptj_model", GPTJModel, GPTJConfig(**gptj_small), ["full"], seed=50)

    neox = dict(rope_parameters={"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5})
    make(out, "gpt_neox", GPTNeoXForCausalLM, GPTNeoXConfig(**PLAIN, **neox), ["right", "full"], seed=51,
         dtype=torch.float16, greedy=True)
    sequential = PLAIN_SMALL | neox | dict(num_hidden_layers=2, use_parallel_residual=False, attention_bias=False,
                                           tie_word_embeddings=True, hidden_act="gelu_fast")
    make(out, "gpt_neox_sequential", GPTNeoXForCausalLM, GPTNeoXConfig(**sequential), ["full"], seed=52)
    make(out, "gpt_neox_model", GPTNeoXModel, GPTNeoXConfig(**PLAIN_SMALL, **neox), ["right"], seed=53,
         older=as_pythia_is_stored)

    make(out, "phi", PhiForCausalLM, PhiConfig(**PLAIN), ["right", "full"], seed=54, dtype=torch.float16, greedy=True)
    grouped = PLAIN_SMALL | dict(hidden_size=36, num_attention_heads=3, num_key_value_heads=1) | rope("default")
    make(out, "phi_model", PhiModel, PhiConfig(**grouped), ["full"], seed=55)


if __name__ == "__main__":
    main()
