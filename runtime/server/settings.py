"""The settings of the server: a TOML file, the environment and the command line, last one wins."""

import ipaddress
import socket
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from runtime.errors import ParameterError
from runtime.record import first_problem
from runtime.sessions import read_devices

__all__ = ["PREFIX", "Settings", "load_settings"]

PREFIX = "RUNTIME_SERVE_"


def _as_written(value: Any) -> Any:
    """A TOML file may have the number of one device."""
    return str(value) if type(value) is int else value


def _checked(text: str) -> str:
    read_devices(text)
    return text


Devices = Annotated[str, BeforeValidator(_as_written), AfterValidator(_checked)]


class Settings(BaseSettings):
    """How to listen, whom to answer, and how much at once. Times are in seconds.

    model_names: names that requests may use; none for the name of the bundle's directory.
    api_key_file: a key a line; without one, only this computer may ask.
    device: of the box, or several, as in 0,1: a process for each.
    insecure: listen to others without a key.
    allowed_hosts: names by which clients may call this computer, besides its own and its
        addresses; "*" for any.
    max_requests: answers that may be waiting or running; more are refused with 503.
    max_prompt_tokens: of all of these together.
    queue_timeout: how long an answer may wait to begin.
    receive_timeout: within which a request must have arrived.
    send_timeout: how long a client may take nothing of what it is sent.
    keep_alive: how long an idle connection stays open.
    drain_timeout: how long answers may go on after SIGTERM.
    ping_interval: after which a stream that has nothing to say gets a space.
    max_body_bytes: of a request.
    max_connections: open at once; beyond them, the one that has waited longest for its client to
        send a request is closed. A burst may go to twice as many for a second.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    model_names: tuple[str, ...] = ()
    api_key_file: Path | None = None
    insecure: bool = False
    allowed_hosts: tuple[str, ...] = ()
    device: Devices = "0"
    threads: int | None = Field(default=None, ge=1)
    max_requests: int = Field(default=64, ge=1, le=100_000)
    max_prompt_tokens: int = Field(default=1 << 17, ge=1)
    queue_timeout: float = Field(default=60, gt=0)
    receive_timeout: float = Field(default=10, gt=0)
    send_timeout: float = Field(default=60, gt=0)
    keep_alive: int = Field(default=30, ge=1)
    drain_timeout: float = Field(default=60, ge=0)
    ping_interval: float = Field(default=15, gt=0)
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    max_connections: int = Field(default=512, ge=1)

    @property
    def devices(self) -> tuple[int, ...]:
        """The numbers in `device`."""
        return read_devices(self.device)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """First one wins; the files of pydantic-settings' own are not read."""
        return init_settings, env_settings


def load_settings(file: Path | None, given: dict[str, Any]) -> Settings:
    """The settings: `given`, else those of the environment, else of the TOML file, else defaults.

    Raises:
        ParameterError: the file is missing or no TOML, a setting is unknown or out of its range,
            or others could ask without a key.
    """
    source = Settings
    if file is not None:
        if not file.is_file():
            raise ParameterError(f"{file} is missing or no regular file", param="config")
        source = _with_file(file)
    try:
        settings = source(**given)
    except ValidationError as error:
        names = [str(part) for part in error.errors()[0]["loc"]]
        raise ParameterError(first_problem(error), param=names[0] if names else None) from error
    except (SettingsError, ValueError) as error:  # of the environment, or of the TOML
        raise ParameterError(f"the settings cannot be read: {error}", param="config") from error
    _check_openness(settings)
    return settings


def _with_file(file: Path) -> type[Settings]:
    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            own = super().settings_customise_sources(settings_cls, *sources, **named)
            return *own, TomlConfigSettingsSource(settings_cls, toml_file=file)

    return FromFile


def _check_openness(settings: Settings) -> None:
    """Refuses to be open to others without a key."""
    if settings.api_key_file is None and not settings.insecure and not _is_own(settings.host):
        raise ParameterError(
            "anybody who reaches this computer could ask",
            got=f"host {settings.host} and no keys",
            allowed="127.0.0.1 or ::1 without keys",
            next_step="give --api-key-file FILE, or --insecure if a proxy asks for a key",
            param="host",
        )


def _is_own(host: str) -> bool:
    """Whether nobody but this computer can reach an address or name."""
    try:
        found = socket.getaddrinfo(host or None, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(each[4][0])).is_loopback for each in found) and host != ""
