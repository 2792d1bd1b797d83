"""How a provider's own cloud is spoken to without a key of ours: Envoy authenticates, with what it finds where it runs.

AWS: `aws_request_signing` signs every attempt, as the last filter of the provider's own clusters. Credentials
come from AWS's usual places in their usual order: the environment, files (AWS_PROFILE), web identity, container,
instance. https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/aws_request_signing_filter

Google: `gcp_authn` fetches an access token of the machine's (or, in GKE, the workload's) service account from the
metadata server and keeps it while it is valid. Envoy 1.40 knows it as a filter of the listener only; the cluster's
metadata say that it is wanted.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/gcp_authn_filter
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.filters.http.aws_request_signing import v3 as aws
from envoy_data_plane.envoy.extensions.filters.http.gcp_authn import v3 as gcp
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from aion_extproc.gateway.pack import pack, seconds, tcp
from aion_extproc.gateway.spec import Spec, Upstream

METADATA_CLUSTER = "aion_gcp_metadata"
_GCP_FILTER = "envoy.filters.http.gcp_authn"


def signing_filters(upstream: Upstream) -> list[hcm.HttpFilter]:
    """For the provider's clusters: what signs a request on its way out; empty where nothing does."""
    if upstream.signing != "aws":
        return []
    signing = aws.AwsRequestSigning(
        service_name="bedrock",
        region=upstream.region,
        # Beside host, date and body, which always are signed. A proxy on the way may touch the others.
        match_included_headers=[matcher.StringMatcher(exact="content-type")],
    )
    return [hcm.HttpFilter(name="envoy.filters.http.aws_request_signing", typed_config=pack(signing))]


def cluster_metadata(upstream: Upstream) -> core.Metadata | None:
    """What tells `listener_filters` that requests to this cluster want a token, and of which kind."""
    if upstream.signing != "gcp":
        return None
    audience = gcp.Audience(access_token=gcp.AudienceAccessToken())
    return core.Metadata(typed_filter_metadata={_GCP_FILTER: pack(audience)})


def listener_filters(spec: Spec) -> list[hcm.HttpFilter]:
    """For the public listener, anywhere after the request exchange has chosen the cluster."""
    if not _uses_gcp(spec):
        return []
    config = gcp.GcpAuthnFilterConfig(
        cluster=METADATA_CLUSTER, timeout=seconds(5), cache_config=gcp.TokenCacheConfig(cache_size=16)
    )
    return [hcm.HttpFilter(name=_GCP_FILTER, typed_config=pack(config))]


def metadata_clusters(spec: Spec) -> list[cluster.Cluster]:
    """Google's metadata server, where it is needed."""
    if not _uses_gcp(spec):
        return []
    host, _, port = spec.gcp_metadata_host.partition(":")
    address = endpoint.Endpoint(address=tcp(host, int(port or 80)))
    localities = [endpoint.LocalityLbEndpoints(lb_endpoints=[endpoint.LbEndpoint(endpoint=address)])]
    return [
        cluster.Cluster(
            name=METADATA_CLUSTER,
            type=cluster.ClusterDiscoveryType.LOGICAL_DNS,
            dns_lookup_family=cluster.ClusterDnsLookupFamily.V4_PREFERRED,
            wait_for_warm_on_init=False,
            connect_timeout=seconds(1),
            load_assignment=endpoint.ClusterLoadAssignment(cluster_name=METADATA_CLUSTER, endpoints=localities),
        )
    ]


def _uses_gcp(spec: Spec) -> bool:
    return any(upstream.signing == "gcp" for upstream in spec.upstreams)
