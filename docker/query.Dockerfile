# Asks a collection, and nothing else: the search package with the models it needs, no readers, no trainers.
#   docker build -f docker/query.Dockerfile -t nearkin-query .
#   docker run --rm -v "$PWD/nearkin-data:/data" nearkin-query search "waterproof jacket"
#   docker run --rm -v "$PWD/nearkin-data:/data" -p 127.0.0.1:8000:8000 -e NEARKIN_TOKEN=… nearkin-query serve --host 0.0.0.0
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY search search
COPY ingest ingest
# torch's CPU build: a query needs no GPU, and the image stays a fifth of the size.
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    "torch>=2.6" "torchvision>=0.21" \
 && /venv/bin/pip install --no-cache-dir ".[offline,serve]" \
 && rm -rf /venv/lib/python3.12/site-packages/ingest

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 nearkin
COPY --from=build /venv /venv
COPY docker/query.py /venv/bin/nearkin-query
ENV PATH=/venv/bin:$PATH NEARKIN_COLLECTION=/data HF_HOME=/tmp/huggingface PYTHONUNBUFFERED=1
USER nearkin
VOLUME /data
EXPOSE 8000
# Healthy: the collection opens and answers what it holds.
HEALTHCHECK --interval=60s --timeout=10s --start-period=5s \
    CMD ["python", "/venv/bin/nearkin-query", "info", "--json"]
ENTRYPOINT ["python", "/venv/bin/nearkin-query"]
CMD ["info"]
