"""Opens a bundle for serving: session, tokenizer, every graph, and one token as a trial."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.loop import EngineLoop
from runtime.engine.scheduler import DEFAULT_POLICY, Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.progress import Progress
from runtime.sampling.defaults import default_params
from runtime.sampling.params import SamplingParams
from runtime.server.engines import DeviceEngine, Engines
from runtime.server.formats import cached_compiler
from runtime.server.served_model import ServedModel
from runtime.sessions import Session
from runtime.sessions.elsewhere import open_sessions
from runtime.text.from_bundle import open_tokenizer

__all__ = ["ModelSettings", "open_model", "served"]


class ModelSettings(Protocol):
    """What a model is opened with; see Settings."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """None for the name of the bundle's directory."""

    @property
    def devices(self) -> tuple[int, ...]:
        """Of the box; a process for each where they are several."""

    @property
    def threads(self) -> int | None:
        """None for the cores that this process may use."""

    @property
    def max_prompt_tokens(self) -> int:
        """Of all requests that are waiting or running."""


def open_model(
    bundle: Bundle, settings: ModelSettings, progress: Progress, policy: Policy = DEFAULT_POLICY
) -> ServedModel:
    """Opens what a bundle needs to answer.

    Args:
        bundle: what to open.
        settings: how.
        progress: told the steps.
        policy: of the scheduler.

    Raises:
        BundleError: a file in the bundle cannot be used.
        SessionError: the backend cannot run it.
    """
    progress.step("opening the model")
    sessions = open_sessions(bundle, settings.devices, settings.threads)
    with ExitStack() as opened:
        for session in sessions:
            opened.callback(session.close)
        for graph in bundle.manifest.graphs:
            progress.step(f"opening {graph.spec.name}")
            for session in sessions:
                session.prepare(graph)
        progress.step("trying one token")
        model = served(bundle, sessions, settings, policy)
        opened.pop_all()
    return model


def served(
    bundle: Bundle,
    sessions: Sequence[Session],
    settings: ModelSettings,
    policy: Policy = DEFAULT_POLICY,
) -> ServedModel:
    """A model on sessions that are open, after each has made a token.

    Raises:
        BundleError: a file in the bundle cannot be used.
        SessionError: the backend cannot run it.
    """
    tokenizer = open_tokenizer(bundle)
    engines = Engines([_engine(session, settings, policy) for session in sessions])
    trial = Request(prompt_ids=[tokenizer.eos_token_id], params=SamplingParams(max_tokens=1))
    try:
        for each in engines.each:
            list(each.loop.submit(trial))
    except BaseException:
        for each in engines.each:
            each.loop.close()
        raise
    return ServedModel(
        names=settings.model_names or (bundle.path.resolve().name,),
        created=int(time.time()),
        digest=bundle.digest,
        backend=bundle.manifest.backend,
        tokenizer=tokenizer,
        defaults=default_params(bundle, tokenizer.eos_token_id),
        engines=engines,
        compile_format=cached_compiler(tokenizer, engines.engine.vocab_size),
    )


def _engine(session: Session, settings: ModelSettings, policy: Policy) -> DeviceEngine:
    scheduler = Scheduler(Engine(session), policy)
    loop = EngineLoop(scheduler, max_tokens=settings.max_prompt_tokens // len(settings.devices))
    return DeviceEngine(session=session, scheduler=scheduler, loop=loop)
