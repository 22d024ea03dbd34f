"""Small pieces of a self-contained HTML page: escaped text, tables that sort and filter, figures with their words."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence

STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --quiet: #4a4a4a; --line: #c9c9c9; --back: #ffffff; --band: #f2f4f7;
  --link: #0b5fa5; --bad: #a11212; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: var(--ink); background: var(--back);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .5rem; border-bottom: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.2rem 0 .4rem; }
a { color: var(--link); }
nav a { display: inline-block; margin-right: 1rem; padding: .25rem 0; }
.quiet { color: var(--quiet); font-size: .92rem; }
.bad { color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
caption span { display: block; max-width: min(46rem, calc(100vw - 2rem)); position: sticky; left: 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { background: var(--band); position: sticky; top: 0; }
th button { all: unset; cursor: pointer; font-weight: 600; }
.scroll:focus-visible, th button:focus-visible, input:focus-visible, a:focus-visible, summary:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
input[type=search] { font: inherit; padding: .35rem .5rem; border: 1px solid var(--quiet); border-radius: 4px;
  width: 100%; max-width: 24rem; }
figure { margin: .6rem 0; }
figure svg, figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .88rem; color: var(--quiet); max-width: 46rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row figure { flex: 1 1 16rem; max-width: 24rem; }
pre { background: var(--band); padding: .6rem; overflow-x: auto; font-size: .82rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .4rem 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } body { padding: .7rem; } }
@media print { nav, input[type=search], label.search { display: none; } body { max-width: none; font-size: 11px; }
  details { display: block; } figure, tr { break-inside: avoid; } thead th { position: static; }
  .scroll { overflow: visible; } }
"""
SCRIPT = """
for (const table of document.querySelectorAll('table.sorts')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => {
      const x = value(a), y = value(b);
      if (x === '' || y === '') return (x === '') - (y === '');
      const both = x - y;
      const way = Number.isNaN(both) ? x.localeCompare(y) : both;
      return down ? -way : way;
    };
    [...body.rows].sort(order).forEach(row => body.append(row));
  }));
  const search = document.getElementById(table.dataset.search);
  const shown = document.getElementById(table.dataset.search + '-count');
  search.addEventListener('input', () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${body.rows.length} rows`;
  });
}
"""


def text(value: object) -> str:
    """Anything as text that HTML cannot misread."""
    return html.escape(str(value))


def page(title: str, body: str) -> str:
    """The whole document; nothing is loaded from elsewhere, and its policy forbids it."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def section(title: str, anchor: str, *parts: str) -> str:
    """A part of the page; empty where there is nothing to show."""
    inside = "".join(parts)
    return f'<section id="{anchor}">\n<h2>{text(title)}</h2>\n{inside}</section>\n' if inside else ""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, numbers: Sequence[int] = ()
) -> str:
    """A plain table; the first cell of a row is its head. `numbers` are the columns set to the right."""
    head = "".join(f'<th scope="col"{_class(i in numbers)}>{text(name)}</th>' for i, name in enumerate(columns))
    lines = [
        "<tr>"
        + "".join(
            f'<th scope="row">{text(cell)}</th>' if i == 0 else f"<td{_class(i in numbers)}>{text(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    ]
    return (
        f"{_scrolling(caption)}<table>\n{_caption(caption)}\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{''.join(lines)}</tbody>\n</table></div>\n"
    )


def sorting_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str, anchor: str, numbers: Sequence[int] = ()
) -> str:
    """A table that sorts by a click on a column's head, and shows the rows that hold all words typed above it."""
    head = "".join(
        f'<th scope="col"{_class(i in numbers)}><button type="button">{text(name)}</button></th>'
        for i, name in enumerate(columns)
    )
    lines = [
        "<tr>" + "".join(f"<td{_class(i in numbers)}>{text(cell)}</td>" for i, cell in enumerate(row)) + "</tr>\n"
        for row in rows
    ]
    return (
        f'<label class="search" for="{anchor}">Show rows with </label>'
        f'<input type="search" id="{anchor}"> <span class="quiet" id="{anchor}-count" aria-live="polite">'
        f"{len(rows)} rows</span>\n"
        f'{_scrolling(caption)}<table class="sorts" data-search="{anchor}">\n{_caption(caption)}\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table></div>\n"
    )


def drawing(svg: str, caption: str) -> str:
    """An SVG figure with its words, for the eye and for a screen reader."""
    inside = _own_ids(svg[svg.index("<svg") :], caption).replace(
        "<svg", f'<svg role="img" aria-label="{text(caption)}"', 1
    )
    return f"<figure>{inside}<figcaption>{text(caption)}</figcaption></figure>\n"


def picture(png: bytes, caption: str) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode()
    words = text(caption)
    image = f'<img alt="{words}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>\n"


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values; those without a value are left out."""
    inside = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs if value not in (None, ""))
    return f"<dl>{inside}</dl>\n" if inside else ""


def folded(title: str, inside: str) -> str:
    """What few want to read, behind a click."""
    return f"<details><summary>{text(title)}</summary>\n{inside}</details>\n"


def _scrolling(caption: str) -> str:
    """What a table scrolls in where it is too wide, by the keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">'


def _own_ids(svg: str, caption: str) -> str:
    """Each figure counts its parts from 1; on a page with several an id must be that of one part."""
    own = f"f{hashlib.sha256((caption + svg).encode()).hexdigest()[:8]}-"
    svg = re.sub(r'(\bid=")', rf"\1{own}", svg)
    return re.sub(r'(href="#|url\(#)', rf"\1{own}", svg)


def _caption(words: str) -> str:
    """Stays in view when the table scrolls sideways."""
    return f"<caption><span>{text(words)}</span></caption>"


def _class(number: bool) -> str:
    return ' class="number"' if number else ""
