# SPDX-License-Identifier: Apache-2.0
"""Trains the demo's story teller, a small Llama, on TinyStories with `octet train` and writes it as a Hugging Face
directory under 4 MB.

    python scripts/train_demo_decoder.py --data DATA/tinystories --out apps/octet/demo_decoder

Files with "<|endoftext|>" between stories are taken as they are; the first stories of the first such file are held out
and never learned from. In a file all in lower case a line end separates stories and a blank line paragraphs; stories
that no other file has get capitals by the habits of the cased ones. A story is one document: its byte-level BPE tokens
between two "<|endoftext|>".

--work gets what `octet train` starts from (a tokenizer, random weights, stories to learn from and those held out) and
its run, which goes on where it was when the script is run again. The weights that predict the held-out stories best are
written to --out in fp16. The seed fixes all of it.
"""

import argparse
import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parent.parent

END = "<|endoftext|>"
END_ID = 0
HELD_OUT = 70
POSITIONS = 512
VOCABULARY = 2048

# UTF-8 that was read as Windows-1252 and then put into lower case; and quotes.
REPAIRS = {
    "â€œ": '"', "â€™": "'", "â€˜": "'", "â€¦": "...", "â€“": "-", "â€”": "-", "â€": '"',
    "ã©": "é", "ã±": "ñ", "ã³": "ó",
    "“": '"', "”": '"', "’": "'", "‘": "'",
}
WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")


def letters(text):
    """What copies of a story share, whatever their case, quotes and line ends."""
    return re.sub(r"[^a-z]", "", text.lower())


def opening(paragraph):
    return re.findall(r"[a-z]+|[^a-z\s]", paragraph.lower())[:6]


def split_lower_case(text, cased):
    """Stories of a file in lower case. Some have single line ends between paragraphs too: whether a new story starts
    there is decided by the odds of the first words, counted in the cased stories (naive Bayes)."""
    starts, others = Counter(), Counter()
    for story in cased:
        first, *rest = re.split(r"\s*\n\s*", story)
        starts.update(opening(first))
        for paragraph in rest:
            others.update(opening(paragraph))
    stories = []
    for part in re.split(r"(?<=\S) *\n(?= *\S)", text):
        part = re.sub(r"\s*\n\s*", "\n", part.strip())
        odds = sum(math.log((starts[word] + 1) / starts.total() / (others[word] + 1) * others.total())
                   for word in opening(part))
        if stories and odds < 0:
            stories[-1] += "\n" + part
        else:
            stories.append(part)
    return stories


class Capitals:
    """Gives text in lower case its capitals: a word is written as the cased stories write it most often after the same
    word and the same punctuation; or after this punctuation; or between words. Who is named or called something has a
    name."""

    def __init__(self, cased):
        counts = defaultdict(Counter)
        for story in cased:
            for before, gap, word, _ in self.words(story):
                low = word.lower()
                counts[before, gap, low][word] += 1
                counts[gap, low][word] += 1
                counts[gap][word[0].isupper()] += 1
                if gap == " ":
                    counts[low,][word] += 1
        self.usual = {context: forms.most_common(1)[0][0] for context, forms in counts.items()}

    @staticmethod
    def words(text):
        """(word before in lower case, what stands between, word, where it starts)"""
        before, end = "", 0
        for match in WORD.finditer(text):
            yield before, text[end : match.start()], match.group(), match.start()
            before, end = match.group().lower(), match.end()

    def restore(self, text):
        names = set(re.findall(r"\bnamed ([a-z]+)", text))
        names.update(name for name in re.findall(r"\bcalled ([a-z]+)", text) if (name,) not in self.usual)
        written, end = [], 0
        for before, gap, word, start in self.words(text):
            form = self.usual.get((before, gap, word)) or self.usual.get((gap, word))
            if form is None:
                form = self.usual.get((word,), word)
                if self.usual.get(gap):
                    form = form[0].upper() + form[1:]
            if word.removesuffix("'s") in names:
                form = form[0].upper() + form[1:]
            written += [text[end:start], form]
            end = start + len(word)
        return "".join(written) + text[end:]


def read_stories(folder):
    """held out, to learn from"""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.txt"))]
    # What follows the last END may be cut off.
    cased = [story.strip() for text in texts if END in text for story in text.split(END)[:-1]]
    if len(cased) <= HELD_OUT:
        sys.exit(f"{folder}: no *.txt file with more than {HELD_OUT} stories that end in {END}.")
    held_out, stories = cased[:HELD_OUT], list(dict.fromkeys(cased[HELD_OUT:]))
    own = len(stories)
    capitals = Capitals(stories)
    known = "\n".join(map(letters, cased))
    for text in texts:
        if END not in text:
            for broken, right in REPAIRS.items():
                text = text.replace(broken, right)
            for story in split_lower_case(text, cased):
                if letters(story)[:120] not in known:
                    stories.append(capitals.restore(story))
    restored = " ".join(capitals.restore(story.lower()) for story in held_out)
    pairs = list(zip(WORD.findall(" ".join(held_out)), WORD.findall(restored)))
    right = sum(true == word for true, word in pairs) / len(pairs)
    print(f"{own:,} stories as they are and {len(stories) - own:,} with capitals restored "
          f"({right:.1%} of words right on the {HELD_OUT} held out), {sum(map(len, stories)):,} characters")
    return held_out, stories


def train_tokenizer(stories):
    """Byte-level BPE as GPT-2's, except that a text begins with the end-of-text token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(stories, trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False))
    assert tokenizer.token_to_id(END) == END_ID
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B:1", special_tokens=[(END, END_ID)])
    return tokenizer


# Sizes of the model. Every matrix is a multiple of 128 wide.
WIDTH, INNER, HEADS, KV_HEADS, LAYERS = 128, 384, 4, 2, 4


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_config(out, dtype):
    write_json(out / "config.json", {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": dtype,
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": WIDTH // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": POSITIONS,
        "rms_norm_eps": 1e-05,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    })


def write_tokenizer(out, tokenizer):
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
    })


def random_weights(seed):
    """Normal with the deviation 0.02, as the Llama of transformers begins; normalizations are 1."""
    draw = np.random.default_rng(seed)
    keys = WIDTH // HEADS * KV_HEADS
    shapes = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (keys, WIDTH), "self_attn.v_proj": (keys, WIDTH),
              "self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (INNER, WIDTH), "mlp.up_proj": (INNER, WIDTH),
              "mlp.down_proj": (WIDTH, INNER)}
    matrices = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    vectors = ["model.norm.weight"]
    for layer in range(LAYERS):
        path = f"model.layers.{layer}."
        matrices |= {f"{path}{name}.weight": shape for name, shape in shapes.items()}
        vectors += [f"{path}input_layernorm.weight", f"{path}post_attention_layernorm.weight"]
    weights = {name: (0.02 * draw.standard_normal(shape)).astype(np.float32) for name, shape in matrices.items()}
    return weights | {name: np.ones(WIDTH, np.float32) for name in vectors}


def write_start(work, stories, held_out, seed):
    """What `octet train` reads: the model that it starts from, and stories with a line of END behind each."""
    start = work / "start"
    start.mkdir(parents=True, exist_ok=True)
    write_tokenizer(start, train_tokenizer(stories))
    write_config(start, "float32")
    save_file(random_weights(seed), start / "model.safetensors", metadata={"format": "pt"})
    for name, texts in (("train.txt", stories), ("held_out.txt", held_out)):
        (work / name).write_text("".join(f"{text}\n{END}\n" for text in texts), encoding="utf-8")
    return start


def train(options, start):
    run = options.work / "run"
    settings = {"model": start, "train_data": options.work / "train.txt", "eval_data": options.work / "held_out.txt",
                "documents": "end-of-text", "max_length": POSITIONS, "epochs": options.epochs, "batch_size": 4,
                "by_length": "true", "learning_rate": 3e-3, "warmup_steps": 100, "eval_steps": 0, "seed": options.seed}
    command = [str(options.octet), "train", "--config", str(ROOT / "examples" / "lm_pretrain.json"), "--out", str(run),
               "--threads", str(options.threads)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    if run.exists():
        command.append("--resume")
    print("$", *command, flush=True)
    subprocess.run(command, check=True)
    return run / "best"


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the stories, *.txt")
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo_decoder", help="[%(default)s]")
    parser.add_argument("--octet", type=Path, default=ROOT / "build/release/bin/octet", help="[%(default)s]")
    parser.add_argument("--epochs", type=int, default=6, help="[%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    options = parser.parse_args()

    start = options.work / "start"
    if not (options.work / "run").exists():
        held_out, stories = read_stories(options.data)
        start = write_start(options.work, stories, held_out, options.seed)
    best = train(options, start)

    options.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(options.out, Tokenizer.from_file(str(start / "tokenizer.json")))
    write_config(options.out, "float16")
    weights = {name: value.astype(np.float16) for name, value in load_file(best / "model.safetensors").items()}
    save_file(weights, options.out / "model.safetensors", metadata={"format": "pt"})
    (options.out / "model.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
