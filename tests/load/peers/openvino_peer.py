"""OpenVINO GenAI's continuous batching, asked over its standard input: one JSON object a line, one line for its answer.

It runs in an environment of its own and imports nothing of this repository. What the library prints goes to stderr.
"""

import json
import os
import sys
import time

import openvino_genai as genai

_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

_CACHE_GIB = 2


class Pipeline:
    """One model, and what becomes of the requests to it. Seconds are of the monotonic clock."""

    def __init__(self, model: str, threads: int, places: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = _CACHE_GIB
        scheduler.max_num_seqs = places
        scheduler.dynamic_split_fuse = True
        properties = {"INFERENCE_NUM_THREADS": threads}
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)
        self._next = 0

    def run(self, prompts: list[str], clients: int, tokens: int, seconds: float) -> list[dict]:
        """Have so many clients send these prompts, each when its last is answered; begin none after `seconds`."""
        config = genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = tokens
        config.ignore_eos, config.do_sample, config.apply_chat_template = True, False, False
        left, running, done = list(reversed(prompts)), [], []
        end = time.monotonic() + seconds
        while running or (left and time.monotonic() < end):
            while left and len(running) < clients and time.monotonic() < end:
                sent = time.monotonic()
                handle = self._pipeline.add_request(self._next, left.pop(), config)
                running.append((handle, {"sent": sent, "times": []}))
                self._next += 1
            self._pipeline.step()
            now = time.monotonic()
            for handle, told in list(running):
                while handle.can_read():
                    for output in handle.read().values():
                        told["times"] += [now] * len(output.generated_ids)
                if len(told["times"]) >= tokens or handle.get_status() != genai.GenerationStatus.RUNNING:
                    running.remove((handle, told))
                    done.append(told | {"ended": now})
        return done


def main() -> None:
    """Load the model of the first line, and answer each further one."""
    begun = time.monotonic()
    pipeline = Pipeline(**json.loads(sys.stdin.readline()))
    print(json.dumps({"start": time.monotonic() - begun}), file=_answers)
    for line in sys.stdin:
        print(json.dumps(pipeline.run(**json.loads(line))), file=_answers)


main()
