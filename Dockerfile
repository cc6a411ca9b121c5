# docker build -t mmselfsup_graft .                                  pre-training, evaluation, conversion
# docker build -t mmselfsup_graft --build-arg PARTS=--transfer .     and detection and segmentation
#
# torch brings its CUDA libraries; a GPU needs the driver and the container toolkit of the host only.
FROM python:3.12-slim

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# what opencv-python is linked with
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /mmselfsup_graft
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/mmselfsup_graft/.venv/bin:$PATH

# the requirements first: a change of the code does not download torch again
COPY requirements requirements
RUN python -m venv .venv \
    && MMCV_WITH_OPS=0 .venv/bin/python -m pip install --progress-bar off \
        -c requirements/constraints.txt -r requirements/base.txt -r requirements/fast.txt

COPY . .
ARG PARTS=""
# hadolint ignore=SC2086
RUN GRAFT_PYTHON=/usr/local/bin/python bash tools/install.sh $PARTS && graft check-env

CMD ["graft", "--help"]
