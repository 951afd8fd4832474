"""Opens a bundle for serving: session, tokenizer, every graph, and one token as a trial."""

import time

from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.loop import EngineLoop
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.progress import Progress
from runtime.sampling.defaults import default_params
from runtime.sampling.params import SamplingParams
from runtime.server.formats import cached_compiler
from runtime.server.served_model import ServedModel
from runtime.server.settings import Settings
from runtime.sessions import Session, SessionOptions, open_session
from runtime.text.tokenizer import open_tokenizer

__all__ = ["open_model", "served"]


def open_model(bundle: Bundle, settings: Settings, progress: Progress) -> ServedModel:
    """Opens what a bundle needs to answer.

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
    return served(bundle, session, settings)


def served(bundle: Bundle, session: Session, settings: Settings) -> ServedModel:
    """A model on a session that is open, after it has made a token.

    Raises:
        BundleError: a file in the bundle cannot be used.
        SessionError: the backend cannot run it.
    """
    tokenizer = open_tokenizer(bundle)
    scheduler = Scheduler(Engine(session))
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
