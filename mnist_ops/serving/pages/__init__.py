"""The pages, one file for each item of the navigation."""
