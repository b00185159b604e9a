import contextlib
import os
import time

from gateway.telemetry.log_writer import LogWriter


def test_lines_arrive_whole_and_in_order(tmp_path):
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    lines = LogWriter(fd)
    for number in range(1000):
        lines.write(f"{number}\n")
    assert lines.flush(20)
    assert (tmp_path / "out").read_text().split() == [str(number) for number in range(1000)]
    lines.stop()
    os.close(fd)


def test_a_pipe_that_nobody_reads_blocks_no_writer_and_losses_are_counted():
    read_end, write_end = os.pipe()
    lines = LogWriter(write_end, capacity=100)
    begun = time.monotonic()
    for _ in range(20_000):
        lines.write("x" * 200 + "\n")
    lines.stop()
    assert time.monotonic() - begun < 20
    assert lines.dropped > 10_000
    os.close(read_end)  # the thread's write fails now, and it ends
    lines._thread.join(20)
    assert not lines._thread.is_alive()
    os.close(write_end)


def test_a_non_blocking_pipe_gets_every_line():
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    lines = LogWriter(write_end)
    for _ in range(4000):
        lines.write("x" * 99 + "\n")
    received = 0
    while received < 400_000:
        received += len(os.read(read_end, 65_536))
    assert lines.flush(20)
    assert lines.dropped == 0
    lines.stop()
    os.close(read_end)
    os.close(write_end)


def test_lines_that_cannot_be_written_are_counted_and_later_ones_still_tried():
    read_end, write_end = os.pipe()
    os.close(read_end)
    lines = LogWriter(write_end)
    lines.write("lost\n")
    assert lines.flush(20)
    lines.write("lost too\n")
    assert lines.flush(20)
    assert lines.dropped == 2
    lines.stop()
    os.close(write_end)


def test_lost_lines_are_told_when_lines_are_read_again():
    told, (read_end, write_end) = [], os.pipe()
    lines = LogWriter(write_end, capacity=10, tell=told.append)
    for _ in range(2_000):
        lines.write("x" * 200 + "\n")
    while not lines.dropped:
        lines.write("x" * 200 + "\n")
    assert told == []
    # What is lost is told behind the write of a line, so the last line may be read before.
    os.set_blocking(read_end, False)
    while not told:
        with contextlib.suppress(BlockingIOError):
            os.read(read_end, 65_536)
        time.sleep(0.001)
    assert sum(told) <= lines.dropped
    lines.write("later\n")
    lines.stop()
    os.close(read_end)
    os.close(write_end)
