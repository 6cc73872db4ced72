"""The deployment whose records, runs and models the application shows."""

from typing import Annotated, Protocol

from fastapi import Depends, Request

from mnist_ops.pipeline import Pipeline


class Deployment(Protocol):
    """Where the pipeline comes from: Airflow's connections, or those of the environment."""

    def pipeline(self) -> Pipeline:
        """The pipeline, over clients that are kept between requests; called from many threads at once.

        Raises:
            MnistOpsError: the connections or settings cannot be used.
        """


def pipeline_of(request: Request) -> Pipeline:
    """The pipeline of the application that answers a request."""
    deployment: Deployment = request.app.state.deployment
    return deployment.pipeline()


PipelineDep = Annotated[Pipeline, Depends(pipeline_of)]
