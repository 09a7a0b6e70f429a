"""The one module that knows the operating system: what Linux, macOS and Windows do not have in common."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import warnings
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_NOT_FOR_FOLDERS = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""How systems and file systems say that folders are not synced: Windows does not even open them."""
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.1
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of mallopt, as numbered in malloc.h."""
_LARGEST_INT = 2**31 - 1
_RESERVED = re.compile(r"\A(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
"""Names of devices on Windows, with any ending
(https://learn.microsoft.com/windows/win32/fileio/naming-a-file)."""


class Memory(NamedTuple):
    """Bytes of this machine's memory: all of it, and what is free or can be freed."""

    total: int
    available: int


def write_at(descriptor: int, data: Any, offset: int) -> None:
    """Write all bytes of a buffer at an offset."""
    view = memoryview(data).cast("B")
    while view:
        if hasattr(os, "pwrite"):
            written = os.pwrite(descriptor, view, offset)
        else:
            os.lseek(descriptor, offset, os.SEEK_SET)
            written = os.write(descriptor, view)
        view, offset = view[written:], offset + written


class OpenFile:
    """A file that is read at any place, also by copies of this process, and closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self.descriptor)


def read_at(descriptor: int, data: Any, offset: int) -> int:
    """Fill a buffer from an offset on; return how many bytes there were."""
    view = memoryview(data).cast("B")
    while view:
        if hasattr(os, "preadv"):
            read = os.preadv(descriptor, [view], offset)
        else:
            os.lseek(descriptor, offset, os.SEEK_SET)
            own = os.read(descriptor, len(view))
            view[: len(own)], read = own, len(own)
        if not read:
            break
        view, offset = view[read:], offset + read
    return memoryview(data).nbytes - len(view)


def reserve_space(descriptor: int, size: int) -> None:
    """Make sure that a file can grow to `size` bytes, where the system can tell; `OSError` where it cannot grow."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    # Windows syncs only what is open for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


def replace(part: Path, path: Path) -> None:
    """Give a file its name in one step; on Windows wait for whoever has the old one open for a moment."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            os.replace(part, path)
            return
        except PermissionError:
            if os.name != "nt" or not left:
                raise
            time.sleep(_PAUSE_SECONDS)


def disk_space(folder: Path) -> tuple[int, int]:
    """Return all bytes and the free ones of the file system that holds a folder, or the nearest one above it."""
    usage = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists()))
    return usage.total, usage.free


def free_space(folder: Path) -> int:
    """Return the free bytes of the file system that holds a folder, or the nearest folder above it that exists."""
    return disk_space(folder)[1]


def address_space() -> int | None:
    """Return how many bytes of addresses a process may have; None where there is no limit, or no such thing."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def native_path(path: Path) -> bytes | str:
    """Return a path as C libraries take it: bytes, of which names that are no UTF-8 consist; text on Windows."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def safe_name(name: str, *, default: str) -> str:
    """Make a file name that every system takes out of any text: no separators, colons, reserved words, ends in dots.

    >>> safe_name("aux:1.", default="file")
    'aux-1'
    >>> safe_name("nul.h5", default="file")
    'nul_.h5'
    """
    text = re.sub(r"[^\w.+@-]+", "-", name).strip(".-")
    return avoid_reserved(re.sub(r"\.{2,}", ".", text)) or default


def avoid_reserved(name: str) -> str:
    """Change a name that Windows keeps for a device, with any ending; leave others alone."""
    return _RESERVED.sub(r"\1_", name)


def can_fork() -> bool:
    """Tell whether copies of this process can go on: libraries survive it on Linux alone."""
    return sys.platform == "linux" and hasattr(os, "fork")


def fork() -> int:
    """Copy this process; return 0 in the copy, its number in this one."""
    with warnings.catch_warnings():
        # Newer Pythons warn of forking beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def count_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_all_cores() -> int:
    """Return the number of cores of this machine."""
    return os.cpu_count() or 1


def read_memory() -> Memory:
    """Return how much memory there is."""
    import psutil

    found = psutil.virtual_memory()
    return Memory(found.total, found.available)


def read_cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the CPU as Linux names them; nothing on other systems."""
    return frozenset(_read_cpu("flags", "Features").split())


def name_cpu() -> str:
    """Return what the CPU is called."""
    return _read_cpu("model name") or platform.processor() or platform.machine()


def _read_cpu(*keys: str) -> str:
    """Return what Linux says of the first core."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in keys:
                return value.strip()
    return ""


def name_python() -> str:
    """Return the version of Python, and who made it."""
    return f"{platform.python_version()} ({platform.python_implementation()})"


def name_system() -> str:
    """Return the operating system, its version, the architecture and the C library."""
    return " ".join(filter(None, (platform.system(), platform.release(), platform.machine(), *platform.libc_ver())))


def quote_word(text: str) -> str:
    """Quote a word as the system's shell takes it."""
    return subprocess.list2cmdline([text]) if sys.platform == "win32" else shlex.quote(text)


def flush_c_streams() -> None:
    """Have the C library write what it holds back."""
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def name_machine() -> str:
    """Return what this machine is called in its network."""
    return socket.gethostname()


def name_process_space() -> str:
    """Name what numbers of processes hold for: this machine, on Linux its container."""
    space = Path("/proc/self/ns/pid")
    return f"{name_machine()} {os.readlink(space) if space.is_symlink() else ''}"


def is_running(process: int) -> bool:
    """Tell whether there is a process of this number."""
    import psutil

    return bool(psutil.pid_exists(process))


def keep_freed_memory() -> None:
    """Have this process keep the memory it frees, for its next large tensors.

    The GNU C library gives what is larger than 32 MB back to the system, which hands it out again page by page, each
    filled with zeros: half of the time of a head on frames. Other libraries are left as they are.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is not None and hasattr(library, "mallopt"):
        for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            library.mallopt(option, _LARGEST_INT)
