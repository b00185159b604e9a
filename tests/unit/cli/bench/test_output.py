"""Tables, notes, progress and plots."""

import pytest

from gateway.cli.bench.plan import LoadLevel, Plan
from gateway.cli.bench.plot import draw
from gateway.cli.bench.progress import Display
from gateway.cli.bench.report import Effort, sum_up
from gateway.cli.bench.sample import Sample
from gateway.cli.bench.table import show
from gateway.cli.bench.target import BenchTarget

TARGET = BenchTarget(url="http://127.0.0.1:8000/v1/generate", api="native", model="echo")
GOOD = {"first": 0.1, "last": 0.9, "ended": 1.0, "gaps": [0.25], "frames": 2, "output_tokens": 64, "prompt_tokens": 8}


def report(*samples, clients=1, cpu=0.1, interrupted=False, wanted=64):
    effort = Effort(client_cpu=cpu, peak=1, interrupted=interrupted)
    return sum_up(LoadLevel(clients=clients), samples, wanted, effort)


def answer(**changes):
    return Sample(**({"due": 0.0, "sent": 0.0} | GOOD | changes))


@pytest.fixture
def shown(capsys):
    def shown(*reports, **changes):
        show(Plan(url="", levels=(), seed=42, **changes), TARGET, reports)
        return capsys.readouterr().out

    return shown


def row(text, *words):
    """The cells of the one row that holds these words."""
    (line,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return line.split()


def test_the_table_says_each_level(shown):
    text = shown(report(answer(cached_tokens=4)), report(answer(), answer(), clients=8))
    assert row(text, " 64.0 ") == ["1", "1", "0", "1.00", "64.0", "1.00", "50%", "0.10", "s"]
    assert row(text, " 128.0 ")[:2] == ["8", "2"]
    assert row(text, "1 ", "time to first token")[-4:] == ["100.0"] * 4
    assert row(text, "8 ", "between frames")[-4:] == ["250.0"] * 4


def test_the_table_fits_a_terminal_of_eighty_columns(shown):
    text = shown(report(*[answer(ended=999.0)] * 1000, clients=1000, cpu=99.0))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_the_heading_says_what_was_asked(shown):
    text = shown(report(answer()), shared_prefix=0.5)
    assert "prompts of 100 words, 50% of them shared; answers of 64 tokens; seed 42" in text


@pytest.mark.parametrize(
    ("found", "note"),
    [
        (report(answer(error="429 [red]busy"), answer()), "1: 1 times: 429 [red]busy"),
        (report(answer(), interrupted=True), "interrupted"),
        (report(answer(output_tokens=None)), "1 answers came without usage"),
        (report(answer(output_tokens=9)), "1 answers had another length than 64 tokens"),
        (report(answer(), cpu=0.95), "the generator took 95% of a core"),
        (report(answer(sent=0.5)), "the generator sent late, by 500 ms"),
        (report(interrupted=True), "interrupted"),
    ],
)
def test_what_spoils_a_figure_is_noted(shown, found, note):
    assert note in shown(found)


def test_a_clean_run_has_no_notes(shown):
    assert not [line for line in shown(report(answer())).splitlines() if line.startswith("1: ")]


def test_a_plot_is_a_png(tmp_path):
    reports = [report(answer(), clients=clients) for clients in (1, 8)]
    draw(reports, "title", str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_levels_without_an_answer_are_plotted_as_nothing(tmp_path):
    draw([report(answer(error="timeout")), report(answer(), clients=8)], "title", str(tmp_path / "plot.png"))
    draw([report(answer(error="timeout"))], "title", str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").stat().st_size > 1_000


def test_no_progress_is_written_where_there_is_no_terminal(capsys):
    with Display() as display:
        display.begin(LoadLevel(clients=2))
        display.see(answer())
        display.see(answer(error="timeout"))
        display.begin(LoadLevel(rate=2.0))
        display.see(answer())
    assert capsys.readouterr() == ("", "")


def test_progress_goes_to_standard_error_of_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Display() as display:
        display.begin(LoadLevel(clients=2))
        display.see(answer(error="timeout"))
    written = capsys.readouterr()
    assert written.out == ""
    assert "2 clients" in written.err
