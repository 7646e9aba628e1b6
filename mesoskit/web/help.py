"""C{/help}: a page a route, made of the docstrings of what answers it.

The JSON form and the headings are those of Mesos (C{3rdparty/libprocess/src/help.cpp}), for
tools that read them.
"""

import re
from html import escape
from inspect import cleandoc
from typing import Any
from urllib.parse import quote

_MARKUP = re.compile(r"[CL]\{(?:[\w.]*\.)?([^{}]*)\}")


class Help:
    """
    The pages of one daemon.

    @param name: what stands before prefixed paths: C{master}.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pages: dict[str, dict[str, str]] = {}

    def add(
        self, path: str, prefixed: bool, docstring: str, asks: str = "", needs: str = ""
    ) -> None:
        """
        Add the page of a route.

        @param asks: when who asks must prove who he is, a sentence; empty: never.
        @param needs: what he must be allowed where there are ACLs; empty: nothing.
        """
        process, _, rest = (f"{self._name}/{path}" if prefixed else path).partition("/")
        endpoint = f"/{rest}"
        usage = f"/{process}{endpoint if rest else ''}"
        self._pages.setdefault(process, {})[endpoint] = _markdown(usage, docstring, asks, needs)

    def as_json(self) -> Any:
        """Return all pages, sorted."""
        return {
            "processes": [
                {
                    "id": process,
                    "endpoints": [
                        {"name": name, "text": text} for name, text in sorted(of.items())
                    ],
                }
                for process, of in sorted(self._pages.items())
            ]
        }

    def start_page(self, title: str) -> str:
        """Return a page that leads to every endpoint, and says in a line what it is."""
        rows = []
        for process, of in sorted(self._pages.items()):
            for endpoint in sorted(of):
                path = f"/{process}{'' if endpoint == '/' else endpoint}"
                _, _, rest = of[endpoint].partition("### TL;DR; ###\n")
                summary = " ".join(rest.partition("\n###")[0].split())
                rows.append(
                    f'<tr><td><a href="{escape(quote(path))}">{escape(path)}</a></td>'
                    f"<td>{escape(summary)}</td></tr>"
                )
        table = f"<table>{''.join(rows)}</table>"
        return _html(title, f'<p><a href="/help">Help</a></p>{table}')

    def page(self, path: list[str]) -> str | None:
        """Return a page as HTML: of all, of a process, of an endpoint; L{None}: there is none."""
        if not path:
            links = _links([(f"/{one}", f"/help/{one}") for one in sorted(self._pages)])
            return _html("Endpoints", links)
        process, *rest = path
        pages = self._pages.get(process)
        if pages is None:
            return None
        text = pages.get("/" + "/".join(rest))
        if rest and text is None:
            return None
        body = "" if text is None else f"<pre>{escape(text)}</pre>"
        if not rest:
            others = sorted(set(pages) - {"/"})
            body += _links([(f"/{process}{one}", f"/help/{process}{one}") for one in others])
        return _html(f"/{'/'.join(path)}", body)


def _markdown(usage: str, docstring: str, asks: str, needs: str) -> str:
    """Return a page as Mesos lays one out."""
    summary, _, rest = cleandoc(_MARKUP.sub(r"\1", docstring)).partition("\n\n")
    page = f"### USAGE ###\n>        {usage}\n\n### TL;DR; ###\n{summary}\n"
    if rest:
        page += f"\n### DESCRIPTION ###\n{rest}\n"
    for heading, sentence in (("AUTHENTICATION", asks), ("AUTHORIZATION", needs)):
        if sentence:
            page += f"\n### {heading} ###\n{sentence}\n"
    return page


def _links(links: list[tuple[str, str]]) -> str:
    items = (
        f'<li><a href="{escape(quote(target))}">{escape(name)}</a></li>' for name, target in links
    )
    return f"<ul>{''.join(items)}</ul>" if links else ""


def _html(title: str, body: str) -> str:
    return (
        "<!DOCTYPE html><html><head><meta charset=utf-8>"
        f"<title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
