//! A temporary certificate authority and its certificate for `localhost`.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// PEM files in a temporary folder: the authority's certificate, and a server certificate with its key for
/// `localhost` and `127.0.0.1`.
pub(crate) struct Ca {
    folder: TempDir,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// Returns an authority whose server certificate expires at the beginning of this day.
    pub(crate) fn with_certificate_until(year: i32, month: u8, day: u8) -> Self {
        Self::with(|server| server.not_after = rcgen::date_time_ymd(year, month, day))
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "carnet test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = authority.self_signed(&key).unwrap();

        let server_key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        server.distinguished_name.push(DnType::CommonName, "localhost");
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        change(&mut server);
        let server_certificate = server.signed_by(&server_key, &Issuer::new(authority, key)).unwrap();

        let ca = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(ca.certificate(), certificate.pem()).unwrap();
        std::fs::write(ca.server_certificate(), server_certificate.pem()).unwrap();
        std::fs::write(ca.server_key(), server_key.serialize_pem()).unwrap();
        ca
    }

    /// Returns the authority's own certificate, for clients to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub(crate) fn server_certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    pub(crate) fn server_key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// Returns the variables that name trusted CAs for various programs, all set to this authority: a
    /// variable of the machine would override a program's own option.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let certificate = self.certificate();
        ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
            .into_iter()
            .map(move |name| (name, certificate.clone()))
    }
}
