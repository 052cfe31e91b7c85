"""The peer of lm_decode_bench and lm_prefill_bench: transformers on the same weights.

Usage: lm_decode.py FOLDER NEW_TOKENS ID,ID,... Speaks the protocol of benchmarks/peer.h; "use ATTENTION WORK" chooses
eager or sdpa and what "run" does: generate (NEW_TOKENS greedy tokens behind the prompt) or prefill (256 tokens into an
empty cache). "logits" answers the first 8 logits behind the prompt.
"""
import sys

import torch
from transformers import AutoModelForCausalLM

from peer_protocol import serve


def main():
    folder, new_tokens = sys.argv[1], int(sys.argv[2])
    prompt = torch.tensor([[int(i) for i in sys.argv[3].split(",")]])
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model.eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    long_prompt = torch.arange(256).remainder(model.config.vocab_size)[None]

    def generate():
        model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new_tokens,
                       min_new_tokens=new_tokens)

    def prefill():
        model(long_prompt, use_cache=True, logits_to_keep=1)

    work = generate

    def use(attention, what):
        nonlocal work
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        work = prefill if what == "prefill" else generate

    def logits():
        return " ".join(map(str, model(prompt).logits[0, -1, :8].tolist()))

    with torch.inference_mode():
        serve(lambda: work(), {"use": use, "logits": logits})


if __name__ == "__main__":
    main()
