#!/usr/bin/env python3
"""Reads folders that winnow saved with the transformers package and compares the outputs of both.

    WINNOW_PEER_FOLDERS=/tmp/folders build/release/tests/models/winnow_models_test --gtest_filter='*FoldersWith*'
    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install torch transformers safetensors
    /tmp/peer/bin/python benchmarks/peers/check_vit_roundtrip.py /tmp/folders/*

Each folder holds config.json and model.safetensors as models::save writes them, and check.safetensors with the tensors
`pixel_values`, `input_ids`, `noise` ..., the arguments of transformers' forward, and `output` (logits, or the last hidden
state where there is no head). Fails if a weight is missing or unexpected, or if an output differs by more than 1e-5 of its largest value.
"""
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file


def check(folder: Path) -> float:
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    if not hasattr(transformers, name):
        print(f"{folder}: {name}: no class of transformers, not compared")
        return 0.0
    model, report = getattr(transformers, name).from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        # A base model may be saved without its pooler, which the compared output does not pass.
        wrong = sorted(set(report[kind]) - {"pooler.dense.weight", "pooler.dense.bias"})
        if wrong:
            raise SystemExit(f"{folder}: {kind}: {wrong}")
    saved = load_file(folder / "check.safetensors")
    wanted = saved.pop("output")
    with torch.no_grad():
        out = model.eval()(**saved)
    got = next(out[key] for key in ("logits", "logits_per_image", "last_hidden_state") if key in out)
    error = float((got - wanted).abs().max() / wanted.abs().max())
    if not error <= 1e-5:
        raise SystemExit(f"{folder}: {name}: outputs differ by {error:.1e} of the largest value")
    print(f"{folder}: {name}: equal to {error:.1e} with transformers {transformers.__version__}")
    return error


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    for argument in sys.argv[1:]:
        check(Path(argument))
