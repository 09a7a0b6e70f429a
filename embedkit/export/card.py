"""The model card of an exported folder: README.md, as the Hugging Face Hub reads it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple, TypeGuard

import embedkit
from embedkit.corpora.licences import LICENCES
from embedkit.encoders.published import TABLE, Published
from embedkit.encoders.sources import is_repository
from embedkit.export.encoder import parts_of, without_places
from embedkit.export.predictor import Predictor
from embedkit.system import quote_word
from embedkit.wording import count_noun, escape_controls

README_FILE = "README.md"

_FRACTIONS = {"ua": ("UAR", "recall"), "wa": ("accuracy (WA)", "accuracy"), "f1": ("macro-F1", "f1")}
"""Keys of a run's row: what they are called, and as what the Hub knows them."""
_PERCENT = (100.0, 1, " %")
_MODES = {"finetune": "fine-tuned", "lora": "LoRA-tuned"}
_KNOWN = ("apache-2.0", "mit", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-3.0")
"""Licences as the Hub calls them (https://huggingface.co/docs/hub/repositories-licenses)."""
_SPECIAL = re.compile(r"[\\`*_\[\]<&$~|@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


class _Plain(str):
    """A text that is Markdown already."""


class _Score(NamedTuple):
    """One score: what it is called, what the Hub calls it, the number, and what is shown."""

    name: str
    kind: str
    number: float
    value: str
    spread: str
    interval: str


def render_card(predictor: Predictor, results: Mapping[str, Any], *, place: str, checkpoint: bool) -> str:
    """Write the card; names out of the data steer neither its Markdown nor its YAML.

    Args:
        predictor: The heads that are exported.
        results: As `summarise_results` returns them; empty where they are not known.
        place: What the folder, or its repository on the Hub, is called in commands.
        checkpoint: Whether transformers finds the encoder in the folder.
    """
    from jinja2 import Environment, StrictUndefined

    config, heads = predictor.config, predictor.heads
    scores = list(_scores(predictor, results))
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_escape
    )
    environment.filters |= {"plain": _Plain, "cell": _escape}
    return environment.from_string(files(__package__).joinpath("card.md").read_text(encoding="utf-8")).render(
        front_matter=_Plain(_front_matter(predictor, scores, str(results.get("test_corpus") or config["corpus"]))),
        title=predictor.title,
        rates=predictor.rates,
        names=predictor.names,
        version=embedkit.__version__,
        corpus=config["corpus"],
        mode=_MODES.get(str(config.get("mode")), "frozen"),
        encoder=without_places(predictor.identity)["name"],
        heads=dict.fromkeys(head.spec for head in heads),
        loss=config["loss_spec"],
        count=count_noun(len(heads), "head"),
        kind=config["folds"].get("kind") or "name",
        folds=dict.fromkeys(head.fold for head in heads),
        seeds=dict.fromkeys(head.seed for head in heads),
        scores=[(one.name, one.value, one.spread, one.interval) for one in scores],
        protocol=results.get("protocol", ()),
        classes=[] if predictor.rates else list(_class_rows(predictor.names, results)),
        word=escape_controls(quote_word(place)),
        quoted=json.dumps(place),
        checkpoint=checkpoint,
        licences=list(_licences(predictor)),
    )


def _escape(value: Any) -> str:
    """Write a value into Markdown; the letters that steer it stand behind a backslash."""
    return value if isinstance(value, _Plain) else _Plain(_SPECIAL.sub(r"\\\g<0>", escape_controls(str(value))))


def _front_matter(predictor: Predictor, scores: Sequence[_Score], tested_on: str) -> str:
    """Write what the Hub sorts by, in YAML; the corpus is that of the scores."""
    from huggingface_hub import EvalResult, ModelCardData

    parts = parts_of(without_places(predictor.identity))
    licences = {found.licence if (found := _published(part)) else None for part in parts if part.get("weights_digest")}
    licence = licences.pop() if len(licences) == 1 else None
    slug = licence.lower().replace(" ", "-") if licence else None
    corpus = escape_controls(tested_on)
    results = [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=corpus,
            dataset_name=corpus,
            metric_type=one.kind,
            metric_name=escape_controls(f"{one.name}, 95 % interval over speakers: {one.interval}"),
            metric_value=round(one.number, 4),
        )
        for one in scores
    ]
    data = ModelCardData(
        library_name="embedkit",
        pipeline_tag="audio-classification",
        tags=["audio-classification", "speech-emotion-recognition", "embedkit"],
        base_model=[str(part["source"]) for part in parts if is_repository(str(part.get("source")))] or None,
        license=slug if slug in _KNOWN else "other" if slug else None,
        license_name=None if slug in _KNOWN else slug,
        metrics=list(dict.fromkeys(one.kind for one in scores)) or None,
        model_name=predictor.title,
        eval_results=results or None,
    )
    return f"{data.to_yaml(line_break=chr(10))}\n"


def _scores(predictor: Predictor, results: Mapping[str, Any]) -> Iterator[_Score]:
    names = {"ccc": ("CCC", "ccc"), **{f"ccc_{one}": (f"CCC of {one}", "ccc") for one in predictor.names}}
    factor, digits, unit = (1.0, 3, "") if predictor.rates else _PERCENT
    for key, (name, kind) in (names if predictor.rates else _FRACTIONS).items():
        if _is_number(number := results.get(key)):
            spread = results.get(f"{key}_std")
            yield _Score(
                name=name,
                kind=kind,
                number=number,
                value=f"{factor * number:.{digits}f}{unit}",
                spread=f"{factor * spread:.{digits}f}{unit}" if _is_number(spread) else "-",
                interval=_interval(results.get(f"{key}_ci"), factor, digits, unit),
            )


def _class_rows(names: Sequence[str], results: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the header and the rows of the table of classes; nothing where counts are not known."""
    counts = results.get("confusion", ())
    if len(counts) != len(names) or any(len(row) != len(names) for row in counts):
        return
    intervals = results.get("recall_ci") or [None] * len(names)
    yield "class", "utterances", "recall", "95 % interval over speakers", *(f"predicted {name}" for name in names)
    for place, (name, row) in enumerate(zip(names, counts, strict=True)):
        recall = f"{100 * row[place] / sum(row):.1f} %" if sum(row) else "-"
        yield name, f"{sum(row):.0f}", recall, _interval(intervals[place], *_PERCENT), *(f"{n:.1f}" for n in row)


def _interval(bounds: Any, factor: float, digits: int, unit: str) -> str:
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(map(_is_number, bounds)):
        return "-"
    return f"{factor * bounds[0]:.{digits}f} to {factor * bounds[1]:.{digits}f}{unit}"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _published(part: Mapping[str, Any]) -> Published | None:
    """Return what is known of an encoder's weights by the repository that they are from."""
    source = str(part.get("source"))
    return next((entry for entry in TABLE.values() if entry.source.partition("@")[0] == source), None)


def _licences(predictor: Predictor) -> Iterator[tuple[str, str]]:
    for part in parts_of(without_places(predictor.identity)):
        known = _published(part)
        named = f"encoder {part['name']}" + (f" ({part['source']})" if known else "")
        licence = known.licence if known else "not known: see where its weights are from"
        yield named, licence if part.get("weights_digest") else "no weights"
    for corpus in map(str, predictor.config.get("pooled") or [predictor.config["corpus"]]):
        yield f"corpus {corpus}", LICENCES.get(corpus, "not known: see where it is from")
