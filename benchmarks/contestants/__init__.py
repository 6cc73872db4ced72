"""Ways to get from records to labels, each a process of its own: `python -m benchmarks.contestants.X`.

All are told where things are by the environment (`Place`), and print what their stages took as JSON.
"""
