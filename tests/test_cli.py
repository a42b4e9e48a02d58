"""The command line: runs that start from files, resume and measure, and what users are told when something is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny_world import tiny_clone

from isthmus import cli
from isthmus.cli import configs
from isthmus.cli.errors import user_errors
from isthmus.cli.training import Command
from isthmus.model import AnyToAny
from isthmus.paths import shipped_folder

QUICK = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": [
            {
                "class_path": "pytorch_lightning.callbacks.ModelCheckpoint",
                "init_args": {
                    "save_last": True,
                    "save_top_k": 0,
                    "every_n_train_steps": 1,
                    "enable_version_counter": False,
                },
            },
            {
                "class_path": "isthmus.evaluation.MatrixEvaluation",
                "init_args": {
                    "judges": {"text": {"class_path": "isthmus.pocket.judges.text.TextJudge"}},
                    "values": {"digit": 10, "colour": 6, "motion": 4},
                    "samples": 0,
                },
            },
        ],
    },
    "data": {
        "batch_size": 4,
        "num_workers": 0,
        "validation": {
            "describe": {
                "class_path": "isthmus.pocket.tasks.Describe",
                "init_args": {"split": "validation", "size": 4},
            }
        },
        "test": {
            "matrix": {
                "class_path": "isthmus.pocket.cells.MatrixCells",
                "init_args": {"per_cell": 1, "outputs": ["text"], "arithmetic": False},
            }
        },
    },
    "model": {"backbone": {"init_args": {"max_length": 900}}, "sampling": {"max_new_tokens": 4}},
}


class Seeds(Command):
    """Parses as ``fit`` does, and builds nothing."""

    def instantiate_classes(self) -> None:
        self.before_instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        pass


STEPS = [
    "--training.stages.encoder_alignment.steps=2",
    "--training.stages.decoder_alignment.steps=1",
    "--training.stages.instruction_tuning.steps=1",
]
WORKER = ["--data.num_workers=1"]  # who prepares the data changes nothing


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny experts where the shipped configs look for the embedded ones, and a config of short runs."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    (folder / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    return folder


@pytest.fixture(autouse=True)
def _in_the_clone(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("ISTHMUS_DEBUG", raising=False)


def run(*args: str) -> None:
    """``train.py`` with a config, short."""
    cli.train([*args, "-c", "quick.yaml", *STEPS])


def refused(capsys: pytest.CaptureFixture[str], *args: str, short: bool = True) -> str:
    """What stderr says of arguments that are refused with exit code 2."""
    with pytest.raises(SystemExit) as exit_info:
        run(*args) if short else cli.main(list(args))
    said = capsys.readouterr().err
    assert exit_info.value.code == 2 and "Traceback" not in said, said
    return said


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file's time of change and content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def trained(clone: Path) -> Path:
    """The folder of runs, after all three stages, each started from the last one's weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        patch.setattr(sys, "argv", ["train.py"])
        for name in ("stage1.yaml", "stage2.yaml", "stage3.yaml"):
            run("fit", "-c", name)
    return clone / "runs"


def test_a_stage_starts_from_the_last_ones_weights(trained: Path) -> None:
    folders = [
        trained / "stage1/encoder_alignment",
        trained / "stage2/decoder_alignment",
        trained / "stage3/instruction_tuning",
    ]
    first, second, third = (
        {file.name: file.read_bytes() for file in folder.glob("*.safetensors")} for folder in folders
    )
    assert [json.loads((folder / "manifest.json").read_text())["stage"] for folder in folders] == [
        "encoder_alignment",
        "decoder_alignment",
        "instruction_tuning",
    ]
    assert first["input_projectors.image.safetensors"] == second["input_projectors.image.safetensors"]
    assert any(first[name] != second[name] for name in first if name.startswith("output_projectors"))
    assert first["lora.safetensors"] == second["lora.safetensors"] != third["lora.safetensors"]


def test_a_run_leaves_its_config_and_is_repeated_from_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The saved config alone gives the same run, and the second run in a folder replaces the first."""
    stage = trained / "stage1"
    saved = yaml.safe_load((stage / "config.yaml").read_text())
    assert saved["training"]["run"] == ["encoder_alignment"] and saved["data"]["batch_size"] == 4
    manifest = json.loads((stage / "encoder_alignment/manifest.json").read_text())
    assert manifest["configuration"] == saved["model"]
    again = trained / "again"
    shutil.copytree(stage, again)
    repeat = ["fit", "-c", str(stage / "config.yaml"), "--training.folder", str(again)]
    said = refused(capsys, *repeat, short=False)
    assert f"{again} holds a run already" in said and "--ckpt_path last" in said and "--overwrite" in said
    before = tree(stage)
    assert tree(again).keys() == {name.replace("/stage1/", "/again/") for name in before}
    cli.train([*repeat, "--overwrite"])
    assert json.loads((again / "encoder_alignment/manifest.json").read_text()) == manifest
    kept = {path: content for path, (_, content) in tree(again / "previous-1").items() if ".run.lock" not in path}
    expected = {path: content for path, (_, content) in before.items() if ".run.lock" not in path}
    assert list(kept.values()) == list(expected.values())
    last = (torch.load(stage / "checkpoints/last.ckpt", weights_only=True) for stage in (stage, again))
    assert len({one["global_step"] for one in last}) == 1


def test_last_is_of_this_run_and_is_named(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A start that began anew and was broken off has none: the earlier run's isn't taken for it."""
    folder = trained / "anew"
    shutil.copytree(trained / "stage1", folder)
    arguments = ("fit", "-c", "stage1.yaml", "--training.folder", str(folder))
    run(*arguments, "--ckpt_path=last")
    with pytest.raises(SystemExit) as ended:
        run(*arguments, "--overwrite", "--trainer.max_time=00:00:00:00")
    assert ended.value.code == 3
    said = refused(capsys, *arguments, "--ckpt_path=last")
    assert f"found no checkpoint in {folder}/checkpoints; expected one that this run has written" in said
    assert f"An earlier run's newest is {folder}/previous-1/checkpoints/last.ckpt" in said
    run(*arguments)


def test_a_damaged_checkpoint_is_told_and_last_is_the_newest_whole_one(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(trained / "stage1/checkpoints", tmp_path / "checkpoints")
    last = tmp_path / "checkpoints/last.ckpt"
    shutil.copy(last, last.with_stem("step=1"))
    last.write_bytes(last.read_bytes()[:5000])
    arguments = ("fit", "-c", "stage1.yaml", f"--training.folder={tmp_path}")
    said = refused(capsys, *arguments, f"--ckpt_path={last}")
    assert f"error: {last}: damaged" in said and f"go on with --ckpt_path {last.with_stem('step=1')}" in said
    run(*arguments, "--ckpt_path=last")
    assert f"{last}: damaged" in caplog.text and f"taken instead: {last.with_stem('step=1')}" in caplog.text
    assert f"going on from {last.with_stem('step=1')}: stage 'encoder_alignment'" in caplog.text


def test_what_a_run_logs(trained: Path) -> None:
    """Losses by term, learning rates, tokens a second and the signals' health; more where a config asks for it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((trained / "stage3").rglob("events.out.*")).parent))
    events.Reload()
    logged = set(events.Tags()["scalars"])
    assert {"train/text_loss", "train/text_accuracy", "train/tokens_per_second", "lr-AdamW/all"} <= logged
    assert {"gradient_norm/lora", "gradient_norm/output_projectors.image", "memory/process"} <= logged
    assert any(name.startswith("train/signal_called_") for name in logged)
    assert any(name.startswith("train/signal_cosine_") for name in logged)
    assert any(name.startswith("train/alignment_") for name in logged)


@pytest.mark.parametrize("logger", ["true", "false"])
def test_a_run_brings_what_its_config_leaves_out(logger: str, tmp_path: Path, trained: Path) -> None:
    run(
        "fit",
        "-c",
        "stage1.yaml",
        f"--training.folder={tmp_path}",
        f"--trainer.logger={logger}",
        "--trainer.enable_progress_bar=true",
        "--trainer.callbacks=[]",
    )
    assert bool(list(tmp_path.rglob("events.out.*"))) == (logger == "true")


def test_the_weights_rebuild_their_model(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # the experts are found beside the runs
    model = AnyToAny.from_checkpoint(trained / "stage3/instruction_tuning")
    assert not model.training and model.outputs == ["image", "video", "audio", "points"]


def test_measuring(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = trained.parent / "elsewhere" / "pocket" / "llama"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.symlink_to(trained.parent / "checkpoints/pocket/llama")
    run("validate", "-c", "stage3.yaml", "--experts_root", "elsewhere")
    placed = yaml.safe_load((trained / "stage3/validate.yaml").read_text())
    language_model = placed["model"]["backbone"]["init_args"]["language_model"]["init_args"]
    assert language_model["checkpoint"] == str(elsewhere) and not {"experts", "experts_root"} & placed.keys()
    # What it was trained on need not be there, and is still told by what the run keeps.
    gone = {"class_path": "isthmus.data.JsonLines", "init_args": {"path": "nowhere/gone.jsonl"}}
    run("test", "-c", "stage3.yaml", f"--data.sources={json.dumps({'gone': gone})}")
    assert yaml.safe_load((trained / "stage3/test.yaml").read_text())["data"]["sources"]["gone"]["init_args"]
    matrix = json.loads((trained / "stage3/matrix.json").read_text())
    assert matrix["cells"]["points->text"]["n"] == 1
    assert (trained / "stage3/test.yaml").is_file() and (trained / "stage3/validate.yaml").is_file()
    assert yaml.safe_load((trained / "stage3/config.yaml").read_text())["training"]["run"] == ["instruction_tuning"]


def test_resuming(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the newest checkpoint, read as tensors and plain values; a finished run has nothing left to do."""
    torch.load(trained / "stage1/checkpoints/last.ckpt", weights_only=True)
    weights = trained / "stage1/encoder_alignment/input_projectors.image.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    run("fit", "-c", "stage1.yaml", "--ckpt_path", "last")
    assert weights.read_bytes() == before


def test_a_trial_run_touches_nothing_of_a_finished_one(trained: Path) -> None:
    before = tree(trained)
    run("fit", "-c", "stage1.yaml", "--trainer.fast_dev_run=true")
    run("fit", "-c", "stage1.yaml", "--trainer.fast_dev_run=2", "--training.folder=runs/new")
    run("test", "-c", "stage3.yaml", "--trainer.fast_dev_run=true")
    run("validate", "-c", "stage3.yaml", "--trainer.fast_dev_run=true")
    assert tree(trained) == before and not (trained / "new").exists()


def test_one_seed_is_that_of_the_model_and_the_data(clone: Path) -> None:
    """A seed of its own counts where it is given after, or beside, ``seed_everything``."""
    (clone / "seeds.yaml").write_text(yaml.safe_dump({"seed_everything": 3, "model": {"seed": 4}}))
    for args, seeds in (
        ([], (0, 0)),
        (["--seed_everything=5"], (5, 5)),
        (["--seed_everything", "5", "--data.seed=2"], (5, 2)),
        (["-c", "seeds.yaml"], (4, 3)),
        (["-c", "seeds.yaml", "--seed_everything=5"], (5, 5)),
        (["-c", "seeds.yaml", "--seed_everything=false"], (4, 0)),
    ):
        config = Seeds(["fit", "-c", "stage1.yaml", *args]).config.fit
        assert (config.model.seed, config.data.seed) == seeds, args


@pytest.mark.parametrize("own", [[], ["--model.backbone.init_args.language_model.init_args.lora.r=4"]])
def test_only_ones_own_lora_is_warned_of_where_no_stage_trains_it(
    own: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run("fit", "-c", "stage1.yaml", f"--training.folder={tmp_path / 'new'}", "--trainer.fast_dev_run=1", *own)
    told = [(record.levelname, record.message) for record in caplog.records if record.message.startswith("lora: ")]
    ((level, said),) = told
    assert (level, "Fix: " in said) == (("WARNING", True) if own else ("INFO", False))
    assert ("the default experts have it" in said) == (not own)


def test_a_run_that_ends_before_its_time_says_so(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = trained / "short"
    steps = [f"--training.stages.{name}.steps=2" for name in ("encoder_alignment", "decoder_alignment")]
    arguments = ("-c", "curriculum.yaml", "-c", "quick.yaml", *STEPS, *steps, "--training.folder", str(folder))
    with pytest.raises(SystemExit) as ended:
        cli.train(["fit", *arguments, "--trainer.max_steps=3"])
    assert ended.value.code == 3
    said = caplog.messages[-1]
    assert said.startswith("trainer.max_steps 3 (raise it to go on) ended the run: stage 'decoder_alignment' isn't")
    assert said.endswith(f"{folder}/checkpoints/last.ckpt holds all 3 steps")
    assert [path.parent.name for path in folder.glob("*/manifest.json")] == ["encoder_alignment"]
    cli.train(["fit", *arguments, "--ckpt_path=last"])
    assert len(list(folder.glob("*/manifest.json"))) == 3


def test_a_checkpoint_does_not_change_what_the_config_says(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "fit", "-c", "stage2.yaml", "--ckpt_path", str(trained / "stage1/checkpoints/last.ckpt"))
    assert "it holds a run of encoder_alignment; this one runs decoder_alignment" in said
    assert "training.init_from" in said


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-c", "stage9.yaml"], "-c stage9.yaml: found no such file, neither here nor under configs/"),
        (["-c", "stage1.yaml", "--ckpt_path", "gone.ckpt"], "--ckpt_path gone.ckpt: found no file"),
        (["-c", "stage1.yaml", "--training.init_from", "gone"], "gone: found no manifest.json, so no trained model"),
        (
            ["-c", "stage1.yaml", "--experts", "backbone=gone"],
            "backbone=gone: found nothing there; expected the expert",
        ),
        (["-c", "stage1.yaml", "--experts", "gone"], "--experts gone: expected ROLE=PATH, each role once"),
        (["-c", "stage1.yaml", "--training.run=[warm_up]"], "training.run: unknown stage 'warm_up'"),
        (["--data.batch_sise", "3"], "Did you mean --data.batch_size?"),
        (["--model.backbone.language_model.recompute", "false"], "recompute is gone: it spared 1 %"),
        (["--data.workers=2"], "command line: data.workers is called num_workers now. Fix: rename it."),
        (["--model.backbone.language_model.lora.rank", "4"], "lora.rank is called r now"),
        (["--model.sampling", "{max_tokens: 3}"], "sampling.max_tokens is called max_new_tokens now"),
        (["-c", "stage1.yaml", "--training.stages.encoder_alignment.step", "3"], "Did you mean steps"),
        (["-c", "stage1.yaml", "--data.batch_size", "many"], "--data.batch_size: found 'many'; expected an integer"),
        (["-c", "stage1.yaml", "--training.stages.encoder_alignment.losses.text=-1"], "losses.text: found -1"),
        (["-c", "stage1.yaml", "--training.stages.encoder_alignment.trains=[wings]"], "trains names 'wings'"),
        (["-c", "stage1.yaml", "--training.stages.encoder_alignment.data={scribe: 1.0}"], "scribe"),
    ],
)
def test_what_is_refused(args: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(capsys, "fit", *args, "--training.folder=runs/refused")


@pytest.mark.parametrize(
    ("config", "name", "meant"),
    [
        ({"training": {"folde": "x"}}, "folde", "folder"),
        ({"model": {"backbone": {"init_args": {"max_lengths": 3}}}}, "max_lengths", "max_length"),
        ({"trainer": {"max_epoch": 3}}, "max_epoch", "max_epochs"),
        ({"trainr": {"max_epochs": 3}}, "trainr", "trainer"),
    ],
)
def test_an_unknown_key_is_named_with_its_likeliest_meaning(
    config: dict[str, object], name: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(config))
    said = refused(capsys, "fit", "-c", "stage1.yaml", "-c", str(path))
    about, _, suggestion = said.partition("Did you mean")
    assert name in about and meant in suggestion


def test_an_option_that_is_gone_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "earlier.yaml"
    language_model = {"class_path": "isthmus.backbones.CausalBackbone", "init_args": {"recompute": True}}
    path.write_text(yaml.safe_dump({"model": {"backbone": {"init_args": {"language_model": language_model}}}}))
    said = refused(capsys, "fit", "-c", "stage1.yaml", "-c", str(path))
    assert str(path) in said and "recompute is gone: it spared 1 %" in said
    assert "checkpointed_layers spares more. Fix: take out what is gone." in said


def test_an_absent_expert_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = {"class_path": "isthmus.encoders.ImageBind", "init_args": {"checkpoint": "checkpoints/imagebind"}}
    config = {"model": {"input_side": {"init_args": {"encoders": [encoder]}}}}
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    said = refused(capsys, "fit", "-c", "stage1.yaml", "-c", "mine.yaml", short=False)
    assert said.startswith("error: checkpoints/imagebind: no such checkpoint")
    assert "Union" not in said


def test_configs_of_this_folder_come_before_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = configs.find_config("stage1.yaml")
    assert Path(shipped) == shipped_folder("configs") / "stage1.yaml"
    assert configs.find_config("engines/ddp.yaml")
    assert configs.default_configs() == [
        str(shipped_folder("configs") / name) for name in (*configs.DEFAULTS, configs.WORLD)
    ]
    own = tmp_path / "configs" / "stage1.yaml"
    own.parent.mkdir()
    own.write_text("{}")
    assert configs.find_config("stage1.yaml") == str(Path("configs") / "stage1.yaml")
    (tmp_path / "stage1.yaml").write_text("{}")
    assert configs.find_config("stage1.yaml") == "stage1.yaml"
    with pytest.raises(ValueError, match=r"stage9.*one of: .*curriculum\.yaml.*stage1\.yaml"):
        configs.find_config("stage9.yaml")


def test_only_our_own_words_replace_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="invalid literal"), user_errors():
        int("seven")
    with pytest.raises(SystemExit), user_errors():
        configs.find_config("stage9.yaml")
    assert capsys.readouterr().err.startswith("error: -c stage9.yaml")
    with pytest.raises(SystemExit) as exit_info, user_errors():
        raise KeyboardInterrupt
    assert exit_info.value.code == 130
    monkeypatch.setenv("ISTHMUS_DEBUG", "1")
    with pytest.raises(ValueError, match="stage9"), user_errors():
        configs.find_config("stage9.yaml")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--help"], "generate"),
        (["--version"], "isthmus "),
        (["generate", "--help"], "--require"),
        (["chat", "--help"], "--experts_root"),
        (["compare", "quick.yaml", "quick.yaml"], "0 settings differ"),
    ],
)
def test_plain_commands_start_without_heavy_libraries(args: list[str], expected: str) -> None:
    program = (
        f"import sys\nfrom isthmus.cli import main\ntry:\n    main({args})\nexcept SystemExit: pass\n"
        "sys.exit(sorted({'torch', 'numpy', 'transformers', 'pytorch_lightning'} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert expected in ran.stdout


def test_the_console_script_trains_too(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["fit", "-c", "stage1.yaml", "-c", "quick.yaml", *STEPS, "--training.folder", "runs/console", *WORKER])
    manifests = [trained / name / "encoder_alignment/manifest.json" for name in ("stage1", "console")]
    first, second = (json.loads(path.read_text())["components"] for path in manifests)
    assert first == second
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert all(command in said for command in ("fit", "validate", "test", "generate", "chat"))


@pytest.mark.slow
def test_a_tilde_is_the_home_folder_in_options_and_in_configs(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell replaces ``~`` neither behind an equals sign nor in YAML."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    shutil.copy("quick.yaml", home / "mine.yaml")
    (home / "log.yaml").write_text(
        "trainer: {logger: {class_path: pytorch_lightning.loggers.CSVLogger, init_args: {save_dir: ~/logs}}}"
    )
    cli.train(
        ["fit", "-c", "stage1.yaml", "--config=~/mine.yaml", "--config=~/log.yaml", *STEPS, "--training.folder=~/run"]
    )
    assert {"config.yaml", "checkpoints", "encoder_alignment"} <= {path.name for path in (home / "run").iterdir()}
    assert list((home / "logs").rglob("metrics.csv"))
    cli.train(["validate", "-c", "~/run/config.yaml", "--ckpt_path=~/run/checkpoints/last.ckpt"])
    assert (home / "run/validate.yaml").is_file()
    model = "--model=~/run/encoder_alignment"
    cli.main(["generate", model, "--text=hello", "--max_new_tokens=2", "--out=~/reply", "--device=cpu"])
    assert (home / "reply/reply.json").is_file()
    assert not Path("~").exists()
