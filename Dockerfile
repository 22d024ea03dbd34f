# segan_pl in a container, with CUDA: docker build -t segan_pl .
# for the CPU alone:                  docker build -t segan_pl --build-arg VARIANT=cpu .
# How it is run, by Apptainer too: docs/cluster.md.
FROM python:3.11-slim

ARG VARIANT=cuda
# that of constraints.txt
ARG TORCH=2.13.0
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# torch.compile asks for a C compiler
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# A layer of its own, which a change of the project does not build again. PyPI's wheel brings CUDA; the driver is the host's.
RUN case "$VARIANT" in \
        cuda) pip install "torch==$TORCH" ;; \
        cpu) pip install --index-url https://download.pytorch.org/whl/cpu "torch==$TORCH" ;; \
        *) echo "VARIANT=$VARIANT: expected cuda or cpu" >&2; exit 1 ;; \
    esac

WORKDIR /opt/segan_pl
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY sweeps sweeps
COPY segan_pl segan_pl
RUN pip install -c constraints.txt ".[sweeps,atlas,tensorboard]"

# Any user may run it: what libraries keep goes where everybody may write.
ENV MPLCONFIGDIR=/tmp/matplotlib TORCHINDUCTOR_CACHE_DIR=/tmp/inductor TRITON_CACHE_DIR=/tmp/triton
WORKDIR /work
ENTRYPOINT ["segan_pl"]
CMD ["--help"]
