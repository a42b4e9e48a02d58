# The server, with the embedded experts:  docker build -t isthmus .                             for CPUs
#                                         docker build -t isthmus:cuda --build-arg DEVICE=cuda .  with CUDA's libraries
# A trained model is mounted at /model:   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/curriculum/instruction_tuning:/model:ro" isthmus
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS wheels
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY configs configs
COPY examples/captioned examples/captioned
COPY checkpoints/pocket checkpoints/pocket
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . ./checkpoints/pocket

FROM python:${PYTHON}-slim-bookworm
ARG DEVICE=cpu
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
COPY constraints.txt /tmp/constraints.txt
# torch goes first and alone: PyPI's build carries CUDA's libraries (gigabytes), torch's own index has one without.
RUN case "${DEVICE}" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        cuda) index=https://pypi.org/simple ;; \
        *) echo "DEVICE: found ${DEVICE}; expected cpu or cuda" >&2; exit 1 ;; \
    esac \
    && pip install --no-cache-dir --no-deps --index-url "${index}" "$(sed -n '/^torch==/p' /tmp/constraints.txt)"
# Both wheels by their paths, so that no index can offer others of these names.
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /tmp/constraints.txt \
        "$(echo /wheels/isthmus-*.whl)[serve]" "$(echo /wheels/isthmus_pocket-*.whl)" \
    && useradd --system --uid 10001 --create-home isthmus
USER 10001
WORKDIR /home/isthmus
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["isthmus"]
# Published to this machine alone it needs no keys; by its names no page of another site reaches it there.
CMD ["serve", "--model", "/model", "--host", "0.0.0.0", "--hosts", "127.0.0.1,localhost,isthmus"]
