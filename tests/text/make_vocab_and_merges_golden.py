#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes vocab_and_merges_golden.json: what the tokenizers of `transformers` that are stored as vocab.json and merges.txt
make of the texts of bpe_golden.json, with the vocabulary of bpe_byte_level.json behind RoBERTa's special tokens.

    python3 tests/text/make_vocab_and_merges_golden.py

Offsets are written in bytes, as Octet has them. Needs: pip install transformers.
"""
import json
import tempfile
from pathlib import Path

from transformers import GPT2Tokenizer, RobertaTokenizer, __version__

HERE = Path(__file__).parent
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def token(content):
    return dict(__type="AddedToken", content=content, lstrip=False, normalized=True, rstrip=False, single_word=False)


# As facebook/opt-125m and roberta-base store them.
GROUPS = [
    dict(name="OPT", kind=GPT2Tokenizer, config=dict(
        add_bos_token=True, add_prefix_space=False, bos_token=token("</s>"), eos_token=token("</s>"), errors="replace",
        pad_token="<pad>", tokenizer_class="GPT2Tokenizer", unk_token=token("</s>"))),
    dict(name="RoBERTa", kind=RobertaTokenizer, config=dict(model_max_length=512, tokenizer_class="RobertaTokenizer")),
]


def cases(kind, texts, files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        tokenizer = kind.from_pretrained(folder)
    for text in texts:
        encoding = tokenizer(text, return_offsets_mapping=True)
        offsets = [[len(text[:place].encode()) for place in offset] for offset in encoding["offset_mapping"]]
        yield dict(text=text, ids=encoding["input_ids"], offsets=offsets)


def main():
    base = json.loads((HERE / "bpe_byte_level.json").read_text())["model"]
    tokens = SPECIAL + [name for name in sorted(base["vocab"], key=base["vocab"].get) if name != "<|end|>"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in base["merges"]]
    vocabulary = json.dumps({name: number for number, name in enumerate(tokens)}, ensure_ascii=False)
    files = {"vocab.json": vocabulary, "merges.txt": "#version: 0.2\n" + "\n".join(merges) + "\n"}
    texts = [case["text"] for case in json.loads((HERE / "bpe_golden.json").read_text())["groups"][0]["cases"]]
    texts += ["a <mask> b<pad></s> c"]

    groups = []
    for group in GROUPS:
        config = json.dumps(group["config"])
        made = cases(group["kind"], texts, files | {"tokenizer_config.json": config})
        groups.append(dict(name=group["name"], config=config, cases=list(made), decodes=[]))
    golden = dict(transformers=__version__, vocabulary=files["vocab.json"], merges=files["merges.txt"], groups=groups)
    text = json.dumps(golden, separators=(",", ":")).replace('{"text"', '\n{"text"').replace('{"name"', '\n{"name"')
    (HERE / "vocab_and_merges_golden.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
