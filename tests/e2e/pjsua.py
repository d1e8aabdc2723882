"""The pjsua2 phone with media of its own: one codec alone, or SRTP and nothing else.

Run as a program it is the phone's process: `pjsua.py CODEC SRTP`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from connector.cli.phone.pjsua import PjsuaPhone


def missing_reason() -> str | None:
    """Why there is no pjsua2 here, for a visible skip; None where there is one."""
    return None if importlib.util.find_spec("pjsua2") else "no pjsua2: its wheel is for Python <= 3.12 on x86-64"


@asynccontextmanager
async def phone(codec: str = "PCMU/8000", *, srtp: bool = False) -> AsyncIterator[PjsuaPhone]:
    """A phone that speaks `codec` alone (as pjsua2 writes it), by SRTP (SDES, RFC 4568) alone where that is wanted."""
    pjsua = PjsuaPhone()
    pjsua.program = (__file__, codec, "srtp" if srtp else "")
    try:
        await pjsua.start()
        yield pjsua
    finally:
        await pjsua.aclose()


def main(codec: str, srtp: bool) -> None:
    import pjsua2 as pj

    from connector.cli.phone import pjsua_process

    class Phone(pjsua_process.Process):
        """The usual one, with this media."""

        def _account_config(self, calling: str, address: str) -> Any:
            for known in self._endpoint.codecEnum2():
                self._endpoint.codecSetPriority(known.codecId, 255 if known.codecId.startswith(f"{codec}/") else 0)
            account = super()._account_config(calling, address)
            if srtp:
                account.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY
                account.mediaConfig.srtpSecureSignaling = 0
            return account

    pjsua_process.main(Phone)


if __name__ == "__main__":
    main(sys.argv[1], bool(sys.argv[2]))
