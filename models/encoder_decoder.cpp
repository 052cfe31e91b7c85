#include "encoder_decoder.h"

#include <torch/types.h>

#include <string>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow::models {

void EncoderDecoderState::select(const at::Tensor& rows) {
  self.select(rows);
  cross.select(rows);
  if (encoder_keep.defined()) encoder_keep = encoder_keep.index_select(0, rows.to(encoder_keep.device()));
}

namespace {

std::string in(const DecoderShape& shape, const char* argument) {
  return std::string(shape.what) + ": " + argument;
}

// What teacher forcing feeds: the labels one place later, ignored ones as padding.
at::Tensor ids_from_labels(const at::Tensor& labels, const DecoderShape& shape) {
  auto ids = at::full_like(labels, shape.decoder_start);
  ids.slice(1, 1).copy_(labels.slice(1, 0, -1));
  return ids.masked_fill(ids == -100, shape.pad);
}

void check_labels(const LmInput& input, const at::Tensor& ids, const DecoderShape& shape) {
  check_dtype(in(shape, "labels"), input.labels, at::kLong);
  check_shape(in(shape, "labels"), input.labels, ids.sizes());
  check_indices(in(shape, "labels (other than -100)"), input.labels.masked_fill(input.labels == -100, 0),
                shape.vocab_size);
  WINNOW_CHECK(!input.last_only, "{}: last_only must be false with labels", shape.what);
}

// Keys of the encoder's states: those of the state, or made in this call.
void attend_to_encoder(const LmInput& input, const DecoderShape& shape, EncoderDecoderState* state, int64_t batch,
                       AttentionArgs& cross) {
  const bool stored = state != nullptr && state->cross.length() > 0;
  auto keep = input.encoder_keep;
  if (stored) {
    keep = state->encoder_keep;
    const auto rows = state->cross.get(0).keys.size(0);
    WINNOW_CHECK(rows == batch, "{}: ids must have the {} rows of the state, got {}", shape.what, rows, batch);
  } else {
    WINNOW_CHECK(input.encoder_states.defined(),
                 "{}: encoder_states must be given in the first call (what encode() returns)", shape.what);
    check_shape(in(shape, "encoder_states"), input.encoder_states, {batch, -1, shape.dim});
    WINNOW_CHECK(input.encoder_states.size(1) >= 1, "{}: encoder_states must hold at least one position, got none",
                 shape.what);
    if (keep.defined()) {
      check_shape(in(shape, "encoder_keep"), keep, {batch, input.encoder_states.size(1)});
      if (keep.is_cpu() && (keep != 0).all().item<bool>()) keep = at::Tensor();
    }
    cross.context = input.encoder_states;
  }
  if (keep.defined()) cross.mask = padding_mask(keep);
  if (state == nullptr) return;
  cross.cache = &state->cross;
  state->encoder_keep = keep;
}

}  // namespace

DecoderCall prepare_decoder(const LmInput& input, const DecoderShape& shape) {
  auto* state = dynamic_cast<EncoderDecoderState*>(input.state);
  WINNOW_CHECK(input.state == nullptr || (state != nullptr && state->self.layers() == shape.layers),
               "{}: state must be one that make_state of this model made", shape.what);
  DecoderCall call;
  call.ids = input.ids;
  if (!call.ids.defined() && input.labels.defined()) {
    check_dim(in(shape, "labels"), input.labels, 2);
    call.ids = ids_from_labels(input.labels, shape);
  }
  check_dtype(in(shape, "ids"), call.ids, at::kLong);
  check_dim(in(shape, "ids"), call.ids, 2);
  const auto B = call.ids.size(0), L = call.ids.size(1);
  WINNOW_CHECK(B >= 1 && L >= 1, "{}: ids must hold at least one token of one row, got shape {}", shape.what,
               call.ids.sizes());
  check_indices(in(shape, "ids (the vocabulary)"), call.ids, shape.vocab_size);
  if (state != nullptr) call.past = state->length();
  const auto T = call.past + L;
  WINNOW_CHECK(shape.longest == 0 || input.positions.defined() || T <= shape.longest,
               "{}: the context length must be at most {} tokens, got {} ({} in the state and {} new)", shape.what,
               shape.longest, T, call.past, L);
  if (input.labels.defined()) check_labels(input, call.ids, shape);
  call.mask = input.mask;
  if (L > 1) call.mask.causal = true;  // one new token sees all
  if (input.keep.defined()) {
    check_shape(in(shape, "keep"), input.keep, {B, T});
    if (!input.keep.is_cpu() || !(input.keep != 0).all().item<bool>()) {
      call.mask = call.mask & padding_mask(input.keep);
    }
  }
  attend_to_encoder(input, shape, state, B, call.args.cross);
  if (state != nullptr) call.args.self.cache = &state->self;
  return call;
}

at::Tensor run_blocks(Stack<TransformerBlock>& blocks, at::Tensor x, const BlockArgs& args,
                      std::vector<at::Tensor>* hidden) {
  for (int64_t i = 0; i < blocks->size(); ++i) {
    if (hidden != nullptr) hidden->push_back(x);
    x = blocks[i]->forward(x, args.for_layer(i));
  }
  return x;
}

at::Tensor unshifted_loss(const at::Tensor& logits, const at::Tensor& labels) {
  const auto wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::cross_entropy_loss(wide.flatten(0, 1), labels.flatten(), {}, at::Reduction::Mean, /*ignore_index=*/-100);
}

int64_t size_or(const io::JsonObject& json, const std::string& key, int64_t fallback, int64_t most) {
  const auto value = json.get_or<int64_t>(key, fallback);
  WINNOW_CHECK_KIND(value >= 1 && value <= most, ErrorKind::file, "{}: {} must be in [1, {}], got {}", json.file(),
                    json.where(key), most, value);
  return value;
}

double rate_or(const io::JsonObject& json, const std::string& key, double fallback) {
  const auto value = json.get_or<double>(key, fallback);
  WINNOW_CHECK_KIND(value >= 0 && value < 1, ErrorKind::file, "{}: {} must be in [0, 1), got {}", json.file(),
                    json.where(key), value);
  return value;
}

void add_cross(WeightMap& map, const MultiHeadAttention& attention, const std::string& q, const std::string& k,
               const std::string& v) {
  const auto width = attention->kv->out_features / 2;
  const auto add = [&](const at::Tensor& both, const std::string& suffix) {
    map.add_forms({{{.name = k + suffix, .parts = {rows(both, 0, width)}},
                    {.name = v + suffix, .parts = {rows(both, width, width)}}}});
  };
  map.add(attention->q->weight, {q + ".weight"});
  add(attention->kv->weight, ".weight");
  if (attention->q_bias.defined()) {
    map.add(attention->q_bias, {q + ".bias"});
    map.add(attention->v_bias, {v + ".bias"});
  } else if (attention->q->bias.defined()) {
    map.add(attention->q->bias, {q + ".bias"});
    add(attention->kv->bias, ".bias");
  }
}

}  // namespace winnow::models
