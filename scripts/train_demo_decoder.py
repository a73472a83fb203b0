# SPDX-License-Identifier: Apache-2.0
"""Trains the demo's story teller, a small Llama, on TinyStories and writes it as a Hugging Face directory under 4 MB.

    python train_demo_decoder.py --data DATA/tinystories --out apps/octet/demo_decoder

Files with "<|endoftext|>" between stories are taken as they are; the first stories of the first such file are held out
and never learned from. In a file all in lower case a line end separates stories and a blank line paragraphs; stories
that no other file has get capitals by the habits of the cased ones. A story is one sequence: its byte-level BPE tokens
between two "<|endoftext|>".

The weights that predict the held-out stories best are written to --out whenever they are found, so that a run may be
ended at any time. The seed fixes data, order and initial weights; the last bits of the result still depend on the CPU
and the number of threads, and all of it on the machine's speed where --minutes ends the run.
"""

import argparse
import copy
import json
import math
import random
import re
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

END = "<|endoftext|>"
END_ID = 0
HELD_OUT = 70
POSITIONS = 512
VOCABULARY = 2048
REPORT_EVERY = 100
NO_TARGET = -100

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


def encode(tokenizer, stories):
    """One row a story, of at most POSITIONS + 1 tokens: the last one is only predicted."""
    return [(encoding.ids + [END_ID])[: POSITIONS + 1] for encoding in tokenizer.encode_batch(stories)]


def make_model(layers, dropout):
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        use_cache=False,
    ))

    def drop(module, inputs, output):
        return F.dropout(output, dropout, module.training)

    if dropout > 0:  # on what each block adds to the stream; Llama itself has none there
        for layer in model.model.layers:
            layer.self_attn.o_proj.register_forward_hook(drop)
            layer.mlp.down_proj.register_forward_hook(drop)
    return model


def loss(model, rows, reduction="mean"):
    """Cross-entropy in nats. Rows are padded on the right, where a causal model does not see it."""
    longest = max(map(len, rows)) - 1
    ids = torch.tensor([row[:-1] + [END_ID] * (longest + 1 - len(row)) for row in rows])
    targets = torch.tensor([row[1:] + [NO_TARGET] * (longest + 1 - len(row)) for row in rows])
    kept = targets != NO_TARGET
    logits = model.lm_head(model.model(input_ids=ids).last_hidden_state[kept])
    return F.cross_entropy(logits, targets[kept], reduction=reduction)


def measure(model, rows):
    """Nats a token over all tokens of all rows, the closing end of text included."""
    training = model.training
    model.eval()
    with torch.no_grad():
        total = sum(loss(model, rows[i : i + 8], "sum").item() for i in range(0, len(rows), 8))
    model.train(training)
    return total / sum(len(row) - 1 for row in rows)


def batches(rows, tokens):
    """Random batches of like length and about `tokens` tokens: shuffled, sorted within windows of 600 stories, cut."""
    order, result = random.sample(range(len(rows)), len(rows)), []
    for start in range(0, len(order), 600):
        part = []
        for i in sorted(order[start : start + 600], key=lambda i: len(rows[i])):
            if part and (len(part) + 1) * len(rows[i]) > tokens:
                result.append(part)
                part = []
            part.append(i)
        result.append(part)
    random.shuffle(result)
    return [[rows[i] for i in part] for part in result]


def train(model, rows, held_out, save, options):
    plan = [batch for _ in range(options.epochs) for batch in batches(rows, options.batch)]
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() < 2 or "embed" in name]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
    model.train()
    # Each thread takes a share of the batch through a copy of the model that has the same weights and own gradients:
    # they meet once a step instead of in every operation, which matters where the cores are shared with other work.
    pool = ThreadPoolExecutor(options.threads, initializer=lambda: torch.set_num_threads(1))
    copies = [copy.deepcopy(model) for _ in range(options.threads)]
    for other in copies:
        for own, shared in zip(other.parameters(), model.parameters()):
            own.data = shared.data

    def backward(other, part, tokens):
        value = loss(other, part, "sum") / tokens
        value.backward()
        return value.item()

    start, saved, total, seen, best = time.time(), time.time(), 0.0, 0, math.inf
    for step, batch in enumerate(plan):
        minutes = (time.time() - start) / 60
        done = max(step / len(plan), minutes / options.minutes)
        rate = min(1.0, step / 100) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, done)))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * rate
        tokens = sum(len(row) - 1 for row in batch)
        shares = [(other, batch[i :: options.threads], tokens) for i, other in enumerate(copies) if batch[i:]]
        total += sum(pool.map(backward, *zip(*shares)))
        for own, *others in zip(model.parameters(), *(other.parameters() for other, _, _ in shares)):
            own.grad = torch.stack([p.grad for p in others]).sum(0)
            for p in others:
                p.grad = None
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += tokens
        if (step + 1) % REPORT_EVERY == 0:
            print(f"step {step + 1:,} of {len(plan):,}, {minutes:.1f} min, {seen / minutes / 60:,.0f} tokens/s: "
                  f"loss {total / REPORT_EVERY:.4f}")
            total = 0.0
        last = step + 1 == len(plan) or done >= 1
        if last or time.time() - saved > 60 * options.save_every:
            held = measure(model, held_out)
            print(f"step {step + 1:,}, {minutes:.1f} min: held out {held:.4f}, perplexity {math.exp(held):.3f}")
            if held < best:
                best = held
                save(model)
            saved = time.time()
        if last:
            break
    print(f"{step + 1:,} of {len(plan):,} steps, {seen:,} tokens")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_model(out, model):
    c = model.config
    names = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps",
             "attention_bias", "mlp_bias", "tie_word_embeddings", "bos_token_id", "eos_token_id"]
    write_json(out / "config.json", {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        **{name: getattr(c, name) for name in names},
        "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    })
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    del tensors["lm_head.weight"]  # tied to the embedding
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def write_tokenizer(out, tokenizer):
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
    })


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the stories, *.txt")
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--layers", type=int, default=4, help="[%(default)s]")
    parser.add_argument("--epochs", type=int, default=10, help="[%(default)s]")
    parser.add_argument("--minutes", type=float, default=math.inf,
                        help="end after this time if the epochs take longer; the learning rate falls accordingly")
    parser.add_argument("--batch", type=int, default=1024, help="tokens, padding included [%(default)s]")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="its peak [%(default)s]")
    parser.add_argument("--weight-decay", type=float, default=0.1, help="of the matrices [%(default)s]")
    parser.add_argument("--dropout", type=float, default=0.0, help="[%(default)s]")
    parser.add_argument("--save-every", type=float, default=4, help="minutes between measurements [%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    options = parser.parse_args()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()

    held_out, stories = read_stories(options.data)
    tokenizer = train_tokenizer(stories)
    rows, held_out_rows = encode(tokenizer, stories), encode(tokenizer, held_out)
    print(f"{sum(map(len, rows)):,} tokens to learn from, {sum(map(len, held_out_rows)):,} held out")
    options.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(options.out, tokenizer)

    model = make_model(options.layers, options.dropout)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, rows, held_out_rows, lambda model: write_model(options.out, model), options)

    logging.disable_progress_bar()
    stored = LlamaForCausalLM.from_pretrained(options.out, dtype=torch.float32).eval()
    nats = measure(stored, held_out_rows)
    # Rows are cut at POSITIONS + 1 tokens; the closing end of text stands for no byte.
    size = sum(len(tokenizer.decode(row).encode()) for row in held_out_rows)
    tokens = sum(len(row) - 1 for row in held_out_rows)
    print(f"as stored: held out {nats:.4f} nats a token, perplexity {math.exp(nats):.3f} a token, "
          f"{nats * tokens / size / math.log(2):.3f} bits a byte")


if __name__ == "__main__":
    main()
