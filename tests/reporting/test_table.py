"""The table of encoders by losses: what stands where, what is marked, and what is never put side by side."""

import csv
import io
import json
import re
from typing import Any

import pytest

from embedkit import reporting
from embedkit.errors import ConfigError, RunError
from embedkit.reporting.table import Table

LOSSES = ["ce", "label-smoothing", "focal", "aam", "ccc"]


def build_table(rows: list[dict[str, Any]], **options: Any) -> Table:
    """Build tables whose cells stand on one line."""
    return reporting.build_table(rows, **{"spread": "seeds", **options})


def cells_of(text: str, start: str) -> list[str]:
    """Return the cells of the first line that starts so, without blanks inside a cell."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return line.replace(" ±", "±").split()


def longest(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_cells_stand_under_their_loss_with_spread_over_seeds(make_row: Any) -> None:
    text = str(build_table([make_row(loss="focal", ua=0.9126), make_row(loss="ce", ua=0.924, ua_std=0.0061)]))
    assert cells_of(text, "encoder") == ["encoder", "head", "ce", "focal"]
    assert cells_of(text, "whisper-base") == ["whisper-base", "linear", "92.4±0.6", "91.3±0.6"]


def test_one_seed_has_no_spread(make_row: Any) -> None:
    assert cells_of(str(build_table([make_row(seeds=1, ua_std=0.0)])), "whisper")[2:] == ["92.4"]


def test_missing_cells_are_hyphens(make_row: Any) -> None:
    rows = [
        make_row(),
        make_row(encoder="mfcc", head="lstm", loss="ccc"),
        make_row(encoder="mfcc", head="lstm", ua=None),
    ]
    text = str(build_table(rows))
    assert cells_of(text, "mfcc")[2:] == ["-", "92.4±0.6"]
    assert cells_of(text, "whisper")[2:] == ["92.4±0.6", "-"]


def test_rows_and_columns_follow_the_catalogues(make_row: Any) -> None:
    rows = [make_row(loss=loss, encoder=encoder) for loss in LOSSES[::-1] for encoder in ("zeta", "hubert", "mfcc")]
    table = build_table(rows)
    assert list(dict.fromkeys(row["encoder"] for row in table.rows)) == ["mfcc", "hubert", "zeta"]
    assert cells_of(table.to_markdown(), "| encoder")[5::2] == LOSSES


def shown(row: dict[str, Any], *others: dict[str, Any], differs: bool = True) -> dict[str, Any]:
    """Note in a row that it was compared with others as the best of its line."""
    tests = [
        {"family": "best", "metric": "ua", "differs": differs, "against": {"loss": other["loss"]}} for other in others
    ]
    return {**row, "tests": tests}


@pytest.mark.parametrize("differs", [[True, True], [True, False], []])
def test_the_best_of_a_row_has_a_star_only_where_it_is_better_than_all_others(make_row: Any, differs: Any) -> None:
    others = [make_row(loss="focal", ua=0.9), make_row(loss="aam", ua=0.8)]
    best = make_row()
    best["tests"] = [test for how in differs for test in shown(best, others[0], differs=how)["tests"]]
    text = " ".join(str(build_table([best, *others])).split())
    starred = differs == [True, True]
    assert ("92.4 ±0.6*" in text, "*: better than every other loss of its row" in text) == (starred, starred)
    assert ("its best is only the best on these test results" in text) != starred
    assert "only the best on" not in str(build_table([best]))


def test_bold_type_only_where_asked_for(make_row: Any) -> None:
    other = make_row(loss="focal", ua=0.8)
    table = build_table([shown(make_row(), other), other])
    assert "\x1b" not in str(table)
    bold = table.render(bold=True)
    assert "\x1b[1m92.4 ±0.6*\x1b[0m" in bold
    assert bold.replace("\x1b[1m", "").replace("\x1b[0m", "") == str(table)


@pytest.mark.parametrize(
    "change",
    [
        {"corpus": "ravdess"},
        {"classes": ["anger", "sadness"]},
        {"folds": "session"},
        {"folds": "random", "speaker_dependent": True},
        {"seeds": 5},
        {"utterances": 530},
        {"speakers": 9},
        {"task": "excitement counts as happiness"},
        {"budget": {"learning_rates": [1e-3], "epochs": 30, "batch_size": 32}},
        {"demo": True},
    ],
)
def test_another_protocol_is_another_table(make_row: Any, change: dict[str, Any]) -> None:
    text = str(build_table([make_row(ua=0.5), make_row(loss="focal", ua=0.9, **change)]))
    assert text.count("Protocol:") == 2
    assert "*" not in text
    assert next(iter(change)).replace("_", " ") in text or "demo" in change
    assert "do not compare across tables" in " ".join(text.split())


def test_equal_protocols_share_a_table(make_row: Any) -> None:
    rows = [make_row(), make_row(head="mlp", selection="another way", precision="bf16", loss="aam")]
    assert str(build_table(rows)).count("Protocol:") == 1


def test_the_protocol_is_told(make_row: Any) -> None:
    rows = [make_row(), make_row(encoder="mfcc", head="lstm", selection="one development group held out")]
    text = " ".join(str(build_table(rows, explain=True)).split())
    for part in (
        "535 utterances, 10 speakers, 7 classes (anger, boredom",
        "folds by speaker, 3 seeds",
        "learning rates 0.0003, 0.001, 0.003, up to 30 epochs, batches of 32",
        "one development group held out (lstm); inner folds by speaker (4), refit (linear)",
        "Standardised: utterance means, training part of each fold.",
        "recall averaged over the classes",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"folds": "split"}, "emodb, 120 test utterances, 2 test speakers, 7 classes"),
        ({"folds": "split", "utterances": 1, "speakers": 0}, "emodb, 1 test utterance, 7 classes"),
        ({"test_corpus": "ravdess"}, "emodb, 120 test utterances, 2 test speakers, 7 classes"),
        ({"folds": "session"}, "emodb, 120 utterances, 2 speakers, 7 classes"),
    ],
)
def test_where_only_a_part_is_tested_its_size_is_told_as_that(make_row: Any, change: dict[str, Any], told: str) -> None:
    text = " ".join(str(build_table([make_row(**{"utterances": 120, "speakers": 2, **change})])).split())
    assert f"Protocol: {told}" in text


@pytest.mark.parametrize("format", ["text", "markdown", "latex"])
def test_a_random_split_is_named_wherever_its_numbers_are(make_row: Any, format: str) -> None:
    rendered = build_table([make_row(folds="random", speaker_dependent=True)], metric="all", format=format).render()
    assert rendered.count("SPEAKER-DEPENDENT") >= 4
    assert "random folds" in rendered


@pytest.mark.parametrize("format", ["csv", "json"])
def test_records_say_that_a_split_is_speaker_dependent(make_row: Any, format: str) -> None:
    assert "speaker_dependent" in build_table([make_row(speaker_dependent=True)]).render(format)


def test_the_demo_says_that_it_is_synthetic(make_row: Any) -> None:
    text = str(build_table([make_row(corpus="demo", demo=True)]))
    assert "demo (synthetic demo corpus): UA" in text
    assert "for trying out only" in text


def test_all_metrics_get_a_table_each_and_one_protocol(make_row: Any) -> None:
    text = str(build_table([make_row(wa=0.1, ua=0.2, f1=0.3)], metric="all"))
    assert [text.count(f"{name} in %") for name in ("UAR", "accuracy (WA)", "macro-F1")] == [1, 1, 1]
    assert text.count("Protocol:") == 1
    assert [number in text for number in ("10.0 ±0.4", "20.0 ±0.6", "30.0 ±0.5")] == [True] * 3


def test_calibration_stands_beside_where_runs_have_it(make_row: Any) -> None:
    rows = [
        make_row(loss="ce", nll=0.5126, nll_std=0.01, ece=0.081, ece_std=0.002),
        make_row(loss="focal", nll=0.4021, nll_std=0.02, ece=0.123, ece_std=0.004),
    ]
    likelihood = str(build_table(rows, metric="nll"))
    assert "NLL in nats" in likelihood
    assert cells_of(likelihood, "whisper")[2:] == ["0.513±0.010", "0.402±0.020"]
    assert cells_of(str(build_table(rows, metric="ece")), "whisper")[2:] == ["8.1±0.2", "12.3±0.4"]
    everything = str(build_table(rows, metric="all", explain=True))
    assert [everything.count(f"{name} in") for name in ("UAR", "accuracy (WA)", "macro-F1", "NLL")] == [1] * 4
    assert "(bins of equal width)" in everything
    assert "15 bins" in everything
    assert "15 bins" not in str(build_table(rows, explain=True))
    assert "15 bins" not in str(build_table(rows, metric="all"))
    older = str(build_table([*rows, make_row(loss="aam")], metric="nll"))
    assert cells_of(older, "whisper")[2:] == ["0.513±0.010", "0.402±0.020", "-"]


def test_what_is_calibrated_comes_before_what_is_not(make_row: Any) -> None:
    names = ("nll", "brier", "adaptive_ece", "nll_calibrated", "brier_calibrated", "adaptive_ece_calibrated")
    rows = [make_row(loss=loss, **dict.fromkeys(names, 0.2)) for loss in ("ce", "aam")]
    for metric, unit in (("nll", "NLL in nats"), ("brier", "Brier score from 0 to 2"), ("ece", "ECE in %")):
        text = str(build_table(rows, metric=metric))
        assert 0 <= text.index(f": calibrated {unit}") < text.index(f": uncalibrated {unit}")


def test_runs_without_calibration_are_told(make_row: Any) -> None:
    assert "NLL" not in str(build_table([make_row()], metric="all"))
    with pytest.raises(RunError, match="--overwrite"):
        build_table([make_row()], metric="nll")


INTERVALS = {
    "text": ["whisper-base 92.4* 50.0", "linear [89.0, 95.0] [40.0, 60.0]"],
    "markdown": ["| whisper-base | linear | **92.4** [89.0, 95.0] | 50.0 [40.0, 60.0] |"],
    "latex": ["\\shortstack[r]{\\textbf{92.4}\\\\{\\scriptsize{}[89.0, 95.0]}} & \\shortstack[r]{50.0\\\\{"],
    "html": ["<td><strong>92.4</strong><br><small>[89.0, 95.0]</small></td>"],
}


@pytest.mark.parametrize("format", INTERVALS)
def test_intervals_stand_beside_numbers_unless_deviations_are_asked_for(make_row: Any, format: str) -> None:
    rows = [make_row(loss=loss, ua=0.5, ua_ci=[0.4, 0.6]) for loss in LOSSES[1:]]
    table = reporting.build_table([shown(make_row(), rows[0]), *rows], format=format)
    flat = "\n".join(" ".join(line.split()) for line in str(table).splitlines())
    assert all(line in flat for line in INTERVALS[format])
    assert "95 % intervals over speakers" in flat.replace("\\%", "%").replace("\n", " ")
    assert "±" not in flat
    few = reporting.build_table([make_row(), make_row(loss="aam")])
    assert "92.4 [89.0, 95.0]" in str(few)
    assert "±: standard deviation over seeds." in str(build_table([make_row()]))


def test_deviations_stand_where_no_run_has_an_interval(make_row: Any) -> None:
    rows = [make_row(nll=0.5126, nll_std=0.01, ua_ci=None, f1_ci=[0.9, 0.95]), make_row(loss="aam", ua_ci=None)]
    text = str(reporting.build_table(rows, metric="all"))
    assert "0.513 ±0.010" in text
    assert "92.4 ±0.6" in text
    assert cells_of(text.partition("macro-F1")[2], "whisper")[2:] == ["92.0", "[90.0,", "95.0]", "92.0"]
    assert text.count("Protocol:") == 1


@pytest.mark.parametrize("spread", ["interval", "seeds"])
def test_classes_of_few_speakers_are_told_where_intervals_rest_on_the_others(make_row: Any, spread: str) -> None:
    rows = [make_row(class_speakers=[10, 3, 1, 4, 5, 6, 7])]
    told = (
        "boredom has 3 speakers and disgust has 1 speaker: intervals assume that such a class varies between speakers"
    )
    text = " ".join(str(reporting.build_table(rows, spread=spread)).split())  # type: ignore[arg-type]
    assert (told in text) == (spread == "interval")
    assert "intervals assume" not in str(reporting.build_table([make_row(class_speakers=[4] * 7)]))


@pytest.mark.parametrize("spread", ["interval", "seeds"])
@pytest.mark.parametrize("count", [5, 6, 9])
@pytest.mark.parametrize("encoder", ["mfcc", "some-organisation/an-encoder-with-a-very-long-name-indeed-large-960h"])
def test_everything_fits_in_eighty_columns(make_row: Any, count: int, encoder: str, spread: str) -> None:
    losses = [*LOSSES, "my.losses:SomethingLong", "other", "x", "y"][:count]
    rows = [make_row(loss=loss, encoder=encoder, head=head) for loss in losses for head in ("attentive", "linear")]
    text = str(build_table(rows, metric="all", published=True, spread=spread))
    assert longest(text) <= 80
    assert text.count("92.4 ±0.6" if spread == "seeds" else "[89.0, 95.0]") == 2 * count


def test_five_losses_stand_side_by_side(make_row: Any) -> None:
    rows = [make_row(loss=loss, encoder="wav2vec2-large", head="attentive") for loss in LOSSES]
    assert len(cells_of(str(build_table(rows)), "wav2vec2-large")) == 7
    assert len(cells_of(str(reporting.build_table(rows)), "wav2vec2-large")) == 6


def test_settings_that_differ_are_shown_and_others_not(make_row: Any) -> None:
    rows = [
        make_row(loss="focal", loss_options={"gamma": 1.5, "weighted": False}),
        make_row(loss="focal", loss_options={"gamma": 2.0, "weighted": False}),
        make_row(loss="aam"),
        make_row(loss="ccc", loss_options={"flat": True}),
        make_row(loss="ccc", loss_options={"flat": False}),
    ]
    header = cells_of(build_table(rows).to_markdown(), "| encoder")
    assert header[5::2] == ["focal:gamma=1.5", "focal:gamma=2.0", "aam", "ccc:flat", "ccc:flat=false"]


def test_heads_with_other_settings_are_rows_of_their_own(make_row: Any) -> None:
    rows = [make_row(head="mlp", head_options={"width": width, "dropout": 0.1}, ua=width / 1000) for width in (64, 128)]
    text = str(build_table(rows))
    assert cells_of(text, "whisper-base  mlp:width=64")[2:] == ["6.4±0.6"]
    assert cells_of(text, "whisper-base  mlp:width=128")[2:] == ["12.8±0.6"]


def test_labels_of_heads_are_never_cut(make_row: Any) -> None:
    rows = [make_row(head_options={"pool": pool}, loss=loss) for pool in ("mean", "mean+std") for loss in LOSSES]
    text = str(build_table(rows))
    assert "…" not in text
    assert re.search(r"^whisper-base +linear: .*\n +pool=mean\+\n +std$", text, re.MULTILINE), text
    assert longest(text) <= 80


@pytest.mark.parametrize("losses", [["ce", "focal"], ["ce"]])
def test_in_brief_one_line_stands_below_the_numbers(make_row: Any, losses: list[str]) -> None:
    rows = [make_row(loss=loss, speaker_dependent=True, ua=0.9 - 0.1 * n) for n, loss in enumerate(losses)]
    title, numbers, line = _paragraphs(str(build_table(rows, brief=True)))
    assert "SPEAKER-DEPENDENT" in title
    assert "90.0 ±0.6" in numbers
    assert "\n" not in line


def _paragraphs(text: str) -> tuple[str, str, str]:
    grid, line = text.split("\n\n")
    return grid.partition("-----")[0], grid, line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"brief": True, "explain": True}, "--brief and --explain"),
        ({"brief": True, "format": "csv"}, "--brief beside --format csv"),
        ({"explain": True, "format": "json"}, "--explain beside --format json"),
    ],
)
def test_what_a_table_cannot_say_is_refused(make_row: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build_table([make_row()], **options)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"precision": "bf16"}, "bf16"),
        ({"mode": "finetune"}, "finetune"),
        ({"store_fingerprint": "123456789"}, "123456"),
    ],
)
def test_no_run_hides_another(make_row: Any, change: dict[str, Any], label: str) -> None:
    text = str(build_table([make_row(ua=0.91), make_row(ua=0.92, **change), make_row(ua=0.93, loss="aam")]))
    assert all(number in text for number in ("91.0", "92.0", "93.0"))
    assert f"whisper-base {label}" in text


def test_runs_alike_in_everything_are_numbered(make_row: Any) -> None:
    text = str(build_table([make_row(ua=0.91), make_row(ua=0.92)]))
    assert "whisper-base #2" in text
    assert "91.0" in text


def test_latex_is_booktabs_with_everything_escaped(make_row: Any) -> None:
    latex = build_table(
        [
            shown(make_row(corpus="my_corpus & more"), make_row(loss="x")),
            make_row(corpus="my_corpus & more", loss="\\50%_{}#$^~", ua=0.5),
        ]
    ).render("latex")
    body = latex.replace("\\\\", "")
    assert "\\toprule" in latex
    assert "\\textbf{92.4} {\\scriptsize$\\pm$0.6}" in latex
    assert "my\\_corpus \\& more: UAR in \\%" in latex
    assert "±" not in body
    assert "\\textbackslash{}50\\%\\_\\{\\}\\#\\$\\textasciicircum{}$\\sim$" in latex
    assert body.count("{") == body.count("}")
    rows = latex[latex.index("\\toprule") : latex.index("\\bottomrule")].splitlines()
    assert {line.count(" & ") for line in rows if " & " in line} == {3}


def test_markdown_is_a_table_with_bold_best(make_row: Any) -> None:
    other = make_row(loss="focal", ua=0.5)
    markdown = build_table([shown(make_row(), other), other]).to_markdown()
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {5}
    assert "**92.4** ±0.6" in lines[2]


def test_json_holds_the_promised_keys_and_no_nan(make_row: Any) -> None:
    records = json.loads(build_table([make_row(f1=float("nan"))]).render("json"))
    promised = (
        "corpus encoder head loss mode folds classes seeds utterances speakers wa wa_std ua ua_std f1 f1_std "
        "wa_ci ua_ci f1_ci head_options loss_options selection precision"
    )
    assert list(records[0])[: len(promised.split())] == promised.split()
    assert records[0]["ua"] == 0.924
    assert records[0]["ua_ci"] == [0.89, 0.95]
    assert (records[0]["f1"], records[0]["f1_ci"]) == (None, None)


def test_csv_has_one_line_for_each_run(make_row: Any) -> None:
    import csv

    lines = list(csv.DictReader(build_table([make_row(), make_row(loss="aam")]).render("csv").splitlines()))
    assert [line["loss"] for line in lines] == ["ce", "aam"]
    assert json.loads(lines[1]["loss_options"]) == {"scale": 20.0, "margin": 0.2}
    assert float(lines[0]["ua"]) == 0.924


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "uar"}, ConfigError, "Unknown metric 'uar'. Did you mean 'ua'"),
        ({"spread": "sd"}, ConfigError, "Unknown spread 'sd'"),
        ({"format": "tex"}, ConfigError, "Unknown format 'tex'"),
        ({"format": "json", "published": True}, ConfigError, "--published"),
    ],
)
def test_wrong_options_get_one_sentence(make_row: Any, options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build_table([make_row()], **options)


def test_nothing_to_show_says_what_to_do(make_row: Any) -> None:
    with pytest.raises(RunError, match="embedkit fit"):
        build_table([])
    with pytest.raises(RunError, match="lacks 'ua'"):
        build_table([{key: value for key, value in make_row().items() if key != "ua"}])


def test_names_do_not_steer_the_terminal_or_latex(make_row: Any) -> None:
    name = "[e]\x1b[31m\u202ex"
    table = build_table([make_row(encoder=name)])
    for format in ("text", "markdown", "latex", "html"):
        assert not {"\x1b", "\u202e"} & set(table.render(format))
    assert "\n{[}e{]}\\textbackslash{}x1b" in table.render("latex")
    (row,) = csv.DictReader(io.StringIO(table.render("csv")))
    assert row["encoder"] == json.loads(table.render("json"))[0]["encoder"] == name


def test_runs_whose_speakers_were_dealt_by_name_stand_apart(make_row: Any) -> None:
    text = build_table([make_row(speakers=30), make_row(speakers=30, head="mlp", dealt="dealt by weight")]).render()
    assert "folds by speaker, dealt by sorted names" in text
    assert "folds by speaker, dealt by weight" in text
    assert "differ in dealt stand in tables of their own" in " ".join(text.split())
