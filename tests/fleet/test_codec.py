"""The wire: what is encoded comes back, and its size is what is counted."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rayfed.fleet.codec import Codec, Packed, payload_kinds

SIZES = {"generator": (3, 2), "discriminator": (4,)}
MODELS = {
    "generator": np.array([1, -2, 0.5, 100, -50], np.float32),
    "discriminator": np.array([0, 0, 0, 0], np.float32),
}


def test_float32_is_exact_and_four_bytes_a_value() -> None:
    codec = Codec("float32", SIZES)
    packed = codec.encode(MODELS)
    assert packed.nbytes == 9 * 4
    for name, values in codec.decode(packed).items():
        np.testing.assert_array_equal(values, MODELS[name])


def test_float16_is_two_bytes_a_value_and_clips_to_its_range() -> None:
    codec = Codec("float16", SIZES)
    packed = codec.encode(MODELS | {"discriminator": np.array([1e6, -1e6, 0.1, 0], np.float32)})
    assert packed.nbytes == 9 * 2
    np.testing.assert_array_equal(
        codec.decode(packed)["discriminator"], np.array([65504, -65504, np.float16(0.1), 0], np.float32)
    )


def test_int8_by_hand() -> None:
    """Tensor [1, -2, 0.5] has scale 2/127: codes 63.5 -> 64 (ties to even), -127, 31.75 -> 32."""
    codec = Codec("int8", SIZES)
    packed = codec.encode(MODELS)
    assert packed.data.tolist() == [64, -127, 32, 127, -64, 0, 0, 0, 0]
    np.testing.assert_allclose(packed.scales, [2 / 127, 100 / 127, 0], rtol=1e-6, atol=1e-37)
    assert packed.nbytes == 9 * 1 + 3 * 4


@given(arrays(np.float32, 9, elements=st.floats(-1e4, 1e4, width=32)))
def test_int8_is_within_half_a_step_of_every_tensor(values: np.ndarray) -> None:
    codec = Codec("int8", SIZES)
    decoded = codec.values(codec.encode(codec.split(values)))
    for tensor in (slice(0, 3), slice(3, 5), slice(5, 9)):
        step = np.abs(values[tensor]).max() / 127
        assert np.abs(decoded[tensor] - values[tensor]).max() <= step / 2 * (1 + 1e-5) + 1e-30


def test_a_payload_of_another_layout_is_refused() -> None:
    codec = Codec("float32", SIZES)
    with pytest.raises(ValueError, match=r"payload float32 \(8,\), expected float32 \(9,\)"):
        codec.values(Packed(np.zeros(8, np.float32), np.empty(0, np.float32)))
    with pytest.raises(ValueError, match="payload float64"):
        codec.values(Packed(np.zeros(9), np.empty(0, np.float32)))


def test_payload_bytes_count_arrays_wherever_they_are() -> None:
    @dataclass
    class Reply:
        models: Packed
        loss: float

    packed = Packed(np.zeros(5, np.int8), np.zeros(2, np.float32))
    assert payload_kinds(Reply(packed, 0.5)) == {"model": 5 + 8}
    assert payload_kinds({"a": [np.zeros(3, np.float16)], "b": (packed, 7)}) == {"other": 6, "model": 13}
    assert payload_kinds("text") == {}


@pytest.mark.parametrize("wire", ["float32", "float16", "int8"])
def test_what_a_codec_packs_is_of_its_kind(wire: str) -> None:
    """Two kinds in one reply are told apart; those of one kind are added up."""
    model, fakes = Codec(wire, SIZES), Codec(wire, {"images": (6,)}, kind="fakes")
    one, other = model.encode(MODELS), fakes.encode({"images": np.ones(6, np.float32)})
    assert (one.kind, other.kind) == ("model", "fakes")
    assert payload_kinds([one, {"x": other}, one]) == {"model": 2 * one.nbytes, "fakes": other.nbytes}
