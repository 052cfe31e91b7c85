#!/usr/bin/env python3
"""Repeats runs of winnow's generate() with the transformers package and compares tokens and beam scores.

    WINNOW_PEER_GENERATION=/tmp/runs.jsonl build/release/tests/models/winnow_models_test --gtest_filter='GenerationPeer*'
    $(benchmarks/peers/environment.sh transformers) benchmarks/peers/check_generation.py /tmp/runs.jsonl

Each line holds a model's folder, a prompt, the settings as in generation_config.json, and what winnow generated. A
difference is forgiven only where the decision was a toss-up: the best two scores closer than 1e-4.
"""
import json
import sys
from collections import Counter

import torch
import transformers

MODELS = {}


def model_of(folder):
    if folder not in MODELS:
        name = json.load(open(f"{folder}/config.json"))["architectures"][0]
        model = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        model.set_experts_implementation("eager")  # the grouped product wants sizes that these models lack
        # Settings come from the lines alone.
        model.generation_config = transformers.GenerationConfig(bos_token_id=None, pad_token_id=0)
        MODELS[folder] = model.eval()
    return MODELS[folder]


def run(line):
    settings = dict(line["config"])
    beams = settings.get("num_beams", 1)
    out = model_of(line["folder"]).generate(
        torch.tensor([line["prompt"]]), do_sample=False, pad_token_id=0, output_scores=True,
        return_dict_in_generate=True, **settings
    )
    ends = settings.get("eos_token_id", [])
    ends = [ends] if isinstance(ends, int) else ends
    rows = []
    for sequence in out.sequences[:, len(line["prompt"]):].tolist():
        cut = next((i + 1 for i, token in enumerate(sequence) if token in ends), len(sequence))
        rows.append(sequence[:cut])
    return rows, out.sequences_scores.tolist() if beams > 1 else None, out


def toss_up(out, got, wanted):
    """Whether greedy decoding first differs where the two largest scores nearly tie."""
    step = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), None)
    if step is None:
        return False
    best = out.scores[step][0].topk(2).values
    return float(best[0] - best[1]) < 1e-4


def main(path):
    counts, worst = Counter(), 0.0
    for text in open(path):
        line = json.loads(text)
        rows, scores, out = run(line)
        where = f"{line['folder']} {line['config']}"
        if scores is None:
            if rows != line["tokens"]:
                if not toss_up(out, line["tokens"][0], rows[0]):
                    raise SystemExit(f"{where}\n  winnow       {line['tokens']}\n  transformers {rows}")
                counts["toss-up"] += 1
        else:
            error = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(line["scores"], scores))
            worst = max(worst, error)
            if error > 1e-4 or (rows != line["tokens"] and error > 1e-6):
                raise SystemExit(
                    f"{where}\n  winnow       {line['tokens']} {line['scores']}\n  transformers {rows} {scores}"
                )
        counts["beam" if scores else "greedy"] += 1
    print(f"{dict(counts)} runs equal with transformers {transformers.__version__}; beam scores differ by {worst:.1e}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
