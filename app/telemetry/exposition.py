from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def expose(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """In the format that the header `Accept` asks for, and its media type."""
    try:
        encode, media_type = choose_encoder(accept)
    except TypeError:  # a version that is no number
        encode, media_type = choose_encoder("")
    return encode(registry), media_type
