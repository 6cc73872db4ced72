"""Read bundles and classify with them; on CPU without torch."""
