"""What the endpoints of a real cluster answered: C{tests/data/endpoints.jsonl}.

A line is a request and its answer: where (C{at}), C{method}, C{path} (ids and paths in braces),
C{status}, C{type} (Content-Type), other headers that matter, C{text}, or the form of the C{json}:
names of types in place of values, lists with the forms that occur in them, C{*} for any key,
sorted names for metrics; C{same} refers to the line that has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parents[1] / "data" / "endpoints.jsonl"

#: What the recorded build says of itself and we do not.
_OF_THE_BUILD = {"git_sha", "git_branch"}
#: What we say besides.
_OURS = {"mesoskit_version", "processes"}
_HEADERS = ("Location", "Allow", "Content-Disposition", "Content-Encoding")

Row = dict[str, Any]


def rows(at: str) -> Iterator[Row]:
    """Give the lines of the master or of the agent."""
    found = [json.loads(line) for line in _DATA.read_text().splitlines()]
    by_name = {f"{row['at']} {row['path']}": row for row in reversed(found) if "json" in row}
    for row in found:
        if row["at"] == at:
            form = row.get("json")
            if isinstance(form, dict) and set(form) == {"same"}:
                row["json"] = by_name[form["same"]]["json"]
            yield row


def differences(value: Any, form: Any, where: str = "") -> list[str]:
    """Tell where a value is not of a recorded form."""
    if isinstance(form, dict) and isinstance(value, dict):
        if set(form) == {"*"}:
            form = dict.fromkeys(value, form["*"])
        missing = set(form) - set(value) - _OF_THE_BUILD
        more = set(value) - set(form) - _OURS
        wrong = [f"{where}: lacks {sorted(missing)}"] if missing else []
        wrong += [f"{where}: has {sorted(more)} besides"] if more else []
        for key in set(form) & set(value):
            wrong += differences(value[key], form[key], f"{where}/{key}")
        return wrong
    if isinstance(form, list) and isinstance(value, list):
        wrong = [f"{where}: is empty"] if form and not value else []
        for number, one in enumerate(value):
            each = [differences(one, item, f"{where}[{number}]") for item in form]
            if each:
                wrong += sorted(each, key=len)[0]
        return wrong
    name = type(value).__name__
    return [] if name == form else [f"{where}: {value!r} is no {form}"]


def metric_names(metrics: dict[str, float]) -> set[str]:
    """Return names of metrics, without the framework's that is in them."""
    pattern = re.compile(r"master/frameworks/[^/]*/[^/]*/")
    return {pattern.sub("master/frameworks/NAME/ID/", name) for name in metrics}


def compare(row: Row, answer: Any, names: dict[str, str]) -> list[str]:
    """
    Tell how an answer (L{tests.web.asking.Answer}) differs from the recorded one.

    @param names: what stands for what is in braces.
    """

    def filled(text: str) -> str:
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    wrong = []
    if answer.status != row["status"]:
        wrong.append(f"status {answer.status}, not {row['status']}")
    if answer.headers.get("content-type", "") != row["type"]:
        wrong.append(f"Content-Type {answer.headers.get('content-type')}, not {row['type']}")
    for name in _HEADERS:
        mine = answer.headers.get(name.lower())
        if mine != (filled(row[name]) if name in row else None):
            wrong.append(f"{name}: {mine}, not {row.get(name)}")
    if "json" in row and not wrong:
        if "/metrics/" in row["path"]:
            missing = set(row["json"]) - metric_names(answer.json())
            wrong += [f"lacks {name}" for name in sorted(missing)]
        else:
            wrong += differences(answer.json(), row["json"])
    elif "text" in row and answer.body.decode() != filled(row["text"]):
        wrong.append(f"body {answer.body!r}, not {row['text']!r}")
    return wrong
