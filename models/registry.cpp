#include "registry.h"

namespace winnow::models {

const Makers& all_makers() {
  static const Makers table = [] {
    Makers all;
    for (const auto family : {
             bert_makers,
             causal_lm_makers,
             clip_makers,
             deit_makers,
             dinov2_makers,
             mamba_makers,
             t5_makers,
             videomae_makers,
             vit_mae_makers,
             vit_makers,
             whisper_makers,
         }) {
      all.merge(family());
    }
    return all;
  }();
  return table;
}

}  // namespace winnow::models
