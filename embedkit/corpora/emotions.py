"""How emotions are spelt, and which label of a model stands for which class of a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from embedkit.corpora.texts import fold_text
from embedkit.errors import ConfigError, FitError
from embedkit.registry import unknown_name
from embedkit.wording import list_some

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "anger": ("ang", "angry"),
    "boredom": ("bor", "bored"),
    "calm": ("cal", "calmness"),
    "contempt": ("con", "contemptuous"),
    "disgust": ("dis", "disgusted"),
    "excitement": ("exc", "excited"),
    "fear": ("fea", "fearful", "afraid", "scared"),
    "frustration": ("fru", "frustrated"),
    "happiness": ("hap", "happy", "joy", "joyful"),
    "neutral": ("neu", "neutrality"),
    "sadness": ("sad",),
    "surprise": ("sur", "surprised"),
}
"""Other words for an emotion, as published classifiers and corpora write them."""

SHOWN = 12
_MEANINGS = {word: emotion for emotion, words in SPELLINGS.items() for word in (emotion, *words)}


def match_names(labels: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """Return the class that each label stands for: of its name, or else the only one of its meaning.

    >>> match_names(["ang", "Happy", "other"], ["anger", "happiness", "fear"])
    {'ang': 'anger', 'Happy': 'happiness'}
    """
    found = {}
    for label in labels:
        same = [one for one in classes if fold_text(one) == fold_text(label)]
        alike = same or [one for one in classes if _meaning(one) is not None and _meaning(one) == _meaning(label)]
        if len(alike) == 1:
            found[label] = alike[0]
    return found


def _meaning(name: str) -> str | None:
    return _MEANINGS.get(fold_text(name))


def map_labels(
    labels: Sequence[str], given: Mapping[str, str], classes: Sequence[str] | None, corpus: str = "", *, least: int = 2
) -> dict[str, str]:
    """Return which labels of a model count, and as what.

    Args:
        labels: The model's.
        given: `--map`: label -> class, several labels perhaps of one class; empty: by their names.
        classes: What there is to be named; None: anything, and without `given` each label is a class.
        corpus: Whose classes they are.
        least: How many of them are needed.

    Raises:
        ConfigError: a label that the model does not have, or the same one twice.
        FitError: a class that the corpus does not have, or too few in common.
    """
    if not given and classes is None:
        return {label: label for label in labels}
    known = {fold_text(label): label for label in labels}
    mapped: dict[str, str] = {}
    for old, new in given.items():
        label = known.get(fold_text(old))
        if label is None:
            raise ConfigError(f"--map: {unknown_name('label of the model', old, labels)}")
        if classes is not None and new not in classes:
            raise FitError(f"--map: {unknown_name(f'class of {corpus}', new, classes)}")
        mapped[label] = new
    mapped = mapped or match_names(labels, classes or ())
    if len(set(mapped.values())) < least:
        theirs, ours = list_some(labels, SHOWN), list_some(classes or (), SHOWN)
        common = f"only {next(iter(mapped.values()))}" if mapped else "nothing"
        raise FitError(
            f"The model's labels ({theirs}) and the classes {f'of {corpus} ' if corpus else ''}({ours}) have {common} "
            f"in common, at least {least} needed; say which label counts as which class: --map LABEL=CLASS,..."
        )
    return mapped


def tell_map(
    labels: Sequence[str],
    classes: Sequence[str],
    mapped: Mapping[str, str],
    what: str,
    *,
    without: str = "and left out",
) -> list[str]:
    """Say what counts as what, and which labels and classes have no counterpart."""
    pairs = ", ".join(label if label == new else f"{label} as {new}" for label, new in mapped.items())
    mute = [label for label in labels if label not in mapped]
    lost = [name for name in classes if name not in mapped.values()]
    told = [f"Labels of the model that count: {pairs}."]
    if mute:
        told.append(f"Labels of the model without a {what}, which it cannot choose: {list_some(mute, SHOWN)}.")
    if lost:
        told.append(f"Without a label of the model, {without}: {list_some(lost, SHOWN)}.")
    return told
