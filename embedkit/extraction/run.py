"""Run an extraction: compare with what is there, plan, encode what is missing, assemble, clean up."""

from __future__ import annotations

from pathlib import Path

from embedkit.errors import ExtractionError
from embedkit.extraction.assembly import assemble, collect_finished
from embedkit.extraction.compare import StoreComparison, compare_request, is_finished
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.engines import Engine, LocalEngine
from embedkit.extraction.job import count_done, prepare_plan
from embedkit.extraction.lock import empty, locked
from embedkit.extraction.plan import PLAN_NAME, ExtractionPlan
from embedkit.extraction.report import check_room, settle_precision, watch_progress
from embedkit.extraction.request import ExtractionRequest
from embedkit.extraction.segments import Failures, survey
from embedkit.extraction.shards import ShardReader
from embedkit.store.described import check_corpus_name
from embedkit.store.reader import open_store
from embedkit.store.split import remove_other_shards
from embedkit.wording import count_noun
from embedkit.writing import writing_to


def run_extraction(request: ExtractionRequest, engine: Engine | None = None) -> None:
    """Bring the store at `request.out` up to date; `embedkit.workflows.extract` says how.

    Args:
        request: What is wanted.
        engine: Encodes the shards; None: this process.

    Raises:
        ExtractionError: it cannot start or go on; what is finished is kept.
        StoreError: the store that is there is damaged, or there is too little room.
    """
    _check_name(request)
    found = compare_request(request)
    if is_finished(request, found):
        _clean_up(request)
        count = count_noun(len(found.kept), "utterance")
        request.tell(f"{str(request.out)!r} is up to date: {count}, nothing to do.")
        return
    with writing_to(request.work.parent, 0), locked(request.work):
        # Another process may have finished the store before the lock was free.
        found = compare_request(request)
        if not is_finished(request, found):
            _run_locked(request, found, engine or LocalEngine(request.tell))
        _discard_work(request)


def _check_name(request: ExtractionRequest) -> None:
    """Refuse, before anything is encoded, a corpus whose store could not be opened."""
    try:
        check_corpus_name(request.corpus.name)
    except ValueError as error:
        raise ExtractionError(f"No store can be made: {error}; rename the corpus's folder or file.") from error


def _run_locked(request: ExtractionRequest, found: StoreComparison, engine: Engine) -> None:
    segments = survey(
        request.corpus,
        found.missing,
        found.stamps,
        sampling_rate=request.encoder.sampling_rate,
        workers=request.workers,
        failures=found.failures,
        most_seconds=request.max_hours * 3600,
    )
    if not segments and not found.kept:
        raise _nothing_usable(request, found.failures)
    plan, shards = prepare_plan(request, found.extraction, segments, engine.threads)
    needed = check_room(request, found, segments, shards)
    with writing_to(request.work.parent, needed):
        try:
            plan = _encode(request, plan, shards, found.failures, engine)
            finished = collect_finished(found, shards.values(), segments)
            if not finished:
                raise _nothing_usable(request, found.failures)
            assemble(request, found, plan, finished)
        except KeyboardInterrupt:
            raise ExtractionError(
                f"Stopped; {count_done(shards)} of {len(segments)} utterances are finished and kept in "
                f"{str(request.work)!r}, run the same command again to continue."
            ) from None
    failed = f", {len(found.failures)} could not be used (see `embedkit inspect`)" if found.failures else ""
    short = sum(one.measured.padded for one in finished.values())
    padded = f", {short} {'was' if short == 1 else 'were'} padded to the encoder's smallest input" if short else ""
    request.tell(f"Wrote {str(request.out)!r}: {count_noun(len(finished), 'utterance')}{failed}{padded}.")


def _encode(
    request: ExtractionRequest,
    plan: ExtractionPlan,
    shards: dict[str, ShardReader],
    failures: Failures,
    engine: Engine,
) -> ExtractionPlan:
    """Encode the shards that are not finished, and add them to those that are; return the plan with its precision."""

    def finish(path: Path) -> None:
        shards[path.stem] = shard = ShardReader(path)
        note_failures(shard)

    def note_failures(shard: ShardReader) -> None:
        for segment, reason in shard.failures:
            failures.add(segment.id, reason)

    for shard in shards.values():
        note_failures(shard)
    config = EncodingConfig(
        encoder=request.encoder,
        root=request.corpus.root.absolute(),
        frame_dtype=request.kept_frames,
        windows=request.windows,
        batch_seconds=plan.batch_seconds,
        threads=plan.threads,
        passes=plan.passes,
        workers=request.workers,
        on_error=request.on_error,
        max_hours=request.max_hours,
        rescale=request.rescale,
        noise=request.added_noise,
    )
    tasks = [task for key, task in plan.tasks(request.work).items() if key not in shards]
    watch = watch_progress(request, plan, tasks)
    plan = settle_precision(request, plan, lambda: engine.measure_error(config, tasks[0].shard) if tasks else None)
    plan.save(request.work / PLAN_NAME)
    engine.run(config, tasks, watch, finish)
    return plan


def _nothing_usable(request: ExtractionRequest, failures: Failures) -> ExtractionError:
    corpus = request.corpus
    if not corpus.utterances:
        return ExtractionError(f"The corpus {corpus.name!r} has no utterances; nothing can be extracted.")
    name, reason = next(iter(failures.items()))
    return ExtractionError(
        f"Of {count_noun(len(corpus.utterances), 'utterance')} not one can be used ({name}: {reason.rstrip('.')}); "
        "repair the audio, or the corpus's paths."
    )


def _clean_up(request: ExtractionRequest) -> None:
    """Remove what an extraction left that was killed after its store was finished."""
    plan = ExtractionPlan.find(request.work / PLAN_NAME)
    if plan is None or plan.fingerprint != request.fingerprint:
        return
    with locked(request.work):
        _discard_work(request)


def _discard_work(request: ExtractionRequest) -> None:
    remove_other_shards(request.out, open_store(request.out).shards)
    empty(request.work)
