"""G.711 and the codec registry."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from connector.codec.registry import CODECS, make_codec, spoken
from connector.config.model import Codec, MediaSettings
from connector.errors import NotAcceptableHere
from connector.leg.endpoint import capabilities
from connector.sip.offer_answer import Capabilities
from tests.fakes.audio import level_db, purity_db, tone


@pytest.mark.parametrize(("name", "silence"), [("PCMU", 0xFF), ("PCMA", 0xD5)])
def test_silence_is_the_octet_that_the_standard_names(name: str, silence: int) -> None:
    codec = make_codec(name)
    assert codec.encode(np.zeros(160, np.int16)) == bytes([silence]) * 160
    assert np.abs(codec.decode(bytes([silence]) * 160)).max() <= 8


@pytest.mark.parametrize("name", ["PCMU", "PCMA"])
def test_a_tone_survives_at_its_level(name: str) -> None:
    codec = make_codec(name)
    original = tone(1000, 0.5).samples
    heard = codec.decode(codec.encode(original))
    assert level_db(heard) == pytest.approx(level_db(original), abs=0.2)
    assert purity_db(heard, 1000) > 33


@pytest.mark.parametrize("name", ["PCMU", "PCMA"])
def test_every_octet_is_a_sample_that_encodes_to_it_again(name: str) -> None:
    codec = make_codec(name)
    octets = bytes(range(256))
    assert codec.duration(octets) == 256
    again = codec.encode(codec.decode(octets))
    # µ-law has two zeros; decoding makes one of them.
    assert sum(a != b for a, b in zip(octets, again, strict=True)) <= 1


@pytest.mark.parametrize(
    ("name", "octet", "sample"),
    [("PCMU", 0x00, -32124), ("PCMU", 0x80, 32124), ("PCMA", 0x2A, -32256), ("PCMA", 0xAA, 32256)],
)
def test_the_loudest_codes_decode_to_the_standards_values(name: str, octet: int, sample: int) -> None:
    assert list(make_codec(name).decode(bytes([octet]))) == [sample]


def test_the_configuration_can_name_every_codec() -> None:
    assert set(get_args(Codec)) == set(CODECS)
    assert capabilities(MediaSettings(codecs=("PCMA", "G722"))) == Capabilities((CODECS["PCMA"], CODECS["G722"]), True)
    assert capabilities(MediaSettings()).formats == spoken()
    with pytest.raises(ValidationError, match="PCMA twice"):
        MediaSettings(codecs=("PCMA", "PCMU", "PCMA"))


def test_an_unknown_codec_is_refused_by_name() -> None:
    with pytest.raises(NotAcceptableHere, match="G729"):
        make_codec("G729")
