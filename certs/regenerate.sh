#!/bin/sh
# Makes the certificates and keys that tests/transport uses, anew and from scratch. Needs OpenSSL 3.0 or newer.
# All are DER: X.509 certificates (.cert.der) and PKCS#8 keys (.key.der).
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# certificate KEY NAME START END OUT: a self-signed certificate with these dates (YYYYMMDDHHMMSSZ).
# Only `openssl ca` takes both dates in OpenSSL 3.0.
certificate() {
    : > "$work/index.txt"
    cat > "$work/ca.cnf" <<CNF
[ca]
default_ca = ca_default
[ca_default]
database = $work/index.txt
new_certs_dir = $work
rand_serial = yes
default_md = default
policy = any
unique_subject = no
x509_extensions = v3
[any]
commonName = supplied
[v3]
subjectAltName = DNS:$2
CNF
    openssl req -new -key "$work/$1.pem" -subj "/CN=$2" -out "$work/request.pem"
    openssl ca -batch -notext -config "$work/ca.cnf" -selfsign -keyfile "$work/$1.pem" \
        -in "$work/request.pem" -startdate "$3" -enddate "$4" -out "$work/certificate.pem" 2> "$work/log" || { cat "$work/log"; exit 1; }
    openssl x509 -in "$work/certificate.pem" -outform DER -out "$5.cert.der"
}

# key ALGORITHM NAME [OPTION...]: a fresh private key, as PEM to sign with and as PKCS#8 DER to keep.
key() {
    algorithm=$1 name=$2
    shift 2
    openssl genpkey -algorithm "$algorithm" "$@" -out "$work/$name.pem"
    openssl pkcs8 -topk8 -nocrypt -in "$work/$name.pem" -outform DER -out "$name.key.der"
}

key ED25519 right
key ED25519 other
key EC p256 -pkeyopt ec_paramgen_curve:P-256

certificate right bailiwick 20200101000000Z 20200201000000Z right-key-expired
certificate right elsewhere.example 20200101000000Z 20991231235959Z right-key-wrong-name
certificate other bailiwick 20200101000000Z 20991231235959Z other-key
certificate p256 bailiwick 20200101000000Z 20991231235959Z p256
