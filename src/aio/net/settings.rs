//! TLS settings as Python makes them, for streams and the HTTP client.

use super::tls::{Clients, Identity, Settings, Trust, Verify, read_certificates};
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
    /// 1 the chain, 2 the name too. `versions`: bit 0 for TLS 1.2, bit 1 for 1.3. `alpn`: names of
    /// protocols. `clients`: whether a server asks for a certificate: 0 no, 1 yes, 2 it insists.
    #[new]
    #[pyo3(signature = (cafile, authorities, identity, verify, versions, alpn=Vec::new(), clients=0))]
    fn new(
        cafile: Option<PathBuf>,
        authorities: Option<Vec<Vec<u8>>>,
        identity: Option<(PathBuf, PathBuf)>,
        verify: u8,
        versions: u8,
        alpn: Vec<Vec<u8>>,
        clients: u8,
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
        let clients = match clients {
            0 => Clients::Unasked,
            1 => Clients::Asked,
            _ => Clients::Required,
        };
        let trust = Trust { authorities: trusted, verify, clients };
        Ok(Self { settings: Settings::new(trust, identity, &allowed, alpn)? })
    }

    /// Can it be a server's?
    #[getter]
    fn has_identity(&self) -> bool {
        self.settings.server.is_some()
    }
}
