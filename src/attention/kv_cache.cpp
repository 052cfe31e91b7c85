#include "winnow/attention/kv_cache.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"

namespace winnow {

KvCache::KvCache(int64_t layers, int64_t capacity) : capacity_(capacity) {
  WINNOW_CHECK(layers >= 1, "KvCache: layers must be >= 1, got {}", layers);
  WINNOW_CHECK(capacity >= 0, "KvCache: capacity must be >= 0, got {}", capacity);
  layers_.resize(static_cast<size_t>(layers));
}

const KvCache::Layer& KvCache::layer(int64_t index, const char* caller) const {
  WINNOW_CHECK(index >= 0 && index < layers(), "KvCache::{}: layer must be in [0, {}), got {}", caller, layers(),
               index);
  return layers_[static_cast<size_t>(index)];
}

KvCache::Layer& KvCache::layer(int64_t index, const char* caller) {
  return const_cast<Layer&>(std::as_const(*this).layer(index, caller));
}

// Room for `tokens` more; heads, widths and dtype are taken from `keys` and `values` where nothing is held yet.
void KvCache::make_room(Layer& held, int64_t tokens, const at::Tensor& keys, const at::Tensor& values) const {
  const auto needed = held.length + tokens;
  const auto room = held.keys.defined() ? held.keys.size(2) : 0;
  if (held.keys.defined() && needed <= room) return;
  const auto size = std::max({needed, capacity_, held.length > 0 ? 2 * room : int64_t{0}});
  const auto grow = [&](at::Tensor& store, const at::Tensor& like) {
    auto larger = at::empty({like.size(0), like.size(1), size, like.size(3)}, like.options());
    if (held.length > 0) larger.narrow(2, 0, held.length).copy_(store.narrow(2, 0, held.length));
    store = std::move(larger);
  };
  grow(held.keys, keys);
  grow(held.values, values);
}

KvCache::KeysValues KvCache::append(int64_t index, const at::Tensor& keys, const at::Tensor& values) {
  auto& held = layer(index, "append");
  check_dim("KvCache::append: keys", keys, 4);
  WINNOW_CHECK(values.defined() && values.dim() == 4 && values.size(0) == keys.size(0) &&
                   values.size(1) == keys.size(1) && values.size(2) == keys.size(2),
               "KvCache::append: values must have shape [{}, {}, {}, *]", keys.size(0), keys.size(1), keys.size(2));
  WINNOW_CHECK(!keys.requires_grad() && !values.requires_grad(),
               "KvCache::append: keys and values must not require gradients (decode without grad mode)");
  const auto fits = [](const char* what, const at::Tensor& kept, const at::Tensor& added) {
    check_like(what, added, kept);
    check_shape(what, added, {kept.size(0), kept.size(1), -1, kept.size(3)});
  };
  if (held.keys.defined()) {
    fits("KvCache::append: keys", held.keys, keys);
    fits("KvCache::append: values", held.values, values);
  }
  const at::NoGradGuard no_grad;
  make_room(held, keys.size(2), keys, values);
  held.keys.narrow(2, held.length, keys.size(2)).copy_(keys);
  held.values.narrow(2, held.length, values.size(2)).copy_(values);
  held.length += keys.size(2);
  return get(index);
}

KvCache::Room KvCache::reserve(int64_t index, int64_t heads, int64_t head_dim, int64_t tokens) {
  auto& held = layer(index, "reserve");
  const at::NoGradGuard no_grad;
  if (!held.keys.defined()) {
    const auto like = at::empty({1, heads, 0, head_dim}, at::kFloat);
    make_room(held, tokens, like, like);
  }
  for (const auto* store : {&held.keys, &held.values}) {
    WINNOW_CHECK(store->is_cpu() && store->scalar_type() == at::kFloat && store->size(0) == 1 &&
                     store->size(1) == heads && store->size(3) == head_dim && store->is_contiguous(),
                 "KvCache::reserve: the layer must hold float32 [1, {}, *, {}] on the CPU, got {} [{}]", heads,
                 head_dim, c10::toString(store->scalar_type()), fmt::join(store->sizes(), ", "));
  }
  make_room(held, tokens, held.keys, held.values);
  return {.keys = held.keys.mutable_data_ptr<float>(),
          .values = held.values.mutable_data_ptr<float>(),
          .head_stride = held.keys.size(2) * head_dim,
          .length = held.length};
}

void KvCache::commit(int64_t index, int64_t tokens) {
  auto& held = layer(index, "commit");
  const auto room = held.keys.defined() ? held.keys.size(2) - held.length : 0;
  WINNOW_CHECK(tokens >= 0 && tokens <= room, "KvCache::commit: tokens must be in [0, {}], got {}", room, tokens);
  held.length += tokens;
}

KvCache::KeysValues KvCache::get(int64_t index) const {
  const auto& held = layer(index, "get");
  if (!held.keys.defined()) return {};
  return {.keys = held.keys.narrow(2, 0, held.length), .values = held.values.narrow(2, 0, held.length)};
}

int64_t KvCache::length(int64_t index) const {
  return layer(index, "length").length;
}

int64_t KvCache::bytes() const {
  int64_t sum = 0;
  for (const auto& held : layers_) {
    if (held.keys.defined()) sum += static_cast<int64_t>(held.keys.nbytes() + held.values.nbytes());
  }
  return sum;
}

void KvCache::truncate(int64_t length) {
  WINNOW_CHECK(length >= 0, "KvCache::truncate: length must be >= 0, got {}", length);
  for (auto& held : layers_) held.length = std::min(held.length, length);
}

void KvCache::compact(int64_t prefix, const std::vector<int64_t>& keep) {
  int64_t shortest = layers_[0].length;
  for (const auto& held : layers_) {
    if (held.keys.defined()) shortest = std::min(shortest, held.length);
  }
  WINNOW_CHECK(prefix >= 0 && prefix <= shortest, "KvCache::compact: prefix must be in [0, {}], got {}", shortest,
               prefix);
  int64_t last = prefix - 1;
  for (const auto token : keep) {
    WINNOW_CHECK(token > last && token < shortest, "KvCache::compact: keep must rise within [{}, {}), got {} after {}",
                 prefix, shortest, token, last);
    last = token;
  }
  const at::NoGradGuard no_grad;
  for (auto& held : layers_) {
    if (!held.keys.defined()) continue;
    // In rising order a row moves forward only onto rows that are no longer needed.
    for (size_t i = 0; i < keep.size(); ++i) {
      const auto to = prefix + static_cast<int64_t>(i);
      if (to == keep[i]) continue;
      held.keys.select(2, to).copy_(held.keys.select(2, keep[i]));
      held.values.select(2, to).copy_(held.values.select(2, keep[i]));
    }
    held.length = prefix + static_cast<int64_t>(keep.size());
  }
}

void KvCache::select(const at::Tensor& rows) {
  check_dtype("KvCache::select: rows", rows, at::kLong);
  check_dim("KvCache::select: rows", rows, 1);
  for (const auto& held : layers_) {
    if (held.keys.defined()) check_indices("KvCache::select: rows", rows, held.keys.size(0));
  }
  const at::NoGradGuard no_grad;
  for (auto& held : layers_) {
    if (!held.keys.defined()) continue;
    const auto ids = rows.to(held.keys.device());
    held.keys = held.keys.index_select(0, ids);
    held.values = held.values.index_select(0, ids);
  }
}

}  // namespace winnow
