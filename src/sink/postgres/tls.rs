//! TLS as libpq's `sslmode` means it (<https://www.postgresql.org/docs/current/libpq-ssl.html>), by rustls.
//!
//! Two differences: without `ca`, the verifying modes trust the system's authorities (libpq's `sslrootcert=system`); and a
//! certificate is valid for the names in its subjectAltName only, never for its common name.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};

use crate::config::postgres_server::{PostgresServer, SslMode};
use crate::config::sink::path;
use crate::runtime::pem::certificates;

/// How the server's certificate is looked at.
enum Check {
    Nothing,
    Authority,
    AuthorityAndName,
}

/// TLS settings for the configuration. Errors, in words: a file cannot be read, or holds no certificate or key.
pub(super) fn settings(server: &PostgresServer) -> Result<Tls, String> {
    let check = match server.sslmode {
        SslMode::VerifyFull => Check::AuthorityAndName,
        SslMode::VerifyCa => Check::Authority,
        // libpq: with a root certificate at hand, `require` is `verify-ca`.
        SslMode::Require if server.ca.is_some() => Check::Authority,
        SslMode::Require | SslMode::Prefer | SslMode::Disable => Check::Nothing,
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous();
    let builder = match check {
        Check::Nothing => {
            builder.with_custom_certificate_verifier(Arc::new(Lenient { roots: None, provider: Arc::clone(&provider) }))
        }
        Check::Authority => {
            let roots = Some(authorities(server)?);
            builder.with_custom_certificate_verifier(Arc::new(Lenient { roots, provider: Arc::clone(&provider) }))
        }
        Check::AuthorityAndName => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities(server)?), provider)
                .build()
                .map_err(|error| error.to_string())?;
            builder.with_custom_certificate_verifier(verifier)
        }
    };
    let settings = match (path(&server.certificate), path(&server.key)) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(&certificate)?;
            let key = PrivateKeyDer::from_pem_file(&key)
                .map_err(|_| format!("{} cannot be read as a private key in PEM", key.display()))?;
            builder.with_client_auth_cert(chain, key).map_err(|_| {
                format!("{} and its key do not belong together, or the key's kind is not known", certificate.display())
            })?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("certificate and key go together: set both or none".into()),
    };
    Ok(Tls(Arc::new(settings)))
}

fn authorities(server: &PostgresServer) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let trusted = match path(&server.ca) {
        Some(file) => certificates(&file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(trusted);
    if added == 0 {
        return Err("no certificate authority to trust: set ca, or install the system's (ca-certificates)".into());
    }
    Ok(roots)
}

/// Looks at the chain but not at the name; without roots at nothing. That the server holds the certificate's key is
/// checked in any case.
#[derive(Debug)]
struct Lenient {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes TLS streams for tokio-postgres.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = RustlsStream;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        Ok(Handshake { settings: Arc::clone(&self.0), name: ServerName::try_from(host.to_string())? })
    }
}

/// One handshake.
pub(super) struct Handshake {
    settings: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = RustlsStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<RustlsStream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.settings);
            connector.connect(self.name, socket).await.map(|stream| RustlsStream(Box::new(stream)))
        })
    }
}

/// A TLS stream as tokio-postgres wants it.
pub(super) struct RustlsStream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl tokio_postgres::tls::TlsStream for RustlsStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for RustlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for RustlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
