// The work of nn/sampling.h on one row: a list of candidates that one rule after another shortens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "winnow/nn/sampling.h"

namespace winnow::detail {

// Holds the scratch memory of a thread; load() forgets the row before.
class RowWarper {
 public:
  // Finds the tokens that the rules keep. `what` names the caller and the row in errors.
  void load(std::span<const float> row, const WarpOptions& options, const char* what, int64_t index);

  DrawnToken draw(double uniform) const;
  void write_logits(std::span<float> out) const;
  void write_probabilities(std::span<float> out) const;

 private:
  struct Candidate {
    float logit = 0;   // after temperature
    float weight = 0;  // exp(logit - largest)
    int64_t id = 0;    // of the token
    double key = 0;    // typical: distance of -log p from the entropy
  };
  bool find_candidates(std::span<const float> row, const WarpOptions& options);
  void collect(std::span<const float> row, float lowest);
  void collect_nucleus(std::span<const float> row, const WarpOptions& options);
  void keep_top_p(double p, size_t min_tokens);
  void keep_min_p(double p, size_t min_tokens);
  void keep_typical(double p, size_t min_tokens);
  void keep_probable(double least, size_t min_tokens);
  double entropy() const;
  void keep_first(size_t count);
  void weigh_all(std::span<const float> row);

  float temperature_ = 1;
  float largest_ = 0;                  // of the scaled logits
  double mass_ = 0;                    // sum of weights: of the kept tokens, or of those before top-p
  bool all_ = false;                   // no rule removes anything: weights_ holds the row, kept_ is empty
  std::vector<Candidate> kept_;        // by id when load() is done
  std::vector<float> weights_, heap_;  // [V]; scratch of the selection
  std::span<const float> row_;
};

// The largest entry; throws for NaN, +infinity or no finite entry.
float check_row(std::span<const float> row, const char* what, int64_t index);
// weights[i] = exp(row[i] / temperature - largest); returns their sum in float64.
double exp_row(std::span<const float> row, float temperature, float largest, std::vector<float>& weights);

}  // namespace winnow::detail
