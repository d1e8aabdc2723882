# The connector: `voxtrunk serve` with the engines of the extras named, their models, and voices of Debian.
# Build argument BASE: a Python on Debian; EXTRAS: see [project.optional-dependencies] in pyproject.toml.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=offline,local
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY connector connector
COPY flavors flavors
COPY opensips opensips
COPY rtpengine rtpengine
RUN python -m venv /opt/voxtrunk \
    && /opt/voxtrunk/bin/pip install --no-cache-dir ".${EXTRAS:+[${EXTRAS}]}"
# What the flavors that come with voxtrunk need, and `local`, which asks for more once a number leads to it; without its
# Whisper on the CPU, which comes of the hub and goes to a volume.
ENV VOXTRUNK_MODELS=/opt/voxtrunk/models
RUN cd /opt \
    && echo "default: local" > voxtrunk.yml \
    && VOXTRUNK_WHISPER=/none /opt/voxtrunk/bin/voxtrunk models fetch

FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends espeak-ng flite libopus0 tini \
    && rm -rf /var/lib/apt/lists/*
# What calls leave, what OpenSIPS and rtpengine are to read, what engines fetch: volumes take over these folders' owner.
RUN groupadd --system --gid 10001 voxtrunk \
    && useradd --system --uid 10001 --gid 10001 --home-dir /srv/voxtrunk --shell /usr/sbin/nologin voxtrunk \
    && install -d -o voxtrunk -g voxtrunk /srv/voxtrunk /srv/voxtrunk/records /srv/voxtrunk/run /var/cache/voxtrunk
COPY --from=build /opt/voxtrunk /opt/voxtrunk
# What `models fetch` brings of the hub: a volume again.
RUN install -d -o voxtrunk -g voxtrunk /opt/voxtrunk/models/hub
ENV PATH=/opt/voxtrunk/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VOXTRUNK_CONTAINER=1 \
    VOXTRUNK_MODELS=/opt/voxtrunk/models \
    HF_HOME=/var/cache/voxtrunk/huggingface
USER voxtrunk
WORKDIR /srv/voxtrunk
# A first process that has no handler for a signal, as Python while it starts, does not get it.
ENTRYPOINT ["tini", "--", "voxtrunk"]
CMD ["serve"]
