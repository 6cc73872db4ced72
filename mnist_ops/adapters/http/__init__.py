"""Images over HTTP: one libcurl loop that adapts to each host. docs/fetching.md lists the modules."""
