"""What a server's `/metrics` says."""

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from support.http import HttpServer


def scraped(server: HttpServer) -> list[Sample]:
    """Return all samples."""
    families = text_string_to_metric_families(server.get("/metrics").body.decode())
    return [sample for family in families for sample in family.samples]


def total(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """Return the sum of the samples of that name that have these labels, among others."""
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())
