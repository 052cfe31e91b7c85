#!/usr/bin/env python3
"""Compares adapters that winnow wrote with the peft package, and writes adapters that winnow must read.

    python=$(benchmarks/peers/environment.sh transformers==5.23.0 safetensors==0.8.0 peft)
    test=build/release/tests/models/winnow_models_test
    WINNOW_PEER_FOLDERS=/tmp/folders $test --gtest_filter='Peft.FoldersWith*'
    $python benchmarks/peers/check_peft.py /tmp/folders/peft_*
    WINNOW_PEER_FOLDERS=/tmp/folders $test --gtest_filter='Peft.FoldersWith*'     # reads what peft wrote

Each folder holds base (a model), adapter (adapters of winnow) and check.safetensors (input_ids, output). Written: theirs
(adapters of peft on the same targets) and theirs_check.safetensors. Fails if logits differ by more than 1e-5.
"""
import sys
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def base_model(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder / "base", attn_implementation="eager", dtype=torch.float32).eval()


def check(folder: Path):
    saved = load_file(folder / "check.safetensors")
    ids = saved["input_ids"]
    model = peft.PeftModel.from_pretrained(base_model(folder), folder / "adapter")
    with torch.no_grad():
        error = float((model(input_ids=ids).logits - saved["output"]).abs().max())
    plain = base_model(folder)
    with torch.no_grad():
        moved = float((plain(input_ids=ids).logits - saved["output"]).abs().max())
    if not error <= 1e-5 or moved < 1e-3:
        raise SystemExit(f"{folder}: logits differ by {error:.1e} (adapters move them by {moved:.1e})")
    print(f"{folder}: equal to {error:.1e}, adapters move logits by {moved:.1e}, peft {peft.__version__}")

    config = peft.PeftConfig.from_pretrained(folder / "adapter")
    own = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=config.target_modules,
                          fan_in_fan_out=config.fan_in_fan_out, init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(0)
    theirs = peft.get_peft_model(base_model(folder), own).eval()
    theirs.save_pretrained(folder / "theirs")
    with torch.no_grad():
        save_file({"output": theirs(input_ids=ids).logits.contiguous()}, folder / "theirs_check.safetensors")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    for argument in sys.argv[1:]:
        check(Path(argument))
