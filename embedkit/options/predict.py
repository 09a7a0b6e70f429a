"""The options of `predict` that say what of a recording is heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embedkit.errors import ConfigError
from embedkit.options.extract import ExtractOptions
from embedkit.options.option import Bound, declared, option, shared

_SECONDS = Bound(least=0.01, text="of seconds, at least 0.01")


@dataclass(frozen=True, kw_only=True)
class CuttingOptions:
    """Which stretches of a recording are predicted."""

    window: float | None = option(
        panel="Data",
        metavar="SECONDS",
        help="Predict windows of this length, such as 4, each as if it were a file, with start and end. The last one "
        "is moved back to end where the recording does; a shorter recording is one window.",
        usual="the whole of every file",
        bound=_SECONDS,
    )
    hop: float | None = option(
        panel="Data",
        metavar="SECONDS",
        help="From the start of one window to the next, at most --window.",
        usual="--window, windows side by side",
        bound=_SECONDS,
    )
    vad: Literal["silero"] | None = option(
        panel="Data",
        metavar="NAME",
        help="silero: predict speech alone, as Silero VAD finds it (the extra `vad`): windows within it, or without "
        "--window stretches of at most 30 s.",
        usual="none",
    )
    max_hours: float = shared(ExtractOptions, "max_hours")
    rescale: bool = shared(ExtractOptions, "rescale")

    def __post_init__(self) -> None:
        for name, one in declared(type(self)).items():
            one.check(getattr(self, name), one.flag)
        if self.hop is not None and self.window is None:
            raise ConfigError(f"--hop is {self.hop:g}, but there are no windows; give their length with --window.")
        if self.hop is not None and self.window is not None and self.hop > self.window:
            raise ConfigError(
                f"--hop is {self.hop:g}, longer than --window, {self.window:g}, which leaves out what lies between; "
                f"give at most {self.window:g}."
            )

    @property
    def cuts(self) -> bool:
        """Whether anything but whole clips is predicted."""
        return self.window is not None or self.vad is not None
