"""The peer of loader_bench: torchvision decodes, crops, flips and normalises the same photographs with the same boxes.

Usage: torchvision_loader.py make PHOTOS OUT COUNT     writes COUNT photographs of 500x375, JPEG quality 90, once
       torchvision_loader.py FOLDER BOXES SIZE         BOXES: a line "file top left height width flip" for each photograph

Speaks the protocol of benchmarks/peer.h: one call is one pass over all photographs; "save FILE" writes the results of one
pass as float32 [N, 3, SIZE, SIZE].
"""
import os
import sys

import torch
from torchvision.io import decode_jpeg, encode_jpeg, read_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from peer_protocol import serve

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def make(photos, out, count):
    """Takes the files in sorted order; when they are used up, the left halves, then the right halves."""
    from PIL import Image

    files = []
    for folder, _, names in sorted(os.walk(photos)):
        kept = ("backgrounds" in folder and "abstract" not in folder and "desktop" not in folder) or "mvtbdata" in folder
        files += [os.path.join(folder, n) for n in sorted(names) if n.lower().endswith((".jpg", ".jpeg", ".png")) and kept]
    os.makedirs(out, exist_ok=True)
    for i in range(count):
        image = Image.open(files[i % len(files)]).convert("RGB")
        width, height = image.size
        part = i // len(files)
        if part:
            image = image.crop((0, 0, width // 2, height) if part == 1 else (width // 2, 0, width, height))
        image = image.resize((500, 375), Image.Resampling.LANCZOS)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(375, 500, 3).permute(2, 0, 1)
        encoded = encode_jpeg(pixels.contiguous(), quality=90)
        with open(os.path.join(out, "%03d.jpg" % i), "wb") as f:
            f.write(bytes(encoded.tolist()))


def read_boxes(path):
    boxes = []
    with open(path) as lines:
        for line in lines:
            name, *numbers = line.split()
            boxes.append((name, [int(n) for n in numbers]))
    return boxes


def load(folder, boxes, size):
    torch.set_num_threads(1)

    def one(name, box):
        top, left, height, width, flip = box
        image = decode_jpeg(read_file(os.path.join(folder, name)))
        image = F.resized_crop(image, top, left, height, width, [size, size], InterpolationMode.BICUBIC, antialias=True)
        if flip:
            image = F.horizontal_flip(image)
        return F.normalize(F.to_dtype(image, torch.float32, scale=True), MEAN, STD)

    def all_of_them():
        for name, box in boxes:
            one(name, box)

    def save(path):
        torch.stack([one(name, box) for name, box in boxes]).numpy().tofile(path)

    with torch.inference_mode():
        serve(all_of_them, {"save": save})


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        print("ready", flush=True)
    else:
        load(sys.argv[1], read_boxes(sys.argv[2]), int(sys.argv[3]))
