# SPDX-License-Identifier: Apache-2.0
"""Makes the small BERT, RoBERTa, DistilBERT and ELECTRA checkpoints of this folder and their golden outputs with
`transformers`.

Weights are random with fixed seeds and large on purpose: with the usual 0.02 every hidden state is close to its
embedding, and a wrong attention mask or a missing bias would hide below the tolerance of a test. Outputs are computed
in float64 from the weights as they are stored and then rounded to float32, so a golden is the true value.

    python make_encoders.py [--out FOLDER]
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertModel,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    set_seed,
)
from transformers.utils import logging

VOCABULARY = 97  # a prime: a multiple of no vector width
BASE = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=72,
    max_position_embeddings=64,
    initializer_range=0.3,
)
# For heads of other architectures: 12 values a head, nothing a multiple of a vector.
SMALL = BASE | dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=29)
PADDING = 1  # RoBERTa's padding id, which its positions count from
ROBERTA = dict(pad_token_id=PADDING, max_position_embeddings=64 + PADDING + 1, type_vocab_size=1, layer_norm_eps=1e-5)
DISTILBERT_NAMES = dict(hidden_size="dim", num_hidden_layers="n_layers", num_attention_heads="n_heads",
                        intermediate_size="hidden_dim", hidden_act="activation")


def randomise(model, seed):
    """Every parameter normal with deviation 0.3, normalization weights around 1; row 0 (padding) is no exception."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise + 1 if name.lower().endswith(("layernorm.weight", "layer_norm.weight")) else noise)


def make_inputs(lengths_or_masks, sequence, seed):
    """ids, mask, types: int32 [batch, sequence]. A row is given by its kept length or by its mask as a string."""
    random = np.random.default_rng(seed)
    batch = len(lengths_or_masks)
    ids = random.integers(0, VOCABULARY, (batch, sequence), dtype=np.int32)
    ids[0, 1], ids[0, 2] = 0, VOCABULARY - 1  # both ends of the table
    mask = np.zeros((batch, sequence), np.int32)
    types = np.zeros((batch, sequence), np.int32)
    for row, kept in enumerate(lengths_or_masks):
        if isinstance(kept, int):
            mask[row, :kept] = 1
            types[row, kept // 2 : kept] = 1
        else:
            mask[row] = [int(c) for c in kept]
            types[row, sequence // 2 :] = 1
    return ids, mask, types


CASES = {
    "right": make_inputs([13, 7, 2, 1], 13, seed=1),
    "hole": make_inputs(["11110001110", "10101010101"], 11, seed=2),
    "left": make_inputs(["00011111111", "00000000001", "00110011100"], 11, seed=3),
    "full": make_inputs([64], 64, seed=4),
}
FIRST_TOKEN_KEPT = ("right", "hole", "full")


def inputs(model, case):
    """The case as the model's tokenizer would make it: RoBERTa's dropped tokens are padding, and one kept token is too,
    for texts may hold `<pad>`; DistilBERT knows no types."""
    ids, mask, types = (array.copy() for array in CASES[case])
    kind = model.config.model_type
    if kind in ("roberta", "xlm-roberta"):
        ids[ids == PADDING] = PADDING + 1
        ids[mask == 0] = PADDING
        ids[0, 3] = PADDING
        types[:] = 0
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    if kind == "distilbert":
        del arrays["token_type_ids"]
    return arrays


def run(model, case):
    tensors = {name: torch.from_numpy(array).long() for name, array in inputs(model, case).items()}
    with torch.no_grad():
        return model.double().eval()(**tensors)


def save_case(folder, model, case, arrays):
    """Inputs and outputs as CASE.NAME.npy; rows of dropped tokens are zero, for they are nobody's result."""
    mask = CASES[case][1]
    for name, array in inputs(model, case).items():
        np.save(folder / f"{case}.{name}.npy", array)
    for name, array in arrays.items():
        array = array.numpy().copy()
        if array.shape[:2] == mask.shape:
            array[mask == 0] = 0
        np.save(folder / f"{case}.{name}.npy", array.astype(np.float32))


def hidden_and_pooled(model, case):
    output = run(model, case)
    arrays = {"last_hidden_state": output.last_hidden_state}
    if case in FIRST_TOKEN_KEPT and "pooler_output" in output:
        arrays["pooler_output"] = output.pooler_output
    return arrays


def logits(model, case):
    return {"logits": run(model, case).logits}


def logit_of_each_token(model, case):
    return {"logits": run(model, case).logits.unsqueeze(-1)}


def start_end_logits(model, case):
    output = run(model, case)
    return {"start_end_logits": torch.stack([output.start_logits, output.end_logits], dim=-1)}


def make(out, name, kind, outputs, cases, seed, dtype=torch.float32, shard=None, pooler=True, configure=BertConfig,
         base=BASE, **config):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    set_seed(seed)
    config = {**base, **config}
    if configure is DistilBertConfig:
        config = {DISTILBERT_NAMES.get(key, key): value for key, value in config.items()}
    config = configure(**config)
    model = kind(config) if pooler else kind(config, add_pooling_layer=False)
    randomise(model, seed)
    model = model.to(dtype)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    for case in cases:
        save_case(folder, model, case, outputs(model, case))
    return model, folder


def as_older_releases_wrote_it(folder):
    """Files of older releases carry the positions as an int64 buffer, and `gamma` and `beta` for normalization."""
    path = folder / "model.safetensors"
    tensors = {}
    for name, tensor in load_file(path).items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[name] = tensor
    tensors["embeddings.position_ids"] = torch.arange(BASE["max_position_embeddings"]).unsqueeze(0)
    save_file(tensors, path, metadata={"format": "pt"})


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def pool(mode, hidden, mask):
    """[batch, sequence, hidden] → [batch, hidden] over the kept tokens, in float64."""
    kept = mask.unsqueeze(-1).double()
    if mode == "cls_token":
        return hidden[:, 0]
    if mode == "max_tokens":
        return hidden.masked_fill(kept == 0, -torch.inf).max(dim=1).values
    total, count = (hidden * kept).sum(dim=1), kept.sum(dim=1)
    return total / (count if mode == "mean_tokens" else count.sqrt())


POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")


def write_sentence_layout(folder, mode, normalize, width):
    """modules.json and 1_Pooling/config.json as sentence-transformers up to 5 wrote them: one flag a mode."""
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * normalize
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    flags = {f"pooling_mode_{m}": m == mode for m in POOLING_MODES}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width} | flags)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})


def write_newer_sentence_layout(folder, mode, normalize, width):
    """The same as sentence-transformers 6 writes them: other class names, the mode as a word."""
    kinds = ["base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling"]
    kinds += ["base.modules.normalize.Normalize"] * normalize
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    word = mode.removesuffix("_token").removesuffix("_tokens")
    pooling = {"embedding_dimension": width, "pooling_mode": word, "include_prompt": True}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    modality = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    transformer = {"transformer_task": "feature-extraction", "modality_config": modality}
    write_json(folder / "sentence_bert_config.json", transformer | {"module_output_name": "token_embeddings"})


def make_sentence_encoder(out, name, mode, normalize, seed, layout=write_sentence_layout):
    def embedding(model, case):
        pooled = pool(mode, run(model, case).last_hidden_state, torch.from_numpy(CASES[case][1]))
        return {"sentence_embedding": torch.nn.functional.normalize(pooled, dim=-1) if normalize else pooled}

    cases = ["right", "hole"] if mode == "cls_token" else ["right", "hole", "left"]
    small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40)
    _, folder = make(out, name, BertModel, embedding, cases, seed, pooler=False, **small)
    layout(folder, mode, normalize, small["hidden_size"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write the checkpoints to")
    out = parser.parse_args().out
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)

    make(out, "bert_base", BertModel, hidden_and_pooled, ["right", "hole", "left", "full"], seed=10)
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    make(out, "bert_sequence_classification", BertForSequenceClassification, logits, ["right", "hole"], seed=11,
         num_hidden_layers=1, id2label=labels, label2id={label: i for i, label in labels.items()})
    make(out, "bert_question_answering", BertForQuestionAnswering, start_end_logits, ["right", "left"], seed=12,
         num_hidden_layers=1)
    make(out, "bert_masked_lm", BertForMaskedLM, logits, ["right", "left"], seed=13, num_hidden_layers=1)
    make(out, "bert_gelu_new", BertModel, hidden_and_pooled, ["right"], seed=14, num_hidden_layers=1,
         hidden_act="gelu_new")
    # 12 values a head, 67 in the feed-forward part: nothing is a multiple of a vector.
    make(out, "bert_relu_odd_sizes", BertModel, hidden_and_pooled, ["right", "hole"], seed=15, hidden_act="relu",
         layer_norm_eps=1e-2, hidden_size=36, num_attention_heads=3, intermediate_size=67)
    make(out, "bert_bf16", BertModel, hidden_and_pooled, ["right"], seed=16, dtype=torch.bfloat16)
    _, folder = make(out, "bert_fp16_old_names", BertModel, hidden_and_pooled, ["right"], seed=17, dtype=torch.float16)
    as_older_releases_wrote_it(folder)
    make(out, "bert_sharded", BertModel, hidden_and_pooled, ["right"], seed=18, shard="60KB")

    make_sentence_encoder(out, "sentence_mean", "mean_tokens", False, seed=20)
    make_sentence_encoder(out, "sentence_mean_normalized", "mean_tokens", True, seed=21)
    make_sentence_encoder(out, "sentence_cls", "cls_token", False, seed=22, layout=write_newer_sentence_layout)
    make_sentence_encoder(out, "sentence_max_normalized", "max_tokens", True, seed=23,
                          layout=write_newer_sentence_layout)
    # Not normalized: with it, the division by the root could not be told from the mean.
    make_sentence_encoder(out, "sentence_mean_sqrt_len", "mean_sqrt_len_tokens", False, seed=24)

    def make_other(name, kind, configure, outputs, cases, seed, base=SMALL, **config):
        make(out, name, kind, outputs, cases, seed, torch.bfloat16, configure=configure, base=base, **config)

    all_cases = ["right", "hole", "left", "full"]
    two_layers = SMALL | dict(num_hidden_layers=2)
    make_other("roberta", RobertaModel, RobertaConfig, hidden_and_pooled, all_cases, 60, two_layers, **ROBERTA)
    make_other("xlm_roberta_sequence_classification", XLMRobertaForSequenceClassification, XLMRobertaConfig, logits,
               ["right", "hole"], 61, num_labels=3, **ROBERTA)
    make_other("roberta_question_answering", RobertaForQuestionAnswering, RobertaConfig, start_end_logits,
               ["right", "left"], 62, **ROBERTA)
    make_other("roberta_masked_lm", RobertaForMaskedLM, RobertaConfig, logits, ["right", "left"], 63, **ROBERTA)

    make_other("distilbert", DistilBertModel, DistilBertConfig, hidden_and_pooled, all_cases, 64, two_layers)
    make_other("distilbert_sequence_classification", DistilBertForSequenceClassification, DistilBertConfig, logits,
               ["right", "hole"], 65, num_labels=3)
    make_other("distilbert_question_answering", DistilBertForQuestionAnswering, DistilBertConfig, start_end_logits,
               ["right", "left"], 66, hidden_act="relu")
    make_other("distilbert_masked_lm", DistilBertForMaskedLM, DistilBertConfig, logits, ["right", "left"], 67)

    # Embeddings narrower than the blocks, and, for comparison, as wide.
    narrow = dict(embedding_size=20)
    make_other("electra", ElectraModel, ElectraConfig, hidden_and_pooled, all_cases, 68, two_layers, **narrow)
    make_other("electra_sequence_classification", ElectraForSequenceClassification, ElectraConfig, logits,
               ["right", "hole"], 69, num_labels=3, embedding_size=SMALL["hidden_size"])
    make_other("electra_question_answering", ElectraForQuestionAnswering, ElectraConfig, start_end_logits,
               ["right", "left"], 70, **narrow)
    make_other("electra_masked_lm", ElectraForMaskedLM, ElectraConfig, logits, ["right", "left"], 71, **narrow)
    make_other("electra_pretraining", ElectraForPreTraining, ElectraConfig, logit_of_each_token, ["right", "left"], 72,
               hidden_act="gelu_new", **narrow)


if __name__ == "__main__":
    main()
