#include "run_output.h"

#include <fmt/format.h>

#include "winnow/core/log.h"
#include "winnow/core/progress.h"
#include "winnow/io/json_lines.h"
#include "winnow/io/tensorboard.h"

namespace winnow::train {

RunOutput::RunOutput(const TrainerOptions& options, bool is_main, int64_t first_step, int64_t total_steps) {
  if (!is_main) return;
  if (!options.out.empty()) {
    const auto out = std::filesystem::path(options.out);
    const auto path = out / "metrics.jsonl";
    io::truncate_json_lines(path, "step", first_step);
    lines_ = std::make_unique<io::JsonLinesWriter>(path);
    if (options.tensorboard) {
      events_ = std::make_unique<io::TensorBoardWriter>(
          out / "tensorboard", io::TensorBoardOptions{.suffix = "", .purge_step = first_step + 1});
    }
  }
  if (options.progress) {
    bar_ = std::make_unique<Progress>("train", total_steps);
    bar_->start_from(first_step);
  }
}

RunOutput::~RunOutput() = default;

void RunOutput::step_metrics(int64_t step, double epoch, const Metrics& metrics) {
  const auto loss = metrics.find("loss");
  if (loss != metrics.end()) note_ = fmt::format("loss {:.4g}", loss->second);
  if (lines_) {
    nlohmann::json line = {{"step", step}, {"epoch", epoch}};
    for (const auto& [name, value] : metrics) line[name] = value;
    lines_->write(line);
  }
  if (events_) {
    for (const auto& [name, value] : metrics) events_->scalar("train/" + name, value, step);
    events_->flush();
  }
}

void RunOutput::evaluation(int64_t step, const Metrics& metrics) {
  std::string text;
  for (const auto& [name, value] : metrics) text += fmt::format("  {} {:.5g}", name, value);
  if (bar_) log_info("step {}:{}", step, text);
  if (lines_) {
    nlohmann::json line = {{"step", step}};
    for (const auto& [name, value] : metrics) line["eval/" + name] = value;
    lines_->write(line);
  }
  if (events_) {
    for (const auto& [name, value] : metrics) events_->scalar("eval/" + name, value, step);
    events_->flush();
  }
}

void RunOutput::progress(int64_t step) {
  if (bar_) bar_->update(step, note_);
}

void RunOutput::finish() {
  if (bar_) bar_->finish();
  if (events_) events_->flush();
}

}  // namespace winnow::train
