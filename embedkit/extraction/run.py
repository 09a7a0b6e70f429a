"""Run an extraction: compare with what is there, plan, encode what is missing, assemble, clean up."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from embedkit.errors import ExtractionError
from embedkit.extraction.assembly import Described, assemble, collect_sources, describe_content
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.engines import LocalEngine, Work
from embedkit.extraction.job import Job, prepare_job
from embedkit.extraction.lock import locked
from embedkit.extraction.outlook import check_room, watch_progress
from embedkit.extraction.plan import Plan
from embedkit.extraction.precision import settle_precision
from embedkit.extraction.request import PLAN_NAME, Request
from embedkit.extraction.segments import Failures, survey
from embedkit.extraction.shards import ShardReader
from embedkit.extraction.standing import Standing, examine, is_finished
from embedkit.store.files import sync_folder, writing_to
from embedkit.store.reader import open_store
from embedkit.store.split import remove_other_shards
from embedkit.wording import count_noun


def run_extraction(request: Request) -> None:
    """Bring the store at `request.out` up to date; `embedkit.workflows.extract` says how.

    Raises:
        ExtractionError: it cannot start or go on; what is finished is kept.
        StoreError: the store that is there is damaged, or there is too little room.
    """
    standing = examine(request)
    if is_finished(request, standing):
        _clean_up(request)
        count = count_noun(len(standing.reuse.kept), "utterance")
        request.tell(f"{str(request.out)!r} is up to date: {count}, nothing to do.")
        return
    with writing_to(request.work.parent, 0), locked(request.work):
        # Another process may have finished the store before the lock was free.
        standing = examine(request)
        if not is_finished(request, standing):
            _run_locked(request, standing)
        _discard_work(request)


def _run_locked(request: Request, standing: Standing) -> None:
    items = survey(
        request.corpus,
        standing.reuse.missing,
        standing.stamps,
        sampling_rate=request.encoder.sampling_rate,
        workers=request.workers,
        failures=standing.failures,
    )
    if not items and not standing.reuse.kept:
        raise _nothing_usable(request, standing.failures)
    job = prepare_job(request, standing, items)
    needed = check_room(job)
    with writing_to(request.work.parent, needed):
        try:
            _encode(job)
            _assemble(job)
        except KeyboardInterrupt:
            raise ExtractionError(
                f"Stopped; {job.items_done} of {len(items)} utterances are finished and kept in "
                f"{str(request.work)!r}, run the same command again to continue."
            ) from None


def _encode(job: Job) -> None:
    request = job.request
    for shard in job.finished.values():
        for item, reason in shard.failures:
            job.standing.failures.add(item.id, reason)
    recipe = EncodingConfig(
        encoder=request.encoder,
        root=request.corpus.root.absolute(),
        frame_dtype=request.kept_frames,
        windows=request.windows,
        batch_seconds=job.plan.settings.batch_seconds,
    )

    def finish(path: Path) -> None:
        job.finished[path.stem] = ShardReader(path)

    engine = request.engine or LocalEngine()
    batch_done, watch_shard = watch_progress(job)
    work = Work(
        recipe=recipe,
        pending=job.pending,
        settings=job.plan.settings,
        workers=request.workers,
        failures=job.standing.failures,
        batch_done=batch_done,
        watch_shard=watch_shard,
        shard_done=finish,
        tell=request.tell,
    )
    settle_precision(job, lambda: engine.measure_error(work))
    job.plan.save(request.work / PLAN_NAME)
    engine.run(work)


def _assemble(job: Job) -> None:
    request, standing = job.request, job.standing
    sources = collect_sources(standing.reuse, standing.store, list(job.finished.values()), set(job.items))
    if not sources:
        raise _nothing_usable(request, standing.failures)
    described = _describe(job)
    content = describe_content(request.corpus, described, sources, standing.stamps, standing.failures)
    assemble(request.out, content, sources, most_bytes=_most_bytes(described))
    failed = f", {len(standing.failures)} could not be used (see `embedkit inspect`)" if standing.failures else ""
    short = sum(source.measured.padded for source in sources.values())
    padded = f", {short} {'was' if short == 1 else 'were'} padded to the encoder's smallest input" if short else ""
    request.tell(f"Wrote {str(request.out)!r}: {count_noun(len(sources), 'utterance')}{failed}{padded}.")


def _nothing_usable(request: Request, failures: Failures) -> ExtractionError:
    corpus = request.corpus
    if not corpus.utterances:
        return ExtractionError(f"The corpus {corpus.name!r} has no utterances; nothing can be extracted.")
    name, reason = next(iter(failures.items()))
    return ExtractionError(
        f"Of {count_noun(len(corpus.utterances), 'utterance')} not one can be used ({name}: {reason.rstrip('.')}); "
        "repair the audio, or the corpus's paths."
    )


def _describe(job: Job) -> Described:
    """Describe what made the numbers; where no number is new, what the store says already."""
    request, store = job.request, job.standing.store
    computed = {**asdict(job.plan.settings), "precision": job.plan.precision}
    encoder = {**request.identity, "versions": job.plan.versions}
    if store is not None and not job.items:
        computed = {name: store.extraction.get(name, value) for name, value in computed.items()}
        encoder = store.encoder
    return Described(
        encoder=encoder,
        fingerprint=request.fingerprint,
        frame_dtype=request.kept_frames,
        extraction={
            **computed,
            "options": request.options,
            "selection": request.selection,
            "default_head": request.encoder.default_head,
            **_files(job),
        },
        trained_on=request.trained_on,
    )


def _files(job: Job) -> dict[str, float]:
    """Say how large a file may be: as asked, else as the store says."""
    before = job.standing.store.extraction if job.standing.store is not None else {}
    most = job.request.max_file_gb or before.get("max_file_gb")
    return {} if most is None else {"max_file_gb": most}


def _most_bytes(described: Described) -> float | None:
    most = described.extraction.get("max_file_gb")
    return None if most is None else most * 1e9


def _clean_up(request: Request) -> None:
    """Remove what an extraction left that was killed after its store was finished."""
    plan = Plan.find(request.work / PLAN_NAME)
    if plan is None or plan.fingerprint != request.fingerprint:
        return
    with locked(request.work):
        _discard_work(request)


def _discard_work(request: Request) -> None:
    remove_other_shards(request.out, open_store(request.out).shards)
    shutil.rmtree(request.work)
    sync_folder(request.work.parent)
