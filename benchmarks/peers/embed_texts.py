#!/usr/bin/env python3
"""Sentence vectors of transformers: the values that ours are compared with, and the peer of sentence_encoder_bench.

    embed_texts.py write FOLDER TEXTS.json OUT.safetensors    mean pooling over the tokens, normalised, as float32
    embed_texts.py serve FOLDER TEXTS.json BATCH              the protocol of benchmarks/peer.h; "run N" embeds all texts N
                                                              times; "vectors FILE" writes the vectors of the last run

FOLDER is one of sentence-transformers with mean pooling; texts are cut at its max_seq_length, sorted by length (as
sentence-transformers does) and run in padded batches.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from peer_protocol import serve


class Encoder:
    def __init__(self, folder, attention="sdpa"):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()
        self.longest = json.loads((Path(folder) / "sentence_bert_config.json").read_text())["max_seq_length"]

    @torch.inference_mode()
    def encode(self, texts, batch):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        vectors = torch.empty(len(texts), self.model.config.hidden_size)
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            inputs = self.tokenizer(
                [texts[i] for i in chosen],
                padding=True,
                truncation="longest_first",
                max_length=self.longest,
                return_tensors="pt",
            )
            states = self.model(**inputs).last_hidden_state
            keep = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * keep).sum(1) / keep.sum(1).clamp(min=1e-9)
            vectors[chosen] = torch.nn.functional.normalize(mean, dim=1)
        return vectors


def answer(encoder, texts, batch):
    vectors = encoder.encode(texts, batch)

    def work():
        nonlocal vectors
        vectors = encoder.encode(texts, batch)

    serve(work, {"vectors": lambda path: save_file({"embeddings": vectors}, path)})


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    what, folder, texts = sys.argv[1], sys.argv[2], json.loads(Path(sys.argv[3]).read_text())
    torch.set_num_threads(1)
    if what == "write":
        vectors = Encoder(folder, attention="eager").encode(texts, 1)
        save_file({"embeddings": vectors.contiguous()}, sys.argv[4])
    else:
        answer(Encoder(folder), texts, int(sys.argv[4]))


if __name__ == "__main__":
    main()
