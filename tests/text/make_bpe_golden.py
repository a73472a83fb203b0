#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small BPE and SentencePiece models, and bpe_golden.json: what `tokenizers` and `sentencepiece` make of awkward texts.

    python3 tests/text/make_bpe_golden.py

bpe_byte_level.json and bpe_byte_fallback.json are tokenizer.json files, sentence_piece_*.model SentencePiece's. Offsets are
written in bytes, as Octet has them. Needs: pip install tokenizers sentencepiece.
"""
import io
import json
import random
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, __version__, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent

CORPUS = """The cat sat on the mat, and the dog didn't. They've seen 1234 cats; we'll see 56 more in 2024!
Once upon a time there was a little girl who lived in a house near the forest. She loved to play with her friends.
"Let's go to the park," said Tom. "It's sunny today." They played and played until the sun went down.
def main(): return {"key": [1, 2, 3]}    # a comment
The café serves naïve crêpes; über-cool señor drinks 12.5 litres. 中文 日本語 한국어 привет мир
A quick brown fox jumps over the lazy dog while the other dogs are sleeping near the water all day long.
Tokenizers split words into pieces, and pieces into characters, and characters into bytes.
""" * 4

TEXTS = [
    "", " ", "The cat sat on the mat.", "  leading and trailing  ", "a\n\n\nb \n c\r\n\r\nd\t\te   f", "don't DON'T it's we'LL I'VE 'sup",
    "12345 1 22 333 4444 3.14 ½ ④ Ⅷ ٣", "café cafe\u0301 ﬁx ﬀ \u212b Å", "中文 mat中x 日本語 한국어", "🤖 👨\u200d👩\u200d👧 🏽 👍🏽!",
    "x\u00a0y\u3000z\u2003\u2028w\u180ev\u0085u", "\u0000\u0001\x7f\ufffd\ufeff\u200b", "<s>the</s> <unk> <|end|>cat<|end|> <|end|>",
    "hello_world snake_case CamelCase XMLHttp", "def f(x):\n    return {\"a\": [1, 2]}  # ok\n\n\n", "\u1c89\ua7cb \U000116d0\U0001e4d0 \u0897x",
    "▁the ▁▁cat▁ sat▁on", "Ġthe Ċ <0x41> <0xE4>", "a" * 70 + " " * 30 + "b", "ſ 'ſ K \u0345", "-- a--b--c - -", "ab,cd;ef!!?..",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|"
         r"\s+")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def byte_level(**options):
    return dict(type="ByteLevel", **(dict(add_prefix_space=False, trim_offsets=True, use_regex=True) | options))


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return dict(type="Split", pattern={kind: pattern}, behavior=behavior, invert=invert)


def then_bytes(*steps):
    return dict(type="Sequence", pretokenizers=[*steps, byte_level(use_regex=False)])


def metaspace(**options):
    return dict(type="Metaspace", **(dict(replacement="▁", prepend_scheme="always", split=True) | options))


def sequence(*steps):
    return dict(type="Sequence", normalizers=list(steps))


def template(token, token_id):
    single = [dict(SpecialToken=dict(id=token, type_id=0)), dict(Sequence=dict(id="A", type_id=0))]
    return dict(type="TemplateProcessing", single=single, pair=single + [dict(Sequence=dict(id="B", type_id=1))],
                special_tokens={token: dict(id=token, ids=[token_id], tokens=[token])})


def make_byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    return json.loads(tokenizer.to_str())


def make_byte_fallback():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=tokens, show_progress=False, limit_alphabet=60)
    # Without a pre-tokenizer a merge would reach over spaces, which Llama's never do.
    words = [word for line in CORPUS.splitlines() for word in line.split()]
    tokenizer.train_from_iterator(words, trainer)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = document["added_tokens"][:3]
    document["post_processor"] = template("<s>", 1)
    return document


BASES = dict(byte_level=make_byte_level(), byte_fallback=make_byte_fallback())

GROUPS = [
    dict(base="byte_level", name="GPT-2"),
    dict(base="byte_level", name="GPT-2, prefix space", pre_tokenizer=byte_level(add_prefix_space=True)),
    dict(base="byte_level", name="offsets trimmed", post_processor=byte_level()),
    dict(base="byte_level", name="offsets trimmed, prefix space", pre_tokenizer=byte_level(add_prefix_space=True),
         post_processor=byte_level(add_prefix_space=True)),
    dict(base="byte_level", name="RobertaProcessing", pre_tokenizer=byte_level(add_prefix_space=True), post_processor=dict(
        type="RobertaProcessing", sep=["a", 66], cls=["b", 67], trim_offsets=True, add_prefix_space=True)),
    dict(base="byte_level", name="Llama 3", pre_tokenizer=then_bytes(split(LLAMA3)), model=dict(ignore_merges=True),
         post_processor=dict(type="Sequence", processors=[byte_level(), template("<|end|>", 0)])),
    dict(base="byte_level", name="Qwen2", normalizer=dict(type="NFC"), pre_tokenizer=then_bytes(split(QWEN2)),
         post_processor=byte_level(use_regex=False)),
    dict(base="byte_level", name="GPT-4o", pre_tokenizer=then_bytes(split(GPT4O))),
    dict(base="byte_level", name="GPT-2's pattern as a Split, removed and inverted",
         pre_tokenizer=then_bytes(split(GPT2, "Removed", True))),
    dict(base="byte_level", name="words and boundaries", pre_tokenizer=then_bytes(split(r"\b|\w\W|\p{P}{2}"))),
    dict(base="byte_level", name="look-around without characters", pre_tokenizer=then_bytes(split(r"(?=[A-Z])|(?<=_)|^|$"))),
    dict(base="byte_level", name="single digits", pre_tokenizer=dict(type="Sequence", pretokenizers=[
        dict(type="Digits", individual_digits=True), byte_level()])),
    dict(base="byte_level", name="whole numbers", pre_tokenizer=then_bytes(dict(type="Digits", individual_digits=False))),
    *[dict(base="byte_level", name=f"punctuation, {behavior}", pre_tokenizer=then_bytes(
        dict(type="Punctuation", behavior=behavior))) for behavior in BEHAVIORS],
    *[dict(base="byte_level", name=f"split at -, {behavior}, {invert}", pre_tokenizer=then_bytes(
        split("-", behavior, invert, "String"))) for behavior in BEHAVIORS for invert in (False, True)],
    dict(base="byte_fallback", name="Llama 2"),
    dict(base="byte_fallback", name="unknown characters fused", model=dict(byte_fallback=False)),
    dict(base="byte_fallback", name="unknown characters apart", model=dict(byte_fallback=False, fuse_unk=False)),
    dict(base="byte_fallback", name="unknown characters vanish", model=dict(byte_fallback=False, unk_token=None)),
    dict(base="byte_fallback", name="Metaspace", normalizer=None, pre_tokenizer=metaspace(),
         decoder=metaspace()),
    dict(base="byte_fallback", name="Metaspace, first, not split", normalizer=None,
         pre_tokenizer=metaspace(prepend_scheme="first", split=False), decoder=metaspace(prepend_scheme="first")),
    dict(base="byte_fallback", name="Metaspace, never", normalizer=None, pre_tokenizer=metaspace(prepend_scheme="never"),
         decoder=metaspace(prepend_scheme="never")),
    dict(base="byte_fallback", name="patterns replaced", normalizer=sequence(
        dict(type="Replace", pattern=dict(Regex=r" {2,}"), content=" "), dict(type="Replace", pattern=dict(Regex=r"\d"), content="<n>"),
        dict(type="Replace", pattern=dict(Regex=r"(?=o)"), content="_"), dict(type="Strip", strip_left=True, strip_right=True),
        dict(type="Lowercase")), decoder=dict(type="Sequence", decoders=[
            dict(type="Replace", pattern=dict(Regex="[aeiou]"), content="<v>"), dict(type="Fuse"),
            dict(type="Replace", pattern=dict(String="<v>"), content="*"), dict(type="Strip", content="*", start=2, stop=2)])),
    dict(base="byte_fallback", name="BPEDecoder", decoder=dict(type="BPEDecoder", suffix="▁")),
    dict(base="byte_fallback", name="no decoder", decoder=None),
]


def byte_offsets(text, offsets):
    return [[len(text[:place].encode()) for place in offset] for offset in offsets]


def decode(tokenizer, ids, **options):
    try:
        return tokenizer.decode(ids, **options)
    except BaseException:  # some decoders panic where there is less text than they want to strip
        return None


def random_ids(size, seed):
    generator = random.Random(seed)
    return [[generator.randrange(size) for _ in range(generator.randrange(1, 24))] for _ in range(12)]


def tokenizer_cases():
    groups = []
    for number, group in enumerate(GROUPS):
        overrides = {key: value for key, value in group.items() if key not in ("base", "name")}
        document = json.loads(json.dumps(BASES[group["base"]]))
        document["model"].update(overrides.get("model", {}))
        document.update({key: value for key, value in overrides.items() if key != "model"})
        tokenizer = Tokenizer.from_str(json.dumps(document))
        # One group of each decoder is enough.
        decodes = "decoder" in overrides or group["name"] in ("GPT-2", "Llama 2")
        cases = []
        for text in TEXTS if "split at" not in group["name"] and "punctuation" not in group["name"] else TEXTS[-4:]:
            encoding = tokenizer.encode(text)
            case = dict(text=text, ids=encoding.ids, offsets=byte_offsets(text, encoding.offsets),
                        word_ids=[-1 if word is None else word for word in encoding.word_ids])
            cases.append(case | (dict(decoded=decode(tokenizer, encoding.ids)) if decodes else {}))
        decodes = decodes and [dict(ids=ids, text=decode(tokenizer, ids, skip_special_tokens=False))
                   for ids in random_ids(tokenizer.get_vocab_size(), number)]
        groups.append(dict(name=group["name"], base=group["base"], overrides=overrides, cases=cases, decodes=decodes or []))
    return groups


RULES = [("ﬁ", "fi"), ("ﬀ", "ff"), ("\u212b", "Å"), ("A\u030a", "Å"), ("\u00a0", " "), ("\u3000", " "), ("\u200b", ""), ("½", "1/2"), ("\t", " "),
         ("\n", " ")]


def train_sentence_piece(name, **options):
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        for source, target in RULES:
            rules.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
        rules.flush()
        if options.pop("rules", False):
            options["normalization_rule_tsv"] = rules.name
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS.splitlines()), model_writer=model,
                                                 minloglevel=2, hard_vocab_limit=False, num_threads=1, **options)
    (HERE / name).write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def sentence_piece_cases():
    specs = [
        ("sentence_piece_bpe.model", dict(model_type="bpe", vocab_size=480, byte_fallback=True, normalization_rule_name="identity",
                                          remove_extra_whitespaces=False, split_digits=True, character_coverage=0.99,
                                          user_defined_symbols=["<|end|>", "▁▁", "▁▁▁▁"])),
        ("sentence_piece_bpe_rules.model", dict(model_type="bpe", vocab_size=200, rules=True, character_coverage=0.98,
                                                allow_whitespace_only_pieces=True)),
        ("sentence_piece_unigram.model", dict(model_type="unigram", vocab_size=200, rules=True, character_coverage=0.98,
                                              user_defined_symbols=["<|end|>"], control_symbols=["<ctl>"])),
        ("sentence_piece_unigram_suffix.model", dict(model_type="unigram", vocab_size=420, byte_fallback=True,
                                                     normalization_rule_name="identity", treat_whitespace_as_suffix=True)),
    ]
    groups = []
    for number, (name, options) in enumerate(specs):
        model = train_sentence_piece(name, **options)
        cases = []
        for text in TEXTS:
            encoding = model.encode(text, return_type="offset_mapping")
            ids, offsets = encoding["ids"], [list(offset) for offset in encoding["offsets"]]
            for i in range(len(ids) - 2, -1, -1):  # of a character's byte pieces only the last has its offsets
                if model.is_byte(ids[i]) and offsets[i][0] == offsets[i][1]:
                    offsets[i] = offsets[i + 1]
            cases.append(dict(text=text, ids=ids, offsets=byte_offsets(text, offsets), decoded=model.decode(ids)))
        decodes = [dict(ids=ids, text=model.decode(ids)) for ids in random_ids(model.get_piece_size(), number)]
        groups.append(dict(name=name, bos=model.bos_id(), eos=model.eos_id(), cases=cases, decodes=decodes))
    return groups


def main():
    for name, document in BASES.items():
        (HERE / f"bpe_{name}.json").write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    golden = dict(tokenizers=__version__, sentencepiece=sentencepiece.__version__, groups=tokenizer_cases(),
                  sentence_piece=sentence_piece_cases())
    text = json.dumps(golden, separators=(",", ":")).replace('{"text"', '\n{"text"').replace('{"name"', '\n{"name"')
    (HERE / "bpe_golden.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
