FROM python:3.11-bookworm AS build
WORKDIR /src
COPY setup.cfg setup.py pyproject.toml README.md ./
COPY featurestore featurestore
COPY ingest ingest
COPY lua lua
RUN python -m venv /app && /app/bin/pip install --no-cache-dir .

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin featurestore
COPY --from=build /app /app
USER 10001
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 FEATURESTORE_BIND=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s \
    CMD ["python", "-m", "featurestore.serving.probe"]
ENTRYPOINT ["featurestore"]
CMD ["serve"]
