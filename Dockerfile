# The image of vtep-agent, for builders that want a Dockerfile: one static program, the CA roots, and the licenses. scripts/programs makes all of
# it, as it does for `make image`, which needs no daemon and is reproducible (docs/release.md). With this file, the image depends on what the base
# and Debian's packages are today: name a base by its digest to fix the compiler.
#
#   docker build --build-arg BUILD_BASE=rust:1.95.0-slim-bookworm@sha256:… --build-arg TARGETPLATFORM=linux/arm64 \
#       --build-arg REVISION=$(git rev-parse HEAD) --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) .
#
# No test builds it, because the machines of this project's tests reach no registry of images: hadolint checks it (`make check`). Podman has built
# it by hand for amd64, from a Debian 12 with this compiler in place of the base below; docs/release.md says what was the same as in `make image`.

# Debian 12 with rustup's toolchain. If you cannot pull this image, use a similar one.
ARG BUILD_BASE=rust:1.95.0-slim-bookworm

# hadolint ignore=DL3006
FROM ${BUILD_BASE} AS toolchain
WORKDIR /src
# A layer of its own, so that a change of the sources does not build the tools again.
COPY scripts/setup scripts/setup
RUN scripts/setup build && rm -rf /var/lib/apt/lists/*

FROM toolchain AS build
# Builders set it: docker and buildah with --platform.
ARG TARGETPLATFORM=linux/amd64
# The context has no Git: without these two, the program does not know its commit and the time of it.
ARG REVISION
ARG SOURCE_DATE_EPOCH
COPY . .
RUN mv "$(VTEP_AGENT_COMMIT="${REVISION}" scripts/programs "${TARGETPLATFORM}")/root" /out

FROM scratch
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="vtep-agent" \
      org.opencontainers.image.description="Keeps BIG-IP tunnels into Cilium's pods working, and names the cause when one does not" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /
# For `kubectl exec … -- vtep-agent status`.
ENV PATH=/usr/local/bin
# Root, with only the capabilities that the DaemonSet grants. Another user would have none: Kubernetes has no ambient capabilities, and
# allowPrivilegeEscalation: false disables file capabilities. bpffs also belongs to root.
# hadolint ignore=DL3002
USER 0:0
ENTRYPOINT ["/usr/local/bin/vtep-agent"]
CMD ["run"]
