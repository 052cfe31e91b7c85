// Everything that a run reports: metrics.jsonl, TensorBoard events, the progress bar and log lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "winnow/train/trainer.h"

namespace winnow {
class Progress;
}
namespace winnow::io {
class JsonLinesWriter;
class TensorBoardWriter;
}  // namespace winnow::io

namespace winnow::train {

class RunOutput {
 public:
  // Only process 0 reports. Lines and events of steps after `first_step`, left by a run that went further before it was
  // killed, are taken away.
  RunOutput(const TrainerOptions& options, bool is_main, int64_t first_step, int64_t total_steps);
  ~RunOutput();

  // "loss", "lr" and further scalars of a step.
  void step_metrics(int64_t step, double epoch, const Metrics& metrics);
  // Keys get the prefix "eval/".
  void evaluation(int64_t step, const Metrics& metrics);
  void progress(int64_t step);
  void finish();

 private:
  std::unique_ptr<io::JsonLinesWriter> lines_;
  std::unique_ptr<io::TensorBoardWriter> events_;
  std::unique_ptr<Progress> bar_;
  std::string note_;
};

}  // namespace winnow::train
