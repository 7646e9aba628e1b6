"""The metrics in Prometheus' text form (version 0.0.4), with labels where names hold a name.

C{master/tasks_running} becomes C{mesos_master_tasks_running}; what Mesos writes once a
framework or a role becomes one metric with labels, so that it can be summed and picked from.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The Content-Type of the text form."""

_KNOWN: Final = 20_000
"""Names whose form is remembered."""

_NOT_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")
#: What stands behind a framework's name and id: the part of the metric's name, and a label.
_FRAMEWORK: Final = re.compile(
    r"master/frameworks/(?P<framework_name>[^/]*)/(?P<framework_id>[^/]*)/(?P<rest>.+)"
)
_PARTS: Final = (
    (re.compile(r"(calls|events|operations)/(?P<type>[^/]+)"), r"\1_by_type"),
    (re.compile(r"tasks/(active|terminal)/(?P<state>[^/]+)"), r"tasks_\1"),
    (re.compile(r"roles/(?P<role>.+)/suppressed"), "role_suppressed"),
)
_ROLES: Final = (
    (re.compile(r"allocator/mesos/roles/(?P<role>.+)/shares/dominant"), "role_share_dominant"),
    (
        re.compile(r"allocator/mesos/offer_filters/roles/(?P<role>.+)/active"),
        "role_offer_filters_active",
    ),
)


def text_form(metrics: Mapping[str, float]) -> str:
    """Return all metrics, one a line, those of one name together."""
    lines: dict[str, list[str]] = {}
    for name, value in metrics.items():
        metric, shown = _line(name)
        lines.setdefault(metric, []).append(f"{shown} {value!r}")
    return "".join(
        f"# TYPE {metric} untyped\n" + "\n".join(of) + "\n" for metric, of in sorted(lines.items())
    )


@lru_cache(_KNOWN)
def _line(name: str) -> tuple[str, str]:
    """Return what a metric is called here, and how its line begins."""
    metric, labels = _named(name)
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return metric, f"{metric}{{{shown}}}" if shown else metric


def _named(name: str) -> tuple[str, dict[str, str]]:
    for pattern, metric in _ROLES:
        found = pattern.fullmatch(name)
        if found:
            return f"mesos_allocator_{metric}", found.groupdict()
    found = _FRAMEWORK.fullmatch(name)
    if found is None:
        return "mesos_" + _NOT_A_NAME.sub("_", name), {}
    labels = found.groupdict()
    labels["framework_name"] = unquote(labels["framework_name"])
    rest = labels.pop("rest")
    for pattern, metric in _PARTS:
        part = pattern.fullmatch(rest)
        if part:
            return f"mesos_framework_{part.expand(metric)}", {**labels, **part.groupdict()}
    return "mesos_framework_" + _NOT_A_NAME.sub("_", rest), labels


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
