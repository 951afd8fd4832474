"""The server as an application of Ray Serve: many replicas behind one address.

serve run runtime.server.ray_app:app bundle=DIR replicas=4 api_key_file=FILE

Each replica is the very application of `runtime serve`, with a device of its own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray import serve
from starlette.types import ASGIApp

from runtime.bundle.reader import Bundle, read_manifest
from runtime.bundle.same_bundle import load_same_bundle
from runtime.cluster.devices import request_of
from runtime.errors import ParameterError, SessionError
from runtime.progress import SILENT
from runtime.record import first_problem
from runtime.server.app import create_app
from runtime.server.loading import open_model
from runtime.server.logs import log_as_json
from runtime.server.service import Service
from runtime.server.settings import Settings, load_settings
from runtime.sessions import SESSIONS

__all__ = ["Arguments", "Replica", "app"]

LAST_WORDS = 5  # seconds beyond drain_timeout, in which a replica ends by itself
MOST_STARTS = 3  # of a replica: a bundle that is missing stays missing


class Arguments(BaseModel):
    """What `serve run` is told, as NAME=VALUE.

    bundle: directory, the same on each node.
    replicas: each with a device of its own.
    queue: requests that may wait in each proxy for a replica that has room.
    config, api_key_file, insecure, model_name, threads: see Settings; `config` is its TOML file,
        read where the command runs, and model_name is one name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    bundle: Path
    replicas: int = Field(default=1, ge=1)
    queue: int = Field(default=64, ge=0)
    config: Path | None = None
    api_key_file: Path | None = None
    insecure: bool | None = None
    model_name: str | None = None
    threads: int | None = Field(default=None, ge=1)

    @property
    def settings(self) -> Settings:
        """Those of the server.

        Raises:
            ParameterError: they cannot be used; others can reach a cluster, so keys are needed.
        """
        given = {
            "host": "0.0.0.0",  # Ray Serve says where it really listens
            "api_key_file": self.api_key_file and self.api_key_file.absolute(),
            "insecure": self.insecure,
            "model_names": None if self.model_name is None else (self.model_name,),
            "threads": self.threads,
        }
        return load_settings(self.config, {k: v for k, v in given.items() if v is not None})


def app(arguments: dict[str, str]) -> Any:
    """Builds the application; called by Ray Serve.

    Raises:
        BundleError: there is no bundle.
        ParameterError: an argument or a setting is unknown or out of its range.
    """
    try:
        given = Arguments.model_validate(arguments)
    except ValidationError as error:
        names = [str(part) for part in error.errors()[0]["loc"]]
        raise ParameterError(
            first_problem(error),
            param=names[0] if names else None,
            allowed=", ".join(f"{name}=..." for name in Arguments.model_fields),
            next_step="serve run runtime.server.ray_app:app bundle=DIR replicas=2",
        ) from error
    settings = given.settings
    path = given.bundle.absolute()
    bundle = Bundle(path=path, manifest=read_manifest(path))
    resource = SESSIONS[bundle.manifest.backend].ray_resource
    if resource == "CPU":
        settings = settings.model_copy(update={"threads": settings.threads or 1})
    deployment = serve.deployment(serve.ingress()(Replica)).options(
        name=path.name,
        num_replicas=given.replicas,
        ray_actor_options=request_of(resource, settings.threads),
        max_ongoing_requests=settings.max_requests,
        max_queued_requests=given.queue,
        max_constructor_retry_count=MOST_STARTS,
        graceful_shutdown_timeout_s=settings.drain_timeout + LAST_WORDS,
    )
    return deployment.bind(path, bundle.digest, settings.model_dump())


class Replica:
    """What a node runs: it is there once its model is loaded, and drains before it goes.

    Args:
        path: of the bundle.
        digest: of the bundle that is meant.
        settings: of the server.

    Raises:
        BundleError: the bundle is missing here, or another one.
        SessionError: the backend cannot run it.
    """

    def __init__(self, path: Path, digest: str, settings: Mapping[str, Any]) -> None:
        self._stop: Callable[[], None] = lambda: None
        own = Settings(**settings)
        log_as_json()
        model = open_model(load_same_bundle(path, digest), own, SILENT)
        self._service = Service(own, lambda _: model)
        self._stop = self._service.stop

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application; called by Ray Serve."""
        return create_app(self._service)

    def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica that raises.

        Raises:
            SessionError: the model answers no more.
        """
        if self._service.state == "failed":
            raise SessionError("the model answers no more")

    def __del__(self) -> None:
        """Called by Ray Serve when every answer has ended, or its time is over."""
        self._stop()
