// Trains a small language model on real English text and saves a folder that generate, evaluate_lm and transformers
// read: config.json, model.safetensors, tokenizer.json.
//   ./dev data austen && build/release/bin/train_lm --config configs/models/gpt_char.yaml
// See the configurations for times and final figures. Ctrl-C saves; --set train.resume=auto goes on. Several processes
// (torchrun, or any launcher that sets RANK and WORLD_SIZE) share each step.

#include <ATen/ATen.h>
#include <fmt/core.h>

#include "language.h"
#include "winnow/core/file.h"
#include "winnow/core/program.h"
#include "winnow/models/pretrained.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/trainer.h"

namespace {

using namespace winnow;  // NOLINT: a program

struct EvaluationOptions {
  train::PerplexityOptions perplexity = {.window = 512, .stride = 256};
  int64_t tokens = 20000;  // of the held-out part; 0: all
  static Fields<EvaluationOptions> fields() {
    return Fields<EvaluationOptions>("Evaluation")
        .nest("perplexity", &EvaluationOptions::perplexity)
        .add("tokens", &EvaluationOptions::tokens, "held-out tokens that are judged; 0: all", at_least(0));
  }
};

int train_lm(Config& config) {
  const auto sizes = config.read<examples::LanguageModelOptions>("model");
  const auto words = config.read<examples::TokenizerOptions>("tokenizer");
  const auto from = config.read<examples::LanguageDataOptions>("data");
  const auto adamw = config.read<examples::LanguageOptimizerOptions>("optimizer");
  const auto judge = config.read<EvaluationOptions>("evaluation");
  auto training = config.read<train::TrainerOptions>("train");
  config.finish();
  training.final_weights = false;  // saved below, under the published names

  const auto text = read_file(from.file);
  const auto trained = examples::open_tokenizer(words, text);
  const auto& tokenizer = *trained.tokenizer;
  const auto all = data::encode_documents(data::cut_documents(text, from.cut), tokenizer, tokenizer.special_ids().eos);
  const auto [learned, held_out] = data::hold_out(all, from.held_out);
  const at::Device device(from.device);
  auto model = examples::make_language_model(sizes, tokenizer.vocab_size());
  model->to(device);
  const auto group = train::ProcessGroup::from_environment();
  data::TextLoader loader(learned, {.batch_size = from.batch_size,
                                    .context = from.context == 0 ? sizes.context : from.context,
                                    .separate = from.separate,
                                    .seed = from.seed,
                                    .rank = group->rank(),
                                    .world_size = group->size()});
  train::FusedAdamW optimizer(train::weight_decay_groups(*model, adamw.weight_decay), {.beta2 = adamw.beta2});
  train::Trainer trainer(*model, optimizer, training);
  trainer.set_process_group(group);

  const auto judged = examples::judged_text(held_out, tokenizer, judge.tokens, device);
  const auto held_out_loss = [&] { return train::strided_loss(*model, judged.ids, judge.perplexity); };
  trainer.callbacks.evaluate = [&] {
    const auto loss = held_out_loss();
    return train::Metrics{{"held_out_loss", loss.mean()}, {"bits_per_byte", loss.bits_per_byte(judged.bytes)}};
  };
  fmt::print("{} tokens in {} documents, vocabulary {}, {} steps an epoch\n", learned.tokens(), learned.documents(),
             tokenizer.vocab_size(), loader.batches_per_epoch());
  const auto result = trainer.fit(loader, [&](const data::TextBatch& batch, train::StepContext&) {
    return train::StepResult{.loss = examples::batch_loss(model, batch, adamw.loss(), device), .metrics = {}};
  });
  if (result.signal != 0 || !group->is_main()) return result.exit_code();

  model->eval();
  const auto loss = held_out_loss();
  fmt::print("after {} steps: held-out loss {:.4f}, perplexity {:.3f}, {:.4f} bits a byte ({} tokens)\n", result.step,
             loss.mean(), loss.perplexity(), loss.bits_per_byte(judged.bytes), loss.tokens);
  if (training.out.empty()) return 0;
  model->to(at::kCPU);
  models::save(*model, training.out);
  examples::save_tokenizer(trained, words, sizes.context, training.out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const ProgramInfo info{.name = "train_lm",
                         .summary = "Trains a decoder-only language model on a text file.",
                         .options_table = help<examples::LanguageModelOptions>("model") +
                                          help<examples::TokenizerOptions>("tokenizer") +
                                          help<examples::LanguageDataOptions>("data") +
                                          help<examples::LanguageOptimizerOptions>("optimizer") +
                                          help<EvaluationOptions>("evaluation") + help<train::TrainerOptions>("train"),
                         .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, train_lm);
}
