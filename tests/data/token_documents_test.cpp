// SPDX-License-Identifier: Apache-2.0
#include "octet/data/token_documents.h"

#include <set>

#include <fmt/format.h>

#include "octet/data/prepare_tokens.h"
#include "octet/data/token_mask.h"
#include "octet/data/token_windows.h"
#include "octet/tensor/npy.h"
#include "tests/data/letters.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Tokenizer pieces(const std::string& name) {
  std::ifstream file(std::filesystem::path(OCTET_TEST_FILES).parent_path() / "text" / name, std::ios::binary);
  const std::string model(std::istreambuf_iterator<char>(file), {});
  return Tokenizer::from_sentence_piece(model, name, R"({"eos_token": "</s>"})", "tokenizer_config.json");
}

// Words of letters of several scripts, with runs of blanks, ends of lines and marks between them.
std::string mixed_text(size_t size) {
  const char* const words[] = {"the",  "Quick", "naïve", "café",   "don't", "12,345", "Straße", "東京",
                               "x+=1", "🦊",  "a",     "Привет", "end.",  "of",     "(it)",   "supercalifragilistic"};
  const char* const blanks[] = {" ", " ", " ", " ", "  ", "\n", "\n\n", "\t", " - ", "\r\n", "   \n "};
  std::string text;
  uint32_t state = 7;
  const auto next = [&](size_t count) {
    state = state * 1664525 + 1013904223;
    return (state >> 8) % count;
  };
  while (text.size() < size) text += std::string(words[next(16)]) + blanks[next(11)];
  return text;
}

std::vector<std::vector<int32_t>> all(const TokenDocuments& documents) {
  std::vector<std::vector<int32_t>> out(documents.size());
  for (size_t i = 0; i < out.size(); ++i) documents.append(i, 0, documents.tokens(i), out[i]);
  return out;
}

class Tokens : public ScratchFolder {
 protected:
  PrepareReport prepare(const std::vector<std::filesystem::path>& texts, const Tokenizer& tokenizer,
                        const PrepareOptions& options = {}) const {
    return prepare_tokens(texts, tokenizer, file(), options);
  }
  std::filesystem::path file() const { return folder_ / "out.npy"; }
  std::string bytes(const std::string& name) const { return files_in(folder_).at(name); }
};

TEST_F(Tokens, ALongTextInPiecesHasTheTokensOfTheWhole) {
  const std::filesystem::path text = write("text", mixed_text(60'000));
  const std::pair<const char*, Tokenizer> tokenizers[] = {{"WordPiece", Tokenizer::load(OCTET_DEMO_ENCODER)},
                                                          {"byte-level BPE", Tokenizer::load(OCTET_DEMO_DECODER)},
                                                          {"SentencePiece BPE", pieces("sentence_piece_bpe.model")},
                                                          {"Unigram", pieces("sentence_piece_unigram.model")}};
  for (const auto& [name, tokenizer] : tokenizers) {
    const TokenDocuments whole = TokenDocuments::of_text(text, tokenizer, Documents::kWhole);
    for (const int threads : {1, 3}) {
      const PrepareReport report =
          prepare({text}, tokenizer, {.threads = threads, .piece_bytes = 4000, .overlap_bytes = 1000});
      EXPECT_EQ(report.documents, 1);
      EXPECT_EQ(report.tokens, whole.tokens(0) + 1) << name;
      EXPECT_EQ(all(TokenDocuments::open(file(), tokenizer)), all(whole)) << name;
    }
  }
  // Words without end share no tokens: the pieces become one.
  const std::filesystem::path word = write("word", std::string(9000, 'a') + "é" + std::string(9000, 'b'));
  const Tokenizer bytes_alone = Tokenizer::load(OCTET_DEMO_DECODER);
  prepare({word}, bytes_alone, {.piece_bytes = 1000, .overlap_bytes = 20});
  EXPECT_EQ(all(TokenDocuments::open(file(), bytes_alone)),
            all(TokenDocuments::of_text(word, bytes_alone, Documents::kWhole)));
}

TEST_F(Tokens, DocumentsAreThoseOfTheTexts) {
  const Tokenizer tokenizer = letters();
  const std::filesystem::path one = write("one", "a b\n\n c \n" + std::string(50, 'x') + " y\n"),
                              two = write("two", "d\n[SEP]\ne [SEP] f");
  int64_t told = 0;
  const PrepareReport report =
      prepare({one, two}, tokenizer,
              {.documents = Documents::kLines, .piece_bytes = 16, .advance = [&](int64_t bytes, int64_t of) {
                 EXPECT_LE(told, bytes);
                 told = bytes;
                 EXPECT_EQ(of, 79);
               }});
  EXPECT_EQ(told, 79);
  EXPECT_EQ(report.text_bytes, 79);
  EXPECT_EQ(report.documents, 6);
  EXPECT_EQ(report.inner_ends, 2);
  EXPECT_EQ(report.bytes_per_token, 2);
  const TokenDocuments documents = TokenDocuments::open(file(), tokenizer);
  ASSERT_EQ(documents.size(), 6);
  EXPECT_EQ(documents.documents(), Documents::kLines);
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < documents.size(); ++i) sizes.push_back(documents.tokens(i));
  EXPECT_THAT(sizes, ElementsAre(2, 1, 51, 1, 1, 1));
  // What NumPy would see.
  const std::string array = bytes("out.npy");
  const NpyHeader header = parse_npy_header(std::as_bytes(std::span(array)), "out.npy");
  EXPECT_EQ(header.description, "<u2");
  EXPECT_EQ(header.shape, Shape{report.tokens});
  EXPECT_EQ(array.size(), header.bytes + 2 * report.tokens);
  EXPECT_EQ(array.substr(header.bytes, 6), std::string("\5\0\7\0\2\0", 6)) << "a b [SEP]";
  EXPECT_EQ(entries(), 4) << "nothing else is left";
}

TEST_F(Tokens, LargeVocabulariesTake32Bits) {
  std::string vocabulary = "[UNK]\n[CLS]\n[SEP]\n";
  for (int i = 3; i < 70'000; ++i) vocabulary += fmt::format("w{}\n", i);
  const Tokenizer tokenizer = Tokenizer::from_vocab_txt(vocabulary, "vocab.txt", "", "tokenizer_config.json");
  EXPECT_EQ(prepare({write("text", "w69999 w5 w65536")}, tokenizer).bytes_per_token, 4);
  EXPECT_THAT(all(TokenDocuments::open(file(), tokenizer)), ElementsAre(ElementsAre(69'999, 5, 65'536)));
}

TEST_F(Tokens, FilesThatAreNotWholeOrOfAnotherTokenizerAreRefused) {
  const Tokenizer tokenizer = letters();
  prepare({write("text", "a b c d e f")}, tokenizer);
  const std::string array = bytes("out.npy"), description = bytes("out.npy.json");
  const auto refusal = [&](const std::string& changed, const std::string& told) {
    write("out.npy", changed);
    write("out.npy.json", told);
    return message_of([&] { TokenDocuments::open(file(), tokenizer); });
  };
  EXPECT_THAT(refusal(array.substr(0, array.size() - 4), description), HasSubstr("The file is truncated"));
  EXPECT_THAT(refusal(array.substr(0, 50), description), HasSubstr("truncated"));
  EXPECT_THAT(refusal(array + "xx", description), HasSubstr("damaged; prepare the text again"));
  std::string damaged = array;
  damaged[damaged.size() - 3] ^= 1;
  EXPECT_THAT(refusal(damaged, description), HasSubstr("the file is damaged"));
  EXPECT_THAT(refusal("a b c", description), HasSubstr("not an npy file"));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = description;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_THAT(refusal(array, with("\"tokens\": 7", "\"tokens\": 8")),
              AllOf(HasSubstr("holds 7 tokens"), HasSubstr("tells of 8")));
  EXPECT_THAT(refusal(array, with("\"sha256\"", "\"sha\"")), HasSubstr("'sha256' is missing"));
  EXPECT_THAT(refusal(array, with("\"whole\"", "\"most\"")), HasSubstr("unknown documents"));
  EXPECT_THAT(refusal(array, with("octet tokens 1", "octet tokens 9")), HasSubstr("'octet tokens 9'"));
  EXPECT_THAT(refusal(array, "{"), HasSubstr("out.npy.json"));
  std::string floats = array;
  floats.replace(floats.find("<u2"), 3, "<f2");
  EXPECT_THAT(refusal(floats, description), HasSubstr("one row of uint16 or uint32"));
  std::filesystem::remove(folder_ / "out.npy.json");
  EXPECT_THAT(message_of([&] { TokenDocuments::open(file(), tokenizer); }), HasSubstr("out.npy.json is not beside"));

  write("out.npy", array), write("out.npy.json", description);
  EXPECT_EQ(TokenDocuments::open(file(), tokenizer).size(), 1);
  const Tokenizer other = Tokenizer::load(OCTET_DEMO_ENCODER);
  EXPECT_THAT(message_of<UsageError>([&] { TokenDocuments::open(file(), other); }),
              AllOf(HasSubstr("another tokenizer"), HasSubstr("octet prepare MODEL")));
  EXPECT_THAT(message_of([&] { prepare({write("zero", std::string("a\0b", 3))}, tokenizer); }),
              HasSubstr("byte 1 is zero"));
  EXPECT_THAT(message_of<Error>([&] { prepare({write("empty", " \n")}, tokenizer); }), HasSubstr("hold no tokens"));
  EXPECT_EQ(bytes("out.npy"), array) << "a failure leaves the file that was there";
}

TEST_F(Tokens, WindowsFrameDocumentsOrEachPart) {
  const Tokenizer tokenizer = letters();  // [CLS] is 1, [SEP] 2, a 5, b 7, …
  const std::filesystem::path text = write("text", "a b c d e\nf\n");
  const auto windows = [&](int64_t length, TokenWindows::Frame frame, Documents documents, int64_t limit = 0,
                           std::optional<int32_t> last = {}) {
    const TokenWindows cut(TokenDocuments::of_text(text, tokenizer, documents), tokenizer, length, frame,
                           limit > 0 ? std::optional(limit) : std::nullopt, last);
    std::vector<std::vector<int32_t>> out;
    for (int64_t i = 0; i < cut.size(); ++i) {
      out.push_back(cut.ids(i));
      EXPECT_EQ(cut.tokens(i), std::ssize(out.back()));
    }
    return out;
  };
  using Frame = TokenWindows::Frame;
  EXPECT_THAT(windows(3, Frame::kDocument, Documents::kLines),
              ElementsAre(ElementsAre(1, 5, 7), ElementsAre(9, 11, 13), ElementsAre(1, 15, 2)))
      << "the [SEP] behind e is alone in its window";
  EXPECT_THAT(windows(4, Frame::kDocument, Documents::kLines, 1),
              ElementsAre(ElementsAre(1, 5, 7, 9), ElementsAre(11, 13, 2)));
  EXPECT_THAT(windows(4, Frame::kDocument, Documents::kLines, 1, 2),
              ElementsAre(ElementsAre(1, 5, 7, 9), ElementsAre(11, 13, 2)))
      << "the template puts that token there";
  EXPECT_THAT(windows(4, Frame::kDocument, Documents::kLines, 1, 3),
              ElementsAre(ElementsAre(1, 5, 7, 9), ElementsAre(11, 13, 2, 3)));
  EXPECT_THAT(windows(4, Frame::kDocument, Documents::kWhole, 1), ElementsAre(ElementsAre(1, 5, 7, 9)));
  EXPECT_THAT(
      windows(4, Frame::kWindow, Documents::kLines),
      ElementsAre(ElementsAre(1, 5, 7, 2), ElementsAre(1, 9, 11, 2), ElementsAre(1, 13, 2), ElementsAre(1, 15, 2)));
  EXPECT_THAT(message_of<UsageError>([&] { windows(2, Frame::kWindow, Documents::kLines); }), HasSubstr("at least 3"));
}

TEST(TokenMask, HidesTheSharesOfBertAndNeverSpecialTokens) {
  const Tokenizer tokenizer = letters();
  const TokenMask mask(tokenizer, 0.15);
  std::vector<int32_t> text(40'000);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int32_t>(i % 57);  // 0 to 4 are special
  std::vector<int32_t> ids = text;
  const std::vector<int32_t> labels = mask.apply(ids, 3, 8, 1);
  double chosen = 0, masked = 0, same = 0, others = 0;
  std::set<int32_t> drawn;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (labels[i] < 0) {
      EXPECT_EQ(ids[i], text[i]);
      others += text[i] > 4 ? 1 : 0;
      continue;
    }
    EXPECT_EQ(labels[i], text[i]);
    EXPECT_GT(text[i], 4);
    ++chosen;
    masked += ids[i] == 4 ? 1 : 0;
    same += ids[i] == text[i] ? 1 : 0;
    if (ids[i] != 4 && ids[i] != text[i]) drawn.insert(ids[i]);
  }
  EXPECT_NEAR(chosen / (chosen + others), 0.15, 0.01);
  EXPECT_NEAR(masked / chosen, 0.8, 0.02);
  EXPECT_NEAR(same / chosen, 0.1 + 0.1 / 52, 0.02);
  EXPECT_EQ(drawn.size(), 52);
  EXPECT_EQ(*drawn.begin(), 5);

  // A function of seed, step and example, and of nothing else.
  const auto labels_of = [&](uint64_t seed, uint32_t step, uint32_t example) {
    std::vector<int32_t> copy = text;
    return mask.apply(copy, seed, step, example);
  };
  EXPECT_EQ(labels_of(3, 8, 1), labels);
  EXPECT_NE(labels_of(4, 8, 1), labels);
  EXPECT_NE(labels_of(3, 9, 1), labels);
  EXPECT_NE(labels_of(3, 8, 2), labels);
  for (uint32_t example = 0; example < 50; ++example) {
    std::vector<int32_t> few = {1, 7, 9, 2};
    EXPECT_NE(mask.apply(few, 1, 1, example), std::vector<int32_t>(4, -1)) << "one at least";
  }
  EXPECT_THAT(message_of<UsageError>([] { TokenMask(Tokenizer::load(OCTET_DEMO_DECODER), 0.15); }),
              HasSubstr("'mask_token'"));
}

}  // namespace
}  // namespace octet
