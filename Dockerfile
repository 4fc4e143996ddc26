# rayfed with Ray, MLflow's server and clients for S3 and Cloud Storage: the image of cluster/kuberay-*.yaml.
#   docker build -t REGISTRY/rayfed:0.1.0 . && docker push REGISTRY/rayfed:0.1.0
# torch brings its own CUDA libraries; the node has the driver.
FROM python:3.12.12-slim-bookworm AS build
RUN python -m venv /opt/rayfed
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY cluster/constraints.txt cluster/
COPY rayfed rayfed
RUN /opt/rayfed/bin/pip install --no-cache-dir -c cluster/constraints.txt '.[aws,gcp]'

FROM python:3.12.12-slim-bookworm
# KubeRay's probes call wget, and its start commands a login shell, which takes PATH from /etc/profile alone.
# hadolint ignore=DL3008,SC2016
RUN apt-get update \
    && apt-get install -y --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && echo 'export PATH=/opt/rayfed/bin:$PATH' > /etc/profile.d/rayfed.sh \
    && useradd --create-home --uid 1000 ray
COPY --from=build /opt/rayfed /opt/rayfed
COPY --chown=ray jobs /home/ray/jobs
ENV PATH=/opt/rayfed/bin:$PATH
USER 1000
WORKDIR /home/ray
