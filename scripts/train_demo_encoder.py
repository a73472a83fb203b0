# SPDX-License-Identifier: Apache-2.0
"""Trains the demo's sentence encoder by distillation and writes it as a Hugging Face directory of less than 4 MB.

    python train_demo_encoder.py --teacher MINILM --data DATA --out apps/octet/demo_encoder

MINILM is a directory of all-MiniLM-L6-v2; DATA holds tinystories/*.txt, imdb/reviews.json.gz and gsm8k/train.jsonl.
No labels are used: the student learns to place a sentence where the teacher places it. The target is the teacher's
384 values projected onto the 128 directions that keep most of them (uncentred principal components, so that cosines
survive), which is a linear head with its weights known in advance; a second term asks that the cosines within a batch
be those of the full teacher. Takes about half an hour on two cores, most of it training. The seed fixes data, order
and initial weights; the last bits of the result still depend on the CPU and the number of threads.
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.stats import spearmanr
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel
from transformers.utils import logging

VOCABULARY = 7500
WIDTH = 128
POSITIONS = 128
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HELD_OUT = 2000
SHORT = 20
REPORT_EVERY = 200


def clean(text):
    return re.sub(r"(<br\s*/?>|\s)+", " ", text)


def split_sentences(text):
    """Sentences of 3 to 30 words and at most 180 characters."""
    for sentence in re.split(r"(?<=[.!?])\s+|(?<=[.!?][\"'])\s+", clean(text)):
        sentence = sentence.strip()
        if 3 <= len(sentence.split()) <= 30 and len(sentence) <= 180:
            yield sentence


def read_stories(data):
    for path in sorted((data / "tinystories").glob("*.txt")):
        yield from re.split(r"\n\s*\n|<\|endoftext\|>", path.read_text(encoding="utf-8", errors="ignore"))


def read_reviews(data):
    with gzip.open(data / "imdb" / "reviews.json.gz", "rt", encoding="utf-8") as file:
        yield from (review["t"] for review in json.load(file))


def read_problems(data):
    with open(data / "gsm8k" / "train.jsonl", encoding="utf-8") as file:
        yield from (json.loads(line)["question"] for line in file)


def sample_sentences(data, counts):
    """Sentences of all sources in random order, none twice (case aside)."""
    chosen, seen = [], set()
    for reader, count in zip((read_stories, read_reviews, read_problems), counts):
        own = []
        for text in reader(data):
            for sentence in split_sentences(text):
                if sentence.lower() not in seen:
                    seen.add(sentence.lower())
                    own.append(sentence)
        random.shuffle(own)
        print(f"{reader.__name__[5:]}: {min(count, len(own)):,} of {len(own):,} sentences")
        chosen += own[:count]
    # Beginnings of reviews, so that the later positions are trained too.
    beginnings = [" ".join(clean(text).split()[: random.randint(40, 90)]) for text in read_reviews(data)]
    chosen += random.sample(beginnings, counts[-1])
    random.shuffle(chosen)
    return chosen


def train_vocabulary(sentences):
    """WordPiece vocabulary of byte-pair merges, most valuable first.

    The merges are learned on words with a mark before them, and the mark then tells a word's first piece from the
    others. (The library's own WordPiece trainer breaks ties differently in each run.)
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    counts = Counter(character for text in sentences for character in normalizer.normalize_str(text))
    alphabet = sorted(c for c, count in counts.items() if count >= 50 and not c.isspace())
    mark = "\u2581"
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace(mark)])
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=[mark, *alphabet],
                                  limit_alphabet=1 + len(alphabet), show_progress=False)
    learner.train_from_iterator(sentences, trainer)
    learned = (learner.id_to_token(i) for i in range(learner.get_vocab_size()))
    pieces = SPECIAL + alphabet + ["##" + c for c in alphabet if c.isalnum()]
    pieces += (token[1:] if token.startswith(mark) else "##" + token for token in learned if len(token) > 1)
    return list(dict.fromkeys(pieces))[:VOCABULARY]


def make_tokenizer(vocabulary):
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.enable_truncation(POSITIONS)
    return tokenizer


def encode(tokenizer, sentences):
    return [encoding.ids for encoding in tokenizer.encode_batch(sentences)]


def pad(rows):
    """ids, mask: int64 [batch, longest]."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def embed(model, ids, mask):
    """Mean over the kept tokens, L2-normalized: [batch, width]."""
    with torch.autocast("cpu", torch.bfloat16, enabled=model.training):
        hidden = model(ids, attention_mask=mask).last_hidden_state.float()
    kept = mask.unsqueeze(-1).float()
    return F.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)


def embed_all(model, rows, batch=128):
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    out = None
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        with torch.no_grad():
            values = embed(model, *pad([rows[i] for i in part]))
        if out is None:
            out = torch.empty(len(rows), values.shape[1])
        out[part] = values
    return out


def teacher_embeddings(folder, texts, cache):
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    if cache and cache.exists():
        with np.load(cache) as stored:
            if stored["digest"] == digest:
                return torch.from_numpy(stored["embeddings"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    teacher = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    # bf16 products halve the time; the cosine to the fp32 embedding stays above 0.999.
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = embed_all(teacher, encode(tokenizer, texts))
    if cache:
        np.savez(cache, digest=digest, embeddings=embeddings.numpy())
    return embeddings


def make_student(word_vectors):
    """Starts from the teacher's place for each token, so that the first step already averages word meanings."""
    config = BertConfig(
        vocab_size=len(word_vectors),
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=POSITIONS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    student = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        student.embeddings.word_embeddings.weight.copy_(word_vectors)
    return student


def batches(rows, size):
    """Random batches of sentences of like length: shuffled, then sorted within windows of 50 batches."""
    order = random.sample(range(len(rows)), len(rows))
    result = []
    for start in range(0, len(order), size * 50):
        window = sorted(order[start : start + size * 50], key=lambda i: len(rows[i]))
        result += [window[i : i + size] for i in range(0, len(window), size)]
    random.shuffle(result)
    return result


def train(student, rows, full, target, epochs, batch, peak):
    steps = epochs * -(-len(rows) // batch)
    optimizer = torch.optim.AdamW(student.parameters(), lr=peak, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.05)
    student.train()
    start, total, step = time.time(), torch.zeros(2), 0
    for _ in range(epochs):
        for part in batches(rows, batch):
            values = embed(student, *pad([rows[i] for i in part]))
            place = 1 - (values * target[part]).sum(-1).mean()
            cosines = F.mse_loss(values @ values.T, full[part] @ full[part].T)
            (place + 20 * cosines).backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += torch.tensor([place.item(), cosines.item()])
            step += 1
            if step % REPORT_EVERY == 0 and step < steps:
                place, cosines = (total / REPORT_EVERY).tolist()
                minutes = (time.time() - start) / 60
                losses = f"1 - cosine {place:.4f}  cosine error² {cosines:.5f}"
                print(f"step {step:,}/{steps:,}  {losses}  {minutes:.1f} min")
                total.zero_()
    print(f"trained in {(time.time() - start) / 60:.1f} min")
    student.eval()


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_model(out, student, tokenizer):
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().contiguous() for name, tensor in student.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    c = student.config
    write_json(out / "config.json", {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "dtype": "float16",
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "num_hidden_layers": c.num_hidden_layers,
        "num_attention_heads": c.num_attention_heads,
        "intermediate_size": c.intermediate_size,
        "hidden_act": c.hidden_act,
        "max_position_embeddings": c.max_position_embeddings,
        "type_vocab_size": c.type_vocab_size,
        "layer_norm_eps": c.layer_norm_eps,
        "pad_token_id": 0,
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
    })
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    tokens = (tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size()))
    (out / "vocab.txt").write_text("".join(token + "\n" for token in tokens), encoding="utf-8")
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "tokenize_chinese_chars": True,
        "strip_accents": None,
        "model_max_length": POSITIONS,
        **names,
    })
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(out / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ])
    write_json(out / "sentence_bert_config.json", {"max_seq_length": POSITIONS, "do_lower_case": False})
    write_json(out / "1_Pooling" / "config.json", {
        "word_embedding_dimension": WIDTH,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    })


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="directory of all-MiniLM-L6-v2")
    parser.add_argument("--data", type=Path, required=True, help="folder with tinystories/, imdb/ and gsm8k/")
    parser.add_argument("--out", type=Path, required=True, help="directory to write the encoder to")
    parser.add_argument("--cache", type=Path, help="npz file that keeps the teacher's embeddings for another run")
    parser.add_argument("--counts", type=int, nargs=4, default=[70_000, 90_000, 20_000, 8_000],
                        help="sentences of stories, reviews and problems; beginnings of reviews")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    sentences = sample_sentences(options.data, options.counts)
    held_out, sentences = sentences[:HELD_OUT], sentences[HELD_OUT:]
    vocabulary = train_vocabulary(sentences)
    tokenizer = make_tokenizer(vocabulary)
    tokens = [token.removeprefix("##") for token in vocabulary]
    words = [token for token in vocabulary if token.isalpha() and len(token) > 2]

    start = time.time()
    texts = held_out + sentences + words + tokens
    full = teacher_embeddings(options.teacher, texts, options.cache)
    print(f"{len(texts):,} teacher embeddings, {(time.time() - start) / 60:.1f} min")

    # The directions that keep most of the sentences' second moment; columns of V by descending singular value.
    _, _, directions = torch.linalg.svd(full[: HELD_OUT + len(sentences)], full_matrices=False)
    target = F.normalize(full @ directions[:WIDTH].T, dim=-1)
    first_token = len(texts) - len(tokens)
    student = make_student(target[first_token:])
    rows = encode(tokenizer, texts[HELD_OUT:first_token])
    # Long texts take most of the time and teach little more than short ones: one in ten of them is enough.
    used = [i for i, row in enumerate(rows) if len(row) <= SHORT or i % 10 == 0]
    rows = [rows[i] for i in used]
    print(f"{len(rows):,} texts to learn from, {np.mean([len(row) for row in rows]):.1f} tokens each")
    places = [HELD_OUT + i for i in used]
    train(student, rows, full[places], target[places], options.epochs, options.batch, options.learning_rate)

    student = student.half().float()  # what is measured is what is stored
    own, theirs = embed_all(student, encode(tokenizer, held_out)), full[:HELD_OUT]
    upper = np.triu_indices(HELD_OUT, 1)
    for name, values in (("student", own), ("projected teacher", target[:HELD_OUT])):
        rho = spearmanr((values @ values.T).numpy()[upper], (theirs @ theirs.T).numpy()[upper]).statistic
        print(f"held-out cosines, {name} against teacher: Spearman {rho:.4f}")
    print(f"held-out cosine to the projected teacher: {(own * target[:HELD_OUT]).sum(-1).mean():.4f}")
    write_model(options.out, student, tokenizer)


if __name__ == "__main__":
    main()
