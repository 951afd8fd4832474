"""toolchain eval --url, as a person or a script sees it."""

from pathlib import Path

from tests.paths import DATA
from tests.serving import make_service, ready
from tests.toolchain.commands.test_eval import QUESTIONS, SUBJECTS, document, evaluate


def test_a_server_is_evaluated_by_its_address(bundles: Path, tmp_path: Path) -> None:
    chosen = ("--data", DATA / "ceval", "--subjects", SUBJECTS, "--style", "alpaca2", "--shots", 1)
    bundle = bundles / "talk-fp32"
    expected = document("ceval", bundle, *chosen, "-o", tmp_path / "bundle")
    with ready(make_service(bundle)) as serving:
        server = ("--url", f"{serving.url}/v1", "--tokenizer", bundle, "--concurrency", 4)
        found = document("ceval", *server, *chosen, "-o", tmp_path / "server")
        compared = ("--compare-to", tmp_path / "bundle")
        shown = evaluate("ceval", *server, *chosen, *compared, "-o", tmp_path / "server").stdout
    assert found["categories"] == expected["categories"]
    assert (found["effort"]["asked"], found["effort"]["computed_tokens"]) == (QUESTIONS, None)
    assert f"against bundle: {QUESTIONS} of {QUESTIONS} choices equal" in shown
    assert f"{QUESTIONS} taken from the log\n" in shown  # and nothing of what it computed
    assert (tmp_path / "bundle/cache0.csv").read_bytes() == (
        tmp_path / "server/cache0.csv"
    ).read_bytes()


def test_one_of_a_bundle_and_a_server_is_examined(tmp_path: Path) -> None:
    chosen = ("--data", DATA / "ceval", "--subjects", "law", "-o", tmp_path)
    url = ("--url", "http://127.0.0.1:1")
    model = ("--tokenizer", tmp_path / "tokenizer.model")
    for options, message in (
        ((), "give a compiled bundle or --url, one of them"),
        (("nowhere", *url), "give a compiled bundle or --url, one of them"),
        (url, "give the --tokenizer of its model"),
        ((*url, *model, "--style", "alpaca2-official"), "log-probabilities only"),
        ((*url, *model), "tokenizer.model"),
        (("--url", "box", *model), "no address of a server; got box"),
    ):
        done = evaluate("ceval", *options, *chosen)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
