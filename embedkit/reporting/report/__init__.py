"""The report: all there is to say of finished runs, as one HTML page."""

from embedkit.reporting.report.page import render_report

__all__ = ["render_report"]
