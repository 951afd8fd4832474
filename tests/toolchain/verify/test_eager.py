"""Claims about the torch programs of an exported bundle as a stage of verify, run by torch."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from profiles import load_profile
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.progress import SILENT
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message, encode_chat
from tests.dialogues import AGAIN_ALONE, BOX, CAPITAL, LLAMA, STEPS
from tests.paths import DATA
from tests.toolchain.verify.planting import planted, transpose_q
from toolchain.cli import app
from toolchain.verify.eager import open_eager
from toolchain.verify.report import LEAST_ROWS, StageReport
from toolchain.verify.stages import Stage, verify

ALIKE = 0.8  # of greedy tokens: in float16 one answer of five may part at a tie

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def sequences(bundles: Path) -> list[list[int]]:
    """Dialogues that the miniature knows, cut to the 40 rows of the small cache."""
    tokenizer = SentencePieceTokenizer(bundles / "checkpoint" / TOKENIZER)
    ids = [
        encode_chat(tokenizer, [Message(role="user", content=question)]) + tokenizer.encode(answer)
        for question, answer in (CAPITAL, BOX, LLAMA, STEPS, AGAIN_ALONE)
    ]
    return [sequence[-40:] for sequence in ids]


def run(bundle: Bundle, bundles: Path, sequences: list[list[int]]) -> StageReport:
    profile = load_profile(str(DATA / "small.toml"))
    stages = [Stage(bundle, open_eager)]
    [stage] = verify(stages, bundles / "checkpoint", profile, sequences, progress=SILENT)
    return stage


def test_the_programs_of_every_graph_pass_and_give_the_greedy_text_of_float32(
    bundles: Path, sequences: list[list[int]]
) -> None:
    stage = run(load_bundle(bundles / "small-exported"), bundles, sequences)
    assert [report.graph for report in stage.graphs] == [
        "prefill_s4",
        "prefill_s8",
        "score_s8",
        "decode_b1",
        "decode_b3",
    ]
    assert stage.verdict == "pass"
    assert stage.rows >= LEAST_ROWS
    assert stage.greedy_match >= ALIKE
    assert "(torch eager fp16, float cache): pass" in stage.summary[0]
    assert stage.summary[0].endswith("its layers were not looked at")


def test_a_fault_of_the_bundle_fails_its_programs(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    exported = planted(load_bundle(bundles / "small-exported"), tmp_path / "faulty", transpose_q)
    stage = run(exported, bundles, sequences[:1])
    assert {report.verdict for report in stage.graphs} == {"fail"}


def test_the_command_adds_the_stage_after_the_bundles(bundles: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.json"
    ids.write_text("[[1, 300, 400, 500, 600, 20]]")
    arguments = [str(bundles / "small-exported"), "--model", str(bundles / "checkpoint")]
    result = CliRunner().invoke(app, ["verify", *arguments, "--ids", str(ids), "--eager"])
    assert result.exit_code == 1, "too few rows for a pass"
    portable = result.stdout.index("(portable fp16, float cache): too few rows")
    assert portable < result.stdout.index("(torch eager fp16, float cache): too few rows")
