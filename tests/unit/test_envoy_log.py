"""What a crashed Envoy says of the requests it was working on does not reach our log."""

from __future__ import annotations

from aion_extproc.gateway.envoy_log import EnvoyLog

# As Envoy 1.40 wrote it, shortened.
CRASH = b"""\
[2026-11-21 21:26:12.107][4][warning][main] [source/server/server.cc:1059] There is no configured limit
[2026-11-21 21:27:50.433][4][critical][backtrace] [./source/server/backtrace.h:173] Caught Segmentation fault, \
suspect faulting address 0x0
[2026-11-21 21:27:50.448][4][critical][backtrace] [./source/server/backtrace.h:167] #0: [0x7f684e202050]
FilterManager 0x306bbf412f20, state_.has_1xx_headers_: 0
filter_manager_callbacks_.requestHeaders(): 
  ':method', 'POST'
  'authorization', 'Bearer sk-secret-openai-1234567890'
&streamInfo(): 
  StreamInfoImpl 0x306bbfb07a20, protocol_: 1, response_code_: null
 current_dispatching_buffer_ front_slice length: 30 contents: "{"content":"my own words"
[2026-11-21 21:27:50.449][4][info][main] [source/server/server.cc:1] still here
""".splitlines(keepends=True)


def test_the_trace_is_shown_and_the_requests_are_not() -> None:
    log = EnvoyLog()
    shown = b"".join(map(log.line, CRASH))
    assert [line for line in CRASH if line.startswith(b"[")] == [
        line for line in shown.splitlines(keepends=True) if line.startswith(b"[")
    ]
    assert b"secret" not in shown
    assert b"words" not in shown
    assert shown.count(b"left out") == 1


def test_why_it_could_not_start_is_shown() -> None:
    assert EnvoyLog().line(b"error: unknown field\n") == b"error: unknown field\n"
