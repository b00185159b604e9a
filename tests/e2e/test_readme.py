"""The README's engine is a whole one: written down, installed and asked as it stands."""

import re
from pathlib import Path

from tests.support.service import Service

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readmes_engine_answers(tmp_path):
    (source,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Plugin(" in block]
    (tmp_path / "hello_engine.py").write_text(source)
    info = tmp_path / "hello_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hello-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llm_gateway.engines]\nhello = hello_engine:plugin\n")
    settings = {"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__WORD": " world"}
    with Service(PYTHONPATH=str(tmp_path), ENGINE="hello", **settings) as service:
        assert service.generate(prompt="hello").json()["generated_text"] == "hello world"
        refused = service.generate(prompt="hello", top_k=5)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "top_k")
