"""Show that the contract can fail: break an engine in one place, and the rule that is there to catch it must."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway.testing.contract import EngineContract

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "pyproject.toml",
    "gateway/__init__.py",
    "gateway/engine",
    "gateway/testing",
    "plugins/echo/gateway_echo",
    "tests/contract",
)
IMPATIENT = "from gateway.testing.contract import EngineContract\n\nEngineContract.patience = 3.0\n"
PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Subject:
    """An engine to break: its source, and the tests that watch it."""

    source: str
    tests: str


ECHO = Subject("plugins/echo/gateway_echo/__init__.py", "tests/contract/test_echo.py")
SPEECH = Subject("plugins/echo/gateway_echo/speech.py", "tests/contract/test_echo.py")
FAKE = Subject("gateway/testing/scripted.py", "tests/contract/test_scripted.py")
SCRIPT = Subject("gateway/testing/script.py", "tests/contract/test_scripted.py")
KEEPING = Subject("gateway/testing/keeping.py", "tests/contract/test_scripted.py")
TOY = Subject("tests/contract/test_toy.py", "tests/contract/test_toy.py")
READING = Subject("gateway/engine/reading.py", "tests/contract/test_toy.py")


@dataclass(frozen=True)
class Mutant:
    """One line of an engine put wrong, and the rule that must notice."""

    rule: str
    subject: Subject
    old: str
    new: str


STARTED = "            yield Started(prompt_tokens, queue_seconds=asyncio.get_running_loop().time() - queued)\n"
TELL = "yield Delta(stops.feed(word) if told > (request.sampling.min_tokens or 0) else word)"
END = "end if ended else FinishReason.LENGTH, used, stops.found"
SPOKEN = "        speech = speak(words, request)\n"
PLACE = "        async with self._places:\n"
GENERATE = "    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:\n"
COUNT = "    async def count_tokens("

MUTANTS = (
    Mutant("a_stream_is_started_then_deltas_then_finished", ECHO, STARTED, f"            yield Delta('')\n{STARTED}"),
    Mutant("a_stream_is_started_then_deltas_then_finished", ECHO, STARTED, ""),
    Mutant("a_stream_is_started_then_deltas_then_finished", ECHO, f"yield Finished({END})", "yield Delta('')"),
    Mutant("usage_covers_the_deltas", ECHO, "Usage(prompt_tokens, told,", "Usage(prompt_tokens, told + 1,"),
    Mutant("usage_covers_the_deltas", ECHO, "Usage(prompt_tokens, told,", "Usage(prompt_tokens + 1, told,"),
    Mutant("max_tokens_is_never_exceeded", ECHO, "islice(speech, limit)", "islice(speech, limit + 1)"),
    Mutant("max_tokens_ends_the_answer_as_length", ECHO, "told < limit", "told <= limit"),
    Mutant(
        "max_length_counts_the_prompt_too",
        ECHO,
        "answer_limit(request.sampling, prompt_tokens,",
        "answer_limit(request.sampling, 0,",
    ),
    Mutant(
        "the_same_seed_gives_the_same_text",
        ECHO,
        "        limit = answer_limit(",
        "        __import__('random').shuffle(words)\n        limit = answer_limit(",
    ),
    Mutant(
        "a_character_is_never_torn",
        SPEECH,
        "words = _words(text)",
        "words = [bytes([b]).decode(errors='replace') for b in text.encode()]",
    ),
    Mutant("count_tokens_agrees_with_the_answer", ECHO, "return read(prompt)[1]", "return read(prompt)[1] - 1"),
    Mutant("every_token_of_a_prompt_is_scored", FAKE, "*scored[1:])", "*scored[2:])"),
    Mutant("every_token_of_a_prompt_is_scored", FAKE, "(TokenLogprob(0, words[0], 0.0), *scored[1:])", "tuple(scored)"),
    Mutant(
        "the_likeliest_in_a_tokens_place_come_in_order",
        FAKE,
        "top=(likeliest,) * ranks",
        "top=tuple(TokenLogprob(0, text, -1.0 - rank) for rank in range(ranks))",
    ),
    Mutant("scores_without_alternatives_have_none", FAKE, "    if ranks is None:\n", "    if not ranks:\n"),
    Mutant(
        "scores_that_nobody_asked_for_are_not_told",
        FAKE,
        "    if ranks is None:\n        return None\n",
        "    ranks = ranks or 0\n",
    ),
    Mutant(
        "a_prompt_that_was_read_before_is_scored_the_same",
        FAKE,
        "        scores = _scores(script, request, most.prompt_tokens)\n",
        "        scores = _scores(script, request, most.prompt_tokens)\n"
        "        scores = scores and scores[len(self.requests) - 2 :]\n",
    ),
    Mutant(
        "the_texts_of_a_prompts_tokens_are_the_prompt",
        FAKE,
        "enumerate(words)]",
        "enumerate(map(str.strip, words))]",
    ),
    Mutant("an_explanation_says_what_the_answer_reads", READING, "prompt_tokens=count,", "prompt_tokens=count and 1,"),
    Mutant("an_explanation_says_what_the_answer_reads", READING, "        return ids\n", "        return ids[1:]\n"),
    Mutant("an_explanation_computes_nothing", TOY, "cached_tokens=0)", "cached_tokens=1)"),
    Mutant(
        "an_explanation_refuses_a_prompt_that_is_too_long",
        READING,
        "answer_limit(request.sampling, count,",
        "answer_limit(request.sampling, 1,",
    ),
    Mutant("tokens_are_what_is_counted", FAKE, "for word in words_of(prompt))", "for word in words_of(prompt)[1:])"),
    Mutant("the_pieces_of_a_text_are_the_text", FAKE, "tuple(words[number] for", "tuple(words[number].strip() for"),
    Mutant("no_tokens_are_no_text", FAKE, "return tuple(words[number] for number in ids)", "return ('',)"),
    Mutant("a_token_that_there_is_not_is_refused", FAKE, "if number >= len(words):", "if number == len(words):"),
    Mutant("of_a_long_prompt_the_end_is_read", FAKE, "request.truncate or self._card", "self._card"),
    Mutant("a_chat_gets_an_answer", SPEECH, "sum(map(len, spoken))", "len(spoken[-1])"),
    Mutant("every_token_has_its_logprob", FAKE, "float(script.logprob)", "-float(script.logprob)"),
    Mutant("every_token_has_its_logprob", FAKE, "float(script.logprob)", "float('nan')"),
    Mutant(
        "the_bytes_of_the_tokens_are_the_text",
        FAKE,
        "return TokenLogprob(likeliest.id, text,",
        "return TokenLogprob(likeliest.id, text.strip(),",
    ),
    Mutant("events_survive_the_wire", FAKE, "        return ()\n", "        return []\n"),
    Mutant(
        "a_told_event_never_changes",
        FAKE,
        "        return ()\n",
        "        shared = globals().setdefault('shared', [])\n"
        "        shared.append(TokenLogprob(told, text, 0.0))\n"
        "        return shared\n",
    ),
    Mutant(
        "a_stop_string_never_leaks",
        ECHO,
        TELL,
        f"stops._held = ''; {TELL}",
    ),
    Mutant("the_stop_string_that_was_met_is_reported", ECHO, "used, stops.found)", "used, None)"),
    Mutant("text_held_back_for_a_stop_string_is_not_lost", ECHO, "if held := stops.flush():", "if held := '':"),
    Mutant("a_stop_string_is_shown_where_that_is_asked_for", ECHO, ", shown=shown)", ")"),
    Mutant("only_allowed_tokens_are_drawn", TOY, "token[0] in allowed)", "token)"),
    Mutant("no_allowed_token_is_a_refusal", TOY, "if asked.allowed_token_ids == ():", "if asked is None:"),
    Mutant("a_bad_word_is_not_drawn", TOY, "(word) for word in words)", "(word) for word in words[:1])"),
    Mutant("a_bad_word_is_not_drawn", TOY, "(word) for word in words)", "(word) for word in words if len(word) == 1)"),
    Mutant("the_ids_of_all_tokens_are_told", TOY, "tuple(prompt) if asked", "tuple(prompt[1:]) if asked"),
    Mutant("the_ids_of_all_tokens_are_told", TOY, '{"ids": (token,)} if asked', '{"ids": ()} if asked'),
    Mutant("the_ids_are_those_of_the_answer", TOY, '{"ids": (token,)} if asked', '{"ids": (told,)} if asked'),
    Mutant("ids_that_were_not_asked_for_are_not_told", TOY, "(token,)} if asked.token_ids", "(token,)} if asked"),
    Mutant(
        "of_a_prompt_that_is_cut_at_its_end_the_beginning_is_read",
        TOY,
        "slice(request.truncate) if",
        "slice(-request.truncate, None) if",
    ),
    Mutant("a_tokenizer_says_of_what_class_it_is", TOY, '"tokenizer_class": "Bytes"', '"tokenizer_class": None'),
    Mutant("a_tokenizer_says_of_what_class_it_is", TOY, '"model_max_length": 1e30', "1: 1e30"),
    Mutant("min_tokens_comes_before_any_stop", ECHO, TELL, "yield Delta(stops.feed(word))"),
    Mutant(
        "more_min_tokens_than_the_answer_may_have_are_refused",
        ECHO,
        "answer_limit(request.sampling, prompt_tokens,",
        "answer_limit(type(request.sampling)(max_tokens=request.sampling.max_tokens), prompt_tokens,",
    ),
    Mutant("the_bytes_of_a_texts_tokens_are_the_text", TOY, '>", bytes([token]))', '>", b"a")'),
    Mutant("a_tool_that_must_be_called_is_called", SPEECH, "{chat.tool_choice} & names or ", ""),
    Mutant("a_tool_that_must_be_called_is_called", TOY, '"call-1", next(', '"", next('),
    Mutant("a_tool_that_must_be_called_is_called", TOY, "api.FinishReason.TOOL_CALLS", "api.FinishReason.STOP"),
    Mutant("one_of_the_tools_is_called_where_one_must_be", SPEECH, '== "none":', 'in ("none", "required"):'),
    Mutant("one_of_the_tools_is_called_where_one_must_be", SPEECH, 'f"call_{secrets.token_hex(12)}"', '"call_1"'),
    Mutant("no_tool_is_called_where_none_may_be", SPEECH, 'if chat.tool_choice == "none":', "if not chat.tools:"),
    Mutant("only_tools_that_are_allowed_are_called", SPEECH, "set(chat.allowed_tools) & names or ", ""),
    Mutant("calls_come_alone_where_that_is_asked", SPEECH, "found if chat.parallel_tool_calls else found[:1]", "found"),
    Mutant(
        "the_arguments_of_a_strict_tool_keep_to_its_schema",
        SPEECH,
        'shaped(JsonSchema({"type": "object"} | tool.parameters), "")',
        '"{}"',
    ),
    Mutant("the_tokens_of_calls_are_told_and_counted", SPEECH, "(index, word, tokens=1)", "(index, word)"),
    Mutant("a_call_that_is_cut_says_so", ECHO, "end if ended else FinishReason.LENGTH", "end"),
    Mutant("the_result_of_a_tool_is_read", SPEECH, "Text | ToolResult)", "Text)"),
    Mutant("the_result_of_a_tool_is_read", TOY, 'getattr(part, "arguments", "[image]")', '""'),
    Mutant("a_thought_is_told_apart", SPEECH, 'Delta("", reasoning=word)', "Delta(word)"),
    Mutant("a_thought_is_counted", ECHO, "reasoning_tokens=thought", "reasoning_tokens=told + 1"),
    Mutant("a_model_that_is_not_to_think_does_not", SPEECH, "if thinks and chat.reasoning is not False:", "if chat:"),
    Mutant("a_thought_keeps_to_its_budget", SPEECH, "words[: chat.reasoning_budget]", "words"),
    Mutant(
        "an_answer_follows_the_thought_that_had_its_budget",
        SPEECH,
        "map(Delta, said))",
        "map(Delta, () if chat.reasoning_budget else said))",
    ),
    Mutant("a_model_that_is_not_to_think_does_not", SCRIPT, "() if prompt.reasoning is False else ", ""),
    Mutant("a_thought_keeps_to_its_budget", SCRIPT, "[: prompt.reasoning_budget]", ""),
    Mutant("a_thought_is_counted", FAKE, "reasoning_tokens=min(told, len(script.thoughts))", "reasoning_tokens=0"),
    Mutant("a_tool_that_must_be_called_is_called", SCRIPT, "if not names or call.name in names", ""),
    Mutant("no_tool_is_called_where_none_may_be", SCRIPT, 'in ("auto", "required")', 'in ("auto", "required", "none")'),
    Mutant("only_tools_that_are_allowed_are_called", SCRIPT, "prompt.allowed_tools if", "() if"),
    Mutant(
        "calls_come_alone_where_that_is_asked", SCRIPT, "calls if prompt.parallel_tool_calls else calls[:1]", "calls"
    ),
    Mutant(
        "a_constraint_that_cannot_be_kept_is_refused_before_started",
        KEEPING,
        "case Choice(options) if not options:",
        "case Choice() if constraint is None:",
    ),
    Mutant("an_image_is_read", TOY, '"[image]"', '""'),
    Mutant("a_constraint_is_kept", TOY, "CONSTRAINED.get(type(constraint), ", "CONSTRAINED.get(None, "),
    Mutant("a_constraint_is_kept", SPEECH, "if request.constraint is not None:", "if request is None:"),
    Mutant("a_constraint_ends_an_answer_that_ignores_the_end", TOY, "request.constraint is None and (", "("),
    Mutant("a_constrained_answer_that_is_cut_says_length", ECHO, "told < limit", "told < limit or request.constraint"),
    Mutant(
        "a_stop_string_holds_under_a_constraint",
        ECHO,
        TELL,
        TELL.replace("if told >", "if request.constraint is None and told >"),
    ),
    Mutant(
        "constraints_side_by_side_keep_apart",
        ECHO,
        SPOKEN,
        f"{SPOKEN}        speech = vars(self).setdefault('words', speech) if request.constraint else speech\n",
    ),
    Mutant(
        "a_constraint_that_cannot_be_kept_is_refused_before_started",
        ECHO,
        SPOKEN,
        f"        yield Started(prompt_tokens)\n{SPOKEN}",
    ),
    Mutant(
        "a_constraint_that_cannot_be_kept_is_refused_before_started",
        TOY,
        "BROKEN.search(str(request.constraint))",
        "BROKEN.search('')",
    ),
    Mutant(
        "a_constraint_that_cannot_be_kept_is_refused_before_started",
        TOY,
        "param=request.constraint.__struct_config__.tag",
        "param=None",
    ),
    Mutant("each_text_has_its_vector", TOY, "sum(text)) for text in texts)", "sum(text)) for text in texts[:2])"),
    Mutant("each_text_has_its_vector", TOY, "sum(text)) for text in texts)", "sum(text)) for text in sorted(texts))"),
    Mutant(
        "a_vector_is_the_same_alone_and_beside_others",
        TOY,
        "sum(text)) for text in texts)",
        "sum(text) * len(texts)) for text in texts)",
    ),
    Mutant("a_shorter_vector_is_the_beginning_of_the_whole", TOY, "vector[: 4 * size]", "vector[-4 * size :]"),
    Mutant("a_shorter_vector_is_the_beginning_of_the_whole", TOY, "request.dimensions or 2) > 2", "2) > 2"),
    Mutant("a_long_text_is_refused_or_cut", TOY, "len(text) > CARD.context_window for text", "not text for text"),
    Mutant("a_long_text_is_refused_or_cut", TOY, "[: request.truncate] for one", "for one"),
    Mutant("each_document_has_its_score", TOY, "TextScores(tuple(rows)", "TextScores(tuple(sorted(rows))"),
    Mutant("each_document_has_its_score", TOY, "TextScores(tuple(rows)", "TextScores(tuple(rows[1:])"),
    Mutant("one_query_for_all_is_the_same_for_each", TOY, "itertools.cycle(queries)", "itertools.repeat(queries[0])"),
    Mutant("a_score_is_the_same_alone_and_beside_others", TOY, "/ (len(text) or 1)", "/ (len(request.documents) or 1)"),
    Mutant("raw_scores_are_in_the_same_order", TOY, "share * 2 if request.raw", "-share if request.raw"),
    Mutant("a_long_document_is_refused_or_cut", TOY, "> most and not request.truncate:", "> most and not text:"),
    Mutant("a_long_document_is_refused_or_cut", TOY, "text = text[: most - len(query)]", "text = text[:]"),
    Mutant("a_long_document_is_refused_or_cut", TOY, "[: request.truncate_documents]", "[:]"),
    Mutant("a_text_has_a_number_for_each_label", TOY, '() if request.queries else ("a", "b"))', "())"),
    Mutant("a_text_has_a_number_for_each_label", TOY, 'pack("<2f", 1, len(text))', 'pack("<2f", 1, float("nan"))'),
    Mutant(
        "closing_the_stream_frees_its_place", ECHO, PLACE, "        await self._places.acquire()\n        if True:\n"
    ),
    Mutant(
        "closing_the_stream_frees_its_place",
        FAKE,
        "            try:\n                yield\n            finally:\n                self._running -= 1\n",
        "            yield\n            if True:\n                self._running -= 1\n",
    ),
    Mutant(
        "cancelling_the_reader_frees_its_place",
        ECHO,
        "                await asyncio.sleep(self._settings.delay)",
        "                try: await asyncio.sleep(self._settings.delay)\n"
        "                except asyncio.CancelledError: pass",
    ),
    Mutant(
        "a_reader_that_leaves_the_line_takes_no_place",
        FAKE,
        "            try:\n                await self._places.acquire()\n"
        "            finally:\n                self._waiting -= 1\n",
        "            await self._places.acquire()\n            self._waiting -= 1\n",
    ),
    Mutant(
        "an_unread_stream_takes_no_place",
        FAKE,
        GENERATE,
        "    def generate(self, request):\n"
        "        self._running += 1\n"
        "        return self._generate(request)\n\n"
        f"{GENERATE.replace('generate', '_generate', 1)}",
    ),
    Mutant(
        "a_refused_request_takes_no_place",
        ECHO,
        "        limit = answer_limit(",
        "        await self._places.acquire()\n        limit = answer_limit(",
    ),
    Mutant(
        "a_too_long_prompt_is_refused_before_started",
        ECHO,
        "        limit = answer_limit(",
        "        yield Started(prompt_tokens)\n        limit = answer_limit(",
    ),
    Mutant(
        "a_too_long_prompt_is_refused_before_started",
        ECHO,
        "answer_limit(request.sampling, prompt_tokens, self._card.under(request.defaults))",
        "request.sampling.max_tokens or 1",
    ),
    Mutant(
        "eight_answers_side_by_side_keep_apart",
        ECHO,
        "            for event in itertools.islice(speech, limit):\n",
        "            self._words = words\n"
        "            for event in (Delta(self._words[n % len(self._words)]) for n in range(limit)):\n",
    ),
    Mutant(
        "a_served_name_has_no_slash",
        ECHO,
        'name=settings.model.rpartition("/")[2]',
        'name=f"of/{settings.model}"',
    ),
    Mutant("a_card_counts_what_admission_counts", ECHO, "            places=settings.places", "            places=0"),
    Mutant("a_card_lists_what_every_model_can", ECHO, "        Capability.STOP,\n", ""),
    Mutant("cards_and_status_survive_the_wire", ECHO, "aliases=(settings.model,)", "aliases=[settings.model]"),
    Mutant(
        "status_never_raises",
        FAKE,
        "        health = self.health if self._entered else self._outside",
        "        self._check_entered()\n        health = self.health",
    ),
    Mutant("status_never_raises", FAKE, "        self._entered = True\n", ""),
    Mutant(
        "work_that_stands_by_waits_for_the_others",
        FAKE,
        "        while request.standby is not None and self._asked:",
        "        while False:",
    ),
    Mutant(
        "work_that_stands_by_takes_no_place_and_keeps_what_it_has",
        FAKE,
        "        if request.standby is not None:\n            yield\n            return\n",
        "",
    ),
    Mutant(
        "leaving_twice_is_harmless", FAKE, "        self._outside = Health.UNLOADED\n", "        del self._outside\n"
    ),
    Mutant(
        "leaving_leaves_no_reader_waiting",
        FAKE,
        "            self._check_entered()\n",
        "            if not self._entered: await asyncio.Event().wait()\n",
    ),
    Mutant(
        "an_engine_that_was_left_answers_or_says_unavailable",
        FAKE,
        "        self._check_entered()\n        check_constraint",
        "        if not self._entered: await asyncio.Event().wait()\n        check_constraint",
    ),
    Mutant(
        "an_engine_that_was_left_answers_or_says_unavailable",
        FAKE,
        "raise Unavailable(",
        "raise RuntimeError(",
    ),
)


def main() -> int:
    """Run the unbroken engines and every mutant; return a non-zero status when the contract let one pass."""
    rules = {name.removeprefix("test_") for name in dir(EngineContract) if name.startswith("test_")}
    unwatched = sorted(rules - {mutant.rule for mutant in MUTANTS})
    with ThreadPoolExecutor(max_workers=2) as runs:
        unbroken = all(runs.map(_passes, (ECHO, FAKE, TOY)))
        survivors = [mutant for mutant, killed in zip(MUTANTS, runs.map(_kill, MUTANTS), strict=True) if not killed]
    print(
        f"unbroken engines: {'pass' if unbroken else 'FAIL'}; rules without a mutant: {', '.join(unwatched) or 'none'}"
    )
    print(f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} mutants killed")
    return int(bool(survivors or unwatched or not unbroken))


def _passes(subject: Subject) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _run(_copy(Path(folder)), subject.tests) == PASSED


def _kill(mutant: Mutant) -> bool:
    """Break a copy of the engine, run the one rule over it, and say whether the rule failed."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = _copy(Path(folder)) / mutant.subject.source
        text = source.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(f"{mutant.rule}: found {text.count(mutant.old)} times, not once: {mutant.old!r}")
        source.write_text(text.replace(mutant.old, mutant.new))
        status = _run(Path(folder), mutant.subject.tests, "-k", f"test_{mutant.rule}")
    verdict = "killed" if status == FAILED else f"SURVIVED (pytest ended with {status})"
    fault = (getattr(EngineContract, f"test_{mutant.rule}").__doc__ or "").removeprefix("Kills: ")
    print(f"{time.monotonic() - started:5.1f} s  {verdict}  {mutant.rule}: {fault}", flush=True)
    return status == FAILED


def _copy(root: Path) -> Path:
    """Copy what the contract needs into `root`, and make it wait less for what will never come."""
    for name in COPIED:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    (root / "tests/conftest.py").write_text(IMPATIENT)
    return root


def _run(root: Path, *arguments: str) -> int:
    """Run pytest over the copy in `root`, which comes before the installed packages, and return its status."""
    paths = os.pathsep.join(str(path) for path in (root, root / "plugins/echo"))
    # The other plugins of pytest take three times as long to load as a rule takes to run.
    environment = {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = ("-x", "-q", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider")
    command = [sys.executable, "-B", "-m", "pytest", *options, *arguments]
    return subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True).returncode


if __name__ == "__main__":
    sys.exit(main())
