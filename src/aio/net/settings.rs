//! TLS settings as Python makes them, for streams and the HTTP client.

use super::tls::{Identity, Settings, Verify, read_certificates};
use pyo3::prelude::*;
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;

/// Whom to trust and what to show.
#[pyclass(frozen)]
pub struct TlsSettings {
    pub settings: Settings,
}

#[pymethods]
impl TlsSettings {
    /// `authorities`: certificates in DER, for those that are in no file. `verify`: 0 nothing,
    /// 1 the chain, 2 the name too. `versions`: bit 0 for TLS 1.2, bit 1 for 1.3.
    #[new]
    fn new(
        cafile: Option<PathBuf>,
        authorities: Option<Vec<Vec<u8>>>,
        identity: Option<(PathBuf, PathBuf)>,
        verify: u8,
        versions: u8,
    ) -> PyResult<Self> {
        let trusted = match (cafile, authorities) {
            (Some(path), _) => Some(read_certificates(&path)?),
            (None, Some(all)) => Some(all.into_iter().map(CertificateDer::from).collect()),
            (None, None) => None,
        };
        let identity = match identity {
            Some((certfile, keyfile)) => Some(Identity::read(&certfile, &keyfile)?),
            None => None,
        };
        let verify = match verify {
            0 => Verify::Nothing,
            1 => Verify::Chain,
            _ => Verify::All,
        };
        let mut allowed = Vec::new();
        if versions & 1 != 0 {
            allowed.push(&rustls::version::TLS12);
        }
        if versions & 2 != 0 {
            allowed.push(&rustls::version::TLS13);
        }
        Ok(Self { settings: Settings::new(trusted, identity, verify, &allowed)? })
    }

    /// Can it be a server's?
    #[getter]
    fn has_identity(&self) -> bool {
        self.settings.server.is_some()
    }
}
