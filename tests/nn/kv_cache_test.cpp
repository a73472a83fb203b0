// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/kv_cache.h"

#include <cstring>
#include <random>

#include <gmock/gmock.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/error.h"

namespace octet {
namespace {

using Ids = std::vector<int32_t>;

// A cache whose keys and values are stood for by one number a token, which only the same tokens before it give.
class KvCacheTest : public testing::Test {
 protected:
  // Appends tokens and "runs" them.
  void run(int sequence, const Ids& ids) {
    const Workspace::Scope scope(workspace_);
    const std::vector<int> sequences = {sequence};
    const std::vector<int32_t> offsets = {0, static_cast<int32_t>(ids.size())};
    const int64_t past = cache_.length(sequence);
    const KvView view = cache_.extend(workspace_, sequences, offsets, ids);
    const std::vector<uint64_t> all = expected(sequence);
    for (int64_t t = past; t < cache_.length(sequence); ++t)
      std::memcpy(slot(view, t), &all[static_cast<size_t>(t)], sizeof(uint64_t));
    cache_.publish(sequences);
  }
  // The first place whose number is not that of the sequence's tokens, -1 if there is none.
  int64_t first_wrong(int sequence) {
    const Workspace::Scope scope(workspace_);
    const KvView view = cache_.extend(workspace_, std::vector<int>{sequence}, std::vector<int32_t>{0, 0}, {});
    const std::vector<uint64_t> all = expected(sequence);
    for (int64_t t = 0; t < cache_.length(sequence); ++t) {
      if (std::memcmp(slot(view, t), &all[static_cast<size_t>(t)], sizeof(uint64_t)) != 0) return t;
    }
    return -1;
  }
  // 0, 1, 2, … from `first` on.
  static Ids counting(int64_t length, int32_t first = 0) {
    Ids ids(static_cast<size_t>(length));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = first + static_cast<int32_t>(i);
    return ids;
  }
  int64_t blocks() const { return cache_.bytes() / block_bytes_; }

  std::unique_ptr<Backend> backend_ = make_cpu_backend({});
  Workspace workspace_{*backend_};
  const KvCache::Shape shape_ = {.layers = 2, .heads = 1, .head_width = 16, .max_tokens = 1000};
  const int64_t block_bytes_ = 2 * backend_->kv_bytes(shape_.dtype, shape_.heads, shape_.head_width);
  KvCache cache_{*backend_, shape_};

 private:
  // Blocks lie in the host's memory; a number for each token fits into one.
  static std::byte* slot(const KvView& view, int64_t token) {
    std::byte* block = nullptr;
    std::memcpy(&block, view.blocks.addresses.address() + token / kKvBlockTokens * int64_t{sizeof block}, sizeof block);
    return block + token % kKvBlockTokens * int64_t{sizeof(uint64_t)};
  }
  // A hash (FNV-1a) of each token and all before it.
  std::vector<uint64_t> expected(int sequence) const {
    std::vector<uint64_t> numbers;
    uint64_t hash = 0xCBF29CE484222325;
    for (const int32_t token : cache_.tokens(sequence)) {
      hash = (hash ^ static_cast<uint64_t>(token)) * 0x100000001B3;
      numbers.push_back(hash);
    }
    return numbers;
  }
};

TEST_F(KvCacheTest, WhatASequenceHasRunIsFoundInWholeBlocks) {
  const int first = cache_.add_sequence();
  run(first, counting(200));
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 192);
  EXPECT_EQ(cache_.cached_prefix(counting(1000)), 192);
  EXPECT_EQ(cache_.cached_prefix(counting(129)), 128);
  EXPECT_EQ(cache_.cached_prefix(counting(128)), 64) << "the last token must be run to know what follows";
  EXPECT_EQ(cache_.cached_prefix(counting(64)), 0);
  EXPECT_EQ(cache_.cached_prefix({}), 0);
  Ids other = counting(200);
  other[70] = 0;
  EXPECT_EQ(cache_.cached_prefix(other), 64);
  other[0] = 9;
  EXPECT_EQ(cache_.cached_prefix(other), 0) << "the same second block after another first one";
  EXPECT_EQ(cache_.cached_prefix(counting(130, 64)), 0) << "the second block's tokens at the beginning";
}

TEST_F(KvCacheTest, ASequenceThatBeginsAlikeReadsTheSameBlocks) {
  const int first = cache_.add_sequence();
  run(first, counting(130));
  EXPECT_EQ(blocks(), 3);
  const int second = cache_.add_sequence(counting(200));
  EXPECT_EQ(cache_.length(second), 128);
  EXPECT_EQ(first_wrong(second), -1);
  run(second, {128, 999});
  EXPECT_EQ(blocks(), 4);
  EXPECT_EQ(first_wrong(first), -1);
  EXPECT_EQ(first_wrong(second), -1);
}

TEST_F(KvCacheTest, WhatARemovedSequenceLeavesIsFoundUntilItsMemoryIsTaken) {
  const int first = cache_.add_sequence();
  run(first, counting(200));
  cache_.remove_sequence(first);
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 192);
  // The unfinished block goes first, then the end of the text, so that its beginning can be found longest.
  const int other = cache_.add_sequence();
  run(other, counting(64, 500));
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 192);
  run(other, counting(1, 600));
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 128);
  EXPECT_EQ(blocks(), 4);
  const int again = cache_.add_sequence(counting(200));
  EXPECT_EQ(cache_.length(again), 128);
  EXPECT_EQ(first_wrong(again), -1);
}

TEST_F(KvCacheTest, TwoThatRanTheSameSideBySideKeepOneCopy) {
  const int first = cache_.add_sequence(), second = cache_.add_sequence();
  for (const int sequence : {first, second}) run(sequence, counting(64));
  EXPECT_EQ(blocks(), 2);
  run(first, {1000});
  EXPECT_EQ(blocks(), 2) << "the second copy's memory serves";
  EXPECT_EQ(first_wrong(first), -1);
  EXPECT_EQ(first_wrong(second), -1);
}

TEST_F(KvCacheTest, AForkReadsWhatItSharesAndCopiesWhatItWrites) {
  const int first = cache_.add_sequence();
  run(first, counting(100));
  const int second = cache_.fork(first), third = cache_.fork(first);
  EXPECT_EQ(blocks(), 2);
  run(second, {7});
  run(first, {8});
  EXPECT_EQ(blocks(), 4);
  run(third, {9});
  EXPECT_EQ(blocks(), 4) << "the last reader of a block writes where it is";
  for (const int sequence : {first, second, third}) EXPECT_EQ(first_wrong(sequence), -1) << sequence;
  EXPECT_THAT(cache_.tokens(second).last(2), testing::ElementsAre(99, 7));
}

TEST_F(KvCacheTest, WritingIntoABlockThatWasFullHidesIt) {
  const int first = cache_.add_sequence();
  run(first, counting(128));
  cache_.truncate(first, 100);
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 128) << "nobody has written to it yet";
  run(first, {5});
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 64);
  EXPECT_EQ(first_wrong(first), -1);
}

TEST_F(KvCacheTest, WhatWasNotRunIsNotFound) {
  const int sequence = cache_.add_sequence();
  {
    const Workspace::Scope scope(workspace_);
    cache_.extend(workspace_, std::vector<int>{sequence}, std::vector<int32_t>{0, 100}, counting(100));
  }
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 0);
  cache_.truncate(sequence, 0);
  EXPECT_EQ(cache_.cached_prefix(counting(200)), 0);
}

TEST_F(KvCacheTest, AnySequenceOfStepsKeepsEachTextsOwnKeysAndValues) {
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return static_cast<int64_t>(random() % n); };
  std::vector<int> sequences;
  int64_t found = 0;
  for (int step = 0; step < 1000; ++step) {
    const int64_t what = below(10);
    if (sequences.empty() || (what == 0 && sequences.size() < 8)) {
      // Texts of two tokens only, in runs of many lengths, so that beginnings meet.
      Ids ids(static_cast<size_t>(below(300)), 0);
      for (int64_t i = std::ssize(ids) - below(ids.size() + 1); i < std::ssize(ids); ++i)
        ids[static_cast<size_t>(i)] = below(40) == 0 ? 1 : 0;
      sequences.push_back(cache_.add_sequence(ids));
      found += cache_.length(sequences.back());
      const auto cached = static_cast<size_t>(cache_.length(sequences.back()));
      run(sequences.back(), {ids.begin() + static_cast<std::ptrdiff_t>(cached), ids.end()});
      continue;
    }
    const auto at = static_cast<size_t>(below(sequences.size()));
    if (what == 1) {
      cache_.remove_sequence(sequences[at]);
      sequences.erase(sequences.begin() + static_cast<std::ptrdiff_t>(at));
    } else if (what == 2) {
      cache_.truncate(sequences[at], below(static_cast<size_t>(cache_.length(sequences[at])) + 1));
    } else if (what == 3 && sequences.size() < 8) {
      sequences.push_back(cache_.fork(sequences[at]));
    } else if (cache_.length(sequences[at]) < 900) {
      run(sequences[at], Ids(static_cast<size_t>(below(90)), static_cast<int32_t>(below(2))));
    }
    for (const int sequence : sequences) ASSERT_EQ(first_wrong(sequence), -1) << "step " << step;
  }
  EXPECT_GT(found, 2000) << "the steps should have met each other's texts";
}

TEST_F(KvCacheTest, RefusesWhatItDoesNotHave) {
  EXPECT_THROW(cache_.length(0), Error);
  const int sequence = cache_.add_sequence();
  EXPECT_THROW(cache_.truncate(sequence, 1), Error);
  EXPECT_THROW(run(sequence, counting(1001)), Error);
  EXPECT_EQ(cache_.length(sequence), 0);
  cache_.remove_sequence(sequence);
  EXPECT_THROW(cache_.fork(sequence), Error);
  EXPECT_THROW(cache_.remove_sequence(sequence), Error);
}

}  // namespace
}  // namespace octet
