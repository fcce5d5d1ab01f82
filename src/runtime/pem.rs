//! Certificates from PEM files.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates in a file, one or more. Errors, in words that begin with the file's name: it cannot be read, is no PEM,
/// or holds none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |what: String| format!("{}: {what}", file.display());
    let pem = std::fs::read(file).map_err(|error| bad(format!("cannot be read: {error}")))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|_| bad("not a PEM file of certificates".into()))?;
    if certificates.is_empty() {
        return Err(bad("holds no certificate (-----BEGIN CERTIFICATE-----)".into()));
    }
    Ok(certificates)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_certificate_are_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let says = |text: &str| {
            std::fs::write(&file, text).unwrap();
            certificates(&file).unwrap_err().replace(&file.display().to_string(), "FILE")
        };
        assert_eq!(says("no certificate"), "FILE: holds no certificate (-----BEGIN CERTIFICATE-----)");
        assert_eq!(says("-----BEGIN CERTIFICATE-----\n*\n"), "FILE: not a PEM file of certificates");
        assert!(certificates(&folder.path().join("none")).unwrap_err().contains("none: cannot be read: "));
        let both = include_str!("../../tests/postgres/other_authority.pem").repeat(2);
        std::fs::write(&file, both).unwrap();
        assert_eq!(certificates(&file).unwrap().len(), 2);
    }
}
