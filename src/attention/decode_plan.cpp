#include "winnow/attention/decode_plan.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "decode_parts.h"
#include "winnow/core/error.h"
#include "winnow/kernels/activation_rows.h"
#include "winnow/kernels/attention_rows.h"
#include "winnow/kernels/rotary_rows.h"
#include "winnow/tensor/linear_rows.h"

namespace winnow {

using decode::PlannedBlock;

namespace {

// Tables and vectors; a storage stands in for an undefined weight.
std::string tensor_obstacle(const std::string& name, const at::Tensor& x) {
  if (!x.defined()) return "";
  if (!x.is_cpu() || x.layout() != at::kStrided) return name + ": a tensor that is not dense on the CPU";
  if (!is_row_dtype(x.scalar_type())) return name + ": dtype " + c10::toString(x.scalar_type());
  return x.is_contiguous() ? "" : name + ": a tensor that is not contiguous";
}

std::string norm_obstacle(const std::string& name, const NormImpl& norm) {
  // The dtype of the norms is the one in which the modules compute.
  for (const auto& x : {norm.weight, norm.bias}) {
    if (x.defined() && x.scalar_type() != at::kFloat) return name + ": dtype " + c10::toString(x.scalar_type());
    if (auto found = tensor_obstacle(name, x); !found.empty()) return found;
  }
  return "";
}

std::string first_of(const std::vector<std::string>& obstacles) {
  for (const auto& obstacle : obstacles) {
    if (!obstacle.empty()) return obstacle;
  }
  return "";
}

std::string linear_obstacle(const std::string& name, const Linear& linear) {
  return first_of({tensor_obstacle(name + ".weight", linear->weight), tensor_obstacle(name + ".bias", linear->bias)});
}

std::string block_obstacle(const std::string& name, const TransformerBlockImpl& block, bool rotary,
                           int64_t rotary_dim) {
  const auto& o = block.options;
  if (o.order == ResidualOrder::post_norm) return name + ": order post_norm";
  if (o.cross_attention) return name + ": cross-attention";
  if (block.ls1 || block.ls2) return name + ": LayerScale";
  if (rotary && rotary_dim > block.attn->options.head_dim) return name + ": rotary wider than a head";
  std::vector<std::string> found = {norm_obstacle(name + ".norm1", *block.norm1),
                                    linear_obstacle(name + ".attn.qkv", block.attn->qkv),
                                    linear_obstacle(name + ".attn.proj", block.attn->proj),
                                    tensor_obstacle(name + ".attn.q_bias", block.attn->q_bias),
                                    tensor_obstacle(name + ".attn.v_bias", block.attn->v_bias)};
  if (block.norm2) found.push_back(norm_obstacle(name + ".norm2", *block.norm2));
  if (block.attn->q_norm) {
    found.push_back(norm_obstacle(name + ".attn.q_norm", *block.attn->q_norm));
    found.push_back(norm_obstacle(name + ".attn.k_norm", *block.attn->k_norm));
  }
  if (block.mlp) {
    found.push_back(linear_obstacle(name + ".mlp.fc1", block.mlp->fc1));
    if (block.mlp->gate) found.push_back(linear_obstacle(name + ".mlp.gate", block.mlp->gate));
    found.push_back(linear_obstacle(name + ".mlp.fc2", block.mlp->fc2));
  } else if (!block.feed_forward) {
    return name + ": no feed-forward module";
  }
  return first_of(found);
}

}  // namespace

std::string DecodePlan::obstacle(const DecodeStack& stack) {
  if (!stack.embedding.defined() || !stack.norm || !stack.head) return "embedding, norm or head missing";
  if (stack.blocks.empty()) return "no blocks";
  if (!stack.windows.empty() && stack.windows.size() != stack.blocks.size()) return "windows: not one for each block";
  const auto D = stack.norm->options.dim;
  if (stack.embedding.dim() != 2 || stack.embedding.size(1) != D || stack.head->in_features != D) {
    return "embedding and head: not the width of the norm";
  }
  if (stack.positions.defined() && (stack.positions.dim() != 2 || stack.positions.size(1) != D)) {
    return "positions: not the width of the norm";
  }
  std::vector<std::string> found = {tensor_obstacle("embedding", stack.embedding),
                                    tensor_obstacle("positions", stack.positions), norm_obstacle("norm", *stack.norm),
                                    linear_obstacle("head", stack.head)};
  for (size_t i = 0; i < stack.blocks.size(); ++i) {
    const auto name = fmt::format("blocks.{}", i);
    if (stack.blocks[i]->options.dim != D) return name + ": not the width of the norm";
    found.push_back(
        block_obstacle(name, *stack.blocks[i], stack.rotary.has_value(), stack.rotary ? stack.rotary->dim : 0));
  }
  return first_of(found);
}

struct DecodePlan::Parts {
  explicit Parts(DecodeStack s) : stack(std::move(s)) {}

  // Buffers of kMaxTokens rows each, in one allocation.
  struct Buffers {
    float *hidden, *normed, *attended, *expanded;  // [16, D]
    float *qkv, *heads;                            // [16, (H + 2 Hkv) d], [16, H d]
    float *inner, *gate;                           // [16, hidden]
    float *cos, *sin;                              // [16, r/2]
  };

  void compile();
  void make_buffers();
  void embed(const int64_t* ids, const int64_t* positions, int64_t n, int64_t past);
  void fill_rotary(const int64_t* positions, int64_t n, int64_t past);
  const float* run_block(PlannedBlock& p, int64_t layer, const float* pending, int64_t n, KvCache& cache);
  void attend(PlannedBlock& p, int64_t layer, int64_t n, KvCache& cache);
  void finish_heads(const PlannedBlock& p, int64_t n);
  void expand(PlannedBlock& p, int64_t n);

  DecodeStack stack;
  decode::Sources sources;
  std::vector<PlannedBlock> blocks;
  decode::PlannedNorm norm;
  decode::PlannedLinear head;
  const void *embedding = nullptr, *table = nullptr;
  std::vector<float> frequencies;
  float rotary_factor = 1;
  int64_t D = 0;
  at::Tensor memory;
  Buffers b = {};
};

void DecodePlan::Parts::compile() {
  D = stack.norm->options.dim;
  embedding = sources.in_place(stack.embedding);
  table = sources.in_place(stack.positions);
  for (size_t i = 0; i < stack.blocks.size(); ++i) {
    blocks.push_back(decode::plan(*stack.blocks[i], stack.windows.empty() ? 0 : stack.windows[i], sources));
  }
  norm = decode::plan(*stack.norm, sources);
  head = decode::plan(*stack.head, sources);
  if (stack.rotary) {
    const auto values = rotary_frequencies(*stack.rotary);
    frequencies.assign(values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel());
    rotary_factor = static_cast<float>(rotary_table_factor(*stack.rotary));
  }
  make_buffers();
}

void DecodePlan::Parts::make_buffers() {
  int64_t qkv = 0, heads = 0, inner = 0;
  for (const auto& p : blocks) {
    qkv = std::max(qkv, p.qkv.out);
    heads = std::max(heads, p.proj.in);
    inner = std::max(inner, p.fc1.out);
  }
  const auto half = static_cast<int64_t>(frequencies.size());
  const std::vector<std::pair<float**, int64_t>> wanted = {
      {&b.hidden, D},    {&b.normed, D},    {&b.attended, D}, {&b.expanded, D}, {&b.qkv, qkv},
      {&b.heads, heads}, {&b.inner, inner}, {&b.gate, inner}, {&b.cos, half},   {&b.sin, half}};
  int64_t total = 0;
  for (const auto& [pointer, width] : wanted) total += width * kMaxTokens;
  memory = at::empty({total}, at::kFloat);
  auto* next = memory.mutable_data_ptr<float>();
  for (const auto& [pointer, width] : wanted) {
    *pointer = next;
    next += width * kMaxTokens;
  }
}

namespace {

// Row `index` of a table of width D, as float32, written or added to `to`.
void take_row(const void* table, at::ScalarType dtype, int64_t index, int64_t D, bool add, float* to) {
  const auto each = [&](const auto* rows) {
    for (int64_t j = 0; j < D; ++j) {
      const auto value = static_cast<float>(rows[index * D + j]);
      to[j] = add ? to[j] + value : value;
    }
  };
  if (dtype == at::kFloat) {
    each(static_cast<const float*>(table));
  } else if (dtype == at::kHalf) {
    each(static_cast<const c10::Half*>(table));
  } else {
    each(static_cast<const c10::BFloat16*>(table));
  }
}

}  // namespace

void DecodePlan::Parts::embed(const int64_t* ids, const int64_t* positions, int64_t n, int64_t past) {
  for (int64_t i = 0; i < n; ++i) {
    take_row(embedding, stack.embedding.scalar_type(), ids[i], D, false, b.hidden + i * D);
    if (table == nullptr) continue;
    const auto position = positions == nullptr ? past + i : positions[i];
    take_row(table, stack.positions.scalar_type(), position, D, true, b.hidden + i * D);
  }
}

void DecodePlan::Parts::fill_rotary(const int64_t* positions, int64_t n, int64_t past) {
  const auto half = static_cast<int64_t>(frequencies.size());
  for (int64_t i = 0; i < n; ++i) {
    const auto position = static_cast<float>(positions == nullptr ? past + i : positions[i]);
    for (int64_t j = 0; j < half; ++j) {
      const float angle = position * frequencies[static_cast<size_t>(j)];
      b.cos[i * half + j] = std::cos(angle) * rotary_factor;
      b.sin[i * half + j] = std::sin(angle) * rotary_factor;
    }
  }
}

// Norms, clamp and rotation of the queries and keys that the projection wrote.
void DecodePlan::Parts::finish_heads(const PlannedBlock& p, int64_t n) {
  const auto& o = p.block->attn->options;
  const auto width = p.qkv.out, keys = o.heads * o.head_dim;
  if (o.qk_norm == QkNorm::whole_projection) {
    decode::run(p.q_norm, b.qkv, width, nullptr, b.qkv, width, n);
    decode::run(p.k_norm, b.qkv + keys, width, nullptr, b.qkv + keys, width, n);
  } else if (o.qk_norm == QkNorm::per_head) {
    for (int64_t i = 0; i < n; ++i) {
      float* row = b.qkv + i * width;
      decode::run(p.q_norm, row, o.head_dim, nullptr, row, o.head_dim, o.heads);
      decode::run(p.k_norm, row + keys, o.head_dim, nullptr, row + keys, o.head_dim, o.kv_heads);
    }
  }
  if (o.clip_qkv) {
    const auto clip = static_cast<float>(*o.clip_qkv);
    for (int64_t j = 0; j < n * width; ++j) b.qkv[j] = std::clamp(b.qkv[j], -clip, clip);
  }
  if (frequencies.empty()) return;
  kernels::RotaryRows args{.x = b.qkv,
                           .cos = b.cos,
                           .sin = b.sin,
                           .x_stride = width,
                           .heads = o.heads + o.kv_heads,  // the keys stand behind the queries
                           .head_dim = o.head_dim,
                           .half = static_cast<int64_t>(frequencies.size()),
                           .interleaved = stack.rotary->layout == RotaryLayout::interleaved};
  kernels::cpu::rotary_rows(args, 0, n);
}

void DecodePlan::Parts::attend(PlannedBlock& p, int64_t layer, int64_t n, KvCache& cache) {
  const auto& o = p.block->attn->options;
  const auto d = o.head_dim, width = p.qkv.out, keys = o.heads * d, values = keys + o.kv_heads * d;
  decode::run(p.qkv, b.normed, n, b.qkv);
  finish_heads(p, n);
  const auto room = cache.reserve(layer, o.kv_heads, d, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t g = 0; g < o.kv_heads; ++g) {
      const auto to = g * room.head_stride + (room.length + i) * d;
      std::memcpy(room.keys + to, b.qkv + i * width + keys + g * d, sizeof(float) * static_cast<size_t>(d));
      std::memcpy(room.values + to, b.qkv + i * width + values + g * d, sizeof(float) * static_cast<size_t>(d));
    }
  }
  const kernels::AttentionRows args{.q = b.qkv,
                                    .keys = room.keys,
                                    .values = room.values,
                                    .out = b.heads,
                                    .q_stride = width,
                                    .head_stride = room.head_stride,
                                    .out_stride = keys,
                                    .n = n,
                                    .kv_heads = o.kv_heads,
                                    .group = o.heads / o.kv_heads,
                                    .head_dim = d,
                                    .length = room.length + n,
                                    .window = p.window,
                                    .scale = static_cast<float>(*o.scale)};
  const int64_t work = args.length * args.n * args.group * d;  // multiply-adds of a key head, halved
  at::parallel_for(0, o.kv_heads, std::max<int64_t>(1, kernels::kLinearRowsGrain / work),
                   [&](int64_t begin, int64_t end) { kernels::cpu::attention_rows(args, begin, end); });
  decode::run(p.proj, b.heads, n, b.attended);
}

void DecodePlan::Parts::expand(PlannedBlock& p, int64_t n) {
  if (!p.block->mlp) {
    const auto x = at::from_blob(b.normed, {1, n, D}, at::kFloat);
    at::from_blob(b.expanded, {1, n, D}, at::kFloat).copy_(p.block->feed_forward->apply(x));
    return;
  }
  const bool gated = p.gate.out > 0;
  decode::run(p.fc1, b.normed, n, b.inner);
  if (gated) decode::run(p.gate, b.normed, n, b.gate);
  kernels::cpu::activation_rows({.x = b.inner, .gate = gated ? b.gate : nullptr, .activation = p.activation}, 0,
                                n * p.fc1.out);
  decode::run(p.fc2, b.inner, n, b.expanded);
}

// Runs a block on hidden + pending (null: zero) and returns what its last branch leaves to be added.
const float* DecodePlan::Parts::run_block(PlannedBlock& p, int64_t layer, const float* pending, int64_t n,
                                          KvCache& cache) {
  decode::run(p.norm1, b.hidden, D, pending, b.normed, D, n);
  attend(p, layer, n, cache);
  if (p.block->options.order == ResidualOrder::pre_norm) {
    decode::run(p.norm2, b.hidden, D, b.attended, b.normed, D, n);
    expand(p, n);
    return b.expanded;
  }
  if (p.block->norm2) decode::run(p.norm2, b.hidden, D, nullptr, b.normed, D, n);
  expand(p, n);
  for (int64_t j = 0; j < n * D; ++j) b.hidden[j] += b.attended[j];
  return b.expanded;
}

DecodePlan::DecodePlan(DecodeStack stack) : parts_(std::make_unique<Parts>(std::move(stack))) {
  const auto found = obstacle(parts_->stack);
  WINNOW_CHECK_KIND(found.empty(), ErrorKind::unsupported, "DecodePlan: {} is not supported", found);
  const at::NoGradGuard no_grad;
  parts_->compile();
}

DecodePlan::~DecodePlan() = default;

void DecodePlan::run(const int64_t* ids, const int64_t* positions, int64_t n, KvCache& cache, bool last_only,
                     float* logits) {
  auto& p = *parts_;
  WINNOW_CHECK(n >= 1 && n <= kMaxTokens, "DecodePlan: n must be in [1, {}], got {}", kMaxTokens, n);
  const auto layers = static_cast<int64_t>(p.blocks.size());
  WINNOW_CHECK(cache.layers() == layers, "DecodePlan: cache must have {} layers, got {}", layers, cache.layers());
  const auto past = cache.length(), vocabulary = p.stack.embedding.size(0);
  for (int64_t i = 0; i < n; ++i) {
    WINNOW_CHECK(ids[i] >= 0 && ids[i] < vocabulary, "DecodePlan: ids must be in [0, {}), got {}", vocabulary, ids[i]);
    if (p.table == nullptr) continue;
    const auto position = positions == nullptr ? past + i : positions[i];
    WINNOW_CHECK(position >= 0 && position < p.stack.positions.size(0),
                 "DecodePlan: positions must be in [0, {}), got {}", p.stack.positions.size(0), position);
  }
  const at::NoGradGuard no_grad;
  p.embed(ids, positions, n, past);
  p.fill_rotary(positions, n, past);
  const float* pending = nullptr;
  for (int64_t i = 0; i < layers; ++i) {
    pending = p.run_block(p.blocks[static_cast<size_t>(i)], i, pending, n, cache);
  }
  const int64_t first = last_only ? n - 1 : 0, rows = n - first;
  decode::run(p.norm, p.b.hidden + first * p.D, p.D, pending + first * p.D, p.b.normed, p.D, rows);
  decode::run(p.head, p.b.normed, rows, logits);
  for (int64_t i = 0; i < layers; ++i) cache.commit(i, n);
}

bool DecodePlan::current() const {
  return parts_->sources.current();
}

const DecodeStack& DecodePlan::stack() const {
  return parts_->stack;
}

int64_t DecodePlan::weight_bytes() const {
  const auto& p = *parts_;
  int64_t bytes = p.stack.head->weight_bytes() + p.D * c10::elementSize(p.stack.embedding.scalar_type());
  for (const auto& block : p.blocks) {
    const auto& b = *block.block;
    bytes += b.attn->qkv->weight_bytes() + b.attn->proj->weight_bytes();
    if (b.mlp) bytes += b.mlp->fc1->weight_bytes() + b.mlp->fc2->weight_bytes();
    if (b.mlp && b.mlp->gate) bytes += b.mlp->gate->weight_bytes();
  }
  return bytes;
}

}  // namespace winnow
