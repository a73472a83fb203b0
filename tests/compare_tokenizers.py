#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares Octet's tokenization with that of the `tokenizers` library (of a SentencePiece model: `sentencepiece`), line
by line, on the texts of the shared data.

    python3 tests/compare_tokenizers.py --octet build/release/bin/octet --data DATA [--model DIR]… [--sample N]

DATA is the folder that OCTET_SHARED_DATA names (the default). Every line of every text is compared: the columns and the
whole lines of GLUE, the fields of SQuAD, gsm8k and IMDb, WikiText-2 and TinyStories; with --sample N, every N-th. Ids, type
ids, offsets, tokens and the decoded text must be equal. Ends with status 1 if anything differs. Needs: pip install tokenizers
sentencepiece.
"""
import argparse
import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BATCH = 2000
SHOWN = 5  # mismatches printed for each file


def strings(value):
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from strings(member)
    elif isinstance(value, list):
        for element in value:
            yield from strings(element)


def texts(path):
    if path.suffix == ".tsv":
        for line in open(path, encoding="utf-8-sig", newline="\n"):
            yield line
            yield from line.split("\t")
    elif path.suffix == ".jsonl":
        for line in open(path, encoding="utf-8"):
            yield line
            yield from strings(json.loads(line))
    elif path.suffix == ".json":
        yield from strings(json.loads(path.read_text(encoding="utf-8")))
    elif path.name.endswith(".json.gz"):
        yield from strings(json.loads(gzip.open(path, "rt", encoding="utf-8").read()))
    else:
        yield from open(path, encoding="utf-8-sig", newline="\n")


def lines(path):
    """What is tokenized: the lines of the texts, without their ends (nor a byte order mark, which `octet` drops too)."""
    for text in texts(path):
        for line in text.split("\n"):
            line = line.rstrip("\r")
            if line:
                yield line


def find_files(data):
    patterns = ["glue/*/*.tsv", "squad/*.json", "wikitext-2/*.txt", "tinystories/*.txt", "gsm8k/*.jsonl",
                "imdb/*.json.gz"]
    return [path for pattern in patterns for path in sorted(data.glob(pattern))]


class Tokenizers:
    """The `tokenizers` library."""

    name, flags = "tokenizers", []

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, lines):
        encodings = self.tokenizer.encode_batch(lines)
        texts = self.tokenizer.decode_batch([encoding.ids for encoding in encodings])
        return [dict(ids=encoding.ids, type_ids=encoding.type_ids, tokens=encoding.tokens,
                     offsets=[list(offset) for offset in encoding.offsets], text=text)
                for encoding, text in zip(encodings, texts)]


class SentencePiece:
    """The `sentencepiece` library. It gives the offsets of a character to the last of its byte pieces only, and the text
    of an unknown piece in place of the piece."""

    # What begins and ends an input is no part of it.
    name, flags = "sentencepiece", ["--no-special-tokens"]

    def __init__(self, path):
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, lines):
        encodings = self.model.encode(lines, return_type="offset_mapping")
        texts = self.model.decode([encoding["ids"] for encoding in encodings])
        return [self.as_octet(encoding, text) for encoding, text in zip(encodings, texts)]

    def as_octet(self, encoding, text):
        ids, offsets = encoding["ids"], [list(offset) for offset in encoding["offsets"]]
        for i in range(len(ids) - 2, -1, -1):
            if self.model.is_byte(ids[i]) and offsets[i][0] == offsets[i][1]:
                offsets[i] = offsets[i + 1]
        return dict(ids=ids, type_ids=[0] * len(ids), tokens=[self.model.id_to_piece(i) for i in ids], offsets=offsets,
                    text=text)


def load_reference(model):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.implementations import BertWordPieceTokenizer

    if (model / "tokenizer.json").exists():
        reference = Tokenizer.from_file(str(model / "tokenizer.json"))
        reference.no_truncation()
        reference.no_padding()
        return Tokenizers(reference)
    if (model / "tokenizer.model").exists():
        return SentencePiece(model / "tokenizer.model")
    for vocabulary, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        if (model / vocabulary).exists():  # as transformers' GPT2Tokenizer puts it together
            reference = Tokenizer(models.BPE.from_file(str(model / vocabulary), str(model / merges)))
            reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            reference.decoder = decoders.ByteLevel()
            reference.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
            return Tokenizers(reference)
    config = {}
    if (model / "tokenizer_config.json").exists():
        config = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    return Tokenizers(BertWordPieceTokenizer(
        str(model / "vocab.txt"), lowercase=config.get("do_lower_case", True),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True), strip_accents=config.get("strip_accents")))


def describe(line, name, ours, theirs):
    for key in ("ids", "type_ids", "tokens", "offsets"):
        if ours[key] != theirs[key]:
            at = next((i for i, (a, b) in enumerate(zip(ours[key], theirs[key])) if a != b),
                      min(len(ours[key]), len(theirs[key])))
            return (f"    {line[:100]!r}\n      {key}[{at}]: octet {ours[key][at:at + 6]}, "
                    f"{name} {theirs[key][at:at + 6]}")
    return f"    {line[:100]!r}\n      text: octet {ours['text'][:100]!r}, {name} {theirs['text'][:100]!r}"


def compare(octet, model, reference, path, sample):
    """(lines, mismatches) of one file."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", suffix=".txt") as file:
        count = 0
        for line in itertools.islice(lines(path), 0, None, sample):
            file.write(line + "\n")
            count += 1
        file.flush()
        process = subprocess.Popen([octet, "tokenize", str(model), "--file", file.name, "--json", *reference.flags],
                                   stdout=subprocess.PIPE)
        mismatches = compared = 0
        with open(file.name, encoding="utf-8", newline="\n") as source:
            while batch := [line.rstrip("\n") for line in itertools.islice(source, BATCH)]:
                for line, theirs in zip(batch, reference.encode(batch)):
                    answer = process.stdout.readline()
                    if not answer:
                        break
                    compared += 1
                    ours = json.loads(answer)
                    if any(ours[key] != value for key, value in theirs.items()):
                        mismatches += 1
                        if mismatches <= SHOWN:
                            print(describe(line, reference.name, ours, theirs))
        extra = process.stdout.read()
        if process.wait() != 0 or compared != count or extra:
            sys.exit(f"{octet} tokenize ended with status {process.returncode} and {compared} answers for {count} lines")
    return count, mismatches


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--octet", default="build/release/bin/octet", help="the program under test")
    parser.add_argument("--data", type=Path, default=os.environ.get("OCTET_SHARED_DATA"), help="the shared data folder")
    parser.add_argument("--model", type=Path, action="append",
                        help="a directory with a tokenizer; may be repeated (default: those of DATA)")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="compare every N-th line only")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the shared data folder with --data or OCTET_SHARED_DATA")
    files = find_files(Path(options.data))
    if not files:
        parser.error(f"no texts in {options.data}")
    data = Path(options.data)
    models = options.model or [data / name for name in (
        "models/minilm-l6", "models/smollm2-135m-instruct", "models/stories260k", "tokenizers/bert-base-uncased",
        "tokenizers/gpt2", "tokenizers/llama2")]
    failed = False
    for model in models:
        reference = load_reference(model)
        total = total_mismatches = 0
        for path in files:
            count, mismatches = compare(options.octet, model, reference, path, options.sample)
            print(f"{model.name}  {path.relative_to(options.data)}: {count:,} lines, {mismatches:,} mismatches", flush=True)
            total += count
            total_mismatches += mismatches
        print(f"{model.name}: {len(files)} files, {total:,} lines, {total_mismatches:,} mismatches")
        failed = failed or total_mismatches > 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
