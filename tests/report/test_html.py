import re
from html.parser import HTMLParser

from instaseg.report.html import Page, Picture, report_html

PAGE = Page(
    title="wormbodies <setup01>",
    summary=["checkpoint 3000 & patch_threshold = 0.9"],
    scores=[{"": "checkpoint 3000", "TP 0.5": 7, "avS": 0.81234}, {"": "otsu", "avS": 0.4}],
    curves=[Picture("loss.png", "loss")],
    samples=[{"sample": "A01", "avS": 0.5}],
    overlays=[Picture('overlays/a"b.png', "A01: <3")],
    links={"configuration": "../config.toml"},
    provenance={"torch": "2.13.0"},
)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_everything_is_there_escaped_and_closed():
    text = report_html(PAGE)
    page = read(text)
    assert "wormbodies <setup01>" in page.text
    assert "checkpoint 3000 & patch_threshold = 0.9" in page.text
    assert {"0.812", "7", "0.400", "A01", "2.13.0", "A01: <3"} <= set(page.text)
    assert set(page.links) == {"loss.png", 'overlays/a"b.png', "../config.toml"}
    assert "<setup01>" not in text


def test_nothing_is_loaded_from_elsewhere():
    assert not re.search(r"https?://|<script|@import", report_html(PAGE))


def test_empty_parts_are_left_out():
    text = report_html(Page(title="nothing yet"))
    assert "<h2>" not in text
    assert read(text).text.count("nothing yet") == 2


def test_samples_link_to_their_overlays():
    page = Page("t", samples=[{"": "a"}, {"": "b"}], overlays=[Picture("overlays/b.png", "b")])
    text = report_html(page)
    assert "<td>a</td>" in text
    assert '<td><a href="#overlay-1">b</a></td>' in text
    assert '<figure id="overlay-1">' in text
