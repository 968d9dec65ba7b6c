"""The error of files that are not there: four lines, the same for every dataset."""

import pytest

from datamodules.missing_data import Source, missing_data

SOURCE = Source("Things", "https://things.org", "CC0", ["a/*.jpg", "b.txt"], "lightning_zoo fit --config things.yaml")


@pytest.mark.parametrize(
    ("missing", "reason", "first"),
    [
        (["b.txt"], "", "Things: b.txt is missing in /data"),
        (["a/1.jpg", "b.txt"], "", "Things: a/1.jpg is missing and 1 more file in /data"),
        (["a.jpg"] * 1201, "no\nnetwork", "Things: a.jpg is missing and 1,200 more files in /data (no network)"),
    ],
)
def test_four_lines(missing, reason, first):
    lines = str(missing_data(SOURCE, "/data", missing, reason)).split("\n")
    assert lines[0] == first
    assert lines[1:] == [
        "  obtain: https://things.org; licence: CC0",
        "  place:  /data/{a/*.jpg, b.txt}",
        "  run:    lightning_zoo fit --config things.yaml",
    ]
