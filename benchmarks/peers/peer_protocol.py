"""The other end of benchmarks/peer.h: answers lines on standard input until it closes."""
import sys
import time


def torch_threads(count):
    import torch

    torch.set_num_threads(count)


def serve(work, answers=None, set_threads=torch_threads):
    """Times calls of `work` for "run N" and sets the threads for "threads N".

    `answers` maps a further first word to a function of the other words of the line; what it returns is the answer, "ok"
    for None.
    """
    answers = answers or {}
    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "threads":
            set_threads(int(rest[0]))
            print("ok", flush=True)
        elif word == "run":
            start = time.perf_counter()
            for _ in range(int(rest[0])):
                work()
            print(repr(time.perf_counter() - start), flush=True)
        elif word in answers:
            answer = answers[word](*rest)
            print("ok" if answer is None else answer, flush=True)
        else:
            print("unknown", flush=True)
