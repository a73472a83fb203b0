// SPDX-License-Identifier: Apache-2.0
//
// Embeds two sentences with an installed Octet and prints how near their meanings are:
//
//   embed MODEL "A dog ran home." "The dog hurried home." [RECIPE]
#include <cstdio>
#include <exception>

#include <octet/eval/metrics.h>
#include <octet/models/sentence_encoder.h>

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s MODEL SENTENCE SENTENCE [RECIPE]\n", argv[0]);
    return 2;
  }
  try {
    octet::LoadOptions options;
    if (argc > 4) options.recipe = octet::Recipe::load(argv[4], {});
    octet::Session session(argv[1], options);
    const octet::Tokenizer tokenizer = octet::Tokenizer::load(argv[1]);
    octet::SentenceEncoder encoder(session, tokenizer, octet::read_sentence_config(argv[1]));

    const std::vector<std::string> sentences = {argv[2], argv[3]};
    const octet::Tensor vectors = encoder.encode(sentences);
    const auto width = static_cast<size_t>(vectors.shape()[1]);
    const auto values = vectors.as<float>();
    std::printf("cosine %.4f, %zu numbers a sentence\n", octet::cosine(values.first(width), values.last(width)), width);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
