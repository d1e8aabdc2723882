"""Which pair of `opensips.pairs` a connector belongs to."""

from __future__ import annotations

from connector.config.model import Settings
from connector.errors import ConfigError, Problem


def of_pair(settings: Settings, name: str | None = None) -> Settings:
    """The settings of the connector of pair `name`, or of the first one: with its ports and its HTTP address.

    Raises `ConfigError` where there is no such pair.
    """
    pairs = {} if settings.opensips is None else {pair.name: pair for pair in settings.opensips.pairs}
    if name is not None and name not in pairs:
        hint = f"known are {', '.join(pairs)}" if pairs else "without the section opensips there are none"
        problem = Problem(str(settings.file), 0, "opensips.pairs", f"there is no pair {name!r}", hint)
        raise ConfigError([problem])
    pair = settings.pair if name is None else pairs[name]
    if pair is None:
        return settings
    changes: dict[str, object] = {"pair": pair}
    if pair.ports is not None:
        changes["media"] = settings.media.model_copy(update={"ports": pair.ports})
    if pair.http is not None:
        changes["http"] = settings.http.model_copy(update={"listen": pair.http})
    return settings.model_copy(update=changes)
