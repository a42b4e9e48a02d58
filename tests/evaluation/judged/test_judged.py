"""Verdicts of a judge behind a socket: what it is asked, how its words are read, and what becomes of failures."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from evaluation.answered_benchmarks import answers_to, grey
from PIL import Image
from tiny_benchmarks import judged

from isthmus.data.formats.benchmarks import WISE, GEditBench, ImgEdit
from isthmus.evaluation.judged import GEditScore, ImgEditScore, OpenAIJudge, WiScore
from isthmus.evaluation.judged.scoring import Judged
from isthmus.evaluation.metrics.base import Processes

Say = Callable[[str, list[int]], "str | int"]


def shade(uri: str) -> int:
    """A picture's grey value."""
    return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))[0, 0, 0])


class Server:
    """An OpenAI-style server: what it says is a function of the words and of the pictures' grey values.

    A number in place of words is the status of an error; ``page`` is what it answers in place of completions.
    """

    def __init__(self) -> None:
        self.say: Say = lambda words, shades: "nothing"
        self.asked: list[tuple[str, list[int]]] = []
        self.keys: set[str] = set()
        self.page, self.kind = b"", "application/json"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.keys.add(self.headers["Authorization"])
                words, *pictures = body["messages"][0]["content"]
                shades = [shade(one["image_url"]["url"]) for one in pictures]
                outer.asked.append((words["text"], shades))
                said = outer.say(words["text"], shades)
                status = said if isinstance(said, int) else 200
                message = {"role": "assistant", "content": said}
                answer: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
                answer["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
                content = json.dumps({"error": {"message": "no"}} if status != 200 else answer).encode()
                content = outer.page or content
                self.send_response(status)
                self.send_header("Content-Type", outer.kind)
                self.send_header("retry-after-ms", "1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    own = Server()
    thread = Thread(target=own.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield own
    own.http.shutdown()
    own.http.server_close()
    thread.join()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    judged(folder)
    return folder


def judge(server: Server, **options: Any) -> OpenAIJudge:
    return OpenAIJudge("judge-2026-01-01", server.url, "MY_JUDGES_KEY", **options)


def values(metric: Judged, answers: Any) -> dict[str, float]:
    return {name: figure.value for name, figure in metric.measure(answers, Processes()).items()}


def wise(consistency: int, realism: int, beauty: int) -> str:
    return f"**Consistency:** {consistency}\nRealism: {realism}\nAesthetic Quality: {beauty}"


def test_wiscore_and_what_the_judge_is_asked(
    server: Server, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_JUDGES_KEY", "open sesame")
    server.say = lambda words, shades: wise(2, 1, 0) if shades == [40] else wise(1, 2, 2)
    source = WISE(data / "wise")
    answers = answers_to(source, tmp_path / "stored", lambda index: grey(40 + index) if index < 2 else None)
    metric = WiScore(judge(server), tmp_path / "verdicts.jsonl")
    figures = metric.measure(answers, Processes())
    one, two = (0.7 * 2 + 0.2) / 2, (0.7 + 0.4 + 0.2) / 2
    assert figures["image/wise"].value == pytest.approx((one + two + 0) / 3), "an answer without a picture has none"
    assert figures["image/wise"].scores == pytest.approx({"1": one, "2": two, "3": 0.0})
    assert figures["image/wise_cultural_common_sense"].value == pytest.approx(one)
    assert figures["image/wise_realism"].value == 1 and figures["image/wise_judged"].value == 1
    assert len(server.asked) == 2 and server.keys == {"Bearer open sesame"}
    assert all("It is a carnation" in words for words, _ in server.asked)
    assert {f"The plant of {n}" in words for n, (words, _) in zip((1, 2), sorted(server.asked), strict=True)} == {True}
    protocol = figures["image/wise"].protocol
    assert protocol["judge"] == "judge-2026-01-01" and "{explanation}" in protocol["rubric"]["wise"]["words"]
    written = (tmp_path / "verdicts.jsonl").read_text() + json.dumps({n: f.protocol for n, f in figures.items()})
    assert "open sesame" not in written and "open sesame" not in repr(vars(metric.judge))


def test_what_was_judged_is_not_asked_again(server: Server, data: Path, tmp_path: Path) -> None:
    """Also after a kill that tore the last line; another picture, rubric, judge or setting is another question."""
    server.say = lambda words, shades: wise(2, 2, 2)
    answers = answers_to(WISE(data / "wise"), tmp_path / "stored", lambda index: grey(40 + index))
    kept = tmp_path / "verdicts.jsonl"
    one = judge(server)
    first = values(WiScore(one, kept), answers)
    content = kept.read_bytes()
    kept.write_bytes(content[:-9])
    for _ in range(2):  # the torn line's question once more, and then nothing
        assert values(WiScore(one, kept), answers) == first and len(server.asked) == 4
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Mark {prompt} by {explanation}.")
    values(WiScore(one, kept, rubric), answers)
    assert len(server.asked) == 7 and server.asked[-1][0].startswith("Mark The plant of")
    changed = answers_to(WISE(data / "wise"), tmp_path / "changed", lambda index: grey(140 + index))
    values(WiScore(one, kept, rubric), changed)
    assert len(server.asked) == 10
    values(WiScore(judge(server, temperature=1.0), kept, rubric), changed)
    assert len(server.asked) == 13, "the protocol names the setting, so that these words must be its own"


def test_answers_that_cannot_be_judged_are_counted(
    server: Server, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    says: dict[int, list[str | int]] = {40: [500, wise(2, 2, 2)], 41: ["I can't.", "No."], 42: [400]}
    server.say = lambda words, shades: says[shades[0]].pop(0)
    answers = answers_to(WISE(data / "wise"), tmp_path / "stored", lambda index: grey(40 + index))
    metric = WiScore(judge(server), tmp_path / "verdicts.jsonl")
    figures = metric.measure(answers, Processes())
    assert figures["image/wise"].value == 1 and figures["image/wise"].n == 1
    assert (figures["image/wise_judged"].value, figures["image/wise_judged"].n) == (pytest.approx(1 / 3), 3)
    assert "2 of 3 answers couldn't be judged (the first: the judge's words hold no marks: 'No.')" in caplog.text
    assert len(server.asked) == 5, "the server's fault is tried again, and words without marks are"
    server.say = lambda words, shades: wise(0, 0, 0)
    figures = metric.measure(answers, Processes())
    assert figures["image/wise"].n == 3 and len(server.asked) == 7, "only about the others"


def test_a_judge_that_refuses_the_key_ends_it(server: Server, data: Path, tmp_path: Path) -> None:
    server.say = lambda words, shades: 401
    answers = answers_to(WISE(data / "wise"), tmp_path / "stored", lambda index: grey(40 + index))
    with pytest.raises(ValueError, match=r"refuses model 'judge-2026-01-01' with the key of \$MY_JUDGES_KEY"):
        WiScore(judge(server, workers=1), tmp_path / "verdicts.jsonl").measure(answers, Processes())
    server.say = lambda words, shades: "What a nice picture."
    with pytest.raises(ValueError, match=r"wise: found none of 3 answers judged"):
        WiScore(judge(server), tmp_path / "verdicts.jsonl").measure(answers, Processes())
    server.page = b"<html>Welcome</html>"
    for kind in ("text/html", "application/json"):
        server.kind = kind
        with pytest.raises(ValueError, match=r"found none of 3 answers judged \(found no chat completion"):
            WiScore(judge(server), tmp_path / "others.jsonl").measure(answers, Processes())


def test_marks_end_a_sentence_but_are_no_fractions(tmp_path: Path) -> None:
    metric = WiScore(OpenAIJudge("any"), tmp_path / "verdicts.jsonl")
    assert metric.marks(["Consistency: 2. Realism: 1/2; Aesthetic Quality: 0."]) == {
        "consistency": 2,
        "realism": 1,
        "aesthetic_quality": 0,
    }
    assert metric.marks([wise(2, 1, 0).replace("0", "1.5")]) is None


def test_the_client_of_the_judge_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"found no openai; .*pip install 'isthmus\[judge\]'"):
        OpenAIJudge("any")


def test_imgedit_compares_with_the_original(server: Server, data: Path, tmp_path: Path) -> None:
    marks = {"adjust": (5, 4, 3), "style": (1, 1, 4)}

    def say(words: str, shades: list[int]) -> str:
        assert shades[0] == 40 and shades[1] in (90, 91), "the original first"
        first, second, third = marks["adjust" if "Make it lighter." in words else "style"]
        return (
            f"Reasons: it is grey.\nPrompt Compliance: {first}\nVisual Seamlessness: {second}\nDetail Fidelity: {third}"
        )

    server.say = say
    source = ImgEdit(data / "imgedit/basic_edit.json", data / "imgedit/images")
    answers = answers_to(source, tmp_path / "stored", lambda index: grey(90 + index))
    one = judge(server)
    found = values(ImgEditScore(one, tmp_path / "verdicts.jsonl"), answers)
    assert found == {
        "image/imgedit": pytest.approx(3.0),
        "image/imgedit_each": pytest.approx(3.0),
        "image/imgedit_adjust": pytest.approx(4.0),
        "image/imgedit_style": pytest.approx(2.0),
        "image/imgedit_judged": 1.0,
    }
    own = tmp_path / "prompts.json"
    own.write_text(json.dumps({"adjust": "Rate <edit_prompt>", "style": "Compare: <edit_prompt>"}))
    assert values(ImgEditScore(one, tmp_path / "v2.jsonl", own), answers) == found
    assert sorted(words for words, _ in server.asked[2:]) == ["Compare: Paint it.", "Rate Make it lighter."]
    own.write_text(json.dumps({"adjust": "Rate <edit_prompt>"}))
    with pytest.raises(ValueError, match="found no rubric for the kind 'style'"):
        values(ImgEditScore(one, tmp_path / "v3.jsonl", own), answers)


def test_gedit_takes_the_lower_mark_of_each_pair(server: Server, data: Path, tmp_path: Path) -> None:
    def say(words: str, shades: list[int]) -> str:
        if len(shades) == 2:
            assert "Paint it." in words
            return 'Sure: {"score": [9, 4], "reasoning": "partly"}'
        return '```json\n{"score": [9, 10], "reasoning": "good"}\n```'

    server.say = say
    answers = answers_to(GEditBench(data / "gedit"), tmp_path / "stored", lambda index: grey(90) if index else None)
    found = values(GEditScore(judge(server), tmp_path / "verdicts.jsonl"), answers)
    assert found["image/gedit_semantics"] == 2 and found["image/gedit_quality"] == 4.5
    assert found["image/gedit_overall"] == found["image/gedit_each"] == found["image/gedit_color_alter"] == 3
    assert len(server.asked) == 2
