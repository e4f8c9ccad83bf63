//! The first look at certificates and keys.

use crate::config::syntax::Files;
use std::path::Path;

/// Beyond this a file is none of certificates: all authorities of a system have a quarter of it.
const LONGEST: usize = 1024 * 1024;

/// What `others` in the sense of chmod(1) may do to a key: read and write.
const BY_OTHERS: u32 = 0o006;

/// A PEM file, unread by the library.
pub(in crate::config) struct Pem<'a> {
    path: &'a Path,
    content: Vec<u8>,
}

impl<'a> Pem<'a> {
    /// Nothing but a regular file is opened.
    pub(in crate::config) fn read(files: &dyn Files, path: &'a Path) -> Result<Self, String> {
        let content = files
            .read_regular(path, LONGEST)
            .map_err(|cause| format!("cannot read \"{}\": {cause}", path.display()))?;
        Ok(Self { path, content })
    }

    fn has(&self, label: &[u8]) -> bool {
        let mut windows = self.content.windows(label.len());
        windows.any(|window| window == label)
    }

    /// Whether there is a certificate.
    pub(in crate::config) fn certificate(&self) -> Result<(), String> {
        if self.has(b" CERTIFICATE-----") {
            return Ok(());
        }
        Err(format!(
            "\"{}\": there is no certificate in it; expected PEM blocks \"-----BEGIN CERTIFICATE-----\"",
            self.path.display()
        ))
    }

    /// Whether there is a key that can be used.
    pub(in crate::config) fn key(&self) -> Result<(), String> {
        let path = self.path.display();
        if self.has(b"ENCRYPTED") {
            return Err(format!(
                "\"{path}\": the key is encrypted, and nobody is there to ask for its password at start; write it without \
                 one by \"openssl pkey -in {path} -out NEW\", readable by the server alone"
            ));
        }
        if !self.has(b"PRIVATE KEY-----") {
            return Err(format!(
                "\"{path}\": there is no key in it; expected a PEM block such as \"-----BEGIN PRIVATE KEY-----\""
            ));
        }
        Ok(())
    }
}

/// What is doubtful about who may read or change a file with a key.
pub(in crate::config) fn doubt(files: &dyn Files, path: &Path) -> Option<String> {
    let mode = files.mode(path).ok().filter(|mode| mode & BY_OTHERS != 0)?;
    let path = path.display();
    Some(format!(
        "\"{path}\" has a key, and its mode {mode:04o} lets everybody on this machine have it; \"chmod o= {path}\" ends that"
    ))
}
