"""Lists for people and for programs."""

import json

from gateway.cli.listing import print_json, print_table, size


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_with_no_space(capsys):
    print_table(("name", "x"), [("a", "1"), ("longer", "")])
    assert capsys.readouterr().out == "name    x\na       1\nlonger\n"


def test_json_is_indented(capsys):
    print_json([{"a": 1}])
    text = capsys.readouterr().out
    assert json.loads(text) == [{"a": 1}]
    assert "\n  " in text


def test_a_size_has_the_unit_that_fits():
    assert [size(count) for count in (0, 1023, 1024, 5 << 20, 3 << 30)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "5 MiB",
        "3.0 GiB",
    ]
