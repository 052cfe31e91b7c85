#!/usr/bin/env python3
"""Compares SmolLM2-135M as winnow runs it from its GGUF file with transformers on the folder that winnow converts it to.

    ./dev data smollm2
    WINNOW_PEER_SMOLLM2=/tmp/smollm2 build/release/tests/models/winnow_models_test --gtest_filter='SmolLM2.LogitsOfTheProse'
    $(benchmarks/peers/environment.sh transformers) benchmarks/peers/check_smollm2.py /tmp/smollm2

Fails unless the folder loads without a missing or unexpected weight, the tokenizer gives the same ids, logits over a
page of prose agree to 1e-4, and forty greedy tokens are the same.
"""
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file


def main(folder: Path) -> None:
    saved = load_file(folder / "check.safetensors")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            raise SystemExit(f"{folder}: {kind}: {sorted(report[kind])}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = tokenizer.decode(saved["input_ids"][0])
    if tokenizer(text)["input_ids"] != saved["input_ids"][0].tolist():
        raise SystemExit(f"{folder}: the tokenizer gives other ids")
    with torch.no_grad():
        logits = model.eval()(saved["input_ids"]).logits
    error = float((logits - saved["logits"]).abs().max())
    if not error <= 1e-4:
        raise SystemExit(f"{folder}: logits differ by {error:.1e}")
    prompt = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    out = model.generate(prompt, max_new_tokens=40, do_sample=False, attention_mask=torch.ones_like(prompt))
    tokens = out[0, prompt.shape[1]:].tolist()
    if tokens != saved["tokens"].tolist():
        raise SystemExit(f"{folder}: greedy tokens differ:\n  {saved['tokens'].tolist()}\n  {tokens}")
    print(f"logits of {logits.shape[1]} tokens equal to {error:.1e} (largest {float(logits.abs().max()):.1f}), "
          f"{len(tokens)} greedy tokens equal, with transformers {transformers.__version__}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
