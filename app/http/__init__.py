"""HTTP code that the routers share."""
