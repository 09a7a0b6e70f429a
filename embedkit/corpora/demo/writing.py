"""Write the demo corpus in IEMOCAP's official layout."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from embedkit.corpora.demo.cast import Speaker, cast_speaker, choose_delivery, write_text
from embedkit.corpora.demo.synthesis import SAMPLING_RATE, Syllable, synthesise

SESSIONS = 5

_SHARES = {"neu": 0.31, "exc": 0.18, "hap": 0.11, "ang": 0.20, "sad": 0.20}
_RATINGS = {
    "neu": (3.0, 2.6, 3.0),
    "ang": (1.9, 3.7, 3.9),
    "hap": (4.0, 3.0, 3.1),
    "exc": (4.1, 3.6, 3.5),
    "sad": (2.2, 2.2, 2.7),
}
_DIALOGUES = ("impro01", "impro02", "script01_1", "script02_1")
_LONGEST_SECONDS = 3.0
_SHORTEST_SECONDS = 1.0


@dataclass(frozen=True)
class Turn:
    """One utterance to be written: its names, what is felt, and everything that is needed to speak it."""

    session: int
    dialogue: str
    id: str
    code: str
    ratings: tuple[float, float, float]
    text: tuple[Syllable, ...]
    speaker: Speaker
    seed: np.random.SeedSequence


def plan_demo(seed: int, turns: int) -> Iterator[Turn]:
    """Yield the turns of all sessions; scripted dialogues have the same text in every session."""
    root = np.random.SeedSequence(seed)
    script_seeds, *session_seeds = root.spawn(1 + SESSIONS)
    scripts = np.random.default_rng(script_seeds)
    texts = {name: [write_text(scripts) for _ in range(2 * turns)] for name in _DIALOGUES if "script" in name}
    for number, session_seed in enumerate(session_seeds, start=1):
        yield from _plan_session(number, session_seed, turns, texts)


def _plan_session(
    number: int, seed: np.random.SeedSequence, turns: int, texts: dict[str, list[tuple[Syllable, ...]]]
) -> Iterator[Turn]:
    rng = np.random.default_rng(seed)
    for letter in "FM":
        speaker = cast_speaker(letter, rng)
        codes = _draw_codes(turns, rng)
        dialogues = [f"Ses{number:02d}{markers}_{name}" for markers in "FM" for name in _DIALOGUES]
        for index, (code, turn_seed) in enumerate(zip(codes, seed.spawn(len(codes)), strict=True)):
            turn, dialogue = divmod(index, len(dialogues))
            name = dialogues[dialogue].split("_", 1)[1]
            given = texts.get(name)
            yield Turn(
                session=number,
                dialogue=dialogues[dialogue],
                id=f"{dialogues[dialogue]}_{letter}{turn:03d}",
                code=code,
                ratings=_rate(code, rng),
                text=given[index + (turns if letter == "M" else 0)] if given else write_text(rng),
                speaker=speaker,
                seed=turn_seed,
            )


def _draw_codes(turns: int, rng: np.random.Generator) -> list[str]:
    """Draw a speaker's emotions: each at least once, shares as in IEMOCAP but other for every speaker."""
    shares = rng.dirichlet(25 * np.array(list(_SHARES.values())))
    counts = 1 + np.floor(shares * (turns - len(_SHARES))).astype(int)
    codes = [code for code, count in zip(_SHARES, counts, strict=True) for _ in range(count)]
    codes += ["neu"] * (turns - len(codes))
    return [codes[index] for index in rng.permutation(turns)]


def _rate(code: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw valence, arousal and dominance as two raters would give them; some dominance is missing."""
    ratings = np.clip(np.round(2 * rng.normal(_RATINGS[code], 0.5)) / 2, 1.0, 5.0)
    if rng.random() < 0.01:
        ratings[2] = np.nan
    valence, arousal, dominance = map(float, ratings)
    return valence, arousal, dominance


def speak_turn(turn: Turn) -> NDArray[np.int16]:
    """Synthesise one turn as its microphone records it; int16 `[samples]` at 16 kHz."""
    rng = np.random.default_rng(turn.seed)
    speech = synthesise(turn.text, choose_delivery(turn.speaker, turn.code, rng), rng)
    shortest, longest = (round(seconds * SAMPLING_RATE) for seconds in (_SHORTEST_SECONDS, _LONGEST_SECONDS))
    speech = np.pad(speech[:longest], (0, max(0, shortest - len(speech))))
    speech = speech / np.sqrt(np.mean(speech**2))
    speech = speech + 10 ** (-rng.normal(28.0, 3.0) / 20) * rng.standard_normal(len(speech))
    recorded = fftconvolve(speech, turn.speaker.channel, mode="same")
    recorded *= 0.05 * 10 ** (rng.normal(0.0, 3.0) / 20) / np.sqrt(np.mean(recorded**2))
    recorded *= min(1.0, 0.9 / np.abs(recorded).max())
    return np.asarray(np.clip(np.round(32768 * recorded), -32768, 32767), np.int16)


def write_sessions(folder: Path, *, seed: int, turns: int) -> int:
    """Write sentence files and evaluation files of all sessions; return how many utterances there are."""
    dialogues: dict[tuple[int, str], list[str]] = {}
    count = 0
    for turn in plan_demo(seed, turns):
        session = folder / f"Session{turn.session}"
        samples = speak_turn(turn)
        _write_wav(session / "sentences" / "wav" / turn.dialogue / f"{turn.id}.wav", samples)
        lines = dialogues.setdefault((turn.session, turn.dialogue), [])
        lines.append(_evaluation_line(turn, len(samples) / SAMPLING_RATE, position=len(lines)))
        count += 1
    for (number, dialogue), lines in dialogues.items():
        file = folder / f"Session{number}" / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        file.write_text(header + "\n\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return count


def _evaluation_line(turn: Turn, seconds: float, *, position: int) -> str:
    start = 5.0 * position
    ratings = ", ".join(f"{rating:.4f}" for rating in turn.ratings)
    return f"[{start:.4f} - {start + seconds:.4f}]\t{turn.id}\t{turn.code}\t[{ratings}]"


def _write_wav(file: Path, samples: NDArray[np.int16]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(SAMPLING_RATE)
        stream.writeframes(samples.astype("<i2").tobytes())
