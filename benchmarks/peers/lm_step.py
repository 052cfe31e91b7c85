"""The peer of lm_step_bench: a training step of transformers' GPT2LMHeadModel on the same weights and tokens.

Usage: lm_step.py FOLDER ATTENTION, with config.json, model.safetensors and inputs.safetensors (ids) in the folder;
ATTENTION is eager or sdpa. Speaks the protocol of benchmarks/peer.h; "loss" answers the loss of the first step before any
update.
"""
import sys

import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from peer_protocol import serve


def main():
    folder, attention = sys.argv[1], sys.argv[2]
    torch.set_num_threads(1)
    ids = load_file(folder + "/inputs.safetensors")["ids"]
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    model.train()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    first_loss = model(ids, labels=ids).loss.item()

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()

    serve(step, {"loss": lambda: repr(first_loss)})


if __name__ == "__main__":
    main()
