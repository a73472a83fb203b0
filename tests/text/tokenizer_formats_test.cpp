// SPDX-License-Identifier: Apache-2.0
// Files that are damaged, hostile, or ask for what Octet does not read: one FormatError each, which says where.
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "tests/text/golden.h"

namespace octet {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

struct DamagedDocument {
  std::function<void(Json&)> damage;
  const char* message;
};

Json added_token(int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content}, {"special", false},  {"single_word", false},
          {"lstrip", false}, {"rstrip", false},    {"normalized", true}};
}

const std::vector<DamagedDocument> kDamagedDocuments = {
    {[](Json& d) { d = Json::array(); }, "tokenizer.json: the top level must be an object"},
    {[](Json& d) { d["version"] = "2.0"; }, "tokenizer.json: version '2.0' is not supported. Octet reads 1.0."},
    {[](Json& d) { d.erase("model"); }, "tokenizer.json: the top level has no 'model'"},
    {[](Json& d) { d["model"] = 3; }, "tokenizer.json: model must be an object"},
    {[](Json& d) { d["model"]["type"] = "Unigram"; },
     "tokenizer.json: model.type 'Unigram' is not supported. Octet reads WordPiece and BPE."},
    {[](Json& d) { d["model"]["type"] = "BPE"; }, "model has no 'merges'"},
    {[](Json& d) {
       d["model"] = {{"vocab", {{"a", 0}}}};
     },
     "model has no 'type'"},
    {[](Json& d) { d["model"]["type"] = 1; }, "model.type must be a string"},
    {[](Json& d) { d["model"]["vocab"] = Json::object(); }, "model.vocab is empty"},
    {[](Json& d) { d["model"]["vocab"] = Json::array(); }, "model.vocab must be an object"},
    {[](Json& d) { d["model"].erase("vocab"); }, "model has no 'vocab'"},
    {[](Json& d) { d["model"]["vocab"]["the"] = -1; }, "model.vocab gives 'the' the id -1"},
    {[](Json& d) { d["model"]["vocab"]["the"] = 1 << 24; }, "gives 'the' the id 16777216"},
    {[](Json& d) { d["model"]["vocab"]["the"] = 18446744073709551615u; }, "gives 'the' the id 18446744073709551615"},
    {[](Json& d) { d["model"]["vocab"]["the"] = 1.0; }, "gives 'the' the id 1.0"},
    {[](Json& d) { d["model"]["vocab"]["the"] = "5"; }, "gives 'the' the id"},
    {[](Json& d) { d["model"]["vocab"]["the"] = d["model"]["vocab"]["cat"]; }, "gives both 'cat' and 'the' the id"},
    {[](Json& d) { d["model"]["unk_token"] = "?!"; }, "model.unk_token is '?!', which is not in the vocabulary"},
    {[](Json& d) { d["model"]["max_input_chars_per_word"] = -1; },
     "model.max_input_chars_per_word is -1; it must lie in [0, 1000]"},
    {[](Json& d) { d["model"]["max_input_chars_per_word"] = 1e9; },
     "model.max_input_chars_per_word must be an integer"},
    {[](Json& d) { d["model"].erase("continuing_subword_prefix"); }, "model has no 'continuing_subword_prefix'"},
    {[](Json& d) {
       d["normalizer"] = {{"type", "Precompiled"}};
     },
     "normalizer.type 'Precompiled' is not supported"},
    {[](Json& d) {
       d["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}};
     },
     "normalizer.normalizers[1].type 'Nmt' is not supported"},
    {[](Json& d) { d["normalizer"].erase("clean_text"); }, "normalizer has no 'clean_text'"},
    {[](Json& d) { d["normalizer"]["lowercase"] = "yes"; }, "normalizer.lowercase must be true or false"},
    {[](Json& d) {
       d["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "a+("}}}, {"content", "b"}};
     },
     "normalizer.pattern.Regex is not a pattern that Octet can read: missing closing parenthesis"},
    {[](Json& d) {
       d["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "b"}};
     },
     "normalizer.pattern.String is empty"},
    {[](Json& d) {
       d["normalizer"] = {{"type", "Sequence"}, {"normalizers", std::vector<Json>(65, {{"type", "NFC"}})}};
     },
     "normalizer.normalizers[64] is step 65 of its sequence; Octet takes 64"},
    {[](Json& d) { d["pre_tokenizer"]["type"] = "ByteLevel"; }, "pre_tokenizer has no 'trim_offsets'"},
    {[](Json& d) { d["pre_tokenizer"]["type"] = "UnicodeScripts"; },
     "pre_tokenizer.type 'UnicodeScripts' is not supported"},
    {[](Json& d) {
       d["pre_tokenizer"] = {{"type", "Punctuation"}, {"behavior", "Dropped"}};
     },
     "pre_tokenizer.behavior 'Dropped' is not supported. Octet reads Removed, Isolated, "},
    {[](Json& d) {
       d["pre_tokenizer"] = {{"type", "Sequence"}};
     },
     "pre_tokenizer has no 'pretokenizers'"},
    {[](Json& d) { d["decoder"]["type"] = "CTC"; }, "decoder.type 'CTC' is not supported"},
    {[](Json& d) { d["decoder"].erase("cleanup"); }, "decoder has no 'cleanup'"},
    {[](Json& d) { d["post_processor"]["type"] = "RobertaProcessing"; }, "post_processor has no 'cls'"},
    {[](Json& d) { d["post_processor"]["type"] = "Twice"; }, "post_processor.type 'Twice' is not supported"},
    {[](Json& d) { d["post_processor"]["single"][1]["Sequence"]["id"] = "B"; },
     "post_processor.single[1].Sequence.id 'B' is not supported. Octet reads A in a template for one text."},
    {[](Json& d) { d["post_processor"]["pair"][3]["Sequence"]["id"] = "A"; }, "'A' stands twice in the template"},
    {[](Json& d) { d["post_processor"]["pair"].erase(3); }, "post_processor.pair does not use every text"},
    {[](Json& d) { d["post_processor"]["single"][0]["SpecialToken"]["id"] = "[X]"; },
     "post_processor.single[0].SpecialToken is '[X]', which special_tokens does not have"},
    {[](Json& d) { d["post_processor"]["special_tokens"]["[CLS]"]["ids"][0] = 99999; },
     "post_processor.special_tokens.[CLS].ids[0] is 99999, which no token has"},
    {[](Json& d) { d["post_processor"]["special_tokens"]["[CLS]"]["ids"] = std::vector<int>(65, 2); },
     "post_processor.single adds more than 64 special tokens"},
    {[](Json& d) { d["post_processor"]["single"][1]["Sequence"]["type_id"] = -1; }, "type_id is -1"},
    {[](Json& d) {
       d["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]"}}, {"cls", {"[CLS]", 2}}};
     },
     "post_processor.sep must be a token and its id"},
    {[](Json& d) { d["added_tokens"][0].erase("lstrip"); }, "added_tokens[0] has no 'lstrip'"},
    {[](Json& d) { d["added_tokens"][0]["id"] = 1; },
     "added_tokens[0] is '[PAD]' with the id 1, but in the vocabulary it has 0"},
    {[](Json& d) { d["added_tokens"].push_back(added_token(0, "new")); },
     "is 'new' with the id 0, which is that of '[PAD]'"},
    {[](Json& d) { d["added_tokens"].push_back(added_token(-1, "new")); }, "added_tokens[5].id is -1"},
    {[](Json& d) { d["added_tokens"].push_back(added_token(1 << 24, "new")); }, "added_tokens[5].id is 16777216"},
    {[](Json& d) { d["added_tokens"].push_back(d["added_tokens"][0]); },
     "added_tokens[5] is '[PAD]', which is added twice"},
    {[](Json& d) {
       d["added_tokens"].push_back(added_token(5000, "new"));
       d["added_tokens"].push_back(added_token(5000, "newer"));
     },
     "added_tokens[6] has the id 5000 of another added token"},
    {[](Json& d) {
       d["truncation"] = {{"max_length", 4}, {"stride", 3}, {"strategy", "LongestFirst"}};
     },
     "truncation has max_length 4 and stride 3, with 2 special tokens"},
    {[](Json& d) {
       d["truncation"] = {{"max_length", 4}, {"stride", 0}, {"strategy", "Random"}};
     },
     "truncation.strategy 'Random' is not supported"},
    {[](Json& d) {
       d["padding"] = {{"strategy", "Longest"}};
     },
     "padding.strategy 'Longest' is not supported"},
};

TEST(TokenizerFormats, DamagedDocumentsAreFormatErrors) {
  for (const DamagedDocument& damaged : kDamagedDocuments) {
    Json document = base_document();
    damaged.damage(document);
    EXPECT_THAT([&] { Tokenizer::from_json(json_text(document), "tokenizer.json"); },
                ThrowsMessage<FormatError>(testing::AllOf(StartsWith("tokenizer.json: "), HasSubstr(damaged.message))));
  }
}

TEST(TokenizerFormats, TextThatIsNotJsonIsAFormatError) {
  const std::string whole = json_text(base_document());
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("nul"), whole.substr(0, whole.size() / 2), std::string("\"\xFF\""),
        std::string("\"\\ud800\""), std::string("1e999")}) {
    EXPECT_THAT([&] { Tokenizer::from_json(text, "tokenizer.json"); },
                ThrowsMessage<FormatError>(StartsWith("tokenizer.json: not valid JSON: ")))
        << text.substr(0, 40);
  }
}

TEST(TokenizerFormats, DeepNestingIsAFormatError) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string text;
    for (int i = 0; i < 1'000'000; ++i) text += open;
    EXPECT_THAT([&] { Tokenizer::from_json(text, "tokenizer.json"); },
                ThrowsMessage<FormatError>(HasSubstr("nested more than 32 levels")));
  }
}

TEST(TokenizerFormats, AKeyThatAppearsTwiceIsAFormatError) {
  EXPECT_THAT([] { Tokenizer::from_json(R"({"model": {"vocab": {"a": 0, "b": 1, "a": 2}}})", "tokenizer.json"); },
              ThrowsMessage<FormatError>(HasSubstr("the key 'a' stands twice in one object")));
}

TEST(TokenizerFormats, LongNamesAreShortenedInMessages) {
  Json document = base_document();
  document["model"]["type"] = std::string(1'000'000, 'x');
  try {
    Tokenizer::from_json(json_text(document), "tokenizer.json");
    FAIL() << "no error";
  } catch (const FormatError& error) {
    EXPECT_LT(std::string(error.what()).size(), 300u);
  }
}

TEST(TokenizerFormats, ReplacementsThatGrowWithoutEndAreAFormatError) {
  const Json doubling = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  const Tokenizer tokenizer =
      tokenizer_with({{"normalizer", {{"type", "Sequence"}, {"normalizers", std::vector<Json>(60, doubling)}}}});
  EXPECT_NO_THROW(tokenizer.encode("b"));
  EXPECT_THAT([&] { tokenizer.encode("a"); }, ThrowsMessage<FormatError>(HasSubstr("64 times longer")));
}

TEST(TokenizerFormats, OldFilesWithoutAModelTypeAreRead) {
  Json document = base_document();
  document["model"].erase("type");
  EXPECT_EQ(Tokenizer::from_json(json_text(document), "tokenizer.json").token_to_id("[SEP]"), 3);
}

struct DamagedVocabulary {
  const char* vocabulary;
  const char* config;
  const char* message;
};

const std::vector<DamagedVocabulary> kDamagedVocabularies = {
    {"", "", "vocab.txt: the vocabulary is empty"},
    {"[CLS]\n[SEP]\n", "", "vocab.txt: no line has the unk_token '[UNK]'"},
    {"[UNK]\n[SEP]\n", "", "vocab.txt: no line has the cls_token '[CLS]'"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"sep_token": "</s>"})", "vocab.txt: no line has the sep_token '</s>'"},
    {"[UNK]\n[CLS]\n\xFF\n", "", "vocab.txt: line 3 is not UTF-8"},
    {"[UNK]\n[CLS]\n[SEP]\n", "[]", "config.json: the top level must be an object"},
    {"[UNK]\n[CLS]\n[SEP]\n", "{", "config.json: not valid JSON"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"do_lower_case": "yes"})", "config.json: do_lower_case must be true or false"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"do_basic_tokenize": false})", "config.json: do_basic_tokenize is false"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"never_split": ["x"]})", "config.json: never_split is not supported"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"model_max_length": "long"})", "config.json: model_max_length must be a number"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"model_max_length": -1})", "config.json: model_max_length is -1"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"mask_token": 5})", "config.json: mask_token must be an object"},
    {"[UNK]\n[CLS]\n[SEP]\n", R"({"added_tokens_decoder": {"1": {"content": "[SEP]"}}})",
     "config.json: added_tokens_decoder.1 is '[SEP]', which vocab.txt does not have at that place"},
};

TEST(TokenizerFormats, DamagedVocabulariesAreFormatErrors) {
  for (const DamagedVocabulary& damaged : kDamagedVocabularies) {
    EXPECT_THAT([&] { Tokenizer::from_vocab_txt(damaged.vocabulary, "vocab.txt", damaged.config, "config.json"); },
                ThrowsMessage<FormatError>(HasSubstr(damaged.message)));
  }
}

TEST(TokenizerFormats, VocabTxtTakesTheTokensThatTheConfigNames) {
  const Tokenizer tokenizer = Tokenizer::from_vocab_txt(
      "<u>\n<s>\n</s>\nthe\nTHE\n", "vocab.txt",
      R"({"unk_token": "<u>", "cls_token": "<s>", "sep_token": {"content": "</s>", "lstrip": true}, "do_lower_case": false})",
      "config.json");
  EXPECT_THAT(tokenizer.encode("THE the  </s> he").ids, testing::ElementsAre(1, 4, 3, 2, 0, 2));
}

TEST(TokenizerFormats, ATokenOnTwoLinesHasTheLastId) {
  const Tokenizer tokenizer = Tokenizer::from_vocab_txt("[UNK]\n[CLS]\n[SEP]\nthe\nthe\n", "vocab.txt", "", "");
  EXPECT_EQ(tokenizer.token_to_id("the"), 4);
  EXPECT_EQ(tokenizer.id_to_token(3), "the");
}

}  // namespace
}  // namespace octet
