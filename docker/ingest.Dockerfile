# Fills a collection, on a GPU where the host offers one (docker run --gpus all …).
#   docker build -f docker/ingest.Dockerfile -t nearkin-ingest .
#   docker run --rm --gpus all -v "$PWD:/work" nearkin-ingest ingest text docs/ -c nearkin-data
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY search search
COPY ingest ingest
# torch from PyPI carries its own CUDA libraries; the host needs only the NVIDIA driver and container toolkit.
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir ".[offline,timm]"

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 nearkin && mkdir /work && chown nearkin /work
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER nearkin
WORKDIR /work
ENTRYPOINT ["nearkin"]
CMD ["--help"]
