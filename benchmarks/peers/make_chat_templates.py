#!/usr/bin/env python3
"""Writes tests/golden/chat_templates/cases.json: what jinja2, as transformers runs it, makes of the templates beside it.

    python=$(benchmarks/peers/environment.sh transformers==5.23.0 jinja2)
    $python benchmarks/peers/make_chat_templates.py

tests/golden/chat_templates/templates.json holds the templates by name, and expressions that try single parts of the
language. Each is rendered for every conversation below; where jinja2 refuses, the row says so instead of the text."""

import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/chat_templates"

CHAT = [
    {"role": "user", "content": " Hello\nthere "},
    {"role": "assistant", "content": "Hi \u00e9 \u6c34 <b>"},
    {"role": "user", "content": "What's 2+2?"},
]
SYSTEM = [{"role": "system", "content": "Be brief."}] + CHAT
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'Weather "now"',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "n": {"default": 3}}},
        },
    }
]
CALL = {"name": "get_weather", "arguments": {"city": "Paris", "n": 1.5, "ok": True, "z": None}}
TOOL_CHAT = [
    {"role": "user", "content": "w?"},
    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
    {"role": "tool", "name": "get_weather", "content": '{"t": 20}'},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nIt is 20."},
    {"role": "user", "content": "thanks"},
]
CHATS = [CHAT, SYSTEM, CHAT[:1], [], TOOL_CHAT, [{"role": "assistant", "content": "x"}]]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
VALUES = {"x": [3, 1, 2], "s": "h\u00e9llo w\u00f6rld ", "d": {"b": 1, "a": [1, 2.5, None, True, "q'\""]}, "n": None, "neg": -7}


def render(text, variables):
    try:
        return {"text": _compile_jinja_template(text).render(**variables)}
    except Exception as error:  # of the template or of the engine
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    templates = json.loads((FOLDER / "templates.json").read_text())
    rows = []
    for name, text in templates["templates"].items():
        for chat in CHATS:
            for more in ({"add_generation_prompt": True}, {"add_generation_prompt": False, "tools": TOOLS}):
                variables = {"messages": chat, **more}
                rows.append({"template": name, "variables": variables, **render(text, {**TOKENS, **variables})})
    for text in templates["expressions"]:
        variables = {"messages": SYSTEM, "tools": TOOLS, **VALUES}
        rows.append({"expression": text, "variables": variables, **render(text, {**TOKENS, **variables})})
    (FOLDER / "cases.json").write_text(json.dumps({"tokens": TOKENS, "cases": rows}, indent=1) + "\n")
    print(f"{len(rows)} rows, {sum('error' in row for row in rows)} of them errors")


main()
