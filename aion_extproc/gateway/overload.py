"""What bounds Envoy's own memory."""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap import v3 as fixed_heap

from aion_extproc.gateway.pack import pack

_HEAP = "envoy.resource_monitors.fixed_heap"


def overload_manager(heap_bytes: int) -> overload.OverloadManager:
    """From 90 % of these bytes on new requests are refused; from 95 % on those that hold most are ended."""
    return overload.OverloadManager(
        refresh_interval=timedelta(milliseconds=100),
        buffer_factory_config=overload.BufferFactoryConfig(minimum_account_to_track_power_of_two=20),
        resource_monitors=[
            overload.ResourceMonitor(
                name=_HEAP, typed_config=pack(fixed_heap.FixedHeapConfig(max_heap_size_bytes=heap_bytes))
            )
        ],
        actions=[
            _action("shrink_heap", overload.Trigger(name=_HEAP, threshold=overload.ThresholdTrigger(value=0.8))),
            _action(
                "stop_accepting_requests", overload.Trigger(name=_HEAP, threshold=overload.ThresholdTrigger(value=0.9))
            ),
            _action(
                "reset_high_memory_stream",
                overload.Trigger(
                    name=_HEAP, scaled=overload.ScaledTrigger(scaling_threshold=0.95, saturation_threshold=1.0)
                ),
            ),
        ],
    )


def _action(name: str, trigger: overload.Trigger) -> overload.OverloadAction:
    return overload.OverloadAction(name=f"envoy.overload_actions.{name}", triggers=[trigger])
