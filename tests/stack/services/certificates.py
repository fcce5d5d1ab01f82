"""A certificate authority for the tests, a server's and a client's certificate signed by it, and one of a stranger."""

import subprocess


def make(folder):
    """Fills `folder`:

    - `ca.pem`, `ca.key`: the authority
    - `server.pem`: key and certificate for 127.0.0.1 and localhost, the form Kafka and Python read
    - `service.cert`, `service.key`: the client's, named as cloud providers hand them out
    - `stranger-ca.pem`, `stranger.cert`, `stranger.key`: valid, but of an authority that nobody here trusts
    """
    folder.mkdir(parents=True)
    _authority(folder, "ca", "pressline test authority")
    _signed(folder, "ca", "server", "localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    _signed(folder, "ca", "service", "pressline", "extendedKeyUsage=clientAuth")
    _authority(folder, "stranger-ca", "an authority nobody trusts")
    _signed(folder, "stranger-ca", "stranger", "stranger", "extendedKeyUsage=clientAuth")
    key, certificate = folder / "server.key", folder / "server.cert"
    (folder / "server.pem").write_text(key.read_text() + certificate.read_text())


def _authority(folder, name, subject):
    _openssl(
        folder,
        "req",
        "-x509",
        *_new_key(f"{name}.key"),
        "-out",
        f"{name}.pem",
        "-days",
        "3650",
        "-subj",
        f"/CN={subject}",
    )


def _signed(folder, authority, name, subject, extension):
    _openssl(folder, "req", *_new_key(f"{name}.key"), "-out", f"{name}.csr", "-subj", f"/CN={subject}")
    (folder / f"{name}.ext").write_text(extension + "\n")
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
        "-CAcreateserial", "-out", f"{name}.cert", "-days", "3650", "-extfile", f"{name}.ext",
    )  # fmt: skip


def _new_key(path):
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path]


def _openssl(folder, *arguments):
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"stack: openssl {arguments[0]} failed:\n{done.stdout}")
