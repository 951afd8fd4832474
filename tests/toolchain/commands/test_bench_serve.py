"""toolchain bench-serve, as a person or a script sees it."""

import json
from pathlib import Path

import pytest

from tests.toolchain.remote.fake_server import Fake, fake_server, stream
from tests.toolchain.test_cli import toolchain

QUICK = ("--case", "8,3", "--num-requests", "2")


def test_tables_documents_and_the_report_say_the_same(tmp_path: Path) -> None:
    file, report = tmp_path / "load.json", tmp_path / "report"
    with fake_server(Fake(plays=(stream("a", "b", "c"),), key="good")) as url:
        (tmp_path / "key").write_text("good\n")
        chosen = (url, *QUICK, "--api-key-file", tmp_path / "key", "--goodput", "ttft:90000")
        loads = ("--concurrency", "1", "--concurrency", "2", "--request-rate", "1000")
        done = toolchain("bench-serve", *chosen, *loads, "-o", file, "--report", report)
        assert done.returncode == 0, done.stderr
        refused = toolchain("bench-serve", url, *QUICK)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "http 401; got no such key; set TOOLCHAIN_API_KEY" in refused.stderr
    document = json.loads(file.read_bytes())
    assert (document["format"], document["version"]) == ("alpaca2-load", 1)
    assert [row["clients"] for row in document["rows"]] == [1, 2, None]
    assert "Bearer" not in done.stdout + done.stderr + file.read_text()
    assert document == json.loads((report / "result.json").read_bytes())
    for name in ("1 client ", "2 clients ", "1000 requests/s "):
        assert done.stdout.count(name) == 2  # in either table
    page = (report / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert "吞吐与并发客户端" in page
    assert (report / "ttft_by_clients.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("ftp://box",), "no address of a server; got ftp://box"),
        (("http://me:secret@box",), "can be read by others"),
        (("http://127.0.0.1:1",), "no connection"),
        (("http://127.0.0.1:1", "--case", "8"), "--case; got 8"),
        (("http://127.0.0.1:1", "--goodput", "ttft"), "--goodput; got ttft; allowed: ttft, tpot"),
        (("http://127.0.0.1:1", "--request-rate", "0"), "--request-rate; got 0"),
        (("http://127.0.0.1:1", "-o", "/nowhere/x.json"), "cannot write /nowhere/x.json"),
        (("http://127.0.0.1:1", "--api-key-file", "/nowhere"), "/nowhere"),
    ],
)
def test_mistakes_are_named_in_one_line(options: tuple[str, ...], message: str) -> None:
    done = toolchain("bench-serve", *options)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert "secret" not in line
