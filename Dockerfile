FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# The tools that build stay in this stage; the venv that is copied has not even pip.
RUN pip install --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/lectr \
    && pip --python /opt/lectr/bin/python install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml LICENSE README.md ./
COPY lectr_extproc lectr_extproc
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/lectr/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
RUN pip uninstall --yes --root-user-action ignore pip \
    && rm -rf /usr/local/lib/python3.13/ensurepip \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin lectr \
    && install --directory --owner=lectr --mode=700 /var/lib/lectr /run/lectr
COPY --from=build /opt/lectr /opt/lectr
ENV PATH=/opt/lectr/bin:$PATH PYTHONUNBUFFERED=1 LECTR_CONFIG=/etc/lectr/lectr.yaml
# By number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 10001
# The ledger: a volume, so that it is writable where the rest of the file system is not. Mount one that lasts.
VOLUME /var/lib/lectr
# The gRPC port that Envoy calls. Loopback by default: with Envoy in the same pod a Unix socket is better, and with Envoy
# elsewhere a container says grpc: {listen: "0.0.0.0:9191", tls: …} (docs/running.md).
EXPOSE 9191
# The admin port stays on the container's loopback, unless it is given a token.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8088/livez', timeout=2)"]
ENTRYPOINT ["lectr"]
CMD ["serve"]
