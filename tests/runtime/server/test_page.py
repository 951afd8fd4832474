"""How the chat page is sent; tests/runtime/server/page/ has a browser use it."""

import re
from pathlib import Path

import pytest

from runtime.server.page import NAMES, PATHS
from tests.paths import ROOT
from tests.serving import Serving, make_service, ready

PAGE = ROOT / "runtime/server/page"


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_file_comes_with_the_headers_that_keep_it_to_itself(path: str, talking: Serving) -> None:
    with talking.http() as http:
        reply = http.get(path)
        again = http.get(path, headers={"If-None-Match": reply.headers["etag"]})
    policy = dict(
        part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == reply.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/page", "/page/", "/page/__init__.py", "/page/..%2fapp.py"])
def test_no_other_file_is_sent(path: str, talking: Serving) -> None:
    with talking.http() as http:
        assert http.get(path).status_code == 404


def test_the_page_needs_no_key_and_its_requests_do(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("correct-horse-battery-staple")
    service = make_service(bundles / "talk-int4", api_key_file=tmp_path / "keys")
    with ready(service) as server, server.http() as http:
        assert {http.get(path).status_code for path in PATHS} == {200}
        assert http.post("/").status_code == 405
        assert http.get("/v1/models").status_code == 401


def test_every_file_of_the_folder_is_sent_and_refers_to_no_other_place() -> None:
    files = {file.name for file in PAGE.iterdir() if file.suffix in (".html", ".css", ".js")}
    assert files == set(NAMES)
    for name in NAMES:
        text = (PAGE / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|innerHTML|outerHTML|eval\(", text)


def test_no_file_of_the_page_is_longer_than_300_lines() -> None:
    assert not [n for n in NAMES if (PAGE / n).read_text(encoding="utf-8").count("\n") > 300]


def test_both_languages_have_the_same_words_and_the_page_uses_each() -> None:
    words = (PAGE / "words.js").read_text(encoding="utf-8")
    english, chinese = (
        {name: set(re.findall(r"\{\w+\}", text)) for name, text in re.findall(ENTRY, part, re.M)}
        for part in re.findall(r"^  \w\w: \{\n(.*?)^  \},$", words, re.M | re.S)
    )
    assert english == chinese
    others = "".join((PAGE / name).read_text(encoding="utf-8") for name in NAMES)
    used = set(re.findall(r'"([a-z_]+)"', others.replace(words, "")))
    assert set(english) <= used


ENTRY = r'^    (\w+): "(.*)",$'
