"""What every page is made of: the templates and the function that fills them."""

from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from segan_pl.report.figures import Drawn
from segan_pl.report.page import _environment, page

MARKUP = "<script>alert('1')</script> & \""


def filled(source: str, **values: object) -> str:
    """A template out of a text, as a page's own would be."""
    return _environment().from_string(source).render(values)


def test_a_page_is_one_document_that_loads_nothing():
    text = page("base.html", title="a")
    assert text.startswith("<!DOCTYPE html>\n")
    assert text.endswith("</html>\n")
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)|fetch\(|https?://", text)


def test_what_a_page_is_given_stays_text():
    text = page("base.html", title=MARKUP)
    assert "<title>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &#34;</title>" in text
    macros = '{% from "macros.html" import table, facts, picture %}'
    calls = "{{ table([x], [[x, x]], x) }}{{ facts([(x, x)]) }}{{ picture(png, x) }}"
    assert "<script>" not in filled(macros + calls, x=MARKUP, png=b"")


def test_a_value_that_a_template_names_and_does_not_get_is_an_error():
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        page("base.html")


def test_a_table_has_a_head_in_each_row_and_its_numbers_to_the_right():
    source = '{% from "macros.html" import table %}{{ table(["a", "b"], [["x", 1], ["y", 2]], "words", numbers=[1]) }}'
    text = filled(source)
    assert '<th scope="col">a</th><th scope="col" class="number">b</th>' in text
    assert '<tr><th scope="row">x</th><td class="number">1</td></tr>' in text
    assert "<caption><span>words</span></caption>" in text


def test_a_part_without_content_is_neither_linked_nor_shown():
    source = (
        '{% from "macros.html" import navigation, sections %}{% set full %}<p>here</p>{% endset %}{% set empty %}\n'
        '{% endset %}{% set parts = [("Full", "full", full), ("Empty", "empty", empty)] %}'
        "{{ navigation(parts) }}{{ sections(parts) }}"
    )
    text = filled(source)
    assert '<a href="#full">Full</a>' in text
    assert '<section id="full">\n<h2>Full</h2>\n<p>here</p>' in text
    assert "mpty" not in text


def test_two_figures_of_a_page_share_no_id():
    drawings = [Drawn("a", Figure(), "one"), Drawn("b", Figure(), "two")]
    source = '{% from "macros.html" import drawing %}{% for one in drawings %}{{ drawing(one) }}{% endfor %}'
    text = filled(source, drawings=drawings)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 2
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids)
    assert text.count('<svg role="img" aria-label="one"') == 1
