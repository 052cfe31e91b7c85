#!/usr/bin/env python3
"""Checks of the tree that no compiler makes: layers, folders, file sizes, names, leftovers.

Prints one line for each finding and exits 1 if there is any.
"""
import os
import re
import subprocess
import sys

ORDER = ["core", "kernels", "tensor", "nn", "attention", "io", "data", "ssl", "diffusion", "train", "methods", "models", "programs"]
METHODS = {"mae", "sae", "moe", "prune", "quant", "spec"}
FINDINGS = []
SOURCE = (".h", ".cpp", ".cu", ".cuh")


def found(path, line, text):
    FINDINGS.append(f"{path}:{line}: {text}" if line else f"{path}: {text}")


def tracked():
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True).stdout
    return sorted(p for p in out.decode().split("\0") if p and os.path.isfile(p))


def layer_of(path):
    """The layer that a file belongs to, or None: tests may include anything."""
    parts = path.split("/")
    if parts[0] in ("tests", "docs", "scripts", "cmake"):
        return None
    if parts[0] in ("examples", "benchmarks"):
        return "programs"
    if parts[0] in ("models", "kernels"):
        return parts[0]
    if parts[:2] == ["include", "winnow"] and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return None


def rank(layer):
    return ORDER.index("methods" if layer in METHODS else layer)


def check_layers(path, lines):
    layer = layer_of(path)
    if layer is None:
        return
    if layer not in METHODS and layer not in ORDER:
        found(path, 0, f"'{layer}' is no layer of the design")
        return
    for number, line in enumerate(lines, 1):
        include = re.match(r'\s*#\s*include\s*["<](winnow/([a-z_]+)/[^">]+)[">]', line)
        if include:
            target = include.group(2)
            if target not in METHODS and target not in ORDER:
                found(path, number, f"includes {include.group(1)}, which is in no layer")
            elif rank(target) > rank(layer) or (target in METHODS and layer in METHODS and target != layer):
                found(path, number, f"upward include: {layer} must not include {include.group(1)}")
        if layer in ("core", "kernels") and re.match(r'\s*#\s*include\s*[<"](torch|ATen|c10)/', line):
            found(path, number, f"{layer} must not include LibTorch")


def check_text(path, lines):
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|not yet implemented|\bDISABLED_")
    for number, line in enumerate(lines, 1):
        if path != "scripts/lint.py" and words.search(line):
            found(path, number, "a mark of unfinished work")
        if line != line.rstrip() and not path.endswith((".md", ".txt")):
            found(path, number, "space at the end of the line")
        if path.endswith(SOURCE) and re.search(r"\b(std::)?abort\s*\(", line) and not path.startswith("tests/"):
            found(path, number, "abort: throw winnow::Error instead")
        if path.startswith("include/") and re.match(r"\s*#\s*include\s*<torch/torch.h>", line):
            found(path, number, "a public header includes the narrowest header that serves, not torch/torch.h")


def check_size(path, lines):
    if path.endswith(SOURCE) and len(lines) > 400:
        found(path, 0, f"{len(lines)} lines: past 400 a file holds two ideas")


def check_header(path, lines):
    if path.endswith(".h") and not path.endswith("-inl.h") and not any(line.strip() == "#pragma once" for line in lines):
        found(path, 0, "no #pragma once")
    if path.startswith("include/") and not any(line.startswith("//") for line in lines):
        found(path, 0, "a public header without a comment")


def check_folders(files):
    """The folders are those of the design."""
    top = {"CMakeLists.txt", "CMakePresets.json", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "dev"}
    folders = {"include", "src", "kernels", "models", "configs", "tests", "benchmarks", "examples", "docs", "cmake", "scripts", ".ci"}
    for path in files:
        head = path.split("/")[0]
        if head not in folders and path not in top and not (head.startswith(".") and "/" not in path):
            found(path, 0, "is in no folder of the design")


def check_readme(files):
    """The map of folders and layers in the README must exist."""
    text = open("README.md", encoding="utf-8").read() if os.path.exists("README.md") else ""
    for folder in re.findall(r"^\| `(include/[a-z_/]+)/?` \|", text, re.M):
        if not any(p.startswith(folder.rstrip("/") + "/") for p in files):
            found("README.md", 0, f"names the folder {folder}, which does not exist")
    known = set(files)
    for page in [p for p in files if p.endswith(".md") and not p.startswith("tests/golden")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", open(page, encoding="utf-8").read()):
            if "://" in link:
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(page), link))
            if target not in known and not any(p.startswith(target + "/") for p in files):
                found(page, 0, f"links to {link}, which does not exist")


def main():
    files = tracked()
    for path in files:
        if path.startswith("tests/golden/") or "/corpus/" in path:
            continue
        if path.endswith(SOURCE) or path.endswith((".cmake", ".py", ".sh", ".md", ".yaml", "CMakeLists.txt")) or path == "dev":
            lines = open(path, encoding="utf-8").read().split("\n")[:-1]
            check_text(path, lines)
            if path.endswith(SOURCE):
                check_layers(path, lines)
                check_size(path, lines)
                check_header(path, lines)
    check_folders(files)
    check_readme(files)
    for line in FINDINGS:
        print(line)
    print(f"lint: {len(files)} files, {len(FINDINGS)} findings")
    return 1 if FINDINGS else 0


if __name__ == "__main__":
    sys.exit(main())
