"""Tables of finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import checked
from embedkit.errors import ConfigError
from embedkit.options.option import declared
from embedkit.options.table import TableOptions
from embedkit.reporting.groups import score_groups
from embedkit.reporting.metrics import Spread
from embedkit.reporting.table import Table, build_table

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


@checked("embedkit.table")
def tabulate_runs(
    runs: str | Path | Iterable[RunRecord | Mapping[str, Any]] = "runs",
    *,
    metric: str | None = None,
    format: str = "text",
    published: bool = False,
    spread: Spread = "interval",
    by: str | None = None,
    cross: bool = False,
    compare: bool = True,
    brief: bool = False,
    explain: bool = False,
) -> Table:
    """Build the table of encoders by losses; `print` shows it.

    Args:
        runs: A folder that holds runs, what `embedkit.fit` returned, or rows as in `metrics.json`.
        metric: "ua" or "uar", "wa" or "acc", "f1", "nll", "brier", "ece", "kl", "js"; "ccc", "rmse" of runs that
            predict emotional attributes; "all" for all tables; or None for UAR and CCC, whichever a run has.
        format: What `print` shows, one of `embedkit.options.table.FORMATS`.
        published: Set the figures of the study, SUPERB and EmoBox on IEMOCAP, with notes on what each was, beside.
        spread: "interval" sets 95 % intervals over speakers beside numbers, "seeds" the standard deviation over seeds.
        by: A column of the store, such as "gender", each value of which is scored in a table of its own.
        cross: Show the cross-corpus matrix alone: the corpora trained on by those tested.
        compare: Test and mark which runs differ, by their predictions.
        brief: Show the numbers and one line below them, without tests and protocol.
        explain: Say how each score is defined.

    Raises:
        RunError: there are no runs, or one is damaged.
        ConfigError: an unknown metric or format, or rows where `by` needs predictions.
    """
    metric = declared(TableOptions)["metric"].canonical(metric, "embedkit.table: metric")
    if isinstance(runs, str | Path):
        from embedkit.training.runs import find_runs

        runs = find_runs(runs)
    if not isinstance(runs, Iterable):
        raise ConfigError(
            f"embedkit.table: runs is {runs!r}, expected a folder of runs, or what embedkit.fit returned."
        )
    given = list(runs)
    for one in given:
        if not (isinstance(one, Mapping) or hasattr(one, "metrics")):
            raise ConfigError(
                f"embedkit.table: found {one!r} among the runs, expected what embedkit.fit returned; name "
                "the folder that holds the runs."
            )
    rows: list[Mapping[str, Any]] = [one if isinstance(one, Mapping) else one.metrics for one in given]
    if by is not None:
        if any(isinstance(one, Mapping) for one in given):
            raise ConfigError("embedkit.table: by needs the predictions of runs, found rows alone; name their folder.")
        rows = [{**row, "groups": score_groups(one, by)} for row, one in zip(rows, given, strict=True)]  # type: ignore[arg-type]
    predictions = [None if isinstance(record, Mapping) else record.predictions_path for record in given]
    return build_table(
        rows,
        metric=metric,
        format=format,
        published=published,
        spread=spread,
        brief=brief,
        explain=explain,
        cross=cross,
        predictions=predictions if compare and not (brief or cross) else None,
    )
