#!/usr/bin/env python3
"""Compares language models that winnow trained and saved with transformers, trains them on and saves them for winnow.

    python=$(benchmarks/peers/environment.sh transformers==5.23.0 safetensors==0.8.0)
    test=build/release/tests/models/winnow_models_test
    WINNOW_PEER_FOLDERS=/tmp/folders $test --gtest_filter='LmTraining.FoldersWith*'
    $python benchmarks/peers/check_lm_roundtrip.py /tmp/folders/lm_*
    WINNOW_PEER_FOLDERS=/tmp/folders $test --gtest_filter='LmTraining.FoldersWith*'   # reads what transformers saved

Each folder holds a model and check.safetensors (input_ids, output = logits). Written: back (the model after some steps of
training here) and back_check.safetensors. Fails if a weight is missing or unexpected or logits differ by more than 1e-5.
"""
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file


def check(folder: Path):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            raise SystemExit(f"{folder}: {kind}: {sorted(report[kind])}")
    saved = load_file(folder / "check.safetensors")
    ids = saved["input_ids"]
    with torch.no_grad():
        error = float((model.eval()(ids).logits - saved["output"]).abs().max())
    if not error <= 1e-5:
        raise SystemExit(f"{folder}: logits differ by {error:.1e}")
    print(f"{folder}: {type(model).__name__}: logits equal to {error:.1e}, transformers {transformers.__version__}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(5):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder / "back")
    with torch.no_grad():
        save_file({"input_ids": ids, "output": model(ids).logits.contiguous()}, folder / "back_check.safetensors")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    for argument in sys.argv[1:]:
        check(Path(argument))
