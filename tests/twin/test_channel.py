"""The wireless cell: dB arithmetic by hand."""

import numpy as np
import pytest

from rayfed.twin.channel import path_loss_db, positions, rate


@pytest.mark.parametrize(
    ("distance_m", "loss_db"),
    [
        (50, 79.1813),  # 128.1 + 37.6 * log10(0.05) = 128.1 - 37.6 * 1.301030
        (150, 97.1210),  # 128.1 - 37.6 * 0.823909
        (300, 108.4398),  # 128.1 - 37.6 * 0.522879
        (1000, 128.1),  # log10(1) = 0
        (0.2, 15.3),  # as at 1 m: 128.1 - 37.6 * 3
    ],
)
def test_path_loss(distance_m: float, loss_db: float) -> None:
    assert path_loss_db(distance_m) == pytest.approx(loss_db, abs=1e-4)


@pytest.mark.parametrize(
    ("distance_m", "bandwidth_hz", "power_dbm", "mbps"),
    [
        # The noise of 10 MHz is -174 + 70 = -104 dBm.
        # 50 m: SNR = 24 - 79.1813 + 104 = 48.8187 dB = 76,186; log2(76,187) = 16.2172
        (50, 10e6, 24, 162.172),
        # 150 m: SNR = 24 - 97.1210 + 104 = 30.8790 dB = 1,224.3; log2(1,225.3) = 10.2590
        (150, 10e6, 24, 102.590),
        # 300 m: SNR = 24 - 108.4398 + 104 = 19.5602 dB = 90.370; log2(91.370) = 6.5137
        (300, 10e6, 24, 65.137),
        # 300 m, half the band (noise -107.0103): SNR = 22.5705 dB = 180.74; log2(181.74) = 7.5057; * 5 MHz
        (300, 5e6, 24, 37.529),
        # 300 m, a tenth (noise -114): SNR = 29.5602 dB = 903.70; log2(904.70) = 9.8213; * 1 MHz
        (300, 1e6, 24, 9.8213),
        # 300 m, the server's 46 dBm: SNR = 41.5602 dB = 14,322.7; log2(14,323.7) = 13.8061
        (300, 10e6, 46, 138.061),
    ],
)
def test_rate(distance_m: float, bandwidth_hz: float, power_dbm: float, mbps: float) -> None:
    assert rate(distance_m, bandwidth_hz, power_dbm) == pytest.approx(mbps * 1e6, rel=1e-4)


def test_ten_db_more_noise_is_ten_db_less_power() -> None:
    assert rate(100, 1e6, 24, -164) == pytest.approx(rate(100, 1e6, 14, -174))


def test_positions_are_uniform_in_the_disc() -> None:
    places = positions(0, 4000, 300)
    distances = np.hypot(places[:, 0], places[:, 1])
    assert distances.max() <= 300
    # A quarter of the area lies within half the radius; 4000 draws: 0.25 +- 4 * sqrt(0.25 * 0.75 / 4000) = 0.027
    assert np.mean(distances < 150) == pytest.approx(0.25, abs=0.027)
    # The mean of a uniform point is the centre; standard deviation of one coordinate = 300 / 2, of the mean 2.4
    assert np.abs(places.mean(axis=0)).max() < 10


def test_more_devices_do_not_move_the_others() -> None:
    assert np.array_equal(positions(7, 50, 300)[:10], positions(7, 10, 300))
    assert not np.array_equal(positions(7, 10, 300), positions(8, 10, 300))
