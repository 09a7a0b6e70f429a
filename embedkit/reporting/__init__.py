"""Tables of finished runs."""

from embedkit.reporting.table import Table, build_table

__all__ = ["Table", "build_table"]
