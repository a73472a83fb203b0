#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tokenizer.json, vocab.txt and golden.json beside it: what the `tokenizers` library makes of awkward texts.

    python3 tests/text/make_golden.py

Offsets are written in bytes, as Octet has them. Needs: pip install tokenizers transformers.
"""
import json
from pathlib import Path

from tokenizers import Tokenizer, __version__, normalizers

HERE = Path(__file__).parent

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the cat sat on mat it is ##ing ##s un ##believ ##able ##' do n't not ' s 've m re , . ? ! - ( ) # ## cafe café
naive naïve éa i ##i̇ ss ß straße σ ς οδοσ οδος 中 文 ##文 한 국 ##국 한국 각 ᄀ ##ᅡ ##ᆨ 日 本 ก ##า fi ﬁ 1 ##⁄ ##2 ½ 🤖 👨 ##👩 e ##́ é
foo bar BAR Foo yesterday à ậ ṩ Å å x ##x ##xx ##xxx yes no word ##wor ##d""".split()
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def added(token_id, content, **flags):
    entry = dict(id=token_id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False,
                 special=False)
    entry.update(flags)
    return entry


def make_tokenizer():
    tokens = list(dict.fromkeys(SPECIAL + WORDS + list(ALPHABET) + ["##" + c for c in ALPHABET]))
    vocab = {token: i for i, token in enumerate(tokens)}
    special = {"[CLS]": dict(id="[CLS]", ids=[vocab["[CLS]"]], tokens=["[CLS]"]),
               "[SEP]": dict(id="[SEP]", ids=[vocab["[SEP]"]], tokens=["[SEP]"])}

    def token(name, type_id):
        return dict(SpecialToken=dict(id=name, type_id=type_id))

    def sequence(name, type_id):
        return dict(Sequence=dict(id=name, type_id=type_id))

    single = [token("[CLS]", 0), sequence("A", 0), token("[SEP]", 0)]
    return dict(
        version="1.0", truncation=None, padding=None,
        added_tokens=[added(vocab[name], name, special=True) for name in SPECIAL],
        normalizer=dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None,
                        lowercase=True),
        pre_tokenizer=dict(type="BertPreTokenizer"),
        post_processor=dict(type="TemplateProcessing", single=single,
                            pair=single + [sequence("B", 1), token("[SEP]", 1)], special_tokens=special),
        decoder=dict(type="WordPiece", prefix="##", cleanup=True),
        model=dict(type="WordPiece", unk_token="[UNK]", continuing_subword_prefix="##", max_input_chars_per_word=20,
                   vocab=vocab))


BASE = make_tokenizer()
NEXT = len(BASE["model"]["vocab"])

TEXTS = [
    "", " ", "The cat sat on the mat.", "  THE\tcat\n\r sat\u00a0on\u3000mat ", "Unbelievable unbelievables!",
    "Café naïve ÀÉa cafe\u0301 e\u0301a", "中文 mat中x 日本語 한국 각", "🤖 the🤖cat 👨\u200d👩 🏽", "a\u0323\u0302 ạ\u0302 s\u0307\u0323 \u0301x",
    "the\x00cat\x01sat\x7fon\u200bmat\u00ad\ufeffit\ufffdis\u0085no", "İi Iı İSTANBUL", "Straße STRASSE ẞ ß", "ΟΔΟΣ ΟΔΟΣ. Σ ς",
    "x" * 20, "x" * 21, "xxxxxxx", "é" * 20, "e\u0301" * 11, "don't it's I've (the) cat--mat #foo", "½ ﬁ ﬁx ① Å \u212b",
    "[CLS] the [MASK] cat[SEP]the[UNK][mask]", "wordwordword wörd", "กา ก\u0e32 \u0e48", "\u1100\u1161\u11a8 가 \ud7a3",
    "\u166d\U000111c9\u061d the\u2e52cat", "\U00011938 \U0001e030 \U00010d50 \u1c89 \U00016ea0", "\u0344 \u0f73 \u0958 \u0ddc",
]

BERT = BASE["normalizer"]


def forms(*names):
    return dict(type="Sequence", normalizers=[dict(type=name) for name in names])


ADDED = [
    added(NEXT, "<l>", lstrip=True), added(NEXT + 1, "<r>", rstrip=True), added(NEXT + 2, "<b>", lstrip=True, rstrip=True),
    added(NEXT + 3, "foo", single_word=True) | dict(id=BASE["model"]["vocab"]["foo"]),
    added(NEXT + 3, "Yes Day", normalized=True), added(NEXT + 4, "yes", normalized=True) |
    dict(id=BASE["model"]["vocab"]["yes"]), added(NEXT + 4, "ÉLAN", normalized=True, single_word=True),
    added(NEXT + 5, "<special>", special=True), added(NEXT + 6, "<l><r>"), added(NEXT + 7, "  "), added(NEXT + 8, " z", lstrip=True),
]
ADDED_TEXTS = [
    "the  <l>cat", "the<l> cat", "cat<r>   mat <r>", "on \t<b>\n on", "foo foofoo xfoo foo, _foo foo\u0301", "yes day YES  DAY Yes Day",
    "élan E\u0301LAN ÉLANs", "<special><l><r> <l> <r>", "<r>    <l>", "x  <b>  <b>  y", "<r>  the  cat", "[MASK]<b>[MASK]", "<r>  zx  z", "<r> z",
]

GROUPS = [
    dict(name="BERT, uncased", overrides={}, texts=TEXTS),
    dict(name="BERT, cased", overrides=dict(normalizer=BERT | dict(lowercase=False)), texts=TEXTS),
    dict(name="accents stripped, case kept", overrides=dict(normalizer=BERT | dict(lowercase=False, strip_accents=True)),
         texts=TEXTS),
    dict(name="lowercase, accents and CJK kept", texts=TEXTS,
         overrides=dict(normalizer=BERT | dict(strip_accents=False, handle_chinese_chars=False, clean_text=False))),
    dict(name="no normalizer", overrides=dict(normalizer=None), texts=TEXTS),
    dict(name="NFC", overrides=dict(normalizer=forms("NFC")), texts=TEXTS),
    dict(name="NFD", overrides=dict(normalizer=forms("NFD")), texts=TEXTS),
    dict(name="NFKC, lowercase", overrides=dict(normalizer=forms("NFKC", "Lowercase")), texts=TEXTS),
    dict(name="NFKD, StripAccents, NFC", overrides=dict(normalizer=forms("NFKD", "StripAccents", "NFC")), texts=TEXTS),
    dict(name="Strip and Replace", texts=TEXTS, overrides=dict(
        normalizer=dict(type="Sequence", normalizers=[
            dict(type="Strip", strip_left=True, strip_right=True), dict(type="Replace", pattern=dict(String="cat"), content="the mat"),
            dict(type="Replace", pattern=dict(String="x"), content="")]))),
    dict(name="Strip on the left", texts=TEXTS[:4], overrides=dict(
        normalizer=dict(type="Strip", strip_left=True, strip_right=False), pre_tokenizer=None)),
    dict(name="Whitespace", overrides=dict(pre_tokenizer=dict(type="Whitespace")), texts=TEXTS),
    dict(name="WhitespaceSplit, Punctuation", texts=TEXTS, overrides=dict(pre_tokenizer=dict(
        type="Sequence", pretokenizers=[dict(type="WhitespaceSplit"), dict(type="Punctuation", behavior="Isolated")]))),
    dict(name="no pre-tokenizer", overrides=dict(pre_tokenizer=None), texts=TEXTS[:8]),
    dict(name="no post-processor", overrides=dict(post_processor=None), texts=TEXTS[:4], pairs=[("the cat", "sat on")]),
    dict(name="BertProcessing", overrides=dict(post_processor=dict(type="BertProcessing", sep=["[SEP]", 3], cls=["[CLS]", 2])),
         texts=TEXTS[:4], pairs=[("the cat", "sat on"), ("", "")]),
    dict(name="added tokens", overrides=dict(added_tokens=BASE["added_tokens"] + ADDED), texts=ADDED_TEXTS),
    dict(name="added tokens, cased", texts=ADDED_TEXTS, overrides=dict(
        added_tokens=BASE["added_tokens"] + ADDED, normalizer=BERT | dict(lowercase=False))),
    dict(name="pairs", overrides={}, texts=[], pairs=[("the cat", "sat on the mat"), ("", "café"), ("中文", ""), ("[SEP]", "x" * 30)]),
    dict(name="no special tokens", overrides={}, texts=TEXTS[:4], pairs=[("the cat", "sat on")], special_tokens=False),
]

LONG, SHORT = "the cat sat on the mat it is the cat", "foo bar is it"
WINDOWS = [  # text, pair, special tokens, truncation
    (LONG, None, True, dict(max_length=6, stride=0, strategy="longest_first", direction="right")),
    (LONG, None, True, dict(max_length=6, stride=2, strategy="longest_first", direction="right")),
    (LONG, None, True, dict(max_length=6, stride=3, strategy="only_first", direction="left")),
    (LONG, None, False, dict(max_length=4, stride=1, strategy="longest_first", direction="right")),
    (LONG, None, True, dict(max_length=12, stride=1, strategy="longest_first", direction="right")),
    (LONG, None, True, dict(max_length=11, stride=1, strategy="longest_first", direction="right")),
    (SHORT, LONG, True, dict(max_length=12, stride=2, strategy="only_second", direction="right")),
    (SHORT, LONG, True, dict(max_length=12, stride=2, strategy="only_second", direction="left")),
    (LONG, SHORT, True, dict(max_length=10, stride=1, strategy="only_first", direction="right")),
    (LONG, SHORT, True, dict(max_length=13, stride=1, strategy="longest_first", direction="right")),
    (SHORT, LONG, True, dict(max_length=10, stride=1, strategy="longest_first", direction="right")),
    (LONG, LONG, True, dict(max_length=10, stride=0, strategy="longest_first", direction="right")),
    (LONG, LONG, False, dict(max_length=9, stride=1, strategy="longest_first", direction="left")),
]

DECODES = ["the cat sat on the mat .", "it is do n't , ' s foo ! ##s", "[CLS] un ##believ ##able ##s [SEP] [PAD]", "##ing the ##s",
           "do not ' ' s 've", ""]


def byte_offsets(texts, encoding):
    """The library's offsets, which count code points, in bytes of the text that the token is from."""
    result = []
    for offset, sequence in zip(encoding.offsets, encoding.sequence_ids):
        text = texts[sequence or 0]
        result.append([len(text[:place].encode()) for place in offset])
    return result


def expected(texts, encoding):
    return dict(ids=encoding.ids, type_ids=encoding.type_ids, special_tokens_mask=encoding.special_tokens_mask,
                word_ids=[-1 if word is None else word for word in encoding.word_ids],
                offsets=byte_offsets(texts, encoding))


def encode_groups():
    groups = []
    for group in GROUPS:
        tokenizer = Tokenizer.from_str(json.dumps(BASE | group["overrides"]))
        special = group.get("special_tokens", True)
        cases = []
        for texts in [(text,) for text in group["texts"]] + group.get("pairs", []):
            cases.append(dict(texts=texts, **expected(texts, tokenizer.encode(*texts, add_special_tokens=special))))
        groups.append(dict(name=group["name"], overrides=group["overrides"], special_tokens=special, cases=cases))
    return groups


def encode_windows():
    cases = []
    for text, pair, special, truncation in WINDOWS:
        tokenizer = Tokenizer.from_str(json.dumps(BASE))
        tokenizer.enable_truncation(**truncation)
        texts = (text,) if pair is None else (text, pair)
        encoding = tokenizer.encode(*texts, add_special_tokens=special)
        windows = [dict(ids=e.ids, type_ids=e.type_ids) for e in [encoding] + encoding.overflowing]
        cases.append(dict(texts=texts, special_tokens=special, windows=windows, **truncation))
    return cases


def decode_groups():
    groups = []
    for cleanup in (True, False, None):
        decoder = None if cleanup is None else dict(type="WordPiece", prefix="##", cleanup=cleanup)
        overrides = dict(decoder=decoder, added_tokens=BASE["added_tokens"] + ADDED)
        tokenizer = Tokenizer.from_str(json.dumps(BASE | overrides))
        ids = [[tokenizer.token_to_id(token) for token in tokens.split()] for tokens in DECODES]
        ids.append([NEXT + 3, NEXT + 5, NEXT + 4, NEXT])
        cases = [dict(ids=case, skip_special_tokens=skip, text=tokenizer.decode(case, skip_special_tokens=skip))
                 for case in ids for skip in (True, False)]
        groups.append(dict(overrides=overrides, cases=cases))
    return groups


def vocab_txt_cases():
    from transformers import BertTokenizer

    tokenizers = []
    for config in ({}, dict(do_lower_case=False), dict(do_lower_case=True, strip_accents=False),
                   dict(do_lower_case=False, tokenize_chinese_chars=False, strip_accents=True)):
        tokenizer = BertTokenizer(vocab=BASE["model"]["vocab"], **config)._tokenizer
        cases = [dict(texts=texts, **expected(texts, tokenizer.encode(*texts)))
                 for texts in [(text,) for text in TEXTS + ADDED_TEXTS] + [("the cat", "sat on")]]
        tokenizers.append(dict(config=config, cases=cases))
    return tokenizers


def code_point_hashes():
    """FNV-1a (64 bits) of "CODE:RESULT;" for every code point that a normalizer changes."""
    hashes = {}
    for name, normalizer in [("NFC", normalizers.NFC()), ("NFD", normalizers.NFD()), ("NFKC", normalizers.NFKC()),
                             ("NFKD", normalizers.NFKD()), ("Lowercase", normalizers.Lowercase()),
                             ("StripAccents", normalizers.StripAccents()), ("BertNormalizer", normalizers.BertNormalizer())]:
        value = 0xCBF29CE484222325
        for c in range(0x110000):
            if 0xD800 <= c < 0xE000:
                continue
            result = normalizer.normalize_str(chr(c))
            if result != chr(c):
                for byte in f"{c}:{result};".encode():
                    value = (value ^ byte) * 0x100000001B3 % 2**64
        hashes[name] = f"{value:016x}"
    return hashes


def main():
    golden = dict(tokenizers=__version__, groups=encode_groups(), windows=encode_windows(), decodes=decode_groups(),
                  vocab_txt=vocab_txt_cases(), code_points=code_point_hashes())
    (HERE / "tokenizer.json").write_text(json.dumps(BASE, ensure_ascii=False, indent=1) + "\n")
    (HERE / "vocab.txt").write_text("".join(token + "\n" for token in BASE["model"]["vocab"]))
    # One case a line, and ASCII only: the texts hold control characters.
    text = json.dumps(golden, separators=(",", ":")).replace('{"texts"', '\n{"texts"').replace('{"overrides"', '\n{"overrides"')
    (HERE / "golden.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
