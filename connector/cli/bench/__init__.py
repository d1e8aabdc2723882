"""`voxtrunk bench`: the media path by itself.

`bench rtp` opens legs of plain RTP for whatever generates it; `bench media` is a generator of its own,
which measures what a call costs and how evenly its packets leave.
"""

from __future__ import annotations

import typer

from connector.cli.bench.media import media
from connector.cli.bench.rtp import rtp

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure the media path.")
app.command()(rtp)
app.command()(media)


@app.callback()
def bench() -> None:
    """Measure the media path."""
