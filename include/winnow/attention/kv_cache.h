#pragma once
#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

namespace winnow {

// Keys and values of the tokens so far, for each layer of a decoder: [B, Hkv, T, d] (the key heads only, before they
// are shared by query heads). Storage is allocated at the first append of a layer, for `capacity` tokens or, if that is
// 0 or too little, doubled as needed; returned tensors are views of it, valid until the next append that grows it.
// Appended tensors must not require gradients. Not thread safe.
class KvCache {
 public:
  struct KeysValues {
    at::Tensor keys, values;  // [B, Hkv, T, d]
  };

  // layers >= 1, capacity >= 0, else winnow::Error.
  explicit KvCache(int64_t layers, int64_t capacity = 0);

  // Adds L tokens, keys and values [B, Hkv, L, d], to a layer and returns all its tokens. Throws winnow::Error if the
  // layer does not exist or shape, dtype or device differ from what it holds.
  KeysValues append(int64_t layer, const at::Tensor& keys, const at::Tensor& values);
  // The same without tensors, for kernels that write float32 keys and values of one sequence on the CPU: makes room for
  // `tokens` more in a layer of `heads` key heads of `head_dim`, and says where it is. Throws winnow::Error as append,
  // also if the layer holds several sequences. What was written joins the layer by commit().
  struct Room {
    float *keys, *values;  // head g, token t at g * head_stride + t * head_dim
    int64_t head_stride;
    int64_t length;  // tokens held so far: the first new one goes there
  };
  Room reserve(int64_t layer, int64_t heads, int64_t head_dim, int64_t tokens);
  void commit(int64_t layer, int64_t tokens);

  // All tokens of a layer; undefined tensors if none was appended.
  KeysValues get(int64_t layer) const;

  // Tokens held by a layer; without an argument by layer 0.
  int64_t length(int64_t layer = 0) const;
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  // Bytes allocated.
  int64_t bytes() const;

  // Forgets all tokens from `length` on, in every layer (rejected drafts). Nothing is copied.
  void truncate(int64_t length);
  // Keeps the first `prefix` tokens and, behind them, the tokens whose numbers `keep` gives (ascending, >= prefix):
  // the accepted path of a tree. Only the kept rows move.
  void compact(int64_t prefix, const std::vector<int64_t>& keep);
  // Keeps the given rows of the batch, int64 [B'], in that order (beam search, finished sentences).
  void select(const at::Tensor& rows);
  void clear() { truncate(0); }

 private:
  struct Layer {
    at::Tensor keys, values;  // [B, Hkv, room, d]
    int64_t length = 0;
  };
  void make_room(Layer& held, int64_t tokens, const at::Tensor& keys, const at::Tensor& values) const;
  Layer& layer(int64_t index, const char* caller);
  const Layer& layer(int64_t index, const char* caller) const;

  int64_t capacity_;
  std::vector<Layer> layers_;
};

}  // namespace winnow
