# SPDX-License-Identifier: Apache-2.0
"""Writes a BERT or a Llama of a usual size with random weights, for measuring time where no trained one is at hand.

    python random_model.py OUT [--size base] [--layers N] [--tokenizer MODEL]

The time of a forward does not depend on the weights, but for what README.md says of AVX2; errors beside the times mean
little, for random weights have no outliers. A Llama needs the tokenizer of another model, whose vocabulary it gets.
"""

import argparse

import torch
import transformers

# BERT (Devlin et al., 2019) and MiniLM (Wang et al., 2020): layers, width, heads.
ENCODERS = {"minilm": (6, 384, 12), "base": (12, 768, 12), "large": (24, 1024, 16)}
# Llama: layers, width, heads, keys' heads, width of the MLP. With a vocabulary of 49,152 it has 50 million parameters.
DECODERS = {"llama-50m": (8, 512, 8, 8, 1376)}


def encoder(options):
    layers, width, heads = ENCODERS[options.size]
    config = transformers.BertConfig(
        hidden_size=width, num_hidden_layers=options.layers or layers, num_attention_heads=heads,
        intermediate_size=4 * width)
    config.position_embedding_type = "absolute"  # CTranslate2's converter asks for it
    transformers.BertModel(config).save_pretrained(options.out)


def decoder(options):
    layers, width, heads, kv_heads, inner = DECODERS[options.size]
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.tokenizer)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=options.layers or layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, intermediate_size=inner, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    transformers.LlamaForCausalLM(config).save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="directory to write")
    parser.add_argument("--size", choices=[*ENCODERS, *DECODERS], default="base")
    parser.add_argument("--layers", type=int, help="in place of the size's own")
    parser.add_argument("--tokenizer", help="directory of a model whose tokenizer a Llama gets")
    options = parser.parse_args()
    if options.size in DECODERS and not options.tokenizer:
        parser.error("a Llama needs --tokenizer")
    torch.manual_seed(0)
    encoder(options) if options.size in ENCODERS else decoder(options)


if __name__ == "__main__":
    main()
