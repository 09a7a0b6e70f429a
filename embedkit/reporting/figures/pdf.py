"""Charts as PDF, for papers."""

from __future__ import annotations

import io
from xml.etree import ElementTree

from embedkit.errors import ConfigError
from embedkit.registry import import_extra


def convert_to_pdf(svg: str) -> bytes:
    """Turn a chart's SVG into a PDF page of its size, text as text.

    Raises:
        ConfigError: the converter is not installed, or a name has letters that the fonts of PDF lack.
    """
    import_extra("svglib", extra="pdf", needed_by="PDF", error=ConfigError, otherwise="take --format svg")
    from reportlab.graphics import renderPDF
    from svglib.svglib import svg2rlg

    texts = "".join(ElementTree.fromstring(svg).itertext())
    foreign = sorted({letter for letter in texts if not letter.encode("cp1252", "ignore")})
    if foreign:
        raise ConfigError(
            f"The figure's names hold {' '.join(foreign[:5])}, which the standard fonts of PDF lack; take --format svg "
            "and convert it with a program that embeds fonts."
        )
    page: bytes = renderPDF.drawToString(svg2rlg(io.BytesIO(svg.encode())), invariant=1)
    return page
