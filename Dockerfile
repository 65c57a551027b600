# The wheel on CUDA's runtime, as an ordinary user. Run it with the GPU's video engine:
#   docker build -t reelbench .
#   docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,video,utility -v /data:/data reelbench doctor
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# g++ and Python's headers: torch.compile builds kernels with them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/reelbench/bin:$PATH
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
RUN python3 -m venv /opt/reelbench \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt /tmp/wheels/*.whl \
    && useradd --create-home --uid 10001 reelbench
USER 10001
WORKDIR /home/reelbench
ENTRYPOINT ["reelbench"]
CMD ["--help"]
