#include "winnow/attention/kv_cache.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstring>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow {
namespace {

at::Tensor numbered(int64_t first, int64_t tokens) {
  return at::arange(first, first + tokens, at::kFloat).view({1, 1, tokens, 1}).expand({2, 3, tokens, 4}).contiguous();
}

std::vector<int64_t> tokens_of(const KvCache& cache, int64_t layer = 0) {
  std::vector<int64_t> numbers;
  const auto held = cache.get(layer);
  for (int64_t i = 0; i < held.keys.size(2); ++i) {
    numbers.push_back(held.keys[0][0][i][0].item<int64_t>());
    EXPECT_TENSOR_EQ(held.values.select(2, i), held.keys.select(2, i) + 100);
  }
  return numbers;
}

void append(KvCache& cache, int64_t first, int64_t tokens, int64_t layer = 0) {
  cache.append(layer, numbered(first, tokens), numbered(first + 100, tokens));
}

using Numbers = std::vector<int64_t>;

TEST(KvCache, KeepsWhatWasAppendedInOrderThroughEveryGrowth) {
  KvCache cache(2);
  int64_t next = 0;
  for (const int64_t tokens : {3, 1, 1, 7, 1, 20}) {
    append(cache, next, tokens);
    next += tokens;
  }
  Numbers wanted(33);
  for (int64_t i = 0; i < 33; ++i) wanted[static_cast<size_t>(i)] = i;
  EXPECT_EQ(tokens_of(cache), wanted);
  EXPECT_EQ(cache.length(0), 33);
  EXPECT_EQ(cache.length(1), 0);
  EXPECT_FALSE(cache.get(1).keys.defined());
}

TEST(KvCache, WithinItsCapacityNothingIsAllocatedAnew) {
  KvCache cache(1, 16);
  append(cache, 0, 4);
  const auto* storage = cache.get(0).keys.const_data_ptr();
  EXPECT_EQ(cache.bytes(), 2 * 2 * 3 * 16 * 4 * 4);
  append(cache, 4, 12);
  EXPECT_EQ(cache.get(0).keys.const_data_ptr(), storage);
  append(cache, 16, 1);
  EXPECT_EQ(cache.bytes(), 2 * 2 * 3 * 32 * 4 * 4);  // doubled
}

TEST(KvCache, TruncateForgetsTheEnd) {
  KvCache cache(2);
  append(cache, 0, 5, 0);
  append(cache, 0, 5, 1);
  cache.truncate(3);
  append(cache, 50, 1, 0);
  EXPECT_EQ(tokens_of(cache, 0), (Numbers{0, 1, 2, 50}));
  EXPECT_EQ(tokens_of(cache, 1), (Numbers{0, 1, 2}));
  cache.clear();
  EXPECT_EQ(cache.length(), 0);
}

TEST(KvCache, CompactKeepsTheAcceptedPathInEveryLayer) {
  KvCache cache(2);
  append(cache, 0, 9, 0);
  append(cache, 20, 9, 1);
  cache.compact(4, {4, 6, 8});
  EXPECT_EQ(tokens_of(cache, 0), (Numbers{0, 1, 2, 3, 4, 6, 8}));
  EXPECT_EQ(tokens_of(cache, 1), (Numbers{20, 21, 22, 23, 24, 26, 28}));
  cache.compact(2, {});
  EXPECT_EQ(tokens_of(cache, 0), (Numbers{0, 1}));
}

TEST(KvCache, SelectReordersTheBatch) {
  KvCache cache(1);
  const auto keys = at::randn({3, 1, 2, 4});
  cache.append(0, keys, keys + 1);
  cache.select(at::tensor({2, 0, 2, 1}, at::kLong));
  EXPECT_TENSOR_EQ(cache.get(0).keys, keys.index_select(0, at::tensor({2, 0, 2, 1}, at::kLong)));
}

TEST(KvCache, WhatIsWrittenIntoReservedRoomIsWhatAppendAdds) {
  KvCache written(1, 2), appended(1, 2);
  const auto keys = at::randn({1, 3, 9, 4}), values = at::randn({1, 3, 9, 4});
  int64_t done = 0;
  for (const int64_t tokens : {1, 2, 6}) {  // within the capacity, then past it twice
    const auto room = written.reserve(0, 3, 4, tokens);
    EXPECT_EQ(room.length, done);
    for (int64_t h = 0; h < 3; ++h) {
      const auto offset = h * room.head_stride + room.length * 4;
      std::memcpy(room.keys + offset, keys[0][h][done].const_data_ptr<float>(), sizeof(float) * 4 * tokens);
      std::memcpy(room.values + offset, values[0][h][done].const_data_ptr<float>(), sizeof(float) * 4 * tokens);
    }
    EXPECT_EQ(written.length(), done);
    written.commit(0, tokens);
    appended.append(0, keys.narrow(2, done, tokens), values.narrow(2, done, tokens));
    done += tokens;
    EXPECT_TENSOR_EQ(written.get(0).keys, appended.get(0).keys);
    EXPECT_TENSOR_EQ(written.get(0).values, appended.get(0).values);
  }
  EXPECT_ERROR(written.reserve(0, 3, 5, 1), "KvCache::reserve: the layer must hold float32 [1, 3, *, 5] on the CPU");
  EXPECT_ERROR(written.commit(0, 100), "KvCache::commit: tokens must be in [0, 0], got 100");
  KvCache two(1);
  append(two, 0, 1);
  EXPECT_ERROR(two.reserve(0, 3, 4, 1), "KvCache::reserve: the layer must hold");
}

TEST(KvCache, SaysWhatIsWrong) {
  KvCache cache(2);
  append(cache, 0, 3);
  EXPECT_ERROR(append(cache, 0, 1, 2), "KvCache::append: layer must be in [0, 2), got 2");
  EXPECT_ERROR(cache.append(0, at::ones({2, 3, 1, 5}), at::ones({2, 3, 1, 4})), "KvCache::append: keys must");
  EXPECT_ERROR(cache.append(0, at::ones({2, 3, 1, 4}), at::ones({2, 3, 2, 4})),
               "KvCache::append: values must have shape [2, 3, 1, *]");
  EXPECT_ERROR(cache.append(0, at::ones({2, 3, 1, 4}, at::kDouble), at::ones({2, 3, 1, 4}, at::kDouble)),
               "KvCache::append: keys must");
  const auto grad = at::ones({2, 3, 1, 4}).requires_grad_();
  EXPECT_ERROR(cache.append(0, grad, grad), "KvCache::append: keys and values must not require gradients");
  EXPECT_ERROR(cache.compact(4, {}), "KvCache::compact: prefix must be in [0, 3], got 4");
  EXPECT_ERROR(cache.compact(1, {2, 1}), "KvCache::compact: keep must rise within [1, 3), got 1 after 2");
  EXPECT_ERROR(cache.compact(1, {3}), "KvCache::compact: keep must rise within [1, 3), got 3 after 0");
  EXPECT_ERROR(cache.truncate(-1), "KvCache::truncate: length must be >= 0, got -1");
  EXPECT_ERROR(cache.select(at::tensor({2}, at::kLong)), "KvCache::select: rows must");
  EXPECT_ERROR(KvCache(0), "KvCache: layers must be >= 1, got 0");
  EXPECT_ERROR(KvCache(1, -1), "KvCache: capacity must be >= 0, got -1");
}

}  // namespace
}  // namespace winnow
