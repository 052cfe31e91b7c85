#!/usr/bin/env python3
"""Compares winnow's log-mel columns with those of transformers' WhisperFeatureExtractor.

    transcribe --model FOLDER --wav speech.wav --features features.safetensors
    $(benchmarks/peers/environment.sh torch transformers) benchmarks/peers/check_log_mel.py FOLDER features.safetensors

The file holds the samples at the extractor's rate and the columns made of them. Where FOLDER has no
preprocessor_config.json the default extractor is taken. Fails above 1e-4.
"""
import sys
from pathlib import Path

import numpy
import transformers
from safetensors.numpy import load_file
from transformers import WhisperFeatureExtractor


def main(folder: Path, file: Path) -> None:
    stored = load_file(file)
    known = (folder / "preprocessor_config.json").exists()
    extractor = WhisperFeatureExtractor.from_pretrained(folder) if known else WhisperFeatureExtractor()
    wanted = extractor(stored["samples"], sampling_rate=extractor.sampling_rate, return_tensors="np")["input_features"]
    if wanted.shape != stored["features"].shape:
        raise SystemExit(f"shapes differ: {wanted.shape} and {stored['features'].shape}")
    error = float(numpy.abs(wanted - stored["features"]).max())
    if not error <= 1e-4:
        raise SystemExit(f"columns differ by {error:.1e}")
    print(f"{stored['features'].shape}: equal to {error:.1e} with transformers {transformers.__version__}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
