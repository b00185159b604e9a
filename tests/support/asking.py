"""Requests to an engine that is asked without a gateway."""

from gateway.engine import Completion, GenerateRequest, Sampling


def request(prompt="hi", **sampling):
    """Ask to go on with a text, or for any other prompt."""
    prompt = Completion(prompt) if isinstance(prompt, str) else prompt
    return GenerateRequest(id="1", model="asked", prompt=prompt, sampling=Sampling(**sampling))
