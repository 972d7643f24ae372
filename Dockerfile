# The SQLite wallet. Exactly the versions of requirements.lock, in a venv that the second stage takes over.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /venv
COPY requirements.lock .
RUN /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY . .
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data wallet && install -d -o wallet /data
COPY --from=build /venv /venv
USER wallet
WORKDIR /data
VOLUME /data
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 WALLET_STORAGE=sqlite:////data/wallet.db
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Plain HTTP inside the container: publish the port to this machine alone, or put a proxy with TLS in front.
CMD ["wallet-gql", "serve", "--host", "0.0.0.0", "--port", "8000", "--insecure-http"]
