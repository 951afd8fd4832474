"""Two emulated cards, a process for each, give the answers of one."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from runtime.bundle.reader import load_bundle
from runtime.progress import SILENT
from tests.ascend import test_commands as commands
from tests.ascend.conftest import Toolkit
from tests.ascend.test_commands import run
from tests.dialogues import CAPITAL, LLAMA
from tests.paths import DATA
from tests.runtime.batch.files import CHAT, by_id, request, write_lines
from tests.serving import PATIENCE, serve_command
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

card = commands.card  # a fixture


def compiled(bundles: Path, toolkit: Toolkit, directory: Path) -> Path:
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    return compile_bundle(exported, directory, Choices(target="310p3"), progress=SILENT).path


def check_report(directory: Path) -> None:
    """Of the process that ended last."""
    report = json.loads((directory / "report.json").read_text())
    assert (report["violations"], report["leaks"], report["freed_by_reset"]) == ([], [], [])


def test_a_batch_and_an_exam_on_two_devices_are_those_of_one(
    bundles: Path, toolkit: Toolkit, card: dict[str, str], tmp_path: Path
) -> None:
    om = compiled(bundles, toolkit, tmp_path / "om")
    # Greedy: in float16 the last bits of a logit depend on who else is in a batch.
    asked = {str(i): (CAPITAL, LLAMA)[i % 2] for i in range(12)}
    lines = [
        request(i, CHAT, messages=[{"role": "user", "content": question}], temperature=0)
        for i, (question, _) in asked.items()
    ]
    file = write_lines(tmp_path / "in", lines)
    exam = ("--data", DATA / "ceval", "--subjects", "law,logic", "--shots", 2)
    results: dict[str, dict[str, Any]] = {}
    for device in ("0", "0,1"):
        output = tmp_path / f"answers-{device}"
        done = run("runtime", "batch", om, file, "-o", output, "--device", device, **card)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        check_report(tmp_path)
        answers = by_id(output)
        assert answers.keys() == asked.keys()
        for i, line in answers.items():
            [choice] = line["response"]["body"]["choices"]
            assert choice["message"]["content"] == asked[i][1]
        output = tmp_path / f"results-{device}"
        done = run(
            "toolchain", "eval", "ceval", om, *exam, "-o", output, "--device", device, **card
        )
        assert done.returncode == 0, done.stderr
        check_report(tmp_path)
        results[device] = json.loads((output / "result.json").read_bytes())
    assert results["0,1"] == results["0"]

    done = run("runtime", "batch", om, file, "-o", tmp_path / "no", "--device", "0,2", **card)
    assert done.returncode == 1
    assert done.stderr.endswith("error: no such device; got 2; allowed: 0 to 1\n")


def test_a_server_on_two_devices_answers_by_both(
    bundles: Path, toolkit: Toolkit, card: dict[str, str], tmp_path: Path
) -> None:
    om = compiled(bundles, toolkit, tmp_path / "om")
    asked = [CAPITAL, LLAMA] * 6
    card["ACL_EMULATOR_REPORT"] = str(tmp_path / "{pid}.json")
    with serve_command(om, "--device", "0,1", **card) as (process, url):
        with (
            httpx2.Client(base_url=url, timeout=PATIENCE, trust_env=False) as http,
            ThreadPoolExecutor(len(asked)) as pool,
        ):

            def ask(question: str) -> str:
                message = {"role": "user", "content": question}
                body = {"messages": [message], "temperature": 0}
                reply = http.post("/v1/chat/completions", json=body).json()
                return str(reply["choices"][0]["message"]["content"])

            said = list(pool.map(ask, [question for question, _ in asked]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert said == [answer for _, answer in asked]
    reports = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert sum("mdl.execute_async" in report["calls"] for report in reports) == 2
    for report in reports:
        assert (report["violations"], report["leaks"], report["freed_by_reset"]) == ([], [], [])
