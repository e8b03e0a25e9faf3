//! Reads files that flags name.

use std::path::Path;

use super::failure::CommandFailure;
use crate::values::regular_file;

/// The maximum length of such a file: certificates, configurations, anchors of the audit log.
const LONGEST_FILE: usize = 16 << 20;

/// Returns a function that reads a file. Its errors name `flag`.
pub(super) fn read_file(flag: &'static str) -> impl Fn(&Path) -> Result<Vec<u8>, CommandFailure> {
    move |path| {
        regular_file::read(path, LONGEST_FILE)
            .map(|mut content| std::mem::take(&mut *content))
            .map_err(|error| anyhow::Error::new(error).context(format!("{flag} {}", path.display())).into())
    }
}

/// Returns a function that reads a PEM file of certificates. Its errors name `flag`.
pub(super) fn read_certificates(flag: &'static str) -> impl Fn(&Path) -> Result<Vec<u8>, CommandFailure> {
    move |path| {
        let content = read_file(flag)(path)?;
        // DER begins with a SEQUENCE, PEM with text.
        if content.first() == Some(&0x30) {
            let file = path.display();
            return Err(CommandFailure::usage(format!(
                "{flag} {file}: this is a certificate in DER, and PEM is needed"
            ))
            .hint(format!("openssl x509 -inform der -in {file} -out {file}.pem")));
        }
        Ok(content)
    }
}
