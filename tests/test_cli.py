"""The command line seen from outside: help, exit codes, precedence of options, what goes where."""

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import embedkit
from embedkit import workflows
from embedkit.cli import app
from embedkit.config import SECTIONS, read_config
from embedkit.corpora.clips import Clip
from embedkit.errors import ExtractionError, StoreError
from embedkit.extraction.plan import SHARD_SECONDS
from embedkit.extraction.request import BATCH_SECONDS
from embedkit.options.fit import FitOptions
from embedkit.options.option import declared
from embedkit.workflows.predict import Prediction

ROOT = Path(__file__).parent.parent
COMMANDS = ["extract", "fit", "evaluate", "table", "study", "figure", "report", "predict", "export", "demo", "check"]
COMMANDS += ["manifest", "inspect", "convert", "cite", "verify", "doctor", "config", "list", "try"]
LOSSES = ["ce", "label-smoothing", "focal", "aam", "ccc"]

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def run() -> Callable[..., Any]:
    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments), prog_name="embedkit")

    return invoke


@pytest.fixture
def replace_workflow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Put a function in the place of a workflow and note how it is called."""
    # Whatever is imported only now would keep the stand-in for all tests to come.
    for found in pkgutil.iter_modules(workflows.__path__, "embedkit.workflows."):
        importlib.import_module(found.name)

    def replace(module: str, name: str, result: Any) -> Calls:
        calls: Calls = []

        def stand_in(*arguments: Any, **keywords: Any) -> Any:
            calls.append((arguments, keywords))
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(f"embedkit.workflows.{module}.{name}", stand_in)
        return calls

    return replace


@pytest.fixture
def extractions(replace_workflow: Any) -> Calls:
    return replace_workflow("extract", "extract_embeddings", types.SimpleNamespace(path=Path("embeddings/c/e.h5")))


@pytest.fixture
def fits(replace_workflow: Any) -> Calls:
    return replace_workflow("fit", "fit_heads", [types.SimpleNamespace(folder=Path("runs/x"))])


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


HEAVY = ("torch", "transformers", "librosa", "h5py", "sklearn")


IMPORTING = """
import sys
from embedkit.cli import app

commands, heavy = {commands!r}, {heavy!r}
for command in commands:
    try:
        app(command)
    except SystemExit as exit:
        assert not exit.code, (command, exit.code)
    found = [name for name in heavy if name in sys.modules]
    assert not found, (command, found)
"""


def test_help_answers_without_heavy_imports() -> None:
    commands = [["--help"], *([name, "--help"] for name in COMMANDS)]
    result = run_python("-c", IMPORTING.format(commands=commands, heavy=HEAVY))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Usage: ") == len(commands)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout


def test_finished_runs_are_shown_without_torch() -> None:
    """It takes 350 MB and 1.5 s."""
    runs = str(ROOT / "tests" / "training" / "golden" / "runs")
    commands = [["table", runs], ["table", runs, "--by", "speaker"], ["runs", "list", runs]]
    result = run_python("-c", IMPORTING.format(commands=commands, heavy=["torch"]))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rep", ["report"]),
        ("fit --mode fi", ["finetune"]),
        ("fit --loss ce,fo", ["ce,focal"]),
        ("study --head att", ["attentive"]),
        ("extract --encoder whisper-base+mf", ["whisper-base+mfcc"]),
    ],
)
def test_the_tab_key_completes_names(words: str, expected: list[str]) -> None:
    line = f"embedkit {words}"
    shell = {"_EMBEDKIT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = CliRunner().invoke(app, [], prog_name="embedkit", env=shell)
    assert result.output.split() == expected


def test_every_command_and_option_has_help() -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(commands) == sorted([*COMMANDS, "runs"])
    below = {f"runs {name}": command for name, command in commands.pop("runs").commands.items()}
    for name, command in [*commands.items(), *below.items()]:
        shown = [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("embedkit ")]
        assert any(line.startswith(f"embedkit {name}") for line in shown), f"{name} shows no example"
        assert max(map(len, shown)) <= 76, f"an example of {name} is broken in a terminal of 80 columns"
        for parameter in command.params:
            assert parameter.name == "help" or getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize("command", SECTIONS)
def test_options_and_keys_of_the_configuration_are_the_same(command: str) -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    names = {option.lstrip("-") for parameter in commands[command].params for option in parameter.opts}
    keys = {one.flag[2:] for one in declared(SECTIONS[command]).values() if one.told.in_toml}
    assert {name.removeprefix("no-") for name in names} - {
        "help",
        "h",
        "overwrite",
        "allow-code",
        "dry-run",
        "watch",
        "part",
        "corpus",
        "inputs",
        "quiet",
        "q",
        "verbose",
        "v",
        "log-file",
    } == keys


def test_defaults_in_words_are_what_options_come_to() -> None:
    known = declared(FitOptions)
    cached, tuned, lora = (FitOptions(mode=mode).resolve() for mode in ("cached", "finetune", "lora"))
    halved, unhalved, others = (known["lr"].told.usual or "").split("; ")
    assert [float(text) for text in halved.split(",")] == [*(cached.lr or ())]
    (left_out,) = {*(cached.lr or ())} - {*(FitOptions(halving=False).resolve().lr or ())}
    assert unhalved.startswith("without --halving not ")
    assert float(unhalved.split()[-1]) == left_out
    assert (float(others.split()[-1]),) == tuned.lr
    small, large = cached.sized(20_000), cached.sized(30_000)
    assert (large.batch_size or 0) > (small.batch_size or 0)
    assert (large.epochs or 0) < (small.epochs or 0)
    numbers = [re.findall(r"[\d,]*\d", known[name].told.usual or "") for name in ("epochs", "batch_size")]
    assert numbers == [[str(small.epochs), "20,000", str(tuned.epochs)], [str(small.batch_size), "20,000"]]
    rates = re.findall(r"1e-\d", known["encoder_lr"].told.usual or "")
    assert [float(text) for text in rates] == [tuned.encoder_lr, lora.encoder_lr]
    assert (known["lora_targets"].told.usual or "").split(",") == list(lora.lora_targets)


@pytest.mark.parametrize("command", SECTIONS)
def test_every_option_with_a_default_tells_it(command: str) -> None:
    options = {option.name: option for option in get_command(app).commands[command].params}  # type: ignore[attr-defined]
    for name, one in declared(SECTIONS[command]).items():
        if one.told.on_command_line and one.default is not False:
            assert "[default: " in options[name].help, name


@pytest.mark.parametrize(("name", "usual"), [("batch_seconds", BATCH_SECONDS), ("shard_seconds", SHARD_SECONDS)])
def test_documented_defaults_that_depend_on_the_device_are_the_extractions(name: str, usual: dict[str, float]) -> None:
    options = {option.name: option for option in get_command(app).commands["extract"].params}  # type: ignore[attr-defined]
    assert f"[default: {usual['cpu']:g} on a CPU, {usual['cuda']:g} on a GPU]" in options[name].help


def test_the_version_is_the_projects(run: Any) -> None:
    assert f'version = "{run("--version").output.split()[1]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_launcher_in_a_bare_checkout_works() -> None:
    result = run_python(str(ROOT / "cli.py"), "--version", PYTHONPATH="")
    assert result.stdout.startswith("embedkit ")


def test_without_a_corpus_the_demo_is_taken_and_named(run: Any, extractions: Calls) -> None:
    result = run("extract", "--encoder", "mfcc")
    assert result.exit_code == 0, result.output
    assert extractions[0][0] == ("demo",)
    assert "demo corpus" in result.stderr
    assert result.stdout == "embeddings/c/e.h5\n"


def test_the_configured_corpus_is_taken(run: Any, extractions: Calls, tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    Path("embedkit.toml").write_text('corpus = "speech"\n[encoders]\nhubert = "./weights"\n')
    result = run("extract", "--encoder", "hubert")
    assert extractions[0][0] == (str(tmp_path / "speech"),)
    assert extractions[0][1]["sources"] == {"hubert": str(tmp_path / "weights")}
    assert "demo" not in result.stderr


def test_options_win_over_the_configuration_and_defaults_stay_the_librarys(run: Any, extractions: Calls) -> None:
    Path("embedkit.toml").write_text('[extract]\nencoder = ["mfcc", "logmel"]\nlayers = "last"\nlimit = 3\n')
    assert run("extract", "folder", "--layers", "4-9", "--shard-seconds", "60").exit_code == 0
    assert [call[1]["encoder"] for call in extractions] == ["mfcc", "logmel"]
    keywords = extractions[0][1]
    assert (keywords["layers"], keywords["limit"], keywords["shard_seconds"]) == ("4-9", 3, 60.0)
    assert "precision" not in keywords


def test_an_encoder_must_be_named(run: Any, extractions: Calls) -> None:
    result = run("extract")
    assert (result.exit_code, extractions) == (2, [])
    assert "--encoder" in result.stderr


def test_one_path_cannot_take_two_stores(run: Any, extractions: Calls) -> None:
    result = run("extract", "--encoder", "mfcc", "--encoder", "logmel", "--out", "x.h5")
    assert (result.exit_code, extractions) == (2, [])


def test_fit_takes_every_store_below_embeddings(run: Any, fits: Calls) -> None:
    for name in ("demo/mfcc.h5", "emodb/hubert.h5", "emodb/.hubert.h5.parts/x.h5"):
        path = Path("embeddings", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    result = run("fit", "--loss", "ccc")
    assert result.exit_code == 0, result.output
    assert fits[0][0] == ([Path("embeddings/demo/mfcc.h5"), Path("embeddings/emodb/hubert.h5")],)
    assert fits[0][1]["loss"] == ("ccc",)
    assert result.stdout == "runs/x\n"


def test_fit_without_stores_says_what_to_do(run: Any, fits: Calls) -> None:
    result = run("fit")
    assert (result.exit_code, fits) == (1, [])
    assert result.stderr.startswith("Error: There are no stores below embeddings/")


@pytest.mark.parametrize(
    ("arguments", "losses"),
    [
        ([], None),
        (["--loss", "all"], LOSSES),
        (["--loss", "ce,focal", "--loss", "ccc"], ["ce", "focal", "ccc"]),
        (["--loss", "aam:scale=15,margin=0.2"], ["aam:scale=15,margin=0.2"]),
        (
            ["--loss", "ce,aam:scale=15,margin=0.2,ccc:flat,focal"],
            ["ce", "aam:scale=15,margin=0.2", "ccc:flat", "focal"],
        ),
        (["--loss", "focal:gamma=1,aam:scale=9"], ["focal:gamma=1", "aam:scale=9"]),
        (["--loss", "my.losses:Mine:width=3,my.losses:Other"], ["my.losses:Mine:width=3", "my.losses:Other"]),
        (["--loss", "ce,fcal"], ["ce", "fcal"]),
    ],
)
def test_losses_are_split_but_their_settings_are_not(run: Any, fits: Calls, arguments: list[str], losses: Any) -> None:
    assert run("fit", "x.h5", *arguments).exit_code == 0
    assert fits[0][1].get("loss") == (None if losses is None else tuple(losses))


def test_fit_passes_everything_on(run: Any, fits: Calls) -> None:
    command = """fit x.h5 y.h5 --head linear,mlp:width=64/8,dropout=0.1 --folds speaker --seeds 5
        --classes a,b --classes c --merge excitement=happiness --where type=improvised --where gender=female
        --loss focal --layers each --normalise speaker --test-on z.h5 --test-merge x=a
        --lr 1e-3,1 --lr 2 --weight-decay 0,0.1 --epochs 4 --batch-size 8
        --device cpu --threads 1 --runs there --overwrite"""
    result = run(*command.split())
    assert result.exit_code == 0, result.output
    arguments, keywords = fits[0]
    assert arguments == ([Path("x.h5"), Path("y.h5")],)
    keywords = {name: value for name, value in keywords.items() if name not in ("progress", "tell")}
    assert keywords == {
        "loss": ("focal",),
        "head": ("linear", "mlp:width=64/8,dropout=0.1"),
        "layers": "each",
        "normalise": "speaker",
        "test_on": (Path("z.h5"),),
        "test_merge": {"x": "a"},
        "folds": "speaker",
        "seeds": 5,
        "classes": ("a", "b", "c"),
        "merge": {"excitement": "happiness"},
        "where": ("type=improvised", "gender=female"),
        "lr": (1e-3, 1.0, 2.0),
        "weight_decay": (0.0, 0.1),
        "epochs": 4,
        "batch_size": 8,
        "device": "cpu",
        "threads": 1,
        "runs": Path("there"),
        "overwrite": True,
        "sources": {},
    }


def test_the_options_of_trained_encoders_are_passed_on(run: Any, fits: Calls) -> None:
    command = """fit speech --mode lora --encoder hubert,wavlm --encoder-lr 1e-4 --warmup 0.2 --tune-layers 7-12
        --tune-convolutions --recompute --accumulate 4 --augment noise:low=5,high=20,speed --lora-rank 4 --lora-alpha 8
        --lora-targets q_proj,v_proj --save-encoder --precision bf16 --window 10 --allow-leak"""
    result = run(*command.split())
    assert result.exit_code == 0, result.output
    arguments, keywords = fits[0]
    assert arguments == ([Path("speech")],)
    left_out = ("allow_leak", "progress", "tell", "sources")
    assert {name: value for name, value in keywords.items() if name not in left_out} == {
        "mode": "lora",
        "encoder": ("hubert", "wavlm"),
        "encoder_lr": 1e-4,
        "warmup": 0.2,
        "tune_layers": "7-12",
        "tune_convolutions": True,
        "recompute": True,
        "accumulate": 4,
        "augment": ("noise:low=5,high=20", "speed"),
        "lora_rank": 4,
        "lora_alpha": 8,
        "lora_targets": ("q_proj", "v_proj"),
        "save_encoder": True,
        "precision": "bf16",
        "window": "10",
    }
    assert keywords["allow_leak"] is True


def test_without_a_corpus_a_trained_encoder_takes_the_configured_one(run: Any, fits: Calls, tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    Path("embedkit.toml").write_text('corpus = "speech"\n[encoders]\nhubert = "./weights"\n')
    assert run("fit", "--mode", "frozen", "--encoder", "hubert").exit_code == 0
    assert fits[0][0] == ([tmp_path / "speech"],)
    assert fits[0][1]["sources"] == {"hubert": str(tmp_path / "weights")}


def test_the_configuration_of_fit_is_read_alike(run: Any, fits: Calls, tmp_path: Path) -> None:
    Path("embedkit.toml").write_text(
        '[fit]\nloss = ["ce", "focal:gamma=1"]\nlr = [0.001, 0.1]\nmerge = "a=b"\nclasses = ["a", "b"]\n'
        'runs = "there"\n'
    )
    assert run("fit", "x.h5").exit_code == 0
    keywords = fits[0][1]
    assert (keywords["loss"], keywords["lr"]) == (("ce", "focal:gamma=1"), (0.001, 0.1))
    assert (keywords["merge"], keywords["classes"]) == ({"a": "b"}, ("a", "b"))
    assert Path(keywords["runs"]) == tmp_path / "there"


@pytest.mark.parametrize(
    "arguments",
    [["--lr", "fast"], ["--weight-decay", "x"], ["--merge", "excitement"], ["--merge", "=b"], ["--test-merge", "b="]],
)
def test_values_that_cannot_be_read_get_one_sentence(run: Any, fits: Calls, arguments: list[str]) -> None:
    result = run("fit", "x.h5", *arguments)
    assert (result.exit_code, fits) == (1, [])
    assert result.stderr.startswith(f"Error: {arguments[0]} is ")


def test_a_report_that_is_interrupted_begins_anew(run: Any, replace_workflow: Any) -> None:
    replace_workflow("report", "write_report", KeyboardInterrupt())
    result = run("report")
    assert (result.exit_code, result.stderr) == (
        130,
        "Interrupted; nothing half done is left, the same command begins anew.\n",
    )


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (StoreError("The store [bold]x[/] is damaged."), 1, "Error: The store [bold]x[/] is damaged.\n"),
        (KeyboardInterrupt(), 130, "Interrupted; finished work is kept, the same command continues it."),
        (PermissionError(13, "Permission denied", "there"), 1, "Error: Permission denied at 'there'"),
        (OSError(28, "No space left on device"), 1, "Error: No space left on device"),
        (MemoryError(), 1, "Error: There is too little memory for this"),
        (RuntimeError("CUDA out of memory."), 1, "Error: There is too little memory for this"),
        (OSError(12, "Cannot allocate memory"), 1, "Error: There is too little memory for this"),
        (ImportError("libtorch.so: failed to map segment from shared object"), 1, "Error: There is too little memory"),
    ],
)
def test_problems_are_told_in_one_sentence(
    run: Any, replace_workflow: Any, raised: BaseException, code: int, said: str
) -> None:
    replace_workflow("extract", "extract_embeddings", raised)
    result = run("extract", "x", "--encoder", "mfcc")
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("early", ["embedkit.cli.application", "embedkit.cli.study"])
def test_ctrl_c_before_anything_has_begun_shows_no_traceback(early: str) -> None:
    code = f"""
import sys
class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == {early!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
import runpy
runpy.run_module("embedkit", run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_stopped_extraction_says_itself_how_to_go_on(run: Any, replace_workflow: Any) -> None:
    stopped = ExtractionError("Stopped; run the same command again to continue.")
    stopped.__context__ = KeyboardInterrupt()
    replace_workflow("extract", "extract_embeddings", stopped)
    result = run("extract", "x", "--encoder", "mfcc")
    assert (result.exit_code, result.stderr) == (130, "Stopped; run the same command again to continue.\n")


@pytest.mark.parametrize("ok", [True, False])
def test_verify_exits_with_one_where_something_is_damaged(run: Any, replace_workflow: Any, ok: bool) -> None:
    class Found(types.SimpleNamespace):
        def __str__(self) -> str:
            return "what was found"

    calls = replace_workflow("verify", "verify_store", Found(ok=ok))
    result = run("verify", "x.h5", "--audio")
    assert (result.exit_code, result.stdout) == (0 if ok else 1, "what was found\n")
    assert calls[0][1]["audio"] is True


def test_predictions_are_printed_in_every_format(run: Any, replace_workflow: Any) -> None:
    found = [Prediction(path="a, b.wav", label="anger", probabilities={"anger": 0.75, "fear": 0.25})]
    calls = replace_workflow("predict", "stream_predictions", found)
    assert run("predict", "runs/x", "a, b.wav").stdout == "a, b.wav: anger (anger 0.75, fear 0.25)\n"
    assert calls[0][0] == (Path("runs/x"), [Clip(name="a, b.wav", path=Path("a, b.wav"))])
    csv = run("predict", "runs/x", "a, b.wav", "--format", "csv").stdout
    assert csv == 'path,label,anger,fear\n"a, b.wav",anger,0.75,0.25\n'
    told = {"path": "a, b.wav", "label": "anger", "probabilities": {"anger": 0.75, "fear": 0.25}}
    assert json.loads(run("predict", "runs/x", "a, b.wav", "--format", "json").stdout) == [told]
    assert json.loads(run("predict", "runs/x", "a, b.wav", "--format", "jsonl").stdout) == told


def test_a_bug_keeps_its_traceback(run: Any, replace_workflow: Any) -> None:
    replace_workflow("extract", "extract_embeddings", ZeroDivisionError("bug"))
    assert isinstance(run("extract", "x", "--encoder", "mfcc").exception, ZeroDivisionError)


@pytest.mark.parametrize(
    "arguments",
    [["fitt"], ["fit", "--sedes", "3"], ["fit", "--seeds", "x"], ["table", "--metric", "uaa"], ["list", "x"]],
)
def test_wrong_usage_exits_with_two(run: Any, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_mistake_in_the_configuration_gets_one_sentence(run: Any) -> None:
    Path("embedkit.toml").write_text("[fit]\nsedes = 3\n")
    result = run("fit")
    assert result.exit_code == 1
    assert "Did you mean 'seeds'?" in result.stderr
    assert run("fit", "--help").exit_code == 0


def write_run(folder: Path, **changes: Any) -> None:
    metrics = {
        "corpus": "emodb",
        "encoder": "mfcc",
        "head": "lstm",
        "loss": "ce",
        "mode": "cached",
        "folds": "speaker",
        "classes": ["a", "b"],
        "seeds": 3,
        "utterances": 20,
        "speakers": 4,
        "selection": "inner folds",
        "precision": "fp32",
        "head_spec": "lstm",
        "loss_spec": "ce",
        **{f"{name}{end}": 0.5 for name in ("wa", "ua", "f1") for end in ("", "_std")},
        **changes,
    }
    folder.mkdir(parents=True)
    config = {"head_spec": "lstm", "loss_spec": "ce", "classes": ["a", "b"], "seeds": [0], "folds": {}, "store": {}}
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 1}))
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_table_reads_runs_and_prints_only_the_table(run: Any) -> None:
    write_run(Path("runs/emodb/mfcc/lstm/ce-1"))
    write_run(Path("runs/emodb/mfcc/lstm/ccc-1"), loss="ccc", ua=0.75)
    result = run("table")
    assert result.exit_code == 0, result.output
    assert "75.0 ±50.0" in result.stdout
    assert result.stderr == ""
    assert [row["loss"] for row in json.loads(run("table", "runs", "--format", "json").stdout)] == ["ce", "ccc"]


def test_table_looks_where_fit_was_told_to_write(run: Any) -> None:
    write_run(Path("there/x"))
    Path("embedkit.toml").write_text('[fit]\nruns = "there"\n[table]\nmetric = "wa"\nformat = "markdown"\n')
    assert "### emodb: accuracy (WA) in %" in run("table").stdout
    assert "### emodb: UAR in %" in run("table", "--metric", "ua").stdout


@pytest.mark.parametrize(("word", "meant"), [("uar", "ua"), ("ua", "ua"), ("wa", "wa"), ("acc", "wa"), ("f1", "f1")])
def test_a_metric_goes_by_each_of_its_names(run: Any, word: str, meant: str) -> None:
    write_run(Path("runs/x"), ua=0.25, wa=0.75, f1=0.125)
    shown = run("table", "--metric", word)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == str(embedkit.table("runs", metric=meant)) + "\n" == run("table", "--metric", meant).stdout
    assert str(embedkit.table("runs", metric=word)) == str(embedkit.table("runs", metric=meant))
    Path("embedkit.toml").write_text(f'[table]\nmetric = "{word}"\n')
    assert run("table").stdout == shown.stdout


@pytest.mark.parametrize("word", ["speaker", "session"])
def test_folds_go_by_the_names_of_the_field(run: Any, fits: Calls, word: str) -> None:
    for folds in (word, f"leave-one-{word}-out"):
        assert run("fit", "x.h5", "--folds", folds).exit_code == 0
    Path("embedkit.toml").write_text(f'[fit]\nfolds = "leave-one-{word}-out"\n')
    assert run("fit", "x.h5").exit_code == 0
    assert [keywords["folds"] for _, keywords in fits] == [word] * 3


@pytest.mark.parametrize("command", [["fit", "x.h5"], ["study", "demo"], ["check", "demo"]])
def test_folds_that_may_mean_two_things_are_never_guessed(run: Any, command: list[str]) -> None:
    result = run(*command, "--folds", "loso")
    assert result.exit_code == 1
    assert (
        "folds is 'loso', which may mean leave-one-speaker-out or leave-one-session-out; write which one."
        in " ".join(result.stderr.split())
    )


def test_table_without_runs_says_what_to_do(run: Any) -> None:
    result = run("table")
    assert result.exit_code == 1
    assert "embedkit fit" in result.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    write_run(Path("runs/x"))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "embedkit", "table"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize(
    ("kind", "line"),
    [("losses", " +focal:.*gamma=2.0$"), ("heads", "linear "), ("encoders", "mfcc "), ("corpora", "iemocap ")],
)
def test_list_shows_what_can_be_named(run: Any, kind: str, line: str) -> None:
    result = run("list", kind)
    assert result.exit_code == 0, result.output
    assert re.search(f"^{line}", result.stdout, flags=re.MULTILINE)


def test_list_encoders_names_the_users_own_sources(run: Any) -> None:
    Path("embedkit.toml").write_text('[encoders]\nhubert = "./copy"\nmine = "org/model"\n')
    lines = run("list", "encoders").stdout.splitlines()
    assert any(line.startswith("hubert ") and "copy (embedkit.toml)" in line for line in lines)
    assert any(line.startswith("mine ") and "org/model" in line for line in lines)


def test_the_effective_configuration_says_where_values_come_from(run: Any) -> None:
    Path("embedkit.toml").write_text('[fit]\nseeds = 5\nmerge = ["a=b"]\nruns = "own"\n[extract]\nencoder = ["mfcc"]\n')
    told = {tuple(line.split()[:2]): line.split(maxsplit=2)[2] for line in run("config").stdout.splitlines()[1:]}
    assert told["fit", "seeds"] == told["study", "seeds"] == "5  (embedkit.toml, [fit])"
    assert told["study", "encoder"] == "mfcc  (embedkit.toml, [extract])"
    assert told["table", "runs"].endswith("own  (embedkit.toml, [fit])")
    assert told["fit", "batch-size"].startswith("32, of more than")
    assert told["fit", "epochs"].startswith("30, of more than")
    before = read_config()
    Path("embedkit.toml").write_text(run("config", "fit", "--format", "toml").stdout)
    after = read_config()
    assert after.options("fit")["merge"] == {"a": "b"}
    assert {**after.options("fit"), **before.options("fit")} == after.options("fit")
    for section in SECTIONS:
        assert json.loads(run("config", section, "--format", "json").stdout)[0]["section"] == section


@pytest.mark.parametrize(
    ("content", "arguments", "sentence", "place"),
    [
        ('[fit]\nwhere = "foo=1"', ["fit", "x.h5"], "Unknown column 'foo' of one.", "[fit] where"),
        ('corpus = "nowhere"', ["fit", "x.h5"], "There is no folder '{}/nowhere'.", "corpus"),
        ('[fit]\nmode = "frozen"', ["fit"], "All modes except --mode cached run an encoder.", "[fit] mode"),
    ],
)
def test_an_error_names_pairs_and_places_of_the_configuration(
    run: Any, replace_workflow: Any, content: str, arguments: list[str], sentence: str, place: str
) -> None:
    Path("embedkit.toml").write_text(content + "\n")
    replace_workflow("fit", "fit_heads", StoreError(sentence.format(Path.cwd())))
    assert f"({place} is set in embedkit.toml.)" in run(*arguments).stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["fit", "x.h5"], True), (["fit", "x.h5", "--folds", "sessio"], False), (["table"], False)],
)
def test_an_error_names_the_configuration_that_it_stems_from(
    run: Any, replace_workflow: Any, arguments: list[str], named: bool
) -> None:
    Path("embedkit.toml").write_text('[fit]\nfolds = "sessio"\nseeds = 3\n')
    error = StoreError("Unknown fold column 'sessio'; 3 are known.")
    replace_workflow("fit", "fit_heads", error)
    replace_workflow("table", "tabulate_runs", error)
    result = run(*arguments)
    assert result.exit_code == 1
    assert ("([fit] folds is set in embedkit.toml.)" in result.stderr) == named
    assert "seeds" not in result.stderr


def test_several_encoders_are_named_at_once(run: Any, extractions: Calls) -> None:
    assert run("extract", "--encoder", "mfcc,logmel", "--encoder", "vggish").exit_code == 0
    assert [keywords["encoder"] for _, keywords in extractions] == ["mfcc", "logmel", "vggish"]
