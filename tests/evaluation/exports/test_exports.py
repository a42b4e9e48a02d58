"""Answers as other projects' scorers read them: names, places, what stands beside them, and what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation.answered_benchmarks import answers_to, film, grey
from PIL import Image
from tiny_benchmarks import judged, prompts

from isthmus.data.formats.benchmarks import WISE, DPGBench, GenEval, T2ICompBench, VBench
from isthmus.data.media.files import read_media
from isthmus.evaluation.exports import AnswerFiles, DPGBenchGrids, GenEvalFolders
from isthmus.evaluation.metrics.base import Processes
from isthmus.types import Modality


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    prompts(folder)
    judged(folder)
    return folder


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def shade(path: Path) -> int:
    return int(np.asarray(Image.open(path))[0, 0, 0])


def test_geneval_has_a_folder_a_prompt(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = GenEval(data / "geneval/evaluation_metadata.jsonl", samples=2)
    answers = answers_to(source, tmp_path / "stored", lambda index: grey(index) if index != 1 else None)
    out = tmp_path / "out"
    for _ in range(2):  # a second export of the same prompts replaces the first
        (figure,) = GenEvalFolders(out).measure(answers, Processes()).values()
    expected = ["00000/metadata.jsonl", "00000/samples/0000.png"]
    expected += ["00001/metadata.jsonl", "00001/samples/0000.png", "00001/samples/0001.png"]
    assert below(out) == expected
    assert [shade(out / name) for name in expected if name.endswith("png")] == [0, 2, 3]
    lines = source.files[0].read_text().splitlines()
    assert [json.loads((out / f"0000{n}/metadata.jsonl").read_text()) for n in (0, 1)] == list(map(json.loads, lines))
    assert (figure.value, figure.n, figure.better) == (0.75, 4, "higher")
    assert figure.scores == {"00000/0": 1.0, "00000/1": 0.0, "00001/0": 1.0, "00001/1": 1.0}
    assert "1 of 4 answers hold no image" in caplog.text
    gone = answers_to(source, tmp_path / "other", lambda index: grey(index) if index > 1 else None)
    GenEvalFolders(out).measure(gone, Processes())
    assert below(out) == [name for name in expected if name != "00000/samples/0000.png"], "nothing of an earlier answer"
    fewer = [answer for answer in answers if answer.details["prompt_index"] == 0]
    with pytest.raises(ValueError, match=r"00001/samples/000\d.png: found a file that no answer has"):
        GenEvalFolders(out).measure(fewer, Processes())


def test_dpg_bench_has_a_grid_a_prompt(data: Path, tmp_path: Path) -> None:
    source = DPGBench(data / "dpg_bench/prompts")
    answers = answers_to(source, tmp_path / "stored", lambda index: grey(10 * index + 10) if index != 2 else None)
    (figure,) = DPGBenchGrids(tmp_path / "out").measure(answers, Processes()).values()
    assert below(tmp_path / "out") == ["midjourney3.png", "partiprompts0.png"]
    grid = np.asarray(Image.open(tmp_path / "out" / "midjourney3.png"))
    assert grid.shape == (16, 16, 3) and figure.protocol["resolution"] == 8 and figure.value == 7 / 8
    quarters = [grid[row : row + 8, column : column + 8] for row in (0, 8) for column in (0, 8)]
    assert [set(quarter.flat) for quarter in quarters] == [{10}, {20}, {0}, {40}], "sample by sample, row by row"
    plain = [
        replace(one, details={name: value for name, value in one.details.items() if name != "sample"})
        for one in answers
    ]
    DPGBenchGrids(tmp_path / "plain").measure(plain, Processes())
    again = np.asarray(Image.open(tmp_path / "plain" / "midjourney3.png"))
    np.testing.assert_array_equal(again, grid, "samples are told by their order, where nothing else tells them")
    one = DPGBench(data / "dpg_bench/prompts", samples=1)
    DPGBenchGrids(tmp_path / "single").measure(answers_to(one, tmp_path / "s1", lambda index: grey(7)), Processes())
    assert Image.open(tmp_path / "single" / "partiprompts0.png").size == (8, 8)
    uneven = answers_to(one, tmp_path / "s2", lambda index: grey(7, side=8 + index))
    with pytest.raises(ValueError, match=r"found pictures of 8, 9 pixels; expected one size"):
        DPGBenchGrids(tmp_path / "uneven").measure(uneven, Processes())
    many = answers_to(DPGBench(data / "dpg_bench/prompts", samples=5), tmp_path / "s3", lambda index: None)
    with pytest.raises(ValueError, match=r"found 5 samples; expected at most 4"):
        DPGBenchGrids(tmp_path / "many").measure(many, Processes())


def test_files_are_named_by_prompts(data: Path, tmp_path: Path) -> None:
    """VBench's and T2I-CompBench's scorers find the prompt in the name."""
    videos = VBench(data / "vbench/VBench_full_info.json", samples=2)
    AnswerFiles(tmp_path / "vbench", "video", "{prompt}-{sample}.mp4").measure(
        answers_to(videos, tmp_path / "stored", lambda index: film(60 * index)), Processes()
    )
    names = [f"{one}-{n}.mp4" for one in ("In a still frame, a stop sign", "a bird and a cat") for n in (0, 1)]
    assert below(tmp_path / "vbench") == names
    again = read_media(tmp_path / "vbench" / names[3], Modality.VIDEO)
    assert again.array.shape == (4, 16, 16, 3) and again.rate == 8 and abs(int(again.array.mean()) - 180) < 4
    pictures = T2ICompBench(data / "t2i_compbench/color_val.txt", samples=2)
    export = AnswerFiles(tmp_path / "t2i", file="{source}/samples/{prompt}_{index:06d}.png")
    export.measure(answers_to(pictures, tmp_path / "t2i_stored", grey), Processes())
    bowl, cup = "a green bench and a color bowl", "a red cup"
    assert below(tmp_path / "t2i") == [f"own/samples/{bowl}_{n:06d}.png" for n in (0, 1)] + [
        f"own/samples/{cup}_{n:06d}.png" for n in (2, 3)
    ]
    AnswerFiles(tmp_path / "wise", file="{prompt_id}.png").measure(
        answers_to(WISE(data / "wise"), tmp_path / "wise_stored", grey), Processes()
    )
    assert below(tmp_path / "wise") == ["1.png", "2.png", "3.png"]


def test_what_would_mislead_a_scorer_is_refused(data: Path, tmp_path: Path) -> None:
    source = T2ICompBench(data / "t2i_compbench/color_val.txt", samples=2)
    answers = answers_to(source, tmp_path / "stored", grey)
    with pytest.raises(ValueError, match=r"file: found 'a green .*' for two answers"):
        AnswerFiles(tmp_path / "a", file="{prompt}.png").measure(answers, Processes())
    with pytest.raises(ValueError, match=r"expected 'tag', which 'file'"):
        AnswerFiles(tmp_path / "a", file="{tag}.png").measure(answers, Processes())
    with pytest.raises(ValueError, match=r"found no detail 'metadata'; expected the prompt's record"):
        GenEvalFolders(tmp_path / "a").measure(answers, Processes())
    with pytest.raises(ValueError, match=r"found a file's name of 300 bytes; expected at most 255"):
        AnswerFiles(tmp_path / "a", file="{index:0300d}/{sample}.png").measure(answers, Processes())
    with pytest.raises(ValueError, match=r"id: found '0/0'; expected what can stand in the name of a file"):
        AnswerFiles(tmp_path / "a").measure(answers, Processes())
    with pytest.raises(ValueError, match=r"file: found '\{id\}.mp4' for image; expected a name that ends in .png"):
        AnswerFiles(tmp_path / "a", file="{id}.mp4")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "earlier_000099.png").touch()
    with pytest.raises(ValueError, match=r"earlier_000099.png: found a file that no answer has"):
        AnswerFiles(tmp_path / "b", file="{prompt}_{index:06d}.png").measure(answers, Processes())
    for one in ("a", "a[1]"):  # sources have folders of their own
        named = answers_to(source, tmp_path / "stored", grey, name=one)
        AnswerFiles(tmp_path / "c", file="{source}/{prompt}_{index}.png").measure(named, Processes())
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["a", "a[1]"]
    assert not (tmp_path / "a").exists(), "nothing is written before all is known to fit"
