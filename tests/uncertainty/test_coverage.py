"""Intervals and bands cover the truth as often as they say, in the studies of examples/error_coverage.py."""
import error_coverage
import numpy as np
import pytest

BY_NAME = {study.name: study for study in error_coverage.STUDIES}
RIGHT = [study.name for study in error_coverage.STUDIES if study.right]


@pytest.mark.parametrize("name", RIGHT)
def test_intervals_cover_nearly_all_of_a_few_data_sets(name):
    """Within four binomial standard deviations, of 60 data sets; for bands an average over many points."""
    found = error_coverage.run(BY_NAME[name], 60)
    assert min(found.shares) > 0.95 - 4*np.sqrt(0.95*0.05/60)


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_intervals_and_bands_cover_the_truth_as_often_as_they_say(name):
    found = error_coverage.run(BY_NAME[name], error_coverage.SETS)
    assert found.is_right, error_coverage.row(found)


@pytest.mark.slow
def test_square_roots_of_counts_as_sigma_cover_less():
    found = error_coverage.run(BY_NAME["counts, by data"], error_coverage.SETS)
    assert not found.is_right and found.curve < 0.92, error_coverage.row(found)
