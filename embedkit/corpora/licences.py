"""The licences of corpora that are known by name, as their publishers state them."""

from __future__ import annotations

LICENCES: dict[str, str] = {
    # https://audeering.github.io/datasets/datasets/emodb.html
    "emodb": "CC0 1.0, as audEERING publishes it with the original authors",
    # https://zenodo.org/records/1188976
    "ravdess": "CC BY-NC-SA 4.0; commercial licences are sold by its authors",
    # https://github.com/CheyneyComputerScience/CREMA-D
    "crema-d": "Open Database License 1.0, its contents under the Database Contents License 1.0",
    # https://sail.usc.edu/iemocap/iemocap_release.htm
    "iemocap": "an agreement with the University of Southern California, which each user makes",
    # https://lab-msp.com/MSP/MSP-Podcast.html
    "msp-podcast": "an agreement with the University of Texas at Dallas, which each institution makes",
    "demo": "synthetic speech that embedkit makes itself, MIT",
}
"""By the name that `open_corpus` gives a corpus; a corpus of another name, or of the user's own, is not known."""
