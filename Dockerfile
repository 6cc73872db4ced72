# One image for every part of Airflow. Targets: `default`, and `gpu`, which adds torch for training.
#
#   docker build .               classifies on ONNX Runtime: no torch, no CUDA
#   docker build --target gpu .  trains too, on the GPU or the CPU; torch brings its own CUDA libraries
#
# Training on the CPU has no smaller image: torch of PyPI for x86-64 is linked to the CUDA libraries and cannot be
# imported without them (docs/compose.md).
#
# The base gives Python, the user `airflow` (50000, group 0) and the entrypoint. The packages come from
# requirements.lock, by hash, into an environment of their own: the same versions as the tests run on.
FROM apache/airflow:3.3.2-python3.12 AS base

USER root
RUN install -d -o airflow -g root -m 0775 /opt/mnist-ops /opt/mnist-ops/training
USER airflow

RUN python -m venv /opt/mnist-ops/venv
ENV VIRTUAL_ENV=/opt/mnist-ops/venv \
    PATH=/opt/mnist-ops/venv/bin:${PATH} \
    PIP_USER=false

WORKDIR /opt/mnist-ops/source
COPY --chown=airflow:0 pyproject.toml requirements.lock requirements-bootstrap.txt ./
# The lock constrains what pyproject.toml asks for: a package that it does not name, or another file
# than it names, ends the build.
RUN python -m pip install --no-cache-dir --require-hashes -r requirements-bootstrap.txt \
    && uv pip install --no-cache --compile-bytecode --require-hashes -c requirements.lock \
        -r pyproject.toml --extra airflow --extra serving

COPY --chown=airflow:0 LICENSE README.md ./
COPY --chown=airflow:0 mnist_ops ./mnist_ops
COPY --chown=airflow:0 plugins/mnist_airflow ./plugins/mnist_airflow
RUN uv pip install --no-cache --no-deps --build-constraint requirements.lock .

COPY --chown=airflow:0 deploy/airflow-*.sh /opt/mnist-ops/deploy/
COPY --chown=airflow:0 dags ${AIRFLOW_HOME}/dags
# Without mnist_airflow, which is installed: a second copy would never be imported. With .airflowignore, which
# keeps the plugin loader from importing the cluster policies as a plugin.
COPY --chown=airflow:0 plugins/.airflowignore plugins/airflow_local_settings.py plugins/mnist_plugin.py ${AIRFLOW_HOME}/plugins/
WORKDIR ${AIRFLOW_HOME}

# With the tracker mlflow, whose nine packages are 27 MB beside torch's 5 GB.
FROM base AS gpu
RUN uv pip install --no-cache --compile-bytecode --require-hashes \
        -c /opt/mnist-ops/source/requirements.lock -r /opt/mnist-ops/source/pyproject.toml \
        --extra train --extra mlflow

# Last, so that it is what a build without --target makes.
FROM base AS default
