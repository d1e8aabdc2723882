"""Comfort noise as a far end describes it (RFC 3389)."""

from __future__ import annotations

import numpy as np
import pytest

from connector.errors import RtpError
from connector.receiver.comfort_noise import comfort_noise
from tests.fakes.audio import level_db


@pytest.mark.parametrize("level", [20, 40, 60])
@pytest.mark.parametrize("reflections", [b"", bytes([80]), bytes([60, 150, 127, 120])])
def test_it_has_the_level_that_was_sent(level: int, reflections: bytes) -> None:
    assert level_db(comfort_noise(bytes([level]) + reflections)) == pytest.approx(-level, abs=0.5)


def test_the_quietest_level_is_silence_and_the_reserved_bit_means_nothing() -> None:
    assert level_db(comfort_noise(b"\x7f")) == -120
    assert np.array_equal(comfort_noise(b"\xa8"), comfort_noise(b"\x28"))


def test_reflection_coefficients_shape_its_spectrum() -> None:
    low, flat, high = (np.abs(np.fft.rfft(comfort_noise(bytes([30, octet])))) ** 2 for octet in (47, 127, 207))

    def lower_half(power: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        return float(power[: len(power) // 2].sum() / power.sum())

    assert lower_half(low) > 0.8
    assert lower_half(flat) == pytest.approx(0.5, abs=0.05)
    assert lower_half(high) < 0.2


def test_it_ends_where_it_begins() -> None:
    noise = comfort_noise(bytes([30, 40])).astype(np.int32)
    steps = np.abs(np.diff(noise))
    assert abs(noise[0] - noise[-1]) <= steps.max()


def test_any_coefficients_are_stable() -> None:
    for octets in (b"\x00" * 12, b"\xff" * 20, bytes([0, 254] * 6)):
        assert level_db(comfort_noise(b"\x28" + octets)) == pytest.approx(-40, abs=1)


def test_a_payload_without_a_level_is_refused() -> None:
    with pytest.raises(RtpError, match="level"):
        comfort_noise(b"")
