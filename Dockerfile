FROM python:3.11.14-bookworm AS build
WORKDIR /src
COPY deploy/image.txt deploy/image-build.txt deploy/
RUN python -m venv /app \
    && /app/bin/pip install --no-cache-dir --require-hashes -r deploy/image.txt \
    && pip install --no-cache-dir --require-hashes -r deploy/image-build.txt
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY featurestore featurestore
COPY ingest ingest
COPY lua lua
# By the setuptools of the lock, where pip would fetch the newest.
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /app/bin/pip install --no-cache-dir --no-deps /wheel/*.whl

FROM python:3.11.14-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="redis-featurestore" \
      org.opencontainers.image.description="An online feature store whose logic runs inside Redis" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.authors="The redis-featurestore authors"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin featurestore
COPY --from=build /app /app
USER 10001
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 FEATURESTORE_BIND=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s \
    CMD ["python", "-m", "featurestore.serving.probe"]
ENTRYPOINT ["featurestore"]
CMD ["serve"]
