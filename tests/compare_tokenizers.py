#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares Octet's tokenization with that of the `tokenizers` library, line by line, on the texts of the shared data.

    python3 tests/compare_tokenizers.py --octet build/release/bin/octet --data DATA [--model DIR]… [--sample N]

DATA is the folder that OCTET_SHARED_DATA names (the default). Every line of every text is compared: the columns and the
whole lines of GLUE, the fields of SQuAD, gsm8k and IMDb, WikiText-2 and TinyStories; with --sample N, every N-th. Ids, type
ids, offsets and tokens must be equal. Ends with status 1 if anything differs. Needs: pip install tokenizers.
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


def load_reference(model):
    from tokenizers import Tokenizer
    from tokenizers.implementations import BertWordPieceTokenizer

    if (model / "tokenizer.json").exists():
        reference = Tokenizer.from_file(str(model / "tokenizer.json"))
        reference.no_truncation()
        reference.no_padding()
        return reference
    config = {}
    if (model / "tokenizer_config.json").exists():
        config = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    return BertWordPieceTokenizer(
        str(model / "vocab.txt"), lowercase=config.get("do_lower_case", True),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True), strip_accents=config.get("strip_accents"))


def describe(line, ours, theirs):
    for key in ("ids", "type_ids", "tokens", "offsets"):
        if ours[key] != theirs[key]:
            at = next((i for i, (a, b) in enumerate(zip(ours[key], theirs[key])) if a != b),
                      min(len(ours[key]), len(theirs[key])))
            return (f"    {line[:100]!r}\n      {key}[{at}]: octet {ours[key][at:at + 6]}, "
                    f"tokenizers {theirs[key][at:at + 6]}")
    return ""


def compare(octet, model, reference, path, sample):
    """(lines, mismatches) of one file."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", suffix=".txt") as file:
        count = 0
        for line in itertools.islice(lines(path), 0, None, sample):
            file.write(line + "\n")
            count += 1
        file.flush()
        process = subprocess.Popen([octet, "tokenize", str(model), "--file", file.name, "--json"],
                                   stdout=subprocess.PIPE)
        mismatches = compared = 0
        with open(file.name, encoding="utf-8", newline="\n") as source:
            while batch := [line.rstrip("\n") for line in itertools.islice(source, BATCH)]:
                for line, encoding in zip(batch, reference.encode_batch(batch)):
                    answer = process.stdout.readline()
                    if not answer:
                        break
                    compared += 1
                    ours = json.loads(answer)
                    theirs = {"ids": encoding.ids, "type_ids": encoding.type_ids, "tokens": encoding.tokens,
                              "offsets": [list(offset) for offset in encoding.offsets]}
                    if any(ours[key] != value for key, value in theirs.items()):
                        mismatches += 1
                        if mismatches <= SHOWN:
                            print(describe(line, ours, theirs))
        extra = process.stdout.read()
        if process.wait() != 0 or compared != count or extra:
            sys.exit(f"{octet} tokenize ended with status {process.returncode} and {compared} answers for {count} lines")
    return count, mismatches


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--octet", default="build/release/bin/octet", help="the program under test")
    parser.add_argument("--data", type=Path, default=os.environ.get("OCTET_SHARED_DATA"), help="the shared data folder")
    parser.add_argument("--model", type=Path, action="append",
                        help="a directory with tokenizer.json or vocab.txt; may be repeated (default: those of DATA)")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="compare every N-th line only")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the shared data folder with --data or OCTET_SHARED_DATA")
    files = find_files(Path(options.data))
    if not files:
        parser.error(f"no texts in {options.data}")
    models = options.model or [options.data / "models/minilm-l6", options.data / "tokenizers/bert-base-uncased"]
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
