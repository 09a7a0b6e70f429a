"""Every error that embedkit raises on purpose: one sentence with what was found, what was expected, what to do.

Each class also inherits the builtin that a caller would catch.
"""


class EmbedkitError(Exception):
    """A problem the user can solve; the command line prints it as one sentence and exits with 1."""


class UnknownNameError(EmbedkitError, LookupError):
    """A name that no table of registered parts holds."""


class CodeError(EmbedkitError, ImportError):
    """Code that received data names, and that the user has not allowed."""


class ConfigError(EmbedkitError, ValueError):
    """An option or a key of embedkit.toml that cannot be used."""


class ArgumentError(EmbedkitError, TypeError):
    """An argument that a library call does not have, or lacks."""


class CorpusError(EmbedkitError, ValueError):
    """A corpus folder or manifest that cannot be read as one."""


class AudioError(EmbedkitError, ValueError):
    """An audio file that cannot be decoded, is empty, or holds values that are not finite."""


class EncoderError(EmbedkitError, ValueError):
    """An encoder that cannot be built: source not found, weights that do not fit, a family that is not supported."""


class ExtractionError(EmbedkitError, RuntimeError):
    """An extraction that cannot start or go on."""


class BusyError(ExtractionError):
    """Another process writes to the same store."""


class StoreError(EmbedkitError, ValueError):
    """A store that is damaged, incomplete, or lacks what was asked of it."""


class FitError(EmbedkitError, ValueError):
    """Heads that cannot be trained as asked: too few speakers, one class, frames missing."""


class RunError(EmbedkitError, ValueError):
    """A run folder that is missing or cannot be read."""


_NO_MEMORY = (
    *("out of memory", "allocate memory", "ALLOC_FAILED", "could not create a primitive", "bad allocation"),
    *("failed to map segment", "start new thread"),
)
"""How CUDA, torch on a CPU, CUDA's libraries, and oneDNN say it, mostly as RuntimeError; then how the loader of
libraries and Python's threads do, where a process may have no more (`ulimit -v`)."""


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an error means that there is too little memory, of the machine or of a GPU."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)
