# The image of a checkout: docker build -t clonk .
#
# It holds no Claude Code binary, and no published image does: the binary is installed by your own build.
#   docker build --build-arg WITH_CLAUDE=bundled -t clonk .     takes the one that the official Agent SDK's wheel brings
# or derive an image from this one and put `claude` on its PATH.
#
# A published port reaches a server that listens on all addresses of its container, and that it does only with a key:
#   docker run --rm -v clonk-data:/var/clonk clonk clonk keys create admin --scope '*'      prints one, this once
#   docker run -d --init -p 127.0.0.1:4444:4444 -p 127.0.0.1:4445:4445 -v clonk-data:/var/clonk \
#     -e CLONK_SERVER__HOST=0.0.0.0 -e CLAUDE_CODE_OAUTH_TOKEN clonk
#   docker run -i --init --rm -v clonk-data:/var/clonk clonk clonk stdio      serves the program that starts it, no port

FROM python:3.12-slim

ARG WITH_CLAUDE=none

RUN apt-get update \
    && apt-get install -y --no-install-recommends git git-lfs openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /home/clonk clonk \
    && install -d -o clonk -g clonk /var/clonk /etc/clonk /workspace

WORKDIR /usr/src/clonk
COPY pyproject.toml uv.lock README.md LICENSE CHANGELOG.md ./
COPY clonk_core clonk_core
COPY clonk_claudecode clonk_claudecode
COPY clonk_arbor clonk_arbor
COPY clonk_gitsync clonk_gitsync

# The locked versions, as tested; the packages themselves are installed into /opt/clonk, not linked to the checkout.
ENV UV_PROJECT_ENVIRONMENT=/opt/clonk UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
RUN case "$WITH_CLAUDE" in \
        none) extra="" ;; \
        bundled) extra="--extra bundled" ;; \
        *) echo "WITH_CLAUDE is none or bundled, not $WITH_CLAUDE" >&2; exit 1 ;; \
    esac \
    && python -m venv /tmp/uv \
    && /tmp/uv/bin/pip install --quiet --no-cache-dir "uv==$(sed -n '/^name = "uv"$/{n;s/^version = "\(.*\)"$/\1/p;}' uv.lock)" \
    && /tmp/uv/bin/uv sync --locked --no-editable --no-dev $extra \
    && rm -rf /tmp/uv

ENV PATH=/opt/clonk/bin:$PATH \
    CLONK_STORAGE__DATA_DIR=/var/clonk
WORKDIR /var/clonk
USER clonk
VOLUME /var/clonk
EXPOSE 4444 4445

# Reads /etc/clonk/config.yaml when one is mounted there.
CMD ["sh", "-c", "if [ -f /etc/clonk/config.yaml ]; then exec clonk serve --config /etc/clonk/config.yaml; fi; exec clonk serve"]
