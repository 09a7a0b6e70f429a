"""What commands say where another author's `embedkit` is installed in the same environment."""

from __future__ import annotations

import hashlib
import sys

from embedkit.cli.output import tell
from embedkit.errors import ConfigError
from embedkit.installation import find_conflict


def report_conflict() -> None:
    """Refuse to go on with files that the other package overwrote; that it is there at all is said once.

    Raises:
        ConfigError: files of ours are not ours any more.
    """
    conflict = find_conflict()
    if conflict is None:
        return
    if conflict.overwritten:
        raise ConfigError(str(conflict))
    from embedkit.corpora.demo import cache_folder

    # Said by the first command in an environment only: scripts run hundreds, and what is intact still works.
    known = hashlib.sha256(f"{sys.prefix} {conflict.version}".encode()).hexdigest()[:16]
    marker = cache_folder() / f"conflict-{known}"
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    except OSError:
        # Where nothing can be remembered, saying it again is better than never.
        pass
    tell(f"{conflict}")
