# SPDX-License-Identifier: Apache-2.0
"""Writes a BERT of a usual size with random weights, for measuring time where no trained one is at hand.

    python random_encoder.py OUT [--size base] [--layers N]

The time of a forward does not depend on the weights, but for what README.md says of AVX2; errors beside the times mean
little, for random weights have no outliers.
"""

import argparse

import torch
import transformers

# BERT (Devlin et al., 2019) and MiniLM (Wang et al., 2020): layers, width, heads.
SIZES = {"minilm": (6, 384, 12), "base": (12, 768, 12), "large": (24, 1024, 16)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="directory to write")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--layers", type=int, help="in place of the size's own")
    options = parser.parse_args()
    layers, width, heads = SIZES[options.size]
    config = transformers.BertConfig(
        hidden_size=width, num_hidden_layers=options.layers or layers, num_attention_heads=heads,
        intermediate_size=4 * width)
    config.position_embedding_type = "absolute"  # CTranslate2's converter asks for it
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(options.out)


if __name__ == "__main__":
    main()
