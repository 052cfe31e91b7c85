#!/usr/bin/env python3
"""Trains the same byte-level BPE with Hugging Face's tokenizers and with train_tokenizer: merges, vocabulary, seconds.

    python=$(benchmarks/peers/environment.sh transformers==5.23.0)
    $python benchmarks/peers/check_bpe_trainer.py data/austen/austen.txt --vocab-size 8192

Both on one thread. Exit 1 where the two differ."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def train_peer(file, vocab_size, min_frequency):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    start = time.perf_counter()
    tokenizer.train([file], trainer)
    return tokenizer, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--min-frequency", type=int, default=2)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/train_tokenizer"))
    args = parser.parse_args()
    peer, seconds = train_peer(args.file, args.vocab_size, args.min_frequency)
    with tempfile.TemporaryDirectory() as folder:
        command = [args.program, "--file", args.file, "--out", folder, "--vocab-size", str(args.vocab_size)]
        run = subprocess.run(
            command + ["--min-frequency", str(args.min_frequency)], capture_output=True, text=True, check=True
        )
        ours = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text())
        loaded = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    wanted = json.loads(peer.to_str())["model"]
    same = wanted["merges"] == ours["model"]["merges"] and wanted["vocab"] == ours["model"]["vocab"]
    text = pathlib.Path(args.file).read_text()[:100_000]
    same_ids = loaded.encode(text).ids == peer.encode(text).ids
    print(f"tokenizers: {seconds:.2f} s; winnow: {run.stdout.splitlines()[0]}")
    print(f"{len(wanted['merges'])} merges; equal merges and vocabulary: {same}; equal ids: {same_ids}")
    sys.exit(0 if same and same_ids else 1)


main()
