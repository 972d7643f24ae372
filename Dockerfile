# The wallet as it runs in production, for any backend: exactly the versions of deploy/runtime.lock, and nothing for tests.
# Name digests where you deploy:  docker build --build-arg PYTHON=python:3.13-slim@sha256:… .
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /build
COPY deploy/build.lock deploy/runtime.lock ./
RUN python -m venv /tools && /tools/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r build.lock
RUN python -m venv --without-pip /venv && \
    pip --python /venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r runtime.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . && \
    pip --python /venv/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
RUN useradd --system --uid 10001 --home-dir /data wallet && install -d -o wallet /data
COPY --from=build /venv /venv
USER wallet
WORKDIR /data
VOLUME /data
# No WALLET_STORAGE: a wallet that nobody told where its money is must not start on an empty file.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    WALLET_MODE=production WALLET_LOG_FORMAT=json WALLET_METRICS_ADDRESS=0.0.0.0:9464
EXPOSE 8000 9464
# Not ready is not dead: a container that cannot reach its store gets no requests, and restarting it would not help.
# A store with several nodes may wait for one that does not answer, before it says that it is partly ready: give it 4 s.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Plain HTTP inside the container: publish the port to this machine alone, or put a proxy with TLS in front.
CMD ["wallet-gql", "serve", "--host", "0.0.0.0", "--port", "8000", "--insecure-http"]
