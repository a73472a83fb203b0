# SPDX-License-Identifier: Apache-2.0
"""CTranslate2 as a contender of decoder.py: its Transformers converter and Generator."""

import json
import time

from contest import convert_for_ctranslate2, kept, need


class Engine:
    """What decoder.py's worker asks for."""

    def __init__(self, compute_type, options):
        self.api = need("ctranslate2", "transformers", "torch", "numpy")[0]
        self.compute_type, self.options = compute_type, options
        self.path = kept(options.work / f"{options.model.resolve().name}-ctranslate2", options, __file__,
                         lambda folder: convert_for_ctranslate2(options.model, folder))
        self.vocabulary = json.loads((self.path / "vocabulary.json").read_text())
        self.generator = self.make()
        self.system = f"CTranslate2 {self.api.__version__}, {self.generator.compute_type}"

    def make(self):
        return self.api.Generator(str(self.path), device="cpu", compute_type=self.compute_type, inter_threads=1,
                                  intra_threads=self.options.threads)

    def logits(self, ids):
        """Logits of every token of one short sequence: [tokens][vocabulary]."""
        import numpy as np

        return np.array(self.generator.forward_batch(ids.tolist()))[0].tolist()

    def run(self, prompts, steps):
        """Seconds of the prefill, seconds of the steps. It decodes its own greedy choices, `steps` only counts them."""
        tokens = [[self.vocabulary[token] for token in sequence] for sequence in prompts]
        count = steps.shape[1] + 1  # the first token is the prefill's
        ends = {}

        def note(result):
            ends[result.step] = time.perf_counter()  # the last sequence of a batch writes last
            return False

        start = time.perf_counter()
        self.generator.generate_batch(tokens, beam_size=1, max_length=count, min_length=count, callback=note,
                                      include_prompt_in_result=False)
        return ends[0] - start, ends[count - 1] - ends[0]

    def load(self, ids):
        """Milliseconds from nothing to the logits of one token."""
        start = time.perf_counter()
        self.make().forward_batch(ids[:, :1].tolist())
        return 1e3 * (time.perf_counter() - start)
