#!/usr/bin/env python3
"""Turns the plain comments of our headers into Doxygen's: `//` above a declaration to `///`, behind one to `///<`."""
import re
import sys


def escaped(text):
    for character, written in (("\\", "\\\\"), ("<", "&lt;"), ("@", "\\@"), ("#", "\\#")):
        text = text.replace(character, written)
    return text


for line in open(sys.argv[1], encoding="utf-8"):
    whole = re.match(r"^(\s*)//(?!/)(.*)$", line)
    if whole:
        print(f"{whole.group(1)}///{escaped(whole.group(2))}")
        continue
    behind = re.match(r'^([^"]*?[;,{}]\s*)//\s(.*)$', line)
    if behind and behind.group(1).strip():
        print(f"{behind.group(1)}///< {escaped(behind.group(2))}")
        continue
    print(line, end="")
