// Text generation over any LanguageModel: prefill, cached decoding of ragged batches, greedy choice, sampling, beam
// search, guidance by a negative prompt, stop conditions and streaming.
//
// Rows of a batch do not touch each other: each gives what it gives alone (up to the rounding of the model's own matrix
// products), and draws the same random numbers. Works without gradients; the model should be in evaluation mode.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "winnow/attention/language_model.h"
#include "winnow/io/tokenizer.h"
#include "winnow/nn/sampling.h"

namespace winnow::models {

// When a beam search ends, as transformers defines early_stopping.
enum class EarlyStopping {
  heuristic,  // false: when the best running beam, taken at its present length, cannot beat the worst finished one
  first,      // true: when as many sequences are finished as there are beams
  never,      // "never": as heuristic, but a running beam is taken at its best possible length
};

// The defaults are plain greedy decoding to the end of the context. Lengths are in tokens; those of a row count its own
// tokens, not the padding of its batch.
struct GenerationOptions {
  // Length. max_new_tokens goes before max_length (prompt included) where both are given; so do the minima.
  std::optional<int64_t> max_new_tokens{}, max_length{};
  std::optional<int64_t> min_new_tokens{}, min_length{};  // the end tokens are forbidden before
  std::vector<int64_t> eos{};                             // each ends a sequence, and is its last token
  std::vector<std::string> stop_strings{};                // need `tokenizer`; the text ends before, the tokens behind

  // Choice of the next token.
  bool sample = false;  // false: the largest logit after the penalties (lowest id on a tie); `warp` is not used
  WarpOptions warp{};   // of sampling
  uint64_t seed = 0;    // row r draws from the stream derive_seed(seed, r)
  std::vector<uint64_t> row_streams{};  // one a row (times `sequences`), in place of those
  int64_t sequences = 1;                // per prompt: as many samples, or the best so many of a beam search

  // Changes to the logits, in this order, before warping. Histories hold prompt and new tokens unless said otherwise.
  double guidance_scale = 1;  // != 1: classifier-free guidance against the negative prompts
  std::vector<logit_row::SequenceBias> sequence_bias{};
  double encoder_repetition_penalty = 1;  // > 1 favours what the encoder's tokens hold (encoder-decoder models)
  double repetition_penalty = 1;
  double presence_penalty = 0, frequency_penalty = 0;  // of new tokens only
  int64_t no_repeat_ngram = 0, encoder_no_repeat_ngram = 0;
  std::vector<std::vector<int64_t>> bad_words{};  // token sequences never completed; an eos alone is passed over
  std::optional<int64_t> forced_bos{};            // the token behind a prompt of one token
  std::vector<int64_t> forced_eos{};              // the last token that fits is one of these
  bool remove_invalid = false;                    // NaN becomes 0, infinities the largest finite numbers
  // Start and factor: from `start` new tokens on the logit of eos grows by |logit| (factor^n - 1).
  std::optional<std::pair<int64_t, double>> exponential_decay_length{};
  std::vector<int64_t> suppressed{};        // never
  std::vector<int64_t> begin_suppressed{};  // never as the first new token
  // (position, token): the token at that position of the decoder's sequence, prompt included, is fixed. Whisper.
  std::vector<std::pair<int64_t, int64_t>> forced_tokens{};
  bool renormalize = false;  // log-softmax last (matters to the scores of a beam search)

  // Beam search.
  int64_t beams = 1;
  double length_penalty = 1;  // scores are sum of log-probabilities / length^penalty
  EarlyStopping early_stopping = EarlyStopping::heuristic;

  // How it runs.
  int64_t prefill_chunk = 0;               // > 0: prompts go through the model in pieces of so many tokens
  std::optional<double> max_seconds{};     // no step begins after this time
  std::optional<int64_t> decoder_start{};  // the prompt of an encoder-decoder model's decoder where none is given
  std::shared_ptr<const io::Tokenizer> tokenizer{};  // for text and stop strings
  bool skip_special = true;                          // special tokens give no text

  // Throws Error (argument) that names the first field which is out of range or does not fit another.
  void check() const;
};

// What a model has read of a conversation so far. Given again with the next prompt, only what differs is read. Belongs
// to one model.
struct PromptCache {
  std::unique_ptr<DecoderState> state{};
  std::vector<int64_t> tokens{};  // in the state
};

struct GenerationInput {
  std::vector<std::vector<int64_t>> prompts;  // [B], ragged; of the decoder in an encoder-decoder model
  // Guidance: one a row, or none: then the last token of each prompt, as transformers does it.
  std::vector<std::vector<int64_t>> negative_prompts{};
  at::Tensor encoder_states{};  // [B, S, D]: encoder-decoder models only
  at::Tensor encoder_keep{};    // [B, S], 1 = real; undefined: all
  // The encoder's tokens, where it has some, for the encoder_... penalties.
  std::vector<std::vector<int64_t>> encoder_ids{};
  PromptCache* cache = nullptr;  // of one prompt and one sequence, without beams, guidance and encoder; kept up to date
};

// Rows of a padded batch: ids int64 [B, L], keep [B, L] (nonzero = a real token; undefined: all). The real tokens of a
// row must stand together, left or right padded.
GenerationInput generation_input(const at::Tensor& ids, const at::Tensor& keep = {});

enum class Finish {
  length,   // max_new_tokens, max_length or the model's context
  eos,      // an end token, which is the last of the tokens
  stop,     // a stop string
  callback  // the callback or max_seconds ended it
};
const char* to_string(Finish finish);

struct GeneratedSequence {
  std::vector<int64_t> tokens{};    // new tokens only
  std::vector<double> log_probs{};  // of each token under the model's own logits, before penalties and warping
  std::string text{};               // with a tokenizer: of the new tokens, cut before a stop string
  Finish finish = Finish::length;
  double score = 0;  // beam search: what the n best are ordered by; else the sum of log_probs
};

struct GenerationOutput {
  std::vector<std::vector<GeneratedSequence>> rows{};  // [B][sequences]; of a beam search best first
  int64_t prompt_tokens = 0, new_tokens = 0;           // of all rows (beam search: of the sequences returned)
  int64_t reused_tokens = 0;                           // of the prompt, found in the cache
  int64_t steps = 0;                                   // runs of the model after the prefill
  double prefill_seconds = 0, decode_seconds = 0;
  // New tokens but the first of each sequence, which the prefill gives, per second of decoding; 0 if there are none.
  [[nodiscard]] double tokens_per_second() const;
};

// One new token, as soon as it is certain. Beam search calls back only at the end, with the best sequence of each row.
struct TokenEvent {
  int64_t row = 0;       // of the prompts
  int64_t sequence = 0;  // of the row
  int64_t token = 0;
  double log_prob = 0;
  std::string text{};              // what may be shown now: never half a character, never a part of a stop string
  std::optional<Finish> finish{};  // set in the last event of a sequence
};
// Returns false to end the generation of this sequence.
using TokenCallback = std::function<bool(const TokenEvent&)>;

// Throws Error (argument): no prompts, an empty prompt (and no decoder_start), a token id outside the vocabulary, a
// tokenizer that knows more tokens than the model has outputs for, prompt + max_new_tokens past the context; else as
// the model does. With max_new_tokens and max_length unset a sequence ends where the context does; a model without a
// limit needs one of the two. Weights may lie on any device; choices are made on the CPU.
GenerationOutput generate(LanguageModel& model, const GenerationInput& input, const GenerationOptions& options = {},
                          const TokenCallback& callback = {});

// Text in, text out: encodes with options.tokenizer (special tokens added as its template says), generates one
// sequence.
GeneratedSequence generate_text(LanguageModel& model, const std::string& prompt, const GenerationOptions& options,
                                const TokenCallback& callback = {});

// Throws Error (argument) unless every token that the tokenizer may produce has an embedding in the model. A vocabulary
// that is padded (more outputs than tokens) is right.
void check_vocabulary(const LanguageModel& model, const io::Tokenizer& tokenizer);

}  // namespace winnow::models
