"""Opens a bundle for serving: session, tokenizer, every graph, and one token as a trial."""

import time
from typing import Protocol

from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.loop import EngineLoop
from runtime.engine.scheduler import DEFAULT_POLICY, Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.progress import Progress
from runtime.sampling.defaults import default_params
from runtime.sampling.params import SamplingParams
from runtime.server.formats import cached_compiler
from runtime.server.served_model import ServedModel
from runtime.sessions import Session, SessionOptions, open_session
from runtime.text.tokenizer import open_tokenizer

__all__ = ["ModelSettings", "open_model", "served"]


class ModelSettings(Protocol):
    """What a model is opened with; see Settings."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """None for the name of the bundle's directory."""

    @property
    def device(self) -> int:
        """Of the box."""

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
    session = open_session(bundle, SessionOptions(device=settings.device, threads=settings.threads))
    for graph in session.manifest.graphs:
        progress.step(f"opening {graph.spec.name}")
        session.prepare(graph)
    progress.step("trying one token")
    return served(bundle, session, settings, policy)


def served(
    bundle: Bundle, session: Session, settings: ModelSettings, policy: Policy = DEFAULT_POLICY
) -> ServedModel:
    """A model on a session that is open, after it has made a token.

    Raises:
        BundleError: a file in the bundle cannot be used.
        SessionError: the backend cannot run it.
    """
    tokenizer = open_tokenizer(bundle)
    scheduler = Scheduler(Engine(session), policy)
    loop = EngineLoop(scheduler, max_tokens=settings.max_prompt_tokens)
    try:
        trial = Request(prompt_ids=[tokenizer.bos_token_id], params=SamplingParams(max_tokens=1))
        list(loop.submit(trial))
    except BaseException:
        loop.close()
        raise
    return ServedModel(
        names=settings.model_names or (bundle.path.resolve().name,),
        created=int(time.time()),
        digest=bundle.digest,
        backend=bundle.manifest.backend,
        tokenizer=tokenizer,
        defaults=default_params(bundle, tokenizer.eos_token_id),
        scheduler=scheduler,
        loop=loop,
        session=session,
        compile_format=cached_compiler(tokenizer, scheduler.engine.vocab_size),
    )
