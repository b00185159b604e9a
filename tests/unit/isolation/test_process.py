"""What an engine's process is told when it starts."""

import logging
import socket

import pytest

from gateway.isolation import ProcessSpec, RestartPolicy, process


@pytest.mark.parametrize(("own", "told"), [(logging.DEBUG, logging.DEBUG), (logging.ERROR, logging.INFO)])
def test_a_process_logs_as_much_as_this_one_and_never_less_than_info(caplog, own, told):
    spec = ProcessSpec(name="e", plugin="echo", settings=b"", environment={}, policy=RestartPolicy())
    with caplog.at_level(own, "gateway"), socket.socket() as listener:
        assert process._launch(spec, listener).log_level == told
