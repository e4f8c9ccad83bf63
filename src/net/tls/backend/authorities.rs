//! Whom a policy trusts, read from files.

use crate::net::tls::material::certificates;
use crate::tls::Named;
use crate::tls::backend::Policy;
use log::debug;
use openssl::x509::X509;
use std::path::{Path, PathBuf};

/// The authorities that a policy names; none: those of the system count.
pub(super) fn authorities(policy: &Policy) -> Result<Option<Vec<X509>>, String> {
    let (file, folder) = (&policy.authorities, &policy.authorities_folder);
    if file.is_none() && folder.is_none() {
        return Ok(None);
    }
    let mut found = Vec::new();
    if let Some(Named { path, line }) = file {
        found.extend(certificates(path).map_err(|problem| format!("{line}: {problem}"))?);
    }
    if let Some(Named { path, line }) = folder {
        found.extend(in_folder(path).map_err(|problem| format!("{line}: {problem}"))?);
    }
    Ok(Some(found))
}

/// The certificates that OpenSSL would find in a folder, all at once: nothing is read later, when the rights may be others,
/// and in the midst of a handshake. What cannot be read it would pass over too.
fn in_folder(folder: &Path) -> Result<Vec<X509>, String> {
    let shown = folder.display();
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Result<Vec<PathBuf>, _> = paths.collect();
    let mut paths = paths.map_err(|error| format!("{shown}: cannot be read: {error}"))?;
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(is_hashed)
    });
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        match certificates(&path) {
            Ok(certificates) => found.extend(certificates),
            Err(problem) => debug!("{problem}"),
        }
    }
    if found.is_empty() {
        return Err(format!(
            "{shown}: there is no certificate with a hashed name in it; \"openssl rehash {shown}\" makes these names"
        ));
    }
    Ok(found)
}

/// Whether OpenSSL would look for a certificate under such a name: `5ad8a5d6.0`.
fn is_hashed(name: &str) -> bool {
    let Some((hash, number)) = name.split_once('.') else {
        return false;
    };
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    hash.len() == 8
        && hash.bytes().all(is_hex)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_hashed;

    #[test]
    fn only_hashed_names_are_looked_at() {
        for (name, is_one) in [
            ("5ad8a5d6.0", true),
            ("00000000.12", true),
            ("5AD8A5D6.0", false),
            ("5ad8a5d6.r0", false),
            ("5ad8a5d6.", false),
            ("5ad8a5d6", false),
            ("5ad8a5d.0", false),
            ("5ad8a5d6.0.pem", false),
            ("ca.pem", false),
        ] {
            assert_eq!(is_hashed(name), is_one, "{name}");
        }
    }
}
