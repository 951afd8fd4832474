"""Who may ask and how: keys on every route, hosts, sizes, what the log says of it."""

import json
import logging
from collections.abc import Iterator
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import pytest

from runtime.errors import ParameterError
from runtime.server.guard import OPEN
from runtime.server.keys import read_keys
from runtime.server.logs import JsonFormatter
from tests.serving import PATIENCE, Serving, make_service, ready

KEY, OTHER = "Correct-Horse-Battery-Staple", "another-key-of-this-server"
ROUTES = [
    ("GET", "/docs"),
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/tokenizer_info"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/version"),
    ("POST", "/detokenize"),
    ("POST", "/tokenize"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
]


@pytest.fixture(scope="module")
def locked(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# of the chat\n{KEY}\n\n  {OTHER}  \n")
    service = make_service(
        bundles / "talk-int4",
        model_names=("talk",),
        api_key_file=file,
        allowed_hosts=("box.example",),
        max_body_bytes=4096,
    )
    with ready(service) as server:
        yield server


def test_the_matrix_of_keys_has_every_route(locked: Serving) -> None:
    with locked.http(headers={"Authorization": f"Bearer {KEY}"}) as http:
        paths = http.get("/openapi.json").json()["paths"]
    listed = [(m.upper(), path) for path, methods in paths.items() for m in methods]
    assert sorted([*listed, ("GET", "/openapi.json"), ("GET", "/docs")]) == ROUTES
    with_key = {
        path for path, methods in paths.items() if all("security" in m for m in methods.values())
    }
    assert with_key == paths.keys() - OPEN


@pytest.mark.parametrize(
    ("header", "good"),
    [
        (None, False),
        ("Bearer wrong-key-wrong-key", False),
        (f"Bearer {KEY[:-1]}", False),
        (f"Bearer {KEY}x", False),
        (f"Bearer {KEY.lower()}", False),
        (f"Basic {KEY}", False),
        (KEY, False),
        ("Bearer", False),
        (f"Bearer {KEY} {OTHER}", False),
        (f"Bearer {KEY}", True),
        (f"bearer {OTHER}", True),
    ],
)
@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/nowhere"), ("PUT", "/metrics")])
def test_every_address_but_the_open_ones_asks_for_a_key(
    method: str, path: str, header: str | None, good: bool, locked: Serving
) -> None:
    headers = {} if header is None else {"Authorization": header}
    with locked.http(headers=headers) as http:
        reply = http.request(method, path, json={} if method == "POST" else None)
    if path in OPEN:
        assert reply.status_code == 200
    elif good:
        assert reply.status_code in (200, 400, 404, 405)
    else:
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:1", True),
        ("192.168.1.7", True),
        ("[::1]:80", True),
        ("box.example:443", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("box.example.evil", False),
        ("evil-box.example", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_a_page_that_rebinds_an_address_is_refused(host: str, good: bool, locked: Serving) -> None:
    with locked.http(headers={"Host": host}) as http:
        reply = http.get("/health")
    assert reply.status_code == (200 if good else 400)
    assert good or reply.json()["error"]["code"] == "invalid_host"


def test_no_other_page_may_read_an_answer(locked: Serving) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with locked.http(headers=headers | {"Authorization": f"Bearer {KEY}"}) as http:
        for reply in (http.options("/v1/completions"), http.get("/v1/models")):
            assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("size", [4097, 20_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(size: int, chunked: bool, locked: Serving) -> None:
    data = b'{"prompt": "' + b"a" * size + b'"}'
    content = iter([data[i : i + 1000] for i in range(0, len(data), 1000)]) if chunked else data
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with locked.http(headers=headers) as http:
        reply = http.post("/v1/completions", content=content)
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "request_too_large"
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 2000, b'{"prompt": NaN}', b'{"prompt"'],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
def test_what_is_no_json_object_is_refused_with_400(
    data: bytes, kind: str, locked: Serving
) -> None:
    headers = {"Authorization": f"Bearer {KEY}", **({"Content-Type": kind} if kind else {})}
    with locked.http(headers=headers) as http:
        reply = http.post("/v1/completions", content=data)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_other_addresses_and_methods_are_refused_in_the_same_form(locked: Serving) -> None:
    with locked.http(headers={"Authorization": f"Bearer {KEY}"}) as http:
        nowhere, wrong = http.get("/v1/files"), http.delete("/v1/models")
    assert nowhere.json()["error"]["code"] == "no_such_route"
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert wrong.json()["error"]["code"] == "method_not_allowed"


def test_the_id_of_a_request_is_kept_where_it_is_harmless(locked: Serving) -> None:
    with locked.http() as http:
        assert http.get("/health", headers={"X-Request-Id": "a-1:b"}).headers["x-request-id"] == (
            "a-1:b"
        )
        odd = http.get("/health", headers={"X-Request-Id": "a b\x7f" + "c" * 200})
    assert len(odd.headers["x-request-id"]) == 32


def test_whatever_a_client_sends_is_one_line_of_the_log(locked: Serving) -> None:
    records = SimpleQueue[logging.LogRecord]()
    handler = QueueHandler(records)
    log = logging.getLogger("runtime.server.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with locked.http() as http:
            http.get("/a%0d%0a%1b%5b31m%e2%80%a8x", headers={"X-Request-Id": "\x1b[31m"})
        # A line comes a moment after its answer; so may that of the request before.
        lines = (JsonFormatter().format(records.get(timeout=PATIENCE)) for _ in range(2))
        line = next(line for line in lines if json.loads(line)["path"] != "/health")
    finally:
        log.removeHandler(handler)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["path"] == "/a\r\n\x1b[31m\u2028x"


def test_a_traceback_is_one_line_of_the_log() -> None:
    try:
        raise ValueError("two\nlines\x9b")
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "x", (), (type(error), error, None))
    line = JsonFormatter().format(record)
    assert line.isprintable()
    assert json.loads(line)["exception"].endswith("two\nlines\x9b")


@pytest.mark.parametrize(
    "text", ["", "# nothing\n\n", "short\n", "with a space in it\n", "钥" * 20]
)
def test_a_file_without_good_keys_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError):
        read_keys(file)
    with pytest.raises(ParameterError):
        read_keys(tmp_path / "missing")
