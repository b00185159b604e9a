import subprocess
import sys


def test_the_application_imports_no_libraries_that_litestar_would_only_be_ready_for():
    program = (
        "import sys\n"
        "from gateway.app import create_app\n"
        "from gateway.config import Config, EngineSettings\n"
        "create_app(Config(engines={'default': EngineSettings(plugin='echo')}))\n"
        "assert not {'attr', 'pydantic', 'redis'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
