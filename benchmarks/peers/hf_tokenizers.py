"""The peer of tokenizer_bench: the tokenizers library of Hugging Face encodes the same texts with the same tokenizer.json.

Usage: hf_tokenizers.py TOKENIZER_JSON TEXTS THREADS     TEXTS: a JSON list of texts

Speaks the protocol of benchmarks/peer.h: one call is one pass over all texts by encode_batch_fast, which keeps no offsets;
"save FILE" writes the ids of all texts, one after the other, as int64. The number of threads is fixed at the start.
"""
import array
import json
import os
import sys

from peer_protocol import serve


def main(file, texts, threads):
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(texts) as f:
        texts = json.load(f)

    def encode():
        return tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    def save(path):
        ids = array.array("q")
        for encoding in encode():
            ids.extend(encoding.ids)
        with open(path, "wb") as f:
            ids.tofile(f)

    encode()
    serve(encode, {"save": save}, set_threads=lambda count: None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
