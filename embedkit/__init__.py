"""Speech embeddings once, emotion heads in seconds.

    store = embedkit.extract("corpus/", encoder="hubert")
    results = embedkit.fit(store, loss=["ce", "focal"], folds="speaker")
    print(embedkit.table(results))

Names are imported when they are first used, so that `import embedkit` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedkit.api.classifier import HeadClassifier
    from embedkit.api.dataset import EmbeddingDataset
    from embedkit.corpora import open_corpus
    from embedkit.errors import EmbedkitError
    from embedkit.store.reader import open_store
    from embedkit.workflows.check import check_corpus
    from embedkit.workflows.cite import cite_run as cite
    from embedkit.workflows.convert import convert_store as convert
    from embedkit.workflows.evaluate import evaluate_model as evaluate
    from embedkit.workflows.export import export_run
    from embedkit.workflows.extract import extract_embeddings as extract
    from embedkit.workflows.figure import write_figures
    from embedkit.workflows.fit import fit_heads as fit
    from embedkit.workflows.manifest import write_manifest
    from embedkit.workflows.predict import predict_audio as predict
    from embedkit.workflows.predict import stream_predictions
    from embedkit.workflows.report import write_report
    from embedkit.workflows.study import run_study
    from embedkit.workflows.table import tabulate_runs as table

    __version__: str

__all__ = [
    "EmbeddingDataset",
    "EmbedkitError",
    "HeadClassifier",
    "__version__",
    "check_corpus",
    "cite",
    "convert",
    "evaluate",
    "export_run",
    "extract",
    "fit",
    "open_corpus",
    "open_store",
    "predict",
    "run_study",
    "stream_predictions",
    "table",
    "write_figures",
    "write_manifest",
    "write_report",
]

_PLACES = {
    "EmbeddingDataset": "embedkit.api.dataset:EmbeddingDataset",
    "EmbedkitError": "embedkit.errors:EmbedkitError",
    "HeadClassifier": "embedkit.api.classifier:HeadClassifier",
    "check_corpus": "embedkit.workflows.check:check_corpus",
    "cite": "embedkit.workflows.cite:cite_run",
    "convert": "embedkit.workflows.convert:convert_store",
    "evaluate": "embedkit.workflows.evaluate:evaluate_model",
    "export_run": "embedkit.workflows.export:export_run",
    "extract": "embedkit.workflows.extract:extract_embeddings",
    "fit": "embedkit.workflows.fit:fit_heads",
    "open_corpus": "embedkit.corpora:open_corpus",
    "open_store": "embedkit.store.reader:open_store",
    "predict": "embedkit.workflows.predict:predict_audio",
    "run_study": "embedkit.workflows.study:run_study",
    "stream_predictions": "embedkit.workflows.predict:stream_predictions",
    "table": "embedkit.workflows.table:tabulate_runs",
    "write_figures": "embedkit.workflows.figure:write_figures",
    "write_manifest": "embedkit.workflows.manifest:write_manifest",
    "write_report": "embedkit.workflows.report:write_report",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _read_version()
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name].split(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


def _read_version() -> str:
    """Return the installed version; a bare checkout reads its own pyproject.toml."""
    from importlib import metadata

    from embedkit.installation import DISTRIBUTION, read_checkout

    return str(read_checkout().get("version") or metadata.version(DISTRIBUTION))
