# Parts of an OCI layout, for scripts/oci and scripts/oci-chart. The same files give the same bytes. SOURCE_DATE_EPOCH is the time of all files.
# shellcheck shell=bash

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/layout/blobs/sha256"

# A reproducible archive of a directory.
pack() { # directory
    tar --create --directory "$1" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' \
        --mtime="@$SOURCE_DATE_EPOCH" .
}
# Moves a file to its place in the layout, and prints its descriptor.
blob() { # file, media type, more fields
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%s%s}' "$2" "$digest" "$(stat -c %s "$1")" "${3:-}"
    mv "$1" "$work/layout/blobs/sha256/$digest"
}

index() { # descriptors
    local IFS=,
    printf '{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' application/vnd.oci.image.index.v1+json "$*"
}
# Writes the archive of the layout, whose index has this descriptor. It replaces an older archive only when it is complete.
save() { # descriptor, archive
    index "$1" >"$work/layout/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
    pack "$work/layout" >"$2.new"
    mv "$2.new" "$2"
}
