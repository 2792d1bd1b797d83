"""The two gRPC services that every process offers to Envoy: its log, and whether we are well."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aion_extproc.extproc.grpc_call import Call, Reply

LOGS_METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
_NOT_SERVING = b"\x08\x02"


class Logs:
    """Envoy's log streams that end here. `take` is given each message as it comes."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._open: set[_Log] = set()

    def open(self, reply: Reply, _headers: Mapping[str, str]) -> Call:
        opened = _Log(reply, self._take, self._open.discard)
        self._open.add(opened)
        return opened

    def leave(self) -> None:
        """Send Envoy elsewhere; what it has sent into these streams is still taken."""
        for one in list(self._open):
            one.finish()


class _Log:
    def __init__(self, reply: Reply, take: Callable[[bytes], None], ended: Callable[[_Log], None]) -> None:
        self._reply = reply
        self._ended = ended
        self.message = take
        self.finish = reply.finish

    def half_closed(self) -> None:
        self._ended(self)
        self._reply.send(b"")
        self._reply.end()

    def lost(self) -> None:
        self._ended(self)


class Check:
    """gRPC's health check."""

    def __init__(self, reply: Reply, serving: bool) -> None:
        self._reply = reply
        self._serving = serving

    def message(self, _data: bytes) -> None:
        self._reply.send(_SERVING if self._serving else _NOT_SERVING)
        self._reply.end()

    def half_closed(self) -> None:
        self._reply.end()

    def lost(self) -> None:
        pass
