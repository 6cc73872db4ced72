"""MNIST Ops in Airflow: operators, windows, assets, and the pipeline over Airflow's connections.

DAGs import from here. `plugins/.airflowignore` keeps Airflow's plugin loader away from this folder.
"""


def get_provider_info() -> dict[str, object]:
    """Describe this package to Airflow, which finds it by the entry point `apache_airflow_provider`.

    The form is that of `airflow/provider_info.schema.json`; Airflow reads the version from the package.
    """
    return {
        "package-name": "mnist-ops",
        "name": "MNIST Ops",
        "description": "Batch inference for the images that MongoDB records refer to by URL.",
        "operators": [{"integration-name": "MNIST Ops", "python-modules": ["mnist_airflow.operators"]}],
        "triggers": [
            {
                "integration-name": "MNIST Ops",
                "python-modules": ["mnist_airflow.triggers.records_arrived"],
            }
        ],
    }
