"""The peer of mae_step_bench: a training step of transformers' ViTMAEForPreTraining on the same weights, images and noise.

Usage: mae_step.py FOLDER, with config.json, model.safetensors and inputs.safetensors (images, noise). Speaks the protocol
of benchmarks/peer.h; "loss" answers the loss of the first step before any update.
"""
import sys

import torch
from safetensors.torch import load_file
from transformers import ViTMAEForPreTraining

from peer_protocol import serve


def main():
    folder = sys.argv[1]
    torch.set_num_threads(1)
    inputs = load_file(folder + "/inputs.safetensors")
    images, noise = inputs["images"], inputs["noise"]
    model = ViTMAEForPreTraining.from_pretrained(folder, dtype=torch.float32)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    first_loss = model(images, noise=noise).loss.item()

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model(images, noise=noise).loss
        loss.backward()
        optimizer.step()

    serve(step, {"loss": lambda: repr(first_loss)})


if __name__ == "__main__":
    main()
