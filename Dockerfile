# CAO-LLM with its embedded model, encoder and data: docs/start/container.md.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# Which build of torch: the CPU's. For another, name its index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt requirements-lock.txt requirements-embedded.txt ./
# Everything by its hash but torch, as in the Makefile, and setuptools, which torch asks for and no lock
# holds. It is kept as wheels, of which only what is needed to run is installed, from no index.
RUN pip wheel --no-deps --require-hashes --wheel-dir /wheels -r requirements-lock.txt \
    && pip wheel --no-deps --index-url "${TORCH_INDEX}" --wheel-dir /wheels -c constraints.txt torch \
    && pip wheel --no-deps --wheel-dir /wheels setuptools
COPY pyproject.toml README.md LICENSE ./
COPY agent agent
COPY cao cao
COPY eval eval
COPY policies policies
COPY pretrained pretrained
COPY prompts prompts
COPY tools tools
RUN pip wheel --no-deps --wheel-dir /wheels . \
    && python -m venv /opt/cao \
    && /opt/cao/bin/pip install --no-index --find-links /wheels "cao-llm[serve]" \
    && /opt/cao/bin/pip install --no-deps --require-hashes -r requirements-embedded.txt

FROM python:${PYTHON}
# Volumes take their owner from these folders.
RUN useradd --create-home --uid 10001 cao \
    && cd /home/cao \
    && install --directory --owner cao --group cao .cache .local .local/share runs
COPY --from=build /opt/cao /opt/cao
ENV PATH=/opt/cao/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/cao
EXPOSE 8000
ENTRYPOINT ["cao"]
CMD ["run", "--task", "gsm8k", "--minutes", "4", "--offline"]
