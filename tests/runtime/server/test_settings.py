"""Where settings come from, who wins, and when others may ask."""

from pathlib import Path

import pytest

from runtime.errors import ParameterError
from runtime.server.settings import Settings, load_settings


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nmax_requests = 2\nreceive_timeout = 3\nallowed_hosts = ["box"]\n')
    monkeypatch.setenv("RUNTIME_SERVE_PORT", "4")
    monkeypatch.setenv("RUNTIME_SERVE_MAX_REQUESTS", "5")
    settings = load_settings(file, {"port": 6})
    assert (settings.port, settings.max_requests, settings.receive_timeout) == (6, 5, 3)
    assert settings.allowed_hosts == ("box",)
    assert settings.drain_timeout == Settings().drain_timeout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "unknown key prot"),
        ("port = -1", "port: Input should be greater than or equal to 0"),
        ('port = "many"', "port: Input should be a valid integer"),
        ("queue_timeout = inf", "queue_timeout: Input should be a finite number"),
        ("port = ", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(ParameterError, match=message):
        load_settings(file, {})


def test_an_environment_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_SERVE_ALLOWED_HOSTS", "box")  # no JSON list
    with pytest.raises(ParameterError, match="settings cannot be read"):
        load_settings(None, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_computer_alone_may_ask_without_a_key(host: str) -> None:
    assert load_settings(None, {"host": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "no-such-host.invalid"])
def test_others_may_not_ask_without_a_key(host: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="could ask"):
        load_settings(None, {"host": host})
    assert load_settings(None, {"host": host, "insecure": True}).insecure
    assert load_settings(None, {"host": host, "api_key_file": tmp_path / "keys"}).host == host
