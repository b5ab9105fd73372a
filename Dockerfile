# The image of vtep-agent contains one static program and the CA roots. `make image` builds it without a daemon, and tests it.
#
# The build is reproducible. Cargo.lock and the compiler's version determine the program, it contains no path of the builder, and files have
# the time of the commit (SOURCE_DATE_EPOCH, which builders read from the environment; in buildah it is --timestamp).

# Debian 12 with rustup's toolchain. If you cannot pull this image, use a similar one.
ARG BUILD_BASE=rust:1.95.0-slim-bookworm

# hadolint ignore=DL3006
FROM ${BUILD_BASE} AS toolchain
WORKDIR /src
# A layer of its own, so that a change of the sources does not build the tools again.
COPY scripts/setup scripts/setup
RUN scripts/setup build && rm -rf /var/lib/apt/lists/*

FROM toolchain AS build
COPY . .
# For `vtep-agent version`; there is no git here.
ARG REVISION
ARG SOURCE_DATE_EPOCH
# Links glibc statically. Static glibc resolves names only with /etc/hosts and DNS, without plug-ins. That is enough: the agent's only peer is
# the API server, which is an address in a cluster. With an explicit target, the flags do not apply to build scripts and macros.
RUN target="$(rustc --print host-tuple)" && \
    RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=${CARGO_HOME}=/cargo" \
    VTEP_AGENT_COMMIT="${REVISION}" SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" \
    cargo build --release --locked --package vtep-agent --target "$target" && \
    install -D "target/$target/release/vtep-agent" /out/usr/local/bin/vtep-agent
# In a cluster, the agent checks the API server with the ServiceAccount's CA, and uses no other TLS. A KUBECONFIG without a CA needs these
# roots, and so does a person's command with --bigip-url. They come from the package, so that no other CA of the builder gets into the image.
RUN install -d /out/etc/ssl/certs && \
    LC_ALL=C sh -c 'cat /usr/share/ca-certificates/mozilla/*.crt >/out/etc/ssl/certs/ca-certificates.crt'

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
