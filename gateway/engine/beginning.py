"""The beginning of a prompt: those that begin alike are best answered where one of them was read before."""

from gateway.engine.types import Completion, Prompt, Tokens

# The characters, or tokens, by which it is told from others.
_MOST = 4_096


def beginning(prompt: Prompt) -> bytes:
    """Write down how a prompt begins; of a conversation, all up to what its user said first: it stays the same."""
    if isinstance(prompt, Tokens):
        return repr(prompt.ids[:_MOST]).encode()
    if isinstance(prompt, Completion):
        return prompt.text[:_MOST].encode(errors="surrogatepass")
    begun = ""
    for message in prompt.messages:
        begun += f"{message.role}\0{message.text[:_MOST]}\0"
        if message.role == "user":
            break
    return begun.encode(errors="surrogatepass")
