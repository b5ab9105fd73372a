# The image of vtep-agent: one static program and the CA roots, and nothing else. `make image` builds it without a daemon, and tries it out.
#
# Reproducible: Cargo.lock and the compiler's version decide what is built, no path of the builder is in it, and files carry the time of
# the commit (SOURCE_DATE_EPOCH, which builders take from the environment or, in buildah, as --timestamp).

# Debian 12 with rustup's toolchain. Another one of the kind will do, where this one is out of reach.
ARG BUILD_BASE=rust:1.95.0-slim-bookworm

# hadolint ignore=DL3006
FROM ${BUILD_BASE} AS toolchain
WORKDIR /src
# Alone, so that a change of the sources builds no tools anew.
COPY scripts/setup scripts/setup
RUN scripts/setup build && rm -rf /var/lib/apt/lists/*

FROM toolchain AS build
COPY . .
# glibc's own static library: it looks up names without its plug-ins, from /etc/hosts and by DNS, and the agent's only peer, the API
# server, is an address in a cluster. The target is named, so that the flags do not reach build scripts and macros.
RUN target="$(rustc --print host-tuple)" && \
    RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=${CARGO_HOME}=/cargo" \
    cargo build --profile image --locked --package vtep-agent --target "$target" && \
    install -D "target/$target/image/vtep-agent" /out/usr/local/bin/vtep-agent
# In a cluster the ServiceAccount's CA judges the API server, and no other TLS is spoken; a KUBECONFIG that names no CA needs these. They
# come from the package, not from what the builder trusts besides.
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
# Root, with what the DaemonSet leaves of its capabilities. Another user would have none of them: Kubernetes has no ambient capabilities,
# and those of a file are void where no privileges may be gained (allowPrivilegeEscalation: false). bpffs is root's besides.
# hadolint ignore=DL3002
USER 0:0
ENTRYPOINT ["/usr/local/bin/vtep-agent"]
CMD ["run"]
