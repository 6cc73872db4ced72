"""MNIST Ops in Airflow: operators, windows, assets, and connections that become adapters.

`plugins/.airflowignore` keeps the plugin loader away; DAGs import from here.
"""
