//! TLS by rustls, with ring for its arithmetic (which needs no more than a C compiler).

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("cannot read {what} from {path:?}: {reason}")]
    File { what: &'static str, path: String, reason: String, missing: bool },
    #[error("this certificate of an authority can't be used: {0}")]
    Authority(rustls::Error),
    #[error("no certificates of authorities are installed on this system ({0}); give cafile=")]
    NoAuthorities(String),
    #[error("the certificate and its key can't be used: {0}")]
    Identity(rustls::Error),
    #[error("{0:?} is no name of a host that a certificate could have")]
    Name(String),
    #[error("TLS: {0}")]
    Other(rustls::Error),
}

/// How much of a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    All,
    /// Its chain, but not its name.
    Chain,
    Nothing,
}

/// Whether a server asks those who connect for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    Unasked,
    Asked,
    Required,
}

/// Who is believed to be who they say.
pub struct Trust {
    /// `None`: those that the system trusts.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    pub verify: Verify,
    pub clients: Clients,
}

/// A certificate chain with its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn read(certfile: &Path, keyfile: &Path) -> Result<Self, TlsError> {
        let chain = read_certificates(certfile)?;
        let key = PrivateKeyDer::from_pem_file(keyfile)
            .map_err(|error| unreadable("a private key", keyfile, &error))?;
        Ok(Self { chain, key })
    }
}

pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| unreadable("certificates", path, &error);
    let read = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found: Vec<_> = read.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(unreadable("certificates", path, &rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn unreadable(what: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    use rustls::pki_types::pem::Error;
    let missing = matches!(error, Error::Io(io) if io.kind() == std::io::ErrorKind::NotFound);
    let reason = match error {
        Error::NoItemsFound => "there is none in it".to_owned(),
        other => other.to_string(),
    };
    TlsError::File { what, path: path.display().to_string(), reason, missing }
}

/// Both ends' settings, made once and shared by connections.
pub struct Settings {
    pub client: Arc<ClientConfig>,
    /// Only with an identity.
    pub server: Option<Arc<ServerConfig>>,
}

impl Settings {
    /// `alpn`: names of protocols, those that are liked best first.
    pub fn new(
        trust: Trust,
        identity: Option<Identity>,
        versions: &[&'static SupportedProtocolVersion],
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let visitors = trust.visitors(&provider)?;
        let verifier = Checker::new(trust.authorities, trust.verify, &provider)?;
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(TlsError::Other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some(Identity { chain, key }) = identity else {
            let mut client = client.with_no_client_auth();
            client.alpn_protocols = alpn;
            return Ok(Self { client: Arc::new(client), server: None });
        };
        let mut client = client
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(TlsError::Identity)?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Other)?
            .with_client_cert_verifier(visitors)
            .with_single_cert(chain, key)
            .map_err(TlsError::Identity)?;
        client.alpn_protocols.clone_from(&alpn);
        server.alpn_protocols = alpn;
        Ok(Self { client: Arc::new(client), server: Some(Arc::new(server)) })
    }

    pub fn connect(&self, host: &str) -> Result<Connection, TlsError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| TlsError::Name(host.to_owned()))?;
        let made = ClientConnection::new(Arc::clone(&self.client), name);
        made.map(Connection::from).map_err(TlsError::Other)
    }

    /// `None`: there is no certificate to show.
    pub fn accept(&self) -> Option<Result<Connection, TlsError>> {
        let made = ServerConnection::new(Arc::clone(self.server.as_ref()?));
        Some(made.map(Connection::from).map_err(TlsError::Other))
    }
}

impl Trust {
    /// What a server does about the certificates of those who connect.
    fn visitors(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        if self.clients == Clients::Unasked {
            return Ok(WebPkiClientVerifier::no_client_auth());
        }
        let roots = match &self.authorities {
            None => system()?,
            Some(trusted) => roots_of(trusted)?,
        };
        let built = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        let built = match self.clients {
            Clients::Asked => built.allow_unauthenticated(),
            _ => built,
        };
        built.build().map_err(|error| no_authority(&error))
    }
}

fn roots_of(trusted: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for one in trusted {
        roots.add(one.clone()).map_err(TlsError::Authority)?;
    }
    Ok(Arc::new(roots))
}

fn no_authority(error: &VerifierBuilderError) -> TlsError {
    TlsError::Other(rustls::Error::General(format!("no authority is trusted: {error}")))
}

/// The system's authorities, read once.
fn system() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoAuthorities(why.join("; ")));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

/// WebPKI's checks, or fewer; and one that OpenSSL has: a certificate that is itself among
/// those to trust is good, also if it is that of an authority.
#[derive(Debug)]
struct Checker {
    inner: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    names: bool,
    provider: Arc<CryptoProvider>,
}

impl Checker {
    fn new(
        authorities: Option<Vec<CertificateDer<'static>>>,
        verify: Verify,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let (names, provider) = (verify == Verify::All, Arc::clone(provider));
        if verify == Verify::Nothing {
            return Ok(Self { inner: None, trusted: Vec::new(), names, provider });
        }
        let (roots, trusted) = match authorities {
            None => (system()?, Vec::new()),
            Some(trusted) => (roots_of(&trusted)?, trusted),
        };
        let built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let inner = built.build().map_err(|error| no_authority(&error))?;
        Ok(Self { inner: Some(inner), trusted, names, provider })
    }
}

impl ServerCertVerifier for Checker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            // Its dates were found to be good before this was looked at.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string().contains("CaUsedAsEndEntity")
                    && self.trusted.iter().any(|trusted| trusted == end_entity) =>
            {
                if self.names {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
