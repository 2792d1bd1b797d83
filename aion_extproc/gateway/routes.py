"""Routes: what the API answers itself, and the four ways that an answer can take back to the client."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.lua import v3 as lua
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from aion_extproc.gateway.answers import whole_answer
from aion_extproc.gateway.clusters import API_CLUSTER
from aion_extproc.gateway.pack import pack, pack_fields, seconds
from aion_extproc.gateway.spec import (
    NAMESPACE,
    RESPONSE_HEADER,
    RESPONSE_PROCESS,
    RESPONSE_STRIP_USAGE,
    RESPONSE_TRANSLATE,
    Spec,
)

PUBLIC_ROUTES = "aion_public"
REQUEST_FILTER = "aion.request"
RESPONSE_FILTER = "aion.response"
STRIP_FILTER = "aion.strip_usage"
ERROR_FILTER = "aion.error_shape"
_PRIORITY_GROUP = "envoy.router.cluster_specifier_plugin.priority_group"
_PRIORITY_GROUP_TYPE = "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier"


def public_routes(spec: Spec) -> route.RouteConfiguration:
    api = [
        _api_route(route.RouteMatch(path="/")),
        _api_route(route.RouteMatch(path="/health")),
        _api_route(route.RouteMatch(path="/api/hello")),  # Claude Code asks there whether anybody is at home
        _api_route(route.RouteMatch(path_separated_prefix="/v1/models")),
        _api_route(route.RouteMatch(path="/v1/backends")),
        _api_route(route.RouteMatch(path_separated_prefix="/aion")),
        _api_route(route.RouteMatch(path_separated_prefix="/admin")),
    ]
    shown = {RESPONSE_FILTER: _shown(must=False)}
    # Of a translation: an error is better than an answer that the client cannot read.
    must_show = {RESPONSE_FILTER: _shown(must=True)}
    # Where Envoy does not count tokens, every answer is shown to us.
    others = {} if spec.usage == "envoy" else shown
    providers = [
        _provider_route("process", RESPONSE_PROCESS, spec, {**shown, STRIP_FILTER: _lua_off()}),
        _provider_route("translate", RESPONSE_TRANSLATE, spec, {**must_show, STRIP_FILTER: _lua_off()}),
        _provider_route("strip_usage", RESPONSE_STRIP_USAGE, spec, others),
        _provider_route("untouched", None, spec, {**others, STRIP_FILTER: _lua_off()}),
    ]
    host = route.VirtualHost(name="all", domains=["*"], routes=[*api, *providers])
    return route.RouteConfiguration(
        name=PUBLIC_ROUTES,
        virtual_hosts=[host],
        request_headers_to_remove=["x-forwarded-proto", "x-forwarded-for", "x-envoy-original-path"],
    )


def metrics_routes() -> route.RouteConfiguration:
    to_api = route.Route(match=route.RouteMatch(path="/metrics"), route=route.RouteAction(cluster=API_CLUSTER))
    nothing = route.Route(
        match=route.RouteMatch(prefix="/"), direct_response=route.DirectResponseAction(status=404)
    )
    host = route.VirtualHost(name="all", domains=["*"], routes=[to_api, nothing])
    return route.RouteConfiguration(name="aion_admin", virtual_hosts=[host])


def _api_route(match: route.RouteMatch) -> route.Route:
    return route.Route(
        name="api",
        match=match,
        route=route.RouteAction(cluster=API_CLUSTER, timeout=seconds(30)),
        typed_per_filter_config={
            REQUEST_FILTER: _ext_proc_off(),
            STRIP_FILTER: _lua_off(),
            ERROR_FILTER: _lua_off(),
        },
    )


def _provider_route(name: str, way: str | None, spec: Spec, filters: dict[str, Any]) -> route.Route:
    """To the clusters that the exchange has put into the metadata, for requests that say that `way` (None: all)."""
    headers = []
    if way is not None:
        match = matcher.StringMatcher(exact=way)
        headers.append(route.HeaderMatcher(name=RESPONSE_HEADER, string_match=match))
    return route.Route(
        name=name,
        match=route.RouteMatch(prefix="/", headers=headers),
        # Beside the action, not in it: the whole body is kept for a retry.
        request_body_buffer_limit=spec.max_body_bytes,
        route=route.RouteAction(
            inline_cluster_specifier_plugin=route.ClusterSpecifierPlugin(
                extension=core.TypedExtensionConfig(name=_PRIORITY_GROUP, typed_config=_chain(spec))
            ),
            timeout=seconds(0),
            retry_policy=route.RetryPolicy(
                # The request has not reached the provider in any of these cases, so nothing is done twice. A request
                # that has a chain of models brings headers that say what else, and how often.
                retry_on="connect-failure,refused-stream,reset-before-request",
                num_retries=1,
                refresh_cluster_on_retry=True,
                # The next attempt goes to somebody else, who need not be spared.
                retry_back_off=route.RetryPolicyRetryBackOff(
                    base_interval=seconds(0.001), max_interval=seconds(0.01)
                ),
            ),
        ),
        typed_per_filter_config=filters,
    )


def _chain(spec: Spec) -> Any:
    """The order of clusters comes from the decision; the configured group is never used, but must be there."""
    first = spec.upstreams[0].cluster
    groups = [{"name": "default", "clusters": [{"cluster_name": first, "weight": 1}]}]
    return pack_fields(
        _PRIORITY_GROUP_TYPE, {"priority_groups": groups, "override_metadata_namespace": NAMESPACE}
    )


def _ext_proc_off() -> Any:
    return pack(ext_proc.ExtProcPerRoute(disabled=True))


def _shown(*, must: bool) -> Any:
    overrides = ext_proc.ExtProcOverrides(processing_mode=whole_answer(), failure_mode_allow=not must)
    return pack(ext_proc.ExtProcPerRoute(overrides=overrides))


def _lua_off() -> Any:
    return pack(lua.LuaPerRoute(disabled=True))
