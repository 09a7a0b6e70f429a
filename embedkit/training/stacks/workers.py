"""Work done side by side in processes of one core each.

Threads would wait for each other between any two small operations: Python runs one of them at a time.
"""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from embedkit import errors, system
from embedkit.devices import has_accelerator
from embedkit.errors import EmbedkitError, FitError
from embedkit.kernels import using_threads

# concurrent.futures ends no busy worker before Python 3.14, and its workers outlive a parent that is killed; joblib
# sends the embeddings to every worker.
_DONE, _REFUSED, _FAILED = b"\0", b"\1", b"\2"


def can_fork() -> bool:
    """Tell whether work can go on in copies of this process.

    Copies share the embeddings with it at no cost. Where there are GPUs, or once this process has exported a model
    and taken gradients, PyTorch's autograd forbids them.
    """
    return system.can_fork() and not has_accelerator() and _autograd_works_in_copies()


def _autograd_works_in_copies() -> bool:
    """Ask a copy: PyTorch does not say beforehand."""
    copy = system.fork()
    if copy == 0:
        refused = 1
        try:
            torch.set_num_threads(1)
            torch.ones(1, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]
            refused = 0
        finally:
            os._exit(refused)
    return os.waitpid(copy, 0)[1] == 0


def work_side_by_side(work: Callable[[int], bytes], places: Sequence[int], workers: int) -> Iterator[tuple[int, bytes]]:
    """Do `work` for every place, in any order, each on one core; yield the places with what came out.

    Args:
        work: Runs in copies of this process; what it raises is raised here.
        places: What there is to do.
        workers: Processes; with one, or where there can be none, the work is done in this process.

    Raises:
        FitError: a process was killed.
    """
    if workers < 2 or len(places) < 2 or not can_fork():
        yield from _work_here(work, places)
        return
    context: Any = get_context("fork")
    waiting = list(places)[::-1]
    links: dict[Connection, Any] = {}
    try:
        for _ in range(min(workers, len(places))):
            link, other = context.Pipe()
            process = context.Process(target=_serve, args=(work, other, [*links, link]), daemon=True)
            with warnings.catch_warnings():
                # Newer Pythons warn of forking beside threads: ours only draw the progress bar.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            other.close()
            links[link] = process
            _send(link, waiting.pop())
        busy = set(links)
        while busy:
            for link in wait(list(busy)):
                assert isinstance(link, Connection)
                place, result = _receive(link, links[link])
                if waiting:
                    _send(link, waiting.pop())
                else:
                    busy.discard(link)
                yield place, result
    finally:
        for link, process in links.items():
            link.close()
            process.terminate()
        for process in links.values():
            process.join()


def _work_here(work: Callable[[int], bytes], places: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    for place in places:
        with using_threads(1):
            result = work(place)
        yield place, result


def _receive(link: Connection, process: Any) -> tuple[int, bytes]:
    try:
        place, message = int.from_bytes(link.recv_bytes(), "little"), link.recv_bytes()
    except (EOFError, OSError):
        process.join()
        raise FitError(
            f"A training process was ended from outside (exit code {process.exitcode}), often for want of memory; "
            "the same command continues, with --threads 1 in less memory."
        ) from None
    kind, content = message[:1], message[1:]
    if kind == _REFUSED:
        name, _, sentence = content.decode().partition(" ")
        raise getattr(errors, name, EmbedkitError)(sentence)
    if kind == _FAILED:
        raise RuntimeError(f"In a training process:\n{content.decode()}")
    return place, content


def _send(link: Connection, place: int) -> None:
    link.send_bytes(place.to_bytes(8, "little"))


def _serve(work: Callable[[int], bytes], link: Connection, others: Sequence[Connection]) -> None:
    """Work until there is nothing more to do, or nobody left to do it for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        other.close()
    torch.set_num_threads(1)
    system.keep_freed_memory()
    try:
        while True:
            place = int.from_bytes(link.recv_bytes(), "little")
            try:
                message = _DONE + work(place)
            except EmbedkitError as error:
                message = _REFUSED + f"{type(error).__name__} {error}".encode()
            except Exception:
                message = _FAILED + traceback.format_exc().encode()
            _send(link, place)
            link.send_bytes(message)
    except (EOFError, OSError):
        return
