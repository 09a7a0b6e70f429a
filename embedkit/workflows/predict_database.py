"""Predictions as a database in audformat: a table of labels and probabilities, or ratings, by file or segment."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from embedkit.errors import ConfigError
from embedkit.registry import import_extra
from embedkit.workflows.predict import Prediction
from embedkit.writing import new_folder

TABLE = "predictions"


def require_place(out: Path) -> None:
    """Refuse a place where something lies already, or that audformat could not be used for.

    Raises:
        ConfigError: audformat is not installed, or something is there.
    """
    import_extra("audformat", extra="audformat", needed_by="--format audformat", error=ConfigError)
    if out.exists():
        raise ConfigError(f"--out {str(out)!r} is there already; a database is a new folder: name another.")


def write_database(predictions: Iterable[Prediction], out: Path, run: Path) -> None:
    """Write a folder with `db.yaml` and the table `predictions` as Parquet.

    The table is by file, or by segment where a prediction has times (an end that is open is NaT). Its columns are
    `label` and `probability.CLASS`, or the emotional attributes. Files are called as they were given.

    Args:
        predictions: Of one run; of several for the same stretch the last counts.
        out: The folder, which is not there yet.
        run: What predicted.

    Raises:
        ConfigError: audformat is not installed, or the folder cannot be written.
    """
    audformat = import_extra("audformat", extra="audformat", needed_by="--format audformat", error=ConfigError)
    import pandas

    found = list({(one.path, one.start, one.end): one for one in predictions}.values())
    # Unless told, audformat writes that the use is unrestricted, which the corpus of the run decides.
    database = audformat.Database(
        out.name, usage=audformat.define.Usage.OTHER, description=f"Predictions of the embedkit run {run.name}."
    )
    files = [one.path for one in found]
    if any(one.start is not None or one.end is not None for one in found):
        starts = pandas.to_timedelta([one.start or 0.0 for one in found], unit="s")
        ends = pandas.to_timedelta([one.end for one in found], unit="s")
        index = audformat.segmented_index(files, starts, ends)
    else:
        index = audformat.filewise_index(files)
    table = database[TABLE] = audformat.Table(index)
    columns: dict[str, list[str] | list[float]] = {}
    if found and not found[0].dimensions:
        classes = list(found[0].probabilities)
        database.schemes["label"] = audformat.Scheme(labels=classes)
        columns["label"] = [one.label for one in found]
        columns |= {f"probability.{name}": [one.probabilities[name] for one in found] for name in classes}
    elif found:
        columns |= {name: [one.dimensions[name] for one in found] for name in found[0].dimensions}
    for name, values in columns.items():
        if name not in database.schemes:
            database.schemes[name] = audformat.Scheme("float")
        table[name] = audformat.Column(scheme_id=name)
        table[name].set(values)
    with new_folder(out, error=ConfigError, otherwise="name another folder") as part:
        database.save(str(part), storage_format="parquet")
