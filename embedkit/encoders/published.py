"""The encoders that are known by name: where they are published, and what they are."""

from __future__ import annotations

import re
from typing import NamedTuple


class Published(NamedTuple):
    """A checkpoint on the Hugging Face Hub.

    Attributes:
        source: `org/name`, `@` the commit it is pinned to; without one the main branch is taken, and the commit it
            stood at is part of the identity.
        title: What it is, and what it was trained on.
        millions: Parameters of the encoder.
        licence: As its model card says.
        languages: Of the speech it was trained on.
        layers: Transformer layers; layer 0 is the input of the first one.
        rate: Frames a second.
        cites: Keys of what is cited for it, in `embedkit.reporting.references`.
    """

    source: str
    title: str
    millions: int
    licence: str
    languages: str
    layers: int
    rate: int = 50
    cites: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Everything in one line."""
        repository, _, commit = self.source.partition("@")
        facts = (f"{self.millions} M", self.licence, self.languages, f"{self.layers} layers", f"{self.rate} a second")
        return f"{self.title}: {', '.join(facts)} ({repository}{'' if commit else ', main branch'})"


_APACHE, _MIT, _NC, _NC_SA = "Apache 2.0", "MIT", "CC BY-NC 4.0", "CC BY-NC-SA 4.0"
_UNISPEECH = "CC BY-SA 3.0"
"""Of the repository microsoft/UniSpeech, which the cards of WavLM and UniSpeech-SAT refer to."""
_FUNASR = "FunASR model licence"
_EN, _MANY, _SEVERAL = "English", "99 languages", "several languages"

TABLE: dict[str, Published] = {
    "wav2vec2": Published(
        "facebook/wav2vec2-base@0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        *("wav2vec 2.0 base, LibriSpeech 960 h", 95, _APACHE, _EN, 12),
        cites=("baevski2020",),
    ),
    "wav2vec2-large": Published(
        "facebook/wav2vec2-large-lv60@0cde644b64dac88d8416bec1c92a4099b850ba0b",
        *("wav2vec 2.0 large, Libri-Light 60k h", 317, _APACHE, _EN, 24),
        cites=("baevski2020",),
    ),
    "xls-r-300m": Published(
        "facebook/wav2vec2-xls-r-300m@1a640f32ac3e39899438a2931f9924c02f080a54",
        *("XLS-R, wav2vec 2.0 large, 436k h", 317, _APACHE, "128 languages", 24),
        cites=("babu2022",),
    ),
    "mms-300m": Published(
        "facebook/mms-300m@4ee317ce793c53dbc041fc4376c7558292dd38dc",
        *("MMS, wav2vec 2.0 large, 491k h", 317, _NC, "1,406 languages", 24),
        cites=("pratap2024",),
    ),
    "audeering-dim": Published(
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim@6eba34a2485ea31cb03600241787c3a5edab8626",
        *("wav2vec 2.0 large robust, fine-tuned on MSP-Podcast's attributes", 164, _NC_SA, _EN, 12),
        cites=("wagner2023",),
    ),
    "w2v-bert-2.0": Published(
        "facebook/w2v-bert-2.0@da985ba0987f70aaeb84a80f2851cfac8c697a7b",
        *("w2v-BERT 2.0, a conformer, 4.5M h", 580, _MIT, "143 languages", 24),
        cites=("barrault2023",),
    ),
    "hubert": Published(
        "facebook/hubert-base-ls960@dba3bb02fda4248b6e082697eee756de8fe8aa8a",
        *("HuBERT base, LibriSpeech 960 h", 95, _APACHE, _EN, 12),
        cites=("hsu2021",),
    ),
    "hubert-large": Published(
        "facebook/hubert-large-ll60k@ff022d095678a2995f3c49bab18a96a9e553f782",
        *("HuBERT large, Libri-Light 60k h", 317, _APACHE, _EN, 24),
        cites=("hsu2021",),
    ),
    "distilhubert": Published(
        "ntu-spml/distilhubert", "DistilHuBERT, LibriSpeech 960 h", 24, _APACHE, _EN, 2, cites=("chang2022",)
    ),
    "mhubert-147": Published(
        "utter-project/mHuBERT-147@69467f5ee758b795c77abe33ac4a09dff1b82fdf",
        *("mHuBERT-147 base, 90k h", 95, _NC_SA, "147 languages", 12),
        cites=("boito2024",),
    ),
    "chinese-hubert-base": Published(
        "TencentGameMate/chinese-hubert-base@fce0375452b1dd6c080ac3248d423d4d037bc831",
        *("HuBERT base, WenetSpeech 10k h", 95, _MIT, "Mandarin", 12),
        cites=("hsu2021",),
    ),
    "chinese-hubert-large": Published(
        "TencentGameMate/chinese-hubert-large@90cb660492214f687e60f5ca509b20edae6e75bd",
        *("HuBERT large, WenetSpeech 10k h", 317, _MIT, "Mandarin", 24),
        cites=("hsu2021",),
    ),
    "wavlm-base": Published(
        "microsoft/wavlm-base@efa81aae7ff777e464159e0f877d54eac5b84f81",
        *("WavLM base, LibriSpeech 960 h", 95, _UNISPEECH, _EN, 12),
        cites=("chen2022wavlm",),
    ),
    "wavlm": Published(
        "microsoft/wavlm-base-plus@4c66d4806a428f2e922ccfa1a962776e232d487b",
        *("WavLM base+, 94k h", 95, _UNISPEECH, _EN, 12),
        cites=("chen2022wavlm",),
    ),
    "wavlm-large": Published(
        "microsoft/wavlm-large@c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
        *("WavLM large, 94k h", 317, _UNISPEECH, _EN, 24),
        cites=("chen2022wavlm",),
    ),
    "unispeech-sat-base": Published(
        "microsoft/unispeech-sat-base",
        "UniSpeech-SAT base, LibriSpeech 960 h",
        95,
        _UNISPEECH,
        _EN,
        12,
        cites=("chen2022unispeechsat",),
    ),
    "unispeech-sat-large": Published(
        "microsoft/unispeech-sat-large",
        "UniSpeech-SAT large, 94k h",
        317,
        _UNISPEECH,
        _EN,
        24,
        cites=("chen2022unispeechsat",),
    ),
    "data2vec-base": Published(
        "facebook/data2vec-audio-base", "data2vec base, LibriSpeech 960 h", 93, _APACHE, _EN, 12, cites=("baevski2022",)
    ),
    "data2vec-large": Published(
        "facebook/data2vec-audio-large",
        "data2vec large, Libri-Light 60k h",
        313,
        _APACHE,
        _EN,
        24,
        cites=("baevski2022",),
    ),
    "whisper-tiny": Published(
        "openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
        *("Whisper tiny's encoder", 8, _APACHE, _MANY, 4),
        cites=("radford2023",),
    ),
    "whisper-base": Published(
        "openai/whisper-base@e37978b90ca9030d5170a5c07aadb050351a65bb",
        *("Whisper base's encoder", 21, _APACHE, _MANY, 6),
        cites=("radford2023",),
    ),
    "whisper-small": Published(
        "openai/whisper-small@973afd24965f72e36ca33b3055d56a652f456b4d",
        *("Whisper small's encoder", 88, _APACHE, _MANY, 12),
        cites=("radford2023",),
    ),
    "whisper-medium": Published(
        "openai/whisper-medium@abdf7c39ab9d0397620ccaea8974cc764cd0953e",
        *("Whisper medium's encoder", 307, _APACHE, _MANY, 24),
        cites=("radford2023",),
    ),
    "whisper-large": Published(
        "openai/whisper-large@4ef9b41f0d4fe232daafdb5f76bb1dd8b23e01d7",
        *("Whisper large's encoder", 637, _APACHE, _MANY, 32),
        cites=("radford2023",),
    ),
    "whisper-large-v2": Published(
        "openai/whisper-large-v2@ae4642769ce2ad8fc292556ccea8e901f1530655",
        *("Whisper large-v2's encoder", 637, _APACHE, _MANY, 32),
        cites=("radford2023",),
    ),
    "whisper-large-v3": Published(
        "openai/whisper-large-v3@06f233fe06e710322aca913c1bc4249a0d71fce1",
        *("Whisper large-v3's encoder", 637, _APACHE, "100 languages", 32),
        cites=("radford2023",),
    ),
    "emotion2vec-base": Published(
        "emotion2vec/emotion2vec_base@0c9a3152734f9d7a7a05b4ee6bfb3c109d288664",
        *("emotion2vec base, 262 h of emotional speech", 93, _FUNASR, _EN, 12),
        cites=("ma2024emotion2vec",),
    ),
    "emotion2vec-plus-seed": Published(
        "emotion2vec/emotion2vec_plus_seed@7be9a30d52bdc793cc24e6f7d25358d6648927c1",
        *("emotion2vec+ seed, 201 h with emotions", 93, _FUNASR, _SEVERAL, 12),
        cites=("ma2024emotion2vec",),
    ),
    "emotion2vec-plus-base": Published(
        "emotion2vec/emotion2vec_plus_base@b318240bfe67db81a8c572ecb37ce9c3759b81c9",
        *("emotion2vec+ base, 4,788 h with emotions", 93, _FUNASR, _SEVERAL, 12),
        cites=("ma2024emotion2vec",),
    ),
    "emotion2vec-plus-large": Published(
        "emotion2vec/emotion2vec_plus_large@6c303ba987b86b93193de93e34bb2b077a6bedc4",
        *("emotion2vec+ large, 42,526 h with emotions", 162, _FUNASR, _SEVERAL, 12),
        cites=("ma2024emotion2vec",),
    ),
}

PUBLISHED: dict[str, str] = {name: entry.source for name, entry in TABLE.items()}
"""The source of every registered transformer."""

_EMOBOX = (
    "AESDD, ASED, ASVP-ESD, CaFE, CASIA, CREMA-D, EMNS, EmoDB, EmoV-DB, EMOVO, Emozionalmente, eNTERFACE, ESD, "
    "IEMOCAP, JL-Corpus, M3ED, MEAD, MELD, MER2023, MESD, MSP-Podcast, Oreau, PAVOQUE, Polish, RAVDESS, RESD, SAVEE, "
    "ShEMO, SUBESCO, TESS, TurEV-DB, URDU"
)
"""EmoBox's corpora (Ma et al., Interspeech 2024)."""

TRAINED_ON: dict[str, str] = {
    **dict.fromkeys((f"superb/{name}-superb-er" for name in ("wav2vec2-base", "wav2vec2-large")), "IEMOCAP"),
    **dict.fromkeys((f"superb/{name}-superb-er" for name in ("hubert-base", "hubert-large")), "IEMOCAP"),
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim": "MSP-Podcast",
    "emotion2vec/emotion2vec_plus_seed": "the 32 corpora of EmoBox",
    "emotion2vec/emotion2vec_plus_base": "speech with labels of emotion2vec+ seed",
    "emotion2vec/emotion2vec_plus_large": "speech with labels of emotion2vec+ seed",
}
"""The corpora that published classifiers were trained on, by their model cards."""

RATED = {"iemocap": (1.0, 5.0), "msp-podcast": (1.0, 7.0)}
"""The ends of the scale on which a corpus was rated, by its kind (Busso et al. 2008; Lotfian and Busso 2019)."""


def names_corpus(trained_on: str, corpus: str) -> bool:
    """Tell whether a corpus is among those that a text lists, whatever its case and hyphens.

    Names are divided by commas, semicolons, brackets, "and" or "with"; EmoBox's copy of a corpus is the corpus, and
    EmoBox is all of its corpora.
    """
    listed = f"{trained_on}, {_EMOBOX}" if "emobox" in trained_on.casefold() else trained_on
    names = re.split(r"[,;()+&/]|\band\b|\bwith\b", listed)
    return _folded(corpus.removeprefix("emobox-")) in {_folded(name) for name in names} - {""}


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
