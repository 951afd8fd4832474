"""lm-evaluation-harness: its scores are those of the checkpoint, whichever way it asks."""

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.tasks import TaskManager

from tests.clients.conftest import Server
from tests.clients.direct import CHOICES, PAIRS, Pair, Score, Scored
from tests.dialogues import BOX, CAPITAL, RAW

CONTEXT = 384  # tokens of the bundle
TASK = """
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: "{{{{choices}}}}"
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def model(server: Server, **options: Any) -> LocalCompletionsAPI:
    """The harness's model with what docs/serve.md says to give it."""
    return LocalCompletionsAPI(
        model="talk",
        base_url=f"{server.api}/completions",
        auth_token=server.key,
        max_length=CONTEXT,
        **options,
    )


def instances(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=i)
        for i, each in enumerate(arguments)
    ]


def check(told: list[tuple[float, bool]], pairs: list[Pair], expected: dict[Pair, Score]) -> None:
    """To 1e-5; to a millionth where a sum over many tokens is so large that float32 ends there."""
    for pair, (logprob, greedy) in zip(pairs, told, strict=True):
        assert logprob == pytest.approx(expected[pair].logprob, abs=1e-5, rel=1e-6), pair
        assert greedy == expected[pair].greedy, pair


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("num_concurrent", [1, 4])
def test_log_likelihoods_are_those_of_the_checkpoint(
    batch_size: int, num_concurrent: int, server: Server, direct: Scored
) -> None:
    lm = model(server, batch_size=batch_size, num_concurrent=num_concurrent)
    assert lm.tokenizer_backend == "remote", "found by asking the server"
    check(lm.loglikelihood(instances("loglikelihood", *PAIRS)), PAIRS, direct["bare"])


def test_log_likelihoods_after_a_bos_are_those_of_the_checkpoint(
    server: Server, direct: Scored, miniature_dir: Path
) -> None:
    """The harness's remote tokenizer never adds one; that of transformers does when told to."""
    lm = model(
        server,
        tokenizer_backend="huggingface",
        tokenizer=str(miniature_dir),
        add_bos_token=True,
        batch_size=4,
    )
    pairs = [pair for pair in PAIRS if pair[0]]
    told = lm.loglikelihood(instances("loglikelihood", *pairs))
    check(told, pairs, direct["with BOS"])
    assert {greedy for _, greedy in told} == {True, False}


def test_the_log_likelihood_of_a_whole_text_is_that_of_the_checkpoint(
    server: Server, direct: Scored
) -> None:
    [told] = model(server).loglikelihood_rolling(instances("loglikelihood_rolling", (BOX[1],)))
    assert told == pytest.approx(direct["bare"]["", BOX[1]].logprob, abs=1e-5, rel=1e-6)


def test_a_context_that_is_too_long_is_cut_to_what_fits(server: Server) -> None:
    """The harness cuts it on the left, and what is left fills the bundle's context."""
    long = "北京是中国的首都。" * 200
    [(logprob, _)] = model(server).loglikelihood(instances("loglikelihood", (long, "北京")))
    assert -100 < logprob < 0


def test_a_task_has_the_accuracy_that_the_checkpoint_has(
    server: Server, direct: Scored, tmp_path: Path
) -> None:
    scores = [direct["bare"][pair].logprob for pair in CHOICES]
    best = scores.index(max(scores))
    rows = [
        {"question": CHOICES[0][0], "choices": [letter for _, letter in CHOICES], "answer": answer}
        for answer in range(len(CHOICES))
    ]
    data = tmp_path / "test.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = TASK.format(data=data, cache=tmp_path / "cache")
    (tmp_path / "capitals.yaml").write_text(task)
    result = simple_evaluate(
        model(server, batch_size=4),
        tasks=["capitals"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    assert result["results"]["capitals"]["acc,none"] == 1 / len(CHOICES)
    right = [sample["doc"]["answer"] for sample in result["samples"]["capitals"] if sample["acc"]]
    assert right == [best]


def test_texts_are_made_to_the_end_that_the_harness_names(
    server: Server, miniature_dir: Path
) -> None:
    lm = model(
        server,
        tokenizer_backend="huggingface",
        tokenizer=str(miniature_dir),
        add_bos_token=True,
        max_gen_toks=64,
    )
    asked = [
        (RAW.format(CAPITAL[0]), {"until": ["，"]}),
        (RAW.format(BOX[0]), {"until": ["\n\n"], "do_sample": False}),
    ]
    told = lm.generate_until(instances("generate_until", *asked))
    assert [text.strip() for text in told] == ["北京是中国的首都", BOX[1]]


@pytest.mark.parametrize("num_concurrent", [1, 4])
def test_chats_have_their_answers(num_concurrent: int, server: Server) -> None:
    lm = LocalChatCompletion(
        model="talk", base_url=f"{server.api}/chat/completions", num_concurrent=num_concurrent
    )
    asked = [
        (lm.apply_chat_template([{"role": "user", "content": question}]), {"until": ["\n\n"]})
        for question, _ in (CAPITAL, BOX)
    ]
    assert lm.generate_until(instances("generate_until", *asked)) == [CAPITAL[1], BOX[1]]
